"""Networks for ``--network examples/one_shot/networks.py:FUNCTION``: what they find in a signal, at any place of it."""

import torch
from torch import Tensor, nn


class Anywhere(nn.Module):
    """float32 [N, C, L] -> [N, dimension]: filters, then the mean and the spread over time of what they find.

    widths: filters of each stage; maxima of 2 between stages. first, stride: size and step of the first filters.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], dimension: int, first: int = 3, stride: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            size, step = (first, stride) if i == 0 else (3, 1)
            layers += [nn.Conv1d(channels, width, size, step, padding=1), nn.BatchNorm1d(width), nn.ReLU()]
            if i < len(widths) - 1:
                layers.append(nn.MaxPool1d(2))
            channels = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(2 * channels, dimension)

    def forward(self, signal: Tensor) -> Tensor:
        found = self.blocks(signal)  # [N, width, T]
        mean = found.mean(dim=2)
        spread = ((found - mean[:, :, None]).square().mean(dim=2) + 1e-4).sqrt()
        answer: Tensor = self.head(torch.cat([mean, spread], dim=1))
        return answer


class Loudness(nn.Module):
    """float32 [N, 1, samples] -> [N, 64, T]: learned filters of 256 samples, every 64; the logarithm of their power."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 64, 256, stride=64)
        self.norm = nn.BatchNorm1d(64)

    def forward(self, sound: Tensor) -> Tensor:
        loudness: Tensor = self.norm(torch.log(self.filters(sound).square() + 1e-3))
        return loudness


def sounds(shape: tuple[int, ...], dimension: int) -> nn.Module:
    """For sounds of 8,000 samples a second: 32 ms every 8 ms."""
    return nn.Sequential(Loudness(), Anywhere(64, (96, 128), dimension))


def signals(shape: tuple[int, ...], dimension: int) -> nn.Module:
    """For long signals: the last filters see 159 samples."""
    return Anywhere(shape[0], (16, 24, 32, 48, 64), dimension, first=9, stride=2)
