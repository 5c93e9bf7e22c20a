"""FAISS, as far as this package uses it: the only module that imports it, and the only untyped surface.

Everything here is a thin, typed call. See scan.py for how the calls are put together. FAISS is loaded when a device is
opened, not when this module is imported: whoever only asks about galleries needs none.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oneglance_core.cuda_driver import driver_trouble
from oneglance_index.errors import DeviceUnavailable
from oneglance_index.records import Integers, Vectors

Halves = NDArray[np.float16]
Codes = NDArray[np.uint8]

# The GPU kernels select at most this many neighbours (GPU_MAX_SELECTION_K).
GPU_MAX_K = 2048
# Settings that make cuBLAS compute float32 products with less.
_INEXACT = ("NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION")
_NICENESS = 5  # a third of the processor's time of who has no more than 0
_LEAST_CUDA = 12000  # of the driver, for the CUDA 12 that faiss-gpu is built with


@functools.cache
def load() -> Any:
    """The module `faiss`, loaded at the first call. Raises ImportError."""
    import faiss

    # Below this many queries x dimensions FAISS scans row by row. We choose the path ourselves, call by call: the
    # matrix path unless a selector is passed. FAISS keeps the number per process, so it is set once, here.
    faiss.cvar.distance_compute_blas_threshold = 1
    return faiss


@functools.cache
def _every_row() -> Any:
    return load().IDSelectorAll()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


class ScanPools(NamedTuple):
    """Threads in which nearest() runs single-threaded. The processor is for others before it is for the patient ones,
    of this process or not, where both want it (on Linux)."""

    usual: ThreadPoolExecutor
    patient: ThreadPoolExecutor

    def shutdown(self) -> None:
        for pool in self:
            pool.shutdown()


def scan_pools(threads: int) -> ScanPools:
    """Of so many threads each, all of them started. Raises MemoryError.

    They have multiplied matrices together: FAISS's BLAS takes its memory then, for as many products as are under way at
    once, and keeps it; where it gets none it ends the process.
    """
    pools = ScanPools(
        ThreadPoolExecutor(threads, "oneglance-scan", initializer=use_one_thread),
        ThreadPoolExecutor(threads, "oneglance-patient-scan", initializer=be_patient),
    )
    together = threading.Barrier(len(pools) * threads)
    try:
        for started in [pool.submit(_multiply_together, together) for pool in pools for _ in range(threads)]:
            started.result()
    except BaseException as error:
        together.abort()
        pools.shutdown()
        if isinstance(error, RuntimeError):
            raise MemoryError("no thread can be started") from error
        raise
    return pools


def use_one_thread() -> None:
    """Makes FAISS's loops and its BLAS single-threaded when they are called from the calling thread."""
    load().omp_set_num_threads(1)


def be_patient() -> None:
    """As use_one_thread(), of a thread that leaves the processor to others."""
    use_one_thread()
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.nice(_NICENESS)  # of this thread


# How many threads of this process have multiplied together.
_multiplied = 0


def _multiply_together(together: threading.Barrier) -> None:
    """Products long enough (some 10 ms each) that all threads are in one at the same time, on a busy machine, too."""
    global _multiplied
    together.wait()
    if _multiplied < together.parties:
        queries, rows = np.ones((4096, 64), np.float32), np.ones((2048, 64), np.float32)
        norms = np.full(2048, 64, np.float32)
        for _ in range(3):
            together.wait()
            try:
                nearest(rows, norms, False, queries, 1)
            except BaseException:
                together.abort()  # nobody shall wait for this one
                raise
        together.wait()
        _multiplied = together.parties


