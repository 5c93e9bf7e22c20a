"""GpuScan: the rows a second time, in the memory of a GPU, in chunks that are written in place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

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
# FAISS's scratch memory is in proportion to it: at most 2 MiB for each query.
_QUERIES_AT_ONCE = 256

T = TypeVar("T")


class Gpu:
    """A card and FAISS on it. `lock` is held while FAISS computes: it is safe for one thread only."""

    def __init__(self, card: Card, faiss: engine.GpuFaiss) -> None:
        self.card = card
        self._faiss = faiss
        self._lock = threading.Lock()

    def compute(self, call: Callable[[engine.GpuFaiss], T]) -> T:
        """`call`, given FAISS, when it is its turn. Raises MemoryError, DeviceLost."""
        with self._lock:
            self.card.check()
            try:
                return call(self._faiss)
            except RuntimeError as error:
                # FAISS ends its message with CUDA's: "(cudaMalloc error out of memory [2])".
                if "out of memory" in str(error):
                    raise MemoryError(str(error)) from error
                self.card.check()
                raise


@dataclass(slots=True)
class _Chunk:
    """Room for `capacity` rows on the card: the vectors, and behind them their norms. The first `rows` are written."""

    memory: Memory
    dimension: int
    capacity: int
    rows: int = 0

    @property
    def vectors(self) -> int:
        return self.memory.address

    @property
    def norms(self) -> int:
        return self.memory.address + 4 * self.dimension * self.capacity

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
        steps = range(0, len(queries), _QUERIES_AT_ONCE)
        found = [self._nearest(np.ascontiguousarray(queries[at : at + _QUERIES_AT_ONCE]), k) for at in steps]
        return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])

    def _nearest(self, queries: Vectors, k: int) -> tuple[Vectors, Integers]:
        parts, start = [], 0
        for chunk in self._chunks:
            if chunk.rows:
                distances, labels = self._in_chunk(chunk, queries, min(k, chunk.rows))
                parts.append((distances, labels + start))
                start += chunk.rows
        return merged(parts, k)

    def _in_chunk(self, chunk: _Chunk, queries: Vectors, k: int) -> tuple[Vectors, Integers]:
        at = (chunk.vectors, chunk.norms, chunk.rows)
        if k <= engine.GPU_MAX_K:
            return self._gpu.compute(lambda faiss: faiss.nearest(queries, *at, k))
        # More than FAISS's kernels select: all distances come here, probe by probe.
        found = []
        for i in range(len(queries)):
            query = queries[i : i + 1]
            distances = self._gpu.compute(lambda faiss, query=query: faiss.all_distances(query, *at))  # type: ignore[misc]
            found.append(merged([(distances, np.arange(chunk.rows)[None])], k))
        return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])


def bytes_on_card(rows: int, dimension: int) -> int:
    return 4 * (dimension + 1) * rows


def open_gpu(device: str, ordinal: int, scratch_bytes: int) -> Gpu:
    """Starts CUDA and takes FAISS's scratch memory. Raises DeviceUnavailable, naming what is missing."""
    faiss = engine.GpuFaiss(device, ordinal, scratch_bytes)
    gpu = Gpu(Card(device, ordinal), faiss)
    try:
        trial = GpuScan(gpu, 1)
        trial.extend(np.ones((1, 1), np.float32), np.ones(1, np.float32), 1)
        distances, _ = trial.nearest(np.full((1, 1), 3, np.float32), 1)
    except MemoryError as error:
        raise DeviceUnavailable(device, str(error)) from error
    if distances[0, 0] != 4:
        raise DeviceUnavailable(device, f"it computes (3 - 1)^2 = {distances[0, 0]}")
    return gpu
