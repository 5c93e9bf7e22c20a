"""Loss networks for tests: VGG19's layers with few channels and random weights, whose activations are cheap."""

import torch
from torch import Tensor

from oneglance_exporter.perceptual.layers import BLOCKS
from oneglance_exporter.perceptual.vgg import Identity, LossNetwork, Pooling

CHANNELS = (4, 6, 8, 8, 8)


def convolutions(
    channels: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32
) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of the 16; activations keep their order of magnitude from layer to layer."""
    random = torch.Generator().manual_seed(seed)
    made, before = [], 3
    for width, count in zip(channels, BLOCKS, strict=True):
        for _ in range(count):
            weight = torch.randn(width, before, 3, 3, generator=random, dtype=dtype) * (2 / (9 * before)) ** 0.5
            made.append((weight, torch.randn(width, generator=random, dtype=dtype) * 0.1))
            before = width
    return made


def tiny(seed: int = 0, dtype: torch.dtype = torch.float32, pooling: Pooling = "average") -> LossNetwork:
    """Needs pictures as large as VGG19 does."""
    identity = Identity("tiny and random", "0" * 64)
    return LossNetwork(convolutions(CHANNELS, seed, dtype), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3), pooling, identity)
