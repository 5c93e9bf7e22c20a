"""What must be answered, by its definition."""

import numpy as np
from numpy.typing import NDArray

Row = tuple[str, NDArray[np.float32]]


def nearest(rows: list[Row], probe: NDArray[np.float32]) -> list[tuple[str, float]]:
    """(subject, distance) of all subjects, nearest first: brute force in float64. The oldest row comes first."""
    apart = np.stack([vector for _, vector in rows]).astype(np.float64) - probe.astype(np.float64)
    distances = (apart * apart).sum(axis=1).astype(np.float32)
    best: dict[str, float] = {}
    for at in np.argsort(distances, kind="stable").tolist():
        best.setdefault(rows[at][0], float(distances[at]))
    return list(best.items())
