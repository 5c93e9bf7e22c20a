"""GpuScan: the rows a second time, in the memory of a GPU, in chunks that are written in place.

FAISS selects the nearest of a tile of rows by one thread block for each probe, so that few probes leave nearly all of
the card idle. The rows are therefore scanned in parts, each by a FAISS of its own.
"""

from __future__ import annotations

import functools
import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from oneglance_index.errors import DeviceUnavailable
from oneglance_index.records import Integers, Vectors
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.cuda import Card, Memory
from oneglance_index.search.scan import merged

# Room grows by as much as there is, from this many bytes on by a quarter: few chunks, and not much room unused.
_DOUBLED_BYTES = 256 << 20
_LEAST_ROWS = 2048
_ROWS_ALIGNED = 64  # so that the norms begin at an address that suits every kernel
# How many parts are scanned at once, and the fewest rows that are worth one.
LANES = 6
_LEAST_PART = 16_384
_QUERIES_AT_ONCE = 256
# What FAISS takes of its scratch memory for a query and a row: two distances.
_SCRATCH_BYTES = 8

T = TypeVar("T")


class Gpu:
    """A card, and several FAISS on it, each of which is safe for one thread and has so much scratch memory."""

    def __init__(self, card: Card, lanes: Sequence[engine.GpuFaiss], scratch_bytes: int) -> None:
        self.card = card
        self.lanes = len(lanes)
        self.scratch_bytes = scratch_bytes
        self._free: queue.SimpleQueue[engine.GpuFaiss] = queue.SimpleQueue()
        for lane in lanes:
            self._free.put(lane)
        self._pool = ThreadPoolExecutor(len(lanes), "oneglance-gpu")

    def compute(self, calls: Sequence[Callable[[engine.GpuFaiss], T]]) -> list[T]:
        """Every call, given a FAISS, at the same time as others. Raises MemoryError, DeviceLost."""
        if len(calls) == 1:
            return [self._compute(calls[0])]
        return list(self._pool.map(self._compute, calls))

    def _compute(self, call: Callable[[engine.GpuFaiss], T]) -> T:
        faiss = self._free.get()
        try:
            self.card.check()
            return call(faiss)
        except RuntimeError as error:
            # FAISS ends its message with CUDA's: "(cudaMalloc error out of memory [2])".
            if "out of memory" in str(error):
                raise MemoryError(str(error)) from error
            self.card.check()
            raise
        finally:
            self._free.put(faiss)

    def close(self) -> None:
        self._pool.shutdown()


class _Part(NamedTuple):
    """`rows` rows on the card from an address on, their norms from another; `first` is the number of the first."""

    vectors: int
    norms: int
    rows: int
    first: int


@dataclass(slots=True)
class _Chunk:
    """Room for `capacity` rows on the card: the vectors, and behind them their norms. The first `rows` are written."""

    memory: Memory
    dimension: int
    capacity: int
    rows: int = 0

    def part(self, start: int, stop: int, first: int) -> _Part:
        """The rows from `start` to `stop`; `first` is the number of the chunk's first row."""
        return _Part(
            self.memory.address + 4 * self.dimension * start,
            self.memory.address + 4 * (self.dimension * self.capacity + start),
            stop - start,
            first + start,
        )

    def append(self, vectors: Vectors, norms: Vectors) -> None:
        self.memory.write(4 * self.dimension * self.rows, vectors)
        self.memory.write(4 * (self.dimension * self.capacity + self.rows), norms)
        self.rows += len(vectors)


