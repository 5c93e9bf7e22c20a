"""How long does a scan for one probe take that reads fewer bytes than float32's, and how much does it leave to measure?

    python -m benchmarks.fewer_bytes [ROWS DIMENSION]... [--fetch 64] [--rounds 12]

All ways run in turn in one process, on all cores and on one, over unit vectors: random ones, and ones like an
encoder's, whose variances fall with a power of their rank. "off": how far a row is from its code at most, ||x - code||,
beside the distance, not squared, of the fifth nearest; "left": how many rows the triangle inequality can't exclude then
from the five nearest, which have to be measured, the mean of some probes: FAISS compares direct codes with whole
numbers, so the probe is rounded, too. Panorama is exact, with rows of its own.
"""

from __future__ import annotations

import functools
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.random_directions import random_directions
from benchmarks.report import options, table
from oneglance_index.search import faiss_calls as engine

faiss = engine.load()

PROBES, LEFT_PROBES, LEVELS, TRAINED = 8, 3, 8, 20_000
EXPONENT = 0.75  # of a direction's standard deviation, by its rank
BLOCK = 1 << 16

Vectors = NDArray[np.float32]
Way = Callable[[Vectors], Any]


def like_an_encoders(rng: np.random.Generator, count: int, dimension: int) -> Vectors:
    turn = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0].astype(np.float32)
    spread = (np.arange(1, dimension + 1) ** -EXPONENT).astype(np.float32)
    rows = rng.standard_normal((count, dimension), dtype=np.float32)
    for block in blocks(count):
        rows[block] = (rows[block] * spread) @ turn
    return unit(rows)


def unit(rows: Vectors) -> Vectors:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))


def by_codes(
    rows: Vectors, kind: int, fetch: int, pool: ThreadPoolExecutor, threads: int
) -> tuple[Way, Callable[[Vectors], Vectors], Vectors]:
    """Of a scalar quantizer; what a probe is compared as, and each row."""
    quantizer = faiss.ScalarQuantizer(rows.shape[1], kind)
    signed = kind == faiss.ScalarQuantizer.QT_8bit_direct_signed
    step = np.float32(np.abs(rows).max() / 127 if signed else 1)
    quantizer.train(rows[:TRAINED])
    codes = quantizer.compute_codes(np.rint(rows / step) if signed else rows)
    read = quantizer.decode(codes) * step

    def scan(part: slice, query: Vectors) -> None:
        scanner = quantizer.select_InvertedListScanner(faiss.METRIC_L2, None, True, None)
        scanner.list_no = 0
        distances, labels = np.full(fetch, np.finfo(np.float32).max), np.full(fetch, -1)
        scanner.set_query(faiss.swig_ptr(query))
        of_part = codes[part]
        pointers = (faiss.swig_ptr(array) for array in (distances, labels))
        scanner.scan_codes(len(of_part), faiss.swig_ptr(of_part), None, *pointers, fetch)

    def compared(probe: Vectors) -> Vectors:
        return np.asarray(np.rint(probe / step) * step if signed else probe, np.float32)

    def way(query: Vectors) -> None:
        list(pool.map(scan, parts(len(rows), threads), [compared(query[0]) / step] * threads))

    return way, compared, read


def by_index(rows: Vectors, make: Callable[[], Any], fetch: int, pool: ThreadPoolExecutor, threads: int) -> Way:
    def filled(part: slice) -> Any:
        index = make()
        index.train(rows[:TRAINED])
        index.add(rows[part])
        return index

    indexes = [filled(part) for part in parts(len(rows), threads)]
    return lambda query: list(pool.map(lambda index: index.search(query, fetch), indexes))


def by_float32(rows: Vectors, fetch: int, pool: ThreadPoolExecutor, threads: int) -> Way:
    norms = np.einsum("nd,nd->n", rows, rows)

    def scan(part: slice, query: Vectors) -> None:
        engine.nearest(rows[part], norms[part], True, query, fetch)

    return lambda query: list(pool.map(scan, parts(len(rows), threads), [query] * threads))


def turned(rows: Vectors) -> tuple[Vectors, Vectors]:
    """The rows by their principal directions, and what turns a query so."""
    turn = np.linalg.eigh(np.cov(rows[:TRAINED].T))[1][:, ::-1].astype(np.float32)
    return rows @ turn, turn


