"""Finding the rows nearest to a batch of probes, approximately: the only code that differs between CPU and
GPU (gpu_scan.py).

`nearest` proposes rows by FAISS's float32 distances, and says how far those can be off (bounds.py); exact.py
computes the real distances. So a scan may take whichever way is fastest.

The CPU's way was chosen by `benchmarks/scan_paths.py`: rows are split over threads, and FAISS runs single-threaded in
each, row by row for up to 3 probes, by matrix product for more. FAISS's own parallelism splits the queries, or for
fewer queries than cores takes a BLAS path several times slower than its row path; and its OpenMP threads, which
spin while they wait, lose much more when others want the cores. Minimum ms on 2 shared cores of an AMD EPYC (Zen 4),
FAISS 1.15.1, k = 24, for 1 / 4 / 16 / 64 / 256 probes, "-" not measured:

    100,000 x 128   FAISS as it comes      24 /  8 / 14 /   63 / 253
                    split, row path         2 /  6 / 14 /   62 / 221
                    split, matrix path     15 / 16 / 12 /   23 /  53
    500,000 x 512   FAISS as it comes     105 / 71 / 279 / 1591 / -
                    split, row path        30 / 118 / 295 /  - / -
                    split, matrix path     79 / 74 / 104 / 235 / 914

(914 was measured in another run.) With other processes on both cores, FAISS's own threads took seconds for what
the split took 20 to 150 ms for.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np

from oneglance_index.records import Integers, Vectors
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.bounds import ROUNDING, Bounds, ByProduct, ByRow
from oneglance_index.search.midst import Midst

# Up to this many probes FAISS's row path is faster than its matrix path.
ROW_PATH_PROBES = 3
# More go to patient threads.
FEW_PROBES = 8
# Handing work to another thread costs about 50 us; a part must be worth it (multiply-adds).
_WORTH_A_THREAD = 1 << 20


class Proposed(NamedTuple):
    """The rows that a scan finds nearest to each query, in any order: squared L2 as FAISS computes it, float32 [q, k],
    row numbers, int64 [q, k], and how far all that is off."""

    distances: Vectors
    rows: Integers
    bounds: Bounds


class Improvement(Protocol):
    """What is made of rows as they are, while calls go on, and then taken over."""

    def make(self) -> None:
        """Nobody moves or frees the rows meanwhile; those that change make it void. Raises MemoryError."""

    def take(self) -> None:
        """No call is under way."""


class Scan(Protocol):
    """A set of rows, all of one dimension.

    Calls must not overlap, but reserve() may be called at any time: the index that owns the scan sees to it. The calls
    raise MemoryError, and where the device fails DeviceLost.

    `device` is its name; `rows` is how many rows are in; `memory_bytes` is what it takes of the host's. `hides`: rows
    whose norm is inf are not proposed, and the caller may change norms to inf and back at any time between calls.
    """

    device: str
    hides: bool

    @property
    def rows(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...

    def reserve(self, rows: int) -> None:
        """Makes room for so many rows in all: extend() must then not fail for want of it."""

    def extend(self, matrix: Vectors, norms: Vectors, rows: int) -> None:
        """The first `rows` rows of matrix float32 [>= rows, D] are in now, and no others; norms float32 [>= rows] are
        their ||x||^2. Where that is fewer than before, room reserved for more may be given back.

        The rows that were in before haven't changed, though the arrays may be others. The arrays are not
        copied by every scan, so the caller must tell what it changes in them.
        """

    def rewrite(self, matrix: Vectors, norms: Vectors, rows: Iterable[int]) -> None:
        """These rows, which are in, have changed in the arrays."""

    def improvement(self) -> Improvement | None:
        """What would make it faster; None: nothing."""

    def nearest(self, queries: Vectors, k: int, max_norm: float) -> Proposed:
        """The k rows nearest to each query float32 [q, D]; 1 <= k <= rows less those that are hidden. max_norm: at
        least the largest ||x||."""


class CpuScan:
    """Scans the caller's own arrays; the pools' threads must be engine.use_one_thread ones. Scans for many probes go to
    `patient`, if there is one: who waits for a single one, in whichever gallery, doesn't wait for these."""

    device = "cpu"
    hides = True

    def __init__(self, pool: ThreadPoolExecutor, threads: int, patient: ThreadPoolExecutor | None = None) -> None:
        self._pool = pool
        self._patient = patient or pool
        self._threads = threads
        self._matrix = np.empty((0, 1), np.float32)
        self._norms = np.empty(0, np.float32)
        self._midst = Midst()

    @property
    def rows(self) -> int:
        return len(self._matrix)

    @property
    def memory_bytes(self) -> int:
        return 0

    def reserve(self, rows: int) -> None:
        pass

    def extend(self, matrix: Vectors, norms: Vectors, rows: int) -> None:
        self._midst.cut(rows)
        self._matrix, self._norms = matrix[:rows], norms[:rows]

    def rewrite(self, matrix: Vectors, norms: Vectors, rows: Iterable[int]) -> None:
        self._midst.rewrite(matrix, rows)  # else it reads the arrays themselves

    def improvement(self) -> Improvement | None:
        return None

    def nearest(self, queries: Vectors, k: int, max_norm: float) -> Proposed:
        by_row = len(queries) <= ROW_PATH_PROBES
        dimension = self._matrix.shape[1]
        bounds: Bounds = ByRow(dimension) if by_row else ByProduct(dimension, max_norm)
        find = self._by_row if by_row else self._by_product
        point = None if by_row else self._point()
        if point is not None:
            bounds = ByProduct(dimension, self._midst.max_norm, ROUNDING, centre=point)
            find, queries = self._amid, queries - point
        parts = [
            Part(start, stop - start, functools.partial(find, start, stop))
            for start, stop in parts_of(self.rows, self._matrix.size * len(queries), self._threads)
        ]
        pool = self._pool if len(queries) <= FEW_PROBES else self._patient
        return Proposed(*nearest_of_parts(pool, parts, queries, k), bounds)

    def _point(self) -> Vectors | None:
        """As Midst.look. Without memory for that, it is done without: then more rows may have to be measured."""
        try:
            return self._midst.look(self._matrix)
        except MemoryError:
            return None

    def _by_row(self, start: int, stop: int, queries: Vectors, k: int) -> tuple[Vectors, Integers]:
        return engine.nearest(self._matrix[start:stop], self._norms[start:stop], True, queries, k)

    def _by_product(self, start: int, stop: int, queries: Vectors, k: int) -> tuple[Vectors, Integers]:
        return engine.nearest(self._matrix[start:stop], self._norms[start:stop], False, queries, k)

    def _amid(self, start: int, stop: int, queries: Vectors, k: int) -> tuple[Vectors, Integers]:
        blocks = self._midst.nearest(self._matrix[start:stop], self._norms[start:stop], start, queries, k)
        return functools.reduce(lambda found, more: merged([found, more], k), blocks)


