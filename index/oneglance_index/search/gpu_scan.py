"""GpuScan: the rows a second time, in the memory of a GPU, in chunks that are written in place.

FAISS selects the nearest of a tile of rows by one thread block for each probe, so that few probes leave nearly all of
the card idle. The rows are therefore scanned in parts, each by a FAISS of its own.
"""

from __future__ import annotations

import functools
import itertools
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from oneglance_core.distance import squared_norms
from oneglance_index.errors import DeviceUnavailable
from oneglance_index.records import Integers, Vectors
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.bounds import as_halves, on_card
from oneglance_index.search.cuda import Card, Memory
from oneglance_index.search.scan import Part, Proposed, nearest_of_parts, one_after_the_other

# Room grows by as much as there is, from this many bytes on by a quarter: few chunks, and not much room unused.
_DOUBLED_BYTES = 256 << 20
# No chunk is larger, so that the last ones can be given back once many rows are gone.
_CHUNK_BYTES = 2 << 30
_LEAST_ROWS = 2048
_ROWS_ALIGNED = 64  # so that the norms begin at an address that suits every kernel
# How many parts are scanned at once, and the fewest rows that are worth one.
LANES = 6
_LEAST_PART = 16_384
_QUERIES_AT_ONCE = 256
_WRITTEN_AT_ONCE = 1 << 16  # rows
# What FAISS takes of its scratch memory for a query and a row: two distances.
_SCRATCH_BYTES = 8


class Gpu:
    """A card, and several FAISS on it, each of which is safe for one thread and has so much scratch memory.

    `half`: rows are kept in float16.
    """

    def __init__(self, card: Card, lanes: Sequence[engine.GpuFaiss], scratch_bytes: int, half: bool) -> None:
        self.card, self.lanes, self.scratch_bytes, self.half = card, len(lanes), scratch_bytes, half
        self._free: queue.SimpleQueue[engine.GpuFaiss] = queue.SimpleQueue()
        for lane in lanes:
            self._free.put(lane)
        self.pool = ThreadPoolExecutor(len(lanes), "oneglance-gpu")

    def nearest(self, rows: int, norms: int, count: int, queries: Vectors, k: int) -> tuple[Vectors, Integers]:
        """As engine.GpuFaiss.nearest, by one that is free. Raises MemoryError, DeviceLost."""
        faiss = self._free.get()
        try:
            self.card.check()
            return faiss.nearest(as_halves(queries) if self.half else queries, rows, norms, count, k)
        except RuntimeError as error:
            # FAISS ends its message with CUDA's: "(cudaMalloc error out of memory [2])".
            if "out of memory" in str(error):
                raise MemoryError(str(error)) from error
            self.card.check()
            raise
        finally:
            self._free.put(faiss)

    def row_bytes(self, dimension: int) -> int:
        """Of one row and its norm."""
        return (2 if self.half else 4) * dimension + 4