class GpuScan:
    """A Scan on a card."""

    def __init__(self, gpu: Gpu, dimension: int) -> None:
        self.device = gpu.card.device
        self._gpu = gpu
        self._dimension = dimension
        self._chunks: list[_Chunk] = []
        self._growing = threading.Lock()

    @property
    def rows(self) -> int:
        return sum(chunk.rows for chunk in self._chunks)

    def fresh(self) -> GpuScan:
        return GpuScan(self._gpu, self._dimension)

    def reserve(self, rows: int) -> None:
        with self._growing:
            capacity = sum(chunk.capacity for chunk in self._chunks)
            if rows <= capacity:
                return
            small = bytes_on_card(capacity, self._dimension) < _DOUBLED_BYTES
            spare = max(capacity if small else capacity // 4, _LEAST_ROWS)
            try:
                self._add_chunk(max(spare, rows - capacity))
            except MemoryError:
                self._add_chunk(rows - capacity)

    def _add_chunk(self, rows: int) -> None:
        rows += -rows % _ROWS_ALIGNED
        memory = self._gpu.card.allocate(bytes_on_card(rows, self._dimension))
        self._chunks.append(_Chunk(memory, self._dimension, rows))

    def extend(self, matrix: Vectors, norms: Vectors, rows: int) -> None:
        self.reserve(rows)
        # From what the card says it has: a former call may have failed half-way.
        done = 0
        for chunk in self._chunks:
            new = slice(done + chunk.rows, min(rows, done + chunk.capacity))
            if new.start < new.stop:
                chunk.append(matrix[new], norms[new])
            done += chunk.capacity

    def nearest(self, queries: Vectors, k: int) -> tuple[Vectors, Integers]:
        at_once = _QUERIES_AT_ONCE if k <= engine.GPU_MAX_K else 1
        found = []
        for start in range(0, len(queries), at_once):
            some = np.ascontiguousarray(queries[start : start + at_once])
            parts = self._parts(len(some))
            found.append(merged(self._gpu.compute([functools.partial(_nearest, some, k, part) for part in parts]), k))
        return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])

    def _parts(self, queries: int) -> list[_Part]:
        """As many rows in each as keep every lane busy, but no more than its scratch memory is for."""
        most = max(-(-self.rows // self._gpu.lanes), _LEAST_PART)
        most = max(1, min(most, self._gpu.scratch_bytes // (_SCRATCH_BYTES * queries)))
        parts, first = [], 0
        for chunk in self._chunks:
            count = -(-chunk.rows // most)
            cuts = [chunk.rows * i // count for i in range(count + 1)] if count else []
            parts += [chunk.part(*ends, first) for ends in itertools.pairwise(cuts)]
            first += chunk.rows
        return parts


def _nearest(queries: Vectors, k: int, part: _Part, faiss: engine.GpuFaiss) -> tuple[Vectors, Integers]:
    """The k nearest rows of a part, or all; numbers are those of all rows."""
    at = (part.vectors, part.norms, part.rows)
    if min(k, part.rows) <= engine.GPU_MAX_K:
        distances, labels = faiss.nearest(queries, *at, min(k, part.rows))
    else:  # more than FAISS's kernels select: all distances come here
        distances = faiss.all_distances(queries, *at)
        labels = np.broadcast_to(np.arange(part.rows), distances.shape)
    return merged([(distances, labels + part.first)], k)


def bytes_on_card(rows: int, dimension: int) -> int:
    return 4 * (dimension + 1) * rows


def open_gpu(device: str, ordinal: int, scratch_bytes: int, lanes: int = LANES) -> Gpu:
    """Starts CUDA and takes FAISS's scratch memory. Raises DeviceUnavailable, naming what is missing."""
    each = scratch_bytes // lanes
    opened = [engine.GpuFaiss(device, ordinal, each) for _ in range(lanes)]
    gpu = Gpu(Card(device, ordinal), opened, each)
    trial = GpuScan(gpu, 1)
    try:
        trial.extend(np.ones((1, 1), np.float32), np.ones(1, np.float32), 1)
        found = [trial.nearest(np.full((1, 1), 3, np.float32), 1)[0][0, 0] for _ in opened]  # each of them once
    except MemoryError as error:
        raise DeviceUnavailable(device, str(error)) from error
    if set(found) != {4}:
        raise DeviceUnavailable(device, f"it computes (3 - 1)^2 = {found}")
    return gpu
