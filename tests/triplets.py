"""Encodings with labels, and the triplet loss of the sources, for tests of losses."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]


def encodings_and_labels(seed: int, classes: int = 5, examples: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, 1, 6, generator=generator)
    points = centers + 1.2 * torch.randn(classes, examples, 6, generator=generator)
    points = torch.nn.functional.normalize(points.reshape(-1, 6), dim=1)
    return points, torch.arange(classes).repeat_interleave(examples)


def formula(f: Floats, triplets: list[tuple[int, int, int]], margin: float) -> float:
    """J = sum of max(||f(A) - f(P)||^2 - ||f(A) - f(N)||^2 + alpha, 0)."""
    losses = [max(float(((f[a] - f[p]) ** 2).sum() - ((f[a] - f[n]) ** 2).sum()) + margin, 0.0) for a, p, n in triplets]
    return sum(losses)