def _turned_first(act: Way, turn: Vectors, query: Vectors) -> None:
    act(query @ turn)


def parts(count: int, threads: int) -> list[slice]:
    return [slice(count * i // threads, count * (i + 1) // threads) for i in range(threads)]


def left(rows: Vectors, read: Vectors, probes: Vectors, compared: Callable[[Vectors], Vectors]) -> tuple[str, str]:
    off = max(float(np.linalg.norm(rows[block] - read[block], axis=1).max()) for block in blocks(len(rows)))
    counts, fifths = [], []
    for probe in probes:
        away, real = (
            np.concatenate([np.linalg.norm(x[block] - query, axis=1) for block in blocks(len(x))])
            for x, query in ((read, compared(probe)), (rows, probe))
        )
        fifths.append(np.partition(real, 4)[4])
        counts.append(np.count_nonzero(away <= fifths[-1] + off + np.linalg.norm(probe - compared(probe))))
    return f"{off:.4f} of {np.mean(fifths):.2f}", f"{np.mean(counts):,.0f}"


def measure(name: str, rows: Vectors, probes: Vectors, fetch: int, rounds: int) -> None:
    dimension = rows.shape[1]
    kinds = {
        "float16": faiss.ScalarQuantizer.QT_fp16,
        "bfloat16": faiss.ScalarQuantizer.QT_bf16,
        "8 bits, uniform": faiss.ScalarQuantizer.QT_8bit_uniform,
        "8 bits, direct and signed": faiss.ScalarQuantizer.QT_8bit_direct_signed,
        "4 bits, uniform": faiss.ScalarQuantizer.QT_4bit_uniform,
    }
    bits = {1: "one bit", 4: "four bits"}
    cells: dict[str, list[object]] = {}
    for threads in sorted({engine.cores(), 1}, reverse=True):
        with ThreadPoolExecutor(threads, initializer=engine.use_one_thread) as pool:
            ways: dict[str, Way] = {"float32, as now": by_float32(rows, fetch, pool, threads)}
            for kind, quantizer in kinds.items():
                ways[kind], compared, read = by_codes(rows, quantizer, fetch, pool, threads)
                if kind not in cells:
                    cells[kind] = [*left(rows, read, probes[:LEFT_PROBES], compared)]
                del read
            by_axes, turn = turned(rows)
            panorama = by_index(by_axes, lambda: faiss.IndexFlatL2Panorama(dimension, LEVELS), fetch, pool, threads)
            del by_axes
            ways[f"Panorama, {LEVELS} levels"] = functools.partial(_turned_first, panorama, turn)
            for count, told in bits.items():
                make = functools.partial(faiss.IndexRaBitQFastScan, dimension, faiss.METRIC_L2, 32, count)
                ways[f"RaBitQ FastScan, {told}"] = by_index(rows, make, fetch, pool, threads)
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for i in range(rounds):
                for way, act in ways.items():
                    begun = time.perf_counter()
                    act(probes[i % len(probes)][None])
                    taken[way].append(1000 * (time.perf_counter() - begun))
            plain = statistics.median(taken["float32, as now"])
            for way, times in taken.items():
                took = statistics.median(times)
                cells.setdefault(way, ["", ""]).extend([f"{took:.1f}", f"{took / plain:.2f}"])
            del ways, panorama
            gc.collect()
    header = ["way", "off", "left", "all cores, ms", "of float32", "one core, ms", "of float32"]
    order = ["float32, as now", *(way for way in cells if way != "float32, as now")]
    table(f"{len(rows):,} x {dimension}, {name}", header, [[way, *cells[way]] for way in order])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("sizes", metavar="ROWS DIMENSION", nargs="*", type=int)
    parser.add_argument("--fetch", type=int, default=64, metavar="K")
    parser.add_argument("--rounds", type=int, default=12)
    told = parser.parse_args()
    sizes = told.sizes or [1_000_000, 128, 500_000, 512]
    for count, dimension in zip(sizes[::2], sizes[1::2], strict=True):
        for make in (random_directions, like_an_encoders):
            drawn = make(np.random.default_rng(0), count + PROBES, dimension)
            measure(make.__name__.replace("_", " "), drawn[:count], drawn[count:], told.fetch, told.rounds)


if __name__ == "__main__":
    main()
