"""Which way through FAISS is fastest on this machine, by the number of probes? The index's search/scan.py rests on it.

    python benchmarks/scan_paths.py [ROWS DIMENSION]...

All ways run in turn in one process on random unit vectors, k = 21, and must propose the same rows. Reported: median
and minimum milliseconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.random_directions import random_directions
from oneglance_index.search import faiss_calls as engine

faiss = engine.load()

K = 21
PROBES = (1, 2, 3, 4, 6, 8, 16, 64, 256)
FAISS_DEFAULT_THRESHOLD = 128_000

Vectors = NDArray[np.float32]
Found = tuple[Vectors, NDArray[np.int64]]


def ways(rows: Vectors, pool: ThreadPoolExecutor, threads: int) -> dict[str, Callable[[Vectors], Found]]:
    norms = np.einsum("nd,nd->n", rows, rows)
    cuts = [len(rows) * i // threads for i in range(threads + 1)]

    def faiss_default(queries: Vectors) -> Found:
        return with_threshold(FAISS_DEFAULT_THRESHOLD, lambda: engine.nearest(rows, norms, False, queries, K))

    def faiss_matrix(queries: Vectors) -> Found:
        return engine.nearest(rows, norms, False, queries, K)

    def split(queries: Vectors, by_row: bool) -> Found:
        def scan(start: int, stop: int) -> Found:
            distances, labels = engine.nearest(rows[start:stop], norms[start:stop], by_row, queries, K)
            return distances, labels + start

        return merged(list(pool.map(scan, cuts[:-1], cuts[1:])))

    def split_rows(queries: Vectors) -> Found:
        return split(queries, True)

    def split_matrix(queries: Vectors) -> Found:
        return split(queries, False)

    def numpy_blocks(queries: Vectors) -> Found:
        found = []
        for start in range(0, len(rows), 8192):
            block = slice(start, start + 8192)
            found.append(smallest(norms[block] - 2 * (queries @ rows[block].T), start))
        return merged(found)

    chosen = (faiss_default, faiss_matrix, split_rows, split_matrix, numpy_blocks)
    return {way.__name__: way for way in chosen}


def with_threshold(threshold: int, act: Callable[[], Found]) -> Found:
    faiss.cvar.distance_compute_blas_threshold = threshold
    try:
        return act()
    finally:
        faiss.cvar.distance_compute_blas_threshold = 1


def smallest(distances: Vectors, start: int = 0) -> Found:
    best = np.argpartition(distances, K - 1, axis=1)[:, :K]
    return np.take_along_axis(distances, best, 1), best + start


def merged(found: list[Found]) -> Found:
    distances = np.concatenate([part[0] for part in found], axis=1)
    labels = np.concatenate([part[1] for part in found], axis=1)
    distances, best = smallest(distances)
    return distances, np.take_along_axis(labels, best, 1)


def measure(count: int, dimension: int) -> None:
    rng = np.random.default_rng(0)
    rows = random_directions(rng, count, dimension)
    threads = engine.cores()
    print(f"{count} x {dimension}, {threads} cores, FAISS {faiss.__version__}: median (minimum) ms")
    with ThreadPoolExecutor(threads, initializer=engine.use_one_thread) as pool:
        candidates = ways(rows, pool, threads)
        for n in PROBES:
            queries = random_directions(rng, n, dimension)
            times: dict[str, list[float]] = {name: [] for name in candidates}
            for _ in range(15 if n < 16 else 5):
                proposals = set()
                for name, way in candidates.items():
                    start = time.perf_counter()
                    _, labels = way(queries)
                    times[name].append(1000 * (time.perf_counter() - start))
                    proposals.add(np.sort(labels, axis=1).tobytes())
                if len(proposals) != 1:
                    sys.exit("the ways disagree")
            line = "  ".join(f"{name} {median(ms):.1f} ({min(ms):.1f})" for name, ms in times.items())
            print(f"{n:4} probes  {line}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", metavar="ROWS DIMENSION", nargs="*", type=int)
    sizes = parser.parse_args().sizes or [100_000, 128, 500_000, 512]
    for count, dimension in zip(sizes[::2], sizes[1::2], strict=True):
        measure(count, dimension)