class _Chunk:
    """Room for `capacity` rows on the card: the vectors, and behind them their norms. The first `rows` are written."""

    def __init__(self, gpu: Gpu, dimension: int, capacity: int) -> None:
        self._memory = Memory(gpu.card, gpu.row_bytes(dimension) * capacity)
        self._half, self._vector_bytes, self.capacity = gpu.half, gpu.row_bytes(dimension) - 4, capacity
        self.rows = 0

    def write(self, start: int, vectors: Vectors, norms: Vectors) -> None:
        """The rows from `start` on."""
        if self._half:
            halves = as_halves(vectors)
            norms = squared_norms(halves.astype(np.float32)).astype(np.float32)
            self._memory.write(self._vector_bytes * start, halves)
        else:
            self._memory.write(self._vector_bytes * start, vectors)
        self._memory.write(self._vector_bytes * self.capacity + 4 * start, norms)
        self.rows = max(self.rows, start + len(vectors))

    def parts(self, gpu: Gpu, first: int, most: int) -> Iterator[Part]:
        """All rows, in parts of `most` rows at most; `first` is the number of the first row."""
        count = -(-self.rows // most)
        for start, stop in itertools.pairwise(self.rows * i // max(count, 1) for i in range(count + 1)):
            vectors, norms = (self._memory.address + offset for offset in (self._vector_bytes * start, 4 * start))
            norms += self._vector_bytes * self.capacity
            find = functools.partial(gpu.nearest, vectors, norms, stop - start)
            yield Part(first + start, stop - start, find)


class GpuScan:
    """A Scan on a card."""

    hides = False  # it has norms of its own
    memory_bytes = 0

    def __init__(self, gpu: Gpu, dimension: int) -> None:
        self.device = gpu.card.device
        self._gpu = gpu
        self._dimension = dimension
        self._chunks: list[_Chunk] = []
        self._growing = threading.Lock()

    @property
    def rows(self) -> int:
        return sum(chunk.rows for chunk in self._chunks)

    def reserve(self, rows: int) -> None:
        with self._growing:
            capacity = sum(chunk.capacity for chunk in self._chunks)
            if rows <= capacity:
                return
            small = self._gpu.row_bytes(self._dimension) * capacity < _DOUBLED_BYTES
            spare = max(capacity if small else capacity // 4, _LEAST_ROWS)
            try:
                self._add_chunks(max(spare, rows - capacity))
            except MemoryError:
                self._add_chunks(rows - capacity)

    def _add_chunks(self, rows: int) -> None:
        """Room for so many rows more; none where there isn't all of it."""
        most = max(1, _CHUNK_BYTES // self._gpu.row_bytes(self._dimension))
        sizes = [min(most, rows - start) for start in range(0, rows, most)]
        self._chunks += [_Chunk(self._gpu, self._dimension, size + -size % _ROWS_ALIGNED) for size in sizes]

    def extend(self, matrix: Vectors, norms: Vectors, rows: int) -> None:
        if rows < self.rows:
            self._cut(rows)
        self.reserve(rows)
        for chunk, first in self._numbered():
            end = min(rows, first + chunk.capacity)
            while (start := first + chunk.rows) < end:  # a former call may have failed half-way
                new = slice(start, min(end, start + _WRITTEN_AT_ONCE))
                chunk.write(chunk.rows, matrix[new], norms[new])

    def _cut(self, rows: int) -> None:
        """Leaves the first rows in. Chunks that have none of them are given back."""
        with self._growing:
            for chunk, first in self._numbered():
                chunk.rows = min(chunk.rows, max(0, rows - first))
            self._chunks = [chunk for chunk in self._chunks if chunk.rows]

    def improvement(self) -> None:
        """There is none."""

    def rewrite(self, matrix: Vectors, norms: Vectors, rows: Iterable[int]) -> None:
        changed = np.array(sorted(rows), np.int64)
        for run in np.split(changed, np.flatnonzero(np.diff(changed) > 1) + 1):
            for chunk, first in self._numbered():
                start, stop = max(int(run[0]), first), min(int(run[-1]) + 1, first + chunk.rows)
                if start < stop:
                    chunk.write(start - first, matrix[start:stop], norms[start:stop])

    def nearest(self, queries: Vectors, k: int, max_norm: float) -> Proposed:
        at_once = _QUERIES_AT_ONCE if k <= engine.GPU_MAX_K else 1
        found = []
        for start in range(0, len(queries), at_once):
            some = np.ascontiguousarray(queries[start : start + at_once])
            found.append(nearest_of_parts(self._gpu.pool, self._parts(len(some), k), some, k))
        return one_after_the_other(found, on_card(self._dimension, max_norm, self._gpu.half))

    def _parts(self, queries: int, k: int) -> list[Part]:
        """As many rows in each as keep every lane busy, but no more than its scratch memory is for; where more are
        wanted than FAISS's kernels select, so few that all can be."""
        most = max(-(-self.rows // self._gpu.lanes), _LEAST_PART) if k <= engine.GPU_MAX_K else engine.GPU_MAX_K
        most = max(1, min(most, self._gpu.scratch_bytes // (_SCRATCH_BYTES * queries)))
        return [part for chunk, first in self._numbered() for part in chunk.parts(self._gpu, first, most)]

    def _numbered(self) -> Iterator[tuple[_Chunk, int]]:
        """Each chunk, and the number of its first row."""
        first = 0
        for chunk in self._chunks:
            yield chunk, first
            first += chunk.capacity


def open_gpu(device: str, ordinal: int, scratch_bytes: int, lanes: int = LANES, half: bool = False) -> Gpu:
    """Starts CUDA and takes FAISS's scratch memory. Raises DeviceUnavailable, naming what is missing."""
    each = scratch_bytes // lanes
    opened = [engine.GpuFaiss(device, ordinal, each) for _ in range(lanes)]
    gpu = Gpu(Card(device, ordinal), opened, each, half)
    trial = GpuScan(gpu, 1)
    try:
        trial.extend(np.ones((1, 1), np.float32), np.ones(1, np.float32), 1)
        three = np.full((1, 1), 3, np.float32)
        found = {round(trial.nearest(three, 1, 1.0).distances.item(), 3) for _ in opened}  # each once
    except MemoryError as error:
        raise DeviceUnavailable(device, str(error)) from error
    if found != {4}:
        raise DeviceUnavailable(device, f"it computes (3 - 1)^2 = {found}")
    return gpu
