"""A point amid the rows of a scan, that is subtracted from them where they are far from the origin.

By matrix products, float32 tells rows apart whose distance is a millionth of their squared norms at least. Where an
encoder adds one offset to all it makes, that is not enough; without the offset it is, and distances are the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import numpy as np

from oneglance_core.distance import squared_norms
from oneglance_index.records import Integers, Vectors
from oneglance_index.search import faiss_calls as engine

# Subtracting costs a third of a scan, so it must be worth it: how many times as far from the origin as from each other
# the rows are, squared. Products go well to some thousand times.
_FAR = 32
_SAMPLE_ROWS = 1024
# So much is subtracted at a time, by each thread.
_BLOCK_BYTES = 4 << 20


class Midst:
    """Of the rows of one matrix, float32 [n, D], of which the caller tells what has changed."""

    def __init__(self) -> None:
        self._point: Vectors | None = None
        self._norms = np.empty(0, np.float32)  # of rows less the point
        self._known = 0  # of that many rows
        self._looked_at = 0

    def look(self, matrix: Vectors) -> Vectors | None:
        """What is to be subtracted from rows and probes, float32 [D]."""
        rows = len(matrix)
        if not self._looked_at <= rows <= 2 * self._looked_at:
            self._looked_at = rows
            self._point, self._known = _point(matrix), 0
        if self._point is not None and self._known < rows:
            if len(self._norms) < rows:
                self._norms = np.concatenate([self._norms[: self._known], np.empty(rows - self._known, np.float32)])
            for start in range(self._known, rows, _block(matrix)):
                part = slice(start, min(rows, start + _block(matrix)))
                self._norms[part] = squared_norms(matrix[part] - self._point)
            self._known = rows
        return self._point

    def cut(self, rows: int) -> None:
        """Only so many rows are left."""
        self._known = min(self._known, rows)

    @property
    def max_norm(self) -> float:
        """At least the largest norm of a row less the point."""
        return float(np.sqrt(self._norms[: self._known].max(initial=0.0)))

    def rewrite(self, matrix: Vectors, rows: Iterable[int]) -> None:
        """These rows have changed."""
        known = np.array([row for row in rows if row < self._known], np.int64)
        if self._point is not None and len(known):
            self._norms[known] = squared_norms(matrix[known] - self._point)

    def nearest(
        self, matrix: Vectors, norms: Vectors, first: int, queries: Vectors, k: int
    ) -> Iterator[tuple[Vectors, Integers]]:
        """As engine.nearest, for one block after the other of a part of the matrix that begins with row `first`.

        queries: less the point already. norms: ||x||^2 of the part, of which only those that are inf count.
        """
        assert self._point is not None
        step = _block(matrix)
        less = _scratch(step * matrix.shape[1]).reshape(step, -1)
        for start in range(0, len(matrix), step):
            rows = matrix[start : start + step]
            np.subtract(rows, self._point, out=less[: len(rows)])
            less_norms = self._norms[first + start : first + start + len(rows)]
            less_norms = np.where(np.isfinite(norms[start : start + step]), less_norms, np.float32(np.inf))
            distances, labels = engine.nearest(less[: len(rows)], less_norms, False, queries, min(k, len(rows)))
            yield distances, labels + start


# Each thread keeps its own, so that what it needs is there when memory is short.
_OF_THREAD = threading.local()


def _scratch(size: int) -> Vectors:
    """Room for so many numbers, whatever they are."""
    room: Vectors | None = getattr(_OF_THREAD, "room", None)
    if room is None or len(room) < size:
        room = _OF_THREAD.room = np.empty(size, np.float32)
    return room[:size]


def _block(matrix: Vectors) -> int:
    return max(1024, _BLOCK_BYTES // (4 * int(matrix.shape[1])))


def _point(matrix: Vectors) -> Vectors | None:
    """None where it isn't worth it."""
    step = max(1, len(matrix) // _SAMPLE_ROWS)
    sample = matrix[::step]
    if not len(sample):
        return None
    point: Vectors = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    away = squared_norms(sample - point).mean()
    return point if squared_norms(sample).mean() > _FAR * away else None
