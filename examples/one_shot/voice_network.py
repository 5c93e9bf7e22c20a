"""A network for sounds: filters that are learned, the loudness behind each, and what it is like over time."""

import torch
from torch import Tensor, nn


class Voices(nn.Module):
    """float32 [N, 1, samples] -> [N, dimension]."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 64, 256, stride=64)  # 32 ms at 8,000 samples a second, every 8 ms
        self.blocks = nn.Sequential(
            nn.BatchNorm1d(64),
            nn.Conv1d(64, 96, 3, padding=1),
            nn.BatchNorm1d(96),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(96, 128, 3, padding=1),
            nn.BatchNorm1d(128),
            nn.ReLU(),
        )
        self.head = nn.Linear(256, dimension)

    def forward(self, sound: Tensor) -> Tensor:
        loudness = torch.log(self.filters(sound).square() + 1e-3)
        found = self.blocks(loudness)  # [N, 128, T]
        mean = found.mean(dim=2)
        spread = ((found - mean[:, :, None]).square().mean(dim=2) + 1e-4).sqrt()
        answer: Tensor = self.head(torch.cat([mean, spread], dim=1))
        return answer


def make(shape: tuple[int, ...], dimension: int) -> nn.Module:
    """For ``--network examples/one_shot/voice_network.py:make``."""
    return Voices(dimension)