def every_distance(pool: ThreadPoolExecutor, threads: int, matrix: Vectors, probe: Vectors) -> Vectors:
    """FAISS's distance of each row of matrix float32 [n, D] to a probe float32 [D], summed row by row: float32 [n]."""
    distances = np.empty(len(matrix), np.float32)

    def measure(part: tuple[int, int]) -> None:
        engine.distances(matrix[slice(*part)], probe, distances[slice(*part)])

    for _ in pool.map(measure, parts_of(len(matrix), matrix.size, threads)):
        pass
    return distances


def parts_of(rows: int, work: int, threads: int) -> list[tuple[int, int]]:
    """Where the parts begin and end that are worth a thread each; work: multiply-adds of all."""
    count = min(threads, max(1, work // _WORTH_A_THREAD))
    return list(itertools.pairwise(rows * i // count for i in range(count + 1)))


class Part(NamedTuple):
    """Rows that are scanned in one go: `first` is the number of the first of them, `rows` how many they are. `find`
    gives the k nearest of them to each query, 1 <= k <= rows, as Scan.nearest, but numbered from 0."""

    first: int
    rows: int
    find: Callable[[Vectors, int], tuple[Vectors, Integers]]


def nearest_of_parts(
    pool: ThreadPoolExecutor, parts: Sequence[Part], queries: Vectors, k: int
) -> tuple[Vectors, Integers]:
    """As Scan.nearest, of the rows of all parts; always in the pool, whose threads are set up for it."""

    def scan(part: Part) -> tuple[Vectors, Integers]:
        distances, labels = part.find(queries, min(k, part.rows))
        labels += part.first
        return distances, labels

    return merged(list(pool.map(scan, parts)), k)


def one_after_the_other(found: Sequence[tuple[Vectors, Integers]], bounds: Bounds) -> Proposed:
    """What was found for some queries each, as found for all."""
    distances, rows = zip(*found, strict=True)
    return Proposed(np.concatenate(distances), np.concatenate(rows), bounds)


def merged(parts: Sequence[tuple[Vectors, Integers]], k: int) -> tuple[Vectors, Integers]:
    """The k nearest of what was found in several parts of the rows: distances and row numbers [q, any] of each."""
    distances, labels = parts[0]
    if len(parts) > 1:
        distances = np.concatenate([part[0] for part in parts], axis=1)
        labels = np.concatenate([part[1] for part in parts], axis=1)
    if distances.shape[1] > k:
        best = np.argpartition(distances, k - 1, axis=1)[:, :k]
        distances, labels = np.take_along_axis(distances, best, 1), np.take_along_axis(labels, best, 1)
    return distances, labels
