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


def by_template(
    rows: Sequence[Enrolled], probe: NDArray[np.float32], fusion: str, within: float = np.inf
) -> list[tuple[str, float, float]]:
    """(subject, distance, score) of all subjects with a score of at most `within`, by "mean" or "margin", nearest
    first.

    rows: the subject that was enrolled first comes first.
    """
    vectors: dict[str, list[tuple[int, NDArray[np.float32]]]] = {}
    for subject, number, vector in rows:
        vectors.setdefault(subject, []).append((number, vector))
    distances = {
        subject: distance(template([vector for _, vector in sorted(own, key=lambda one: one[0])]), probe)
        for subject, own in vectors.items()
    }
    found = []
    for subject, own in sorted(distances.items(), key=lambda one: one[1]):
        others = sorted(distances.values())
        others.remove(own)
        count = len(others[:5])
        margin = 0.3 * sum(others[:5]) / count if fusion == "margin" and count else 0.0
        found.append((subject, own, own - margin))
    return [one for one in found if one[2] <= within]


def template(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean of vectors [D], as long as they are on average; where it has no direction, the mean."""
    wide = np.stack(vectors).astype(np.float64)
    if len(wide) == 1:
        return vectors[0]
    mean, length = wide.mean(axis=0), np.sqrt((wide * wide).sum(axis=1)).mean()
    own = np.sqrt((mean * mean).sum())
    found: NDArray[np.float32] = (mean * (length / own) if own > 1e-6 * length else mean).astype(np.float32)
    return found
