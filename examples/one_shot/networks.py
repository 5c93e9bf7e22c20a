"""Networks for ``--network examples/one_shot/networks.py:FUNCTION``: what they find in a signal, at any place of it."""

import math

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


class Spectrum(nn.Module):
    """float32 [N, 1, samples] -> [N, bands, T]: the logarithm of the power in each band, 256 samples every 128.

    A band's filters begin as a cosine and a sine under a Hann window, so that phase doesn't matter, at frequencies
    evenly on the mel scale from 60 Hz to 3,800 Hz of 8,000 samples a second; they are learned on from there. The mean
    over bands and time is subtracted: how near the microphone was tells nothing of the speaker.
    """

    def __init__(self, bands: int = 64) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 2 * bands, 256, stride=128, bias=False)
        self.norm = nn.BatchNorm1d(bands)
        mels = torch.linspace(*(2595 * math.log10(1 + hertz / 700) for hertz in (60, 3800)), bands)
        angles = 2 * math.pi / 8000 * (700 * (10 ** (mels / 2595) - 1))[:, None] * torch.arange(256)
        window = torch.hann_window(256) / 64
        with torch.no_grad():
            self.filters.weight.copy_(torch.cat([angles.cos() * window, angles.sin() * window])[:, None])

    def forward(self, sound: Tensor) -> Tensor:
        cosines, sines = self.filters(sound).chunk(2, dim=1)
        loudness = torch.log(cosines.square() + sines.square() + 1e-4)
        bands: Tensor = self.norm(loudness - loudness.mean(dim=(1, 2), keepdim=True))
        return bands


def sounds(shape: tuple[int, ...], dimension: int) -> nn.Module:
    """For sounds of 8,000 samples a second: 32 ms every 16 ms."""
    return nn.Sequential(Spectrum(), Anywhere(64, (96, 128), dimension))


def signals(shape: tuple[int, ...], dimension: int) -> nn.Module:
    """For long signals: the last filters see 159 samples."""
    return Anywhere(shape[0], (16, 24, 32, 48, 64), dimension, first=9, stride=2)


class Parts(nn.Module):
    """float32 [N, C, L] -> [N, dimension]: the mean of each of ``parts`` equal parts of what was said, mapped linearly.

    For words of different lengths, followed by equal frames up to L: those aren't looked at. The map begins without
    preference for any direction; export --whiten finds better ones.
    """

    def __init__(self, channels: int, parts: int, dimension: int) -> None:
        super().__init__()
        self.parts = parts
        self.map = nn.Linear(channels * parts, dimension)
        nn.init.orthogonal_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def forward(self, signal: Tensor) -> Tensor:
        said = ((signal - signal[:, :, -1:]).abs().sum(dim=1) > 0).to(signal.dtype)  # [N, L]: 0 in the padding
        share = said.sum(dim=1).clamp(min=1)[:, None, None] / self.parts  # frames of a part
        begins = torch.arange(self.parts, dtype=signal.dtype)[:, None] * share  # [N, parts, 1]
        times = torch.arange(signal.shape[2], dtype=signal.dtype)  # [L]
        within = torch.minimum(begins + share, times + 1) - torch.maximum(begins, times)  # [N, parts, L], of a frame
        answer: Tensor = self.map((signal @ (within.clamp(min=0) / share).transpose(1, 2)).flatten(1))
        return answer


def words(shape: tuple[int, ...], dimension: int) -> nn.Module:
    """For short utterances, as frames of cepstral coefficients."""
    return Parts(shape[0], 4, dimension)
