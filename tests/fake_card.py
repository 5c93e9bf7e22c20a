"""A graphics card that isn't there: what the index asks of CUDA's runtime and of FAISS's GPU functions, over numpy.

It has so many bytes of memory and counts them; its distances are as crude as float32 allows. It is as unforgiving as
the real thing: FAISS in two threads at once, an address that was given back, or FAISS on a card that is lost end the
test, as they would end the process (``Aborted``). Any call can be made to fail.
"""

import ctypes
import threading
from collections import Counter
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from oneglance_index.search import cuda, faiss_calls

OUT_OF_MEMORY = 2
ILLEGAL_ADDRESS = 700
_TEXTS = {OUT_OF_MEMORY: b"out of memory", ILLEGAL_ADDRESS: b"an illegal memory access was encountered"}
_TILE_COLUMNS = 262_144  # FAISS's, on a card of more than 8 GB, for at most 512 queries


class Aborted(BaseException):
    """The process would have ended here."""


class FakeCard:
    """Cards 0 to ``count`` - 1 of a machine; only one can be used at a time.

    Attributes:
        capacity: bytes.
        calls: how often each function was called. copied: bytes written to the card.
        most: the most bytes that were in use.
        lost: the error that every call meets from here on; 0 while the card works.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, capacity: int = 1 << 30, count: int = 1) -> None:
        self.capacity = capacity
        self.calls: Counter[str] = Counter()
        self.copied = 0
        self.most = 0
        self.lost = 0
        self.scratch = 0
        self.device = -1
        self._memory: dict[int, npt.NDArray[np.uint8]] = {}  # by address
        self._failing: dict[str, tuple[int, int]] = {}
        self.guard = threading.RLock()
        monkeypatch.setattr(cuda, "load_runtime", lambda: _Runtime(self))
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: count)
        monkeypatch.setattr(faiss_calls, "driver_trouble", lambda *_: None)
        monkeypatch.setattr(faiss, "StandardGpuResources", lambda: _Resources(self), raising=False)
        monkeypatch.setattr(faiss, "GpuDistanceParams", _Arguments, raising=False)
        monkeypatch.setattr(faiss, "DistanceDataType_F32", 1, raising=False)
        monkeypatch.setattr(faiss, "DistanceDataType_F16", 2, raising=False)
        monkeypatch.setattr(faiss, "IndicesDataType_I64", 1, raising=False)
        monkeypatch.setattr(faiss, "bfKnn", self._search, raising=False)

    @property
    def used(self) -> int:
        return self.scratch + sum(memory.nbytes for memory in self._memory.values())

    def fail(self, call: str, code: int, *, after: int = 0) -> None:
        """``call`` fails once, after so many more that don't. Anything but want of memory loses the card."""
        self._failing[call] = (self.calls[call] + after + 1, code)

    def code(self, call: str) -> int:
        """Counts a call; how it ends."""
        with self.guard:
            self.calls[call] += 1
            turn, code = self._failing.get(call, (0, 0))
            if self.lost or turn != self.calls[call]:
                return self.lost
            if code != OUT_OF_MEMORY:
                self.lost = code
            return int(code)

    def take(self, size: int) -> int:
        """The address of new memory; 0 where there is none left."""
        with self.guard:
            if self.used + size > self.capacity:
                return 0
            memory = np.full(max(size, 1), 0xFF, np.uint8)  # floats of it are NaN
            self._memory[memory.ctypes.data] = memory
            self.most = max(self.most, self.used)
            return int(memory.ctypes.data)

    def give(self, address: int) -> None:
        with self.guard:
            if self._memory.pop(address, None) is None:
                raise Aborted("memory given back twice")

    def check(self, address: int, size: int) -> None:
        with self.guard:
            for begin, memory in self._memory.items():
                if begin <= address and address + size <= begin + memory.nbytes:
                    return
        raise Aborted("an address that is not, or no longer, the card's")

    def floats(self, address: int, *shape: int, half: bool = False) -> npt.NDArray[np.float32]:
        self.check(address, (2 if half else 4) * int(np.prod(shape)))
        return _halves(address, *shape).astype(np.float32) if half else _floats(address, *shape)

    def _search(self, resources: "_Resources", args: "_Arguments") -> None:
        if not resources.busy.acquire(blocking=False):
            raise Aborted("one FAISS in two threads")
        try:
            code = self.code("bfKnn")
            if code == OUT_OF_MEMORY:
                raise RuntimeError("StandardGpuResources: alloc fail (cudaMalloc error out of memory [2])")
            if code:
                raise Aborted("FAISS: CUDA_VERIFY failed")
            resources.start()
            overflow = self._scratch_for(args) - resources.size
            if overflow > 0 and self.used + overflow > self.capacity:
                raise RuntimeError("StandardGpuResources: alloc fail (cudaMalloc error out of memory [2])")
            self._compute(args)
        finally:
            resources.busy.release()

    def _scratch_for(self, args: "_Arguments") -> int:
        return int(2 * 4 * args.numQueries * min(args.numVectors, _TILE_COLUMNS))

    def _compute(self, args: "_Arguments") -> None:
        assert args.metric == faiss.METRIC_L2
        assert args.vectorType == args.queryType
        half = args.vectorType == faiss.DistanceDataType_F16
        assert (args.device, args.use_cuvs) == (self.device, False)
        count, wanted, probes = args.numVectors, args.k, args.numQueries
        rows = self.floats(int(args.vectors), count, args.dims, half=half)
        norms = self.floats(int(args.vectorNorms), count)
        raw = (_halves if half else _floats)(int(args.queries), probes, args.dims)
        queries, squares = raw.astype(np.float32), (raw * raw).astype(np.float32)  # FAISS squares them as they are
        products = queries @ rows.T
        if half:  # tensor cores cut off
            products -= np.float32(2.0**-23) * (np.abs(queries) @ np.abs(rows.T))
        distances = norms + squares.sum(1)[:, None] - 2 * products
        assert np.isfinite(distances).all(), "a row that was never written, or squares beyond float16"
        assert 1 <= wanted <= min(2048, count), "more than a GPU selects"
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :wanted]
        _floats(int(args.outDistances), probes, wanted)[:] = np.take_along_axis(distances, nearest, 1)
        labels = (ctypes.c_int64 * (probes * wanted)).from_address(int(args.outIndices))
        np.ctypeslib.as_array(labels).reshape(probes, wanted)[:] = nearest


