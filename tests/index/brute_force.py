"""What a search must answer, computed the slow and obvious way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# (subject id, encoding number, vector float32 [D])
Enrolled = tuple[str, int, NDArray[np.float32]]


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    difference = a.astype(np.float64) - b.astype(np.float64)
    return float(np.float32((difference * difference).sum()))


def nearest(
    rows: Sequence[Enrolled], probe: NDArray[np.float32], k: int, within: float = np.inf
) -> list[tuple[str, str, float]]:
    """(subject, encoding, distance) of the k nearest subjects within a distance, nearest first."""
    ranked = sorted((distance(vector, probe), number, subject) for subject, number, vector in rows)
    best: dict[str, tuple[str, str, float]] = {}
    for d, number, subject in ranked:
        if d <= within:
            best.setdefault(subject, (subject, str(number), d))
    return list(best.values())[:k]