def nearest(rows: Vectors, norms: Vectors, by_row: bool, queries: Vectors, k: int) -> tuple[Vectors, Integers]:
    """The k rows nearest to each query: squared L2 float32 [q, k] ascending, row numbers int64 [q, k].

    rows float32 [n, D], norms float32 [n] = ||row||^2, queries float32 [q, D], all C-contiguous, 1 <= k <= n.
    `by_row` takes FAISS's row path, sum (x-q)^2, else its matrix path, ||x||^2 + ||q||^2 - 2xq. Rows whose norm is inf
    are passed over; where fewer than k are left, the last distances are float32's largest, their rows -1.
    """
    q, dimension = queries.shape
    distances = np.empty((q, k), np.float32)
    labels = np.empty((q, k), np.int64)
    faiss = load()
    selector = None
    if by_row:
        all_shown, bits = _shown(norms)
        selector = _every_row() if all_shown else faiss.IDSelectorBitmap(len(rows), faiss.swig_ptr(bits))
    faiss.knn_L2sqr(
        faiss.swig_ptr(queries),
        faiss.swig_ptr(rows),
        dimension,
        q,
        len(rows),
        k,
        faiss.swig_ptr(distances),
        faiss.swig_ptr(labels),
        faiss.swig_ptr(norms),
        selector,
    )
    return distances, labels


def nearest_codes(codes: Codes, norms: Vectors, query: Vectors, k: int) -> tuple[Vectors, Integers]:
    """The k codes nearest to a query float32 [D], in any order: squared L2 float32 [k], row numbers int64 [k].

    codes uint8 [n, D], of numbers that are 128 less. The query's are whole, too, and from -128 to 127: FAISS cuts off
    what there is more. norms float32 [n], k, and what it gives where fewer are left as in nearest().
    """
    faiss = load()
    all_shown, bits = _shown(norms)
    selector = None if all_shown else faiss.IDSelectorBitmap(len(codes), faiss.swig_ptr(bits))
    distances, labels = np.full(k, np.finfo(np.float32).max, np.float32), np.full(k, -1, np.int64)
    pointers = (faiss.swig_ptr(array) for array in (distances, labels))
    quantizer = faiss.ScalarQuantizer(codes.shape[1], faiss.ScalarQuantizer.QT_8bit_direct_signed)
    scanner = quantizer.select_InvertedListScanner(faiss.METRIC_L2, None, True, selector)
    try:
        scanner.list_no = 0  # else row numbers have it in their upper half
        scanner.set_query(faiss.swig_ptr(query))
        scanner.scan_codes(len(codes), faiss.swig_ptr(codes), None, *pointers, k)
    finally:
        faiss.InvertedListScanner.__swig_destroy__(scanner)  # Python doesn't own it, and can't be made to
    return distances, labels


def _shown(norms: Vectors) -> tuple[bool, NDArray[np.uint8]]:
    """Whether no norm is inf; and, as bits, which aren't."""
    shown = np.isfinite(norms)
    return bool(shown.all()), np.packbits(shown, bitorder="little")


def distances(rows: Vectors, query: Vectors, out: Vectors) -> None:
    """Squared L2 of each of rows float32 [n, D] to query float32 [D], sum (x-q)^2, into out float32 [n]; all
    C-contiguous."""
    faiss = load()
    pointers = (faiss.swig_ptr(array) for array in (out, query, rows))
    faiss.fvec_L2sqr_ny(*pointers, rows.shape[1], len(rows))


class Cells:
    """Vectors float32 [*, D] in cells, by the nearest of `centres` float32 [cells, D], a bit for each number of what
    they are less their centre: RaBitQ (Gao and Long, SIGMOD 2024). Known by numbers of the caller's. Searches may run
    at the same time, but not with what changes anything."""

    def __init__(self, centres: Vectors) -> None:
        faiss = load()
        cells, dimension = centres.shape
        self._nearest_centre = faiss.IndexFlatL2(dimension)
        self._nearest_centre.add(centres)
        self._index = faiss.IndexIVFRaBitQ(self._nearest_centre, dimension, cells, faiss.METRIC_L2)
        self._index.qb = _PROBE_BITS
        self._index.train(centres)  # which is to say that its centres are known

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def memory_bytes(self) -> int:
        return len(self) * (int(self._index.code_size) + 8)

    def cells_of(self, vectors: Vectors) -> Integers:
        """Of each the cell, int64 [n]; changes nothing."""
        found: Integers = self._nearest_centre.search(vectors, 1)[1][:, 0]
        return found

    def add(self, vectors: Vectors, cells: Integers, numbers: Integers) -> None:
        """Puts vectors into the cells that they are of; all C-contiguous."""
        pointers = (load().swig_ptr(array) for array in (vectors, numbers, cells))
        self._index.add_core(len(vectors), *pointers)

    def remove(self, gone: NDArray[np.bool_]) -> None:
        """What has the numbers for which this, bool [n], says so."""
        faiss, bits = load(), np.packbits(gone, bitorder="little")
        self._index.remove_ids(faiss.IDSelectorBitmap(len(gone), faiss.swig_ptr(bits)))

    def nearest(self, queries: Vectors, k: int, cells: int) -> tuple[Vectors, Integers]:
        """What seem to be the k nearest to each query in that many cells, those that are nearest to it: about the
        squared L2 float32 [q, k] ascending, numbers int64 [q, k], -1 where there are fewer."""
        faiss = load()
        asked = faiss.IVFRaBitQSearchParameters(nprobe=cells, qb=_PROBE_BITS)
        found: tuple[Vectors, Integers] = self._index.search(queries, k, params=asked)
        return found