class _Arguments:
    outIndices: Any = None  # noqa: N815 - FAISS's name

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was not set")


class _Resources:
    def __init__(self, card: FakeCard) -> None:
        self._card = card
        self.size = 0
        self._started = False
        self.busy = threading.Lock()

    def setPinnedMemory(self, size: int) -> None:  # FAISS's name
        assert size == 0

    def setTempMemory(self, size: int) -> None:  # FAISS's name
        self.size = size

    def start(self) -> None:
        if not self._started:
            with self._card.guard:
                if self._card.used + self.size > self._card.capacity:
                    raise RuntimeError("StandardGpuResources: alloc fail (cudaMalloc error out of memory [2])")
                self._card.scratch += self.size
            self._started = True


class _Runtime:
    """libcudart, as far as it is called."""

    def __init__(self, card: FakeCard) -> None:
        self._card = card
        self.cudaGetErrorString = _error_string  # CUDA's name

    def cudaSetDevice(self, ordinal: int) -> int:
        self._card.device = ordinal
        return self._card.code("cudaSetDevice")

    def cudaGetLastError(self) -> int:
        return 0

    def cudaStreamQuery(self, stream: Any) -> int:
        return self._card.code("cudaStreamQuery")

    def cudaStreamSynchronize(self, stream: Any) -> int:
        return self._card.code("cudaStreamSynchronize")

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:
        code = self._card.code("cudaMemGetInfo")
        free._obj.value, total._obj.value = self._card.capacity - self._card.used, self._card.capacity
        return code

    def cudaMalloc(self, address: Any, size: Any) -> int:
        if code := self._card.code("cudaMalloc"):
            return code
        address._obj.value = self._card.take(size.value) or None
        return 0 if address._obj.value else OUT_OF_MEMORY

    def cudaFree(self, address: Any) -> int:
        self._card.give(address.value)
        return self._card.code("cudaFree")

    def cudaMemcpyAsync(self, to: Any, source: Any, size: Any, kind: int, stream: Any) -> int:
        assert kind == 1
        if code := self._card.code("cudaMemcpyAsync"):
            return code
        self._card.check(to.value, size.value)
        ctypes.memmove(to.value, source.value, size.value)
        self._card.copied += size.value
        return 0


def _error_string(code: int) -> bytes:
    return _TEXTS[code]


def _halves(address: int, *shape: int) -> npt.NDArray[np.float16]:
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_uint16 * count).from_address(address)).view(np.float16).reshape(shape)


def _floats(address: int, *shape: int) -> npt.NDArray[np.float32]:
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)