# Numbers of a probe are rounded to so many bits: with 8 it takes longer and finds no more, unrounded 100 times as long.
_PROBE_BITS = 4


def centres_of(sample: Vectors, centres: Vectors) -> Vectors:
    """One step of k-means from these centres."""
    faiss = load()
    means = faiss.Kmeans(sample.shape[1], len(centres), niter=1, max_points_per_centroid=len(sample))
    means.cp.min_points_per_centroid = 1
    means.train(sample, init_centroids=centres)
    found: Vectors = means.centroids
    return found


class GpuFaiss:
    """FAISS on one GPU: streams, cuBLAS, and scratch memory of a fixed size. Each is safe for one thread.

    Raises DeviceUnavailable, naming what is missing.
    """

    def __init__(self, device: str, ordinal: int, scratch_bytes: int) -> None:
        faiss = load()
        if not hasattr(faiss, "StandardGpuResources"):
            raise DeviceUnavailable(device, "the installed FAISS has no GPU support (faiss-cpu; the gpu extra has)")
        for name in _INEXACT:
            if os.environ.get(name) == "1":
                # It would round the products behind FAISS's back, and break the error bound.
                raise DeviceUnavailable(device, f"{name}=1 is set, which makes FAISS inexact")
        missing = driver_trouble(ordinal, _LEAST_CUDA)
        if missing or ordinal >= faiss.get_num_gpus():
            raise DeviceUnavailable(device, missing or f"FAISS sees {faiss.get_num_gpus()} GPU(s), numbered from 0")
        self._ordinal = ordinal
        try:
            self._resources = faiss.StandardGpuResources()
            self._resources.setPinnedMemory(0)  # 256 MiB of the host's, for its own indexes
            # Before the first search, which allocates it. FAISS caps it at 1.5 GiB itself.
            self._resources.setTempMemory(scratch_bytes)
        except RuntimeError as error:
            raise DeviceUnavailable(device, str(error)) from error

    def nearest(self, queries: Vectors | Halves, rows: int, norms: int, count: int, k: int) -> tuple[Vectors, Integers]:
        """The k rows nearest to each query, as the function of that name on its matrix path.

        `rows` and `norms` are addresses on the card, of `count` rows, of the queries' type, and their ||row||^2
        float32; 1 <= k <= min(count, GPU_MAX_K). Raises RuntimeError.
        """
        distances = np.empty((len(queries), k), np.float32)
        labels = np.empty((len(queries), k), np.int64)
        faiss = load()
        args = faiss.GpuDistanceParams()
        args.metric = faiss.METRIC_L2
        args.dims = queries.shape[1]
        half = queries.dtype == np.float16
        args.vectorType = args.queryType = faiss.DistanceDataType_F16 if half else faiss.DistanceDataType_F32
        args.vectors, args.vectorNorms = faiss.cast_integer_to_float_ptr(rows), faiss.cast_integer_to_float_ptr(norms)
        args.numVectors = count
        args.queries, args.numQueries = faiss.swig_ptr(queries), len(queries)
        args.k = k
        args.outDistances = faiss.swig_ptr(distances)
        args.outIndices, args.outIndicesType = faiss.swig_ptr(labels), faiss.IndicesDataType_I64
        args.device = self._ordinal
        args.use_cuvs = False  # the error bound was worked out for FAISS's own kernels
        faiss.bfKnn(self._resources, args)
        # Where it finds less than k distances that are numbers, it fills up with -1: as good as any row.
        return distances, np.maximum(labels, 0, out=labels)
