"""What approximate answers lose, and what they gain: python -m benchmarks.approximate [ROWS] [--rivals NAME,...]

Subjects like faces: 128 numbers whose variances fall as exp(-i / 25), in directions drawn at random; an example adds a
quarter (0.24) of that in directions of its own; unit length. One example of each is enrolled. tau lets 1 % of
strangers in. Known probes are other examples: on the first half the index learns how far to look, on the second half,
and on strangers, decisions are counted that differ from the exact ones. Rivals get the same rows, threads and probes;
what they find nearest is held against tau; each is set to several efforts, and what it loses is counted on the same
probes.
Probes come 64 at a time, and one at a time. Rivals are packages of PyPI: hnswlib, usearch, scalable-vs (svs).
"""

import functools
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import options, table
from oneglance_index import Approximation, Found, Search
from oneglance_index.records import Rows
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.coded import CodedScan
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.scan import every_distance

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
DIMENSION, WITHIN = 128, 0.24
PROBES, LETS_IN = 16_000, 0.01
BATCHES = (64, 1)
ALONE = 1000  # so many of them are asked one at a time
Find = Callable[[Vectors], tuple[Numbers, Vectors]]  # the nearest, from 0, and its squared distance


def faces(rows: int) -> tuple[Vectors, Vectors, Vectors]:
    """Enrolled ones, known probes and strangers: float32 [*, D]."""
    rng = np.random.default_rng(0)
    spread = np.exp(-np.arange(DIMENSION) / 25)
    spread = np.sqrt(spread / spread.sum()).astype(np.float32)
    of_subjects, of_examples = (
        np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0].astype(np.float32) * np.float32(scale)
        for scale in (1.0, WITHIN**0.5)
    )

    def drawn(count: int, turn: Vectors) -> Vectors:
        made = np.empty((count, DIMENSION), np.float32)
        for start in range(0, count, 1 << 16):
            part = made[start : start + (1 << 16)]
            part[:] = (rng.standard_normal(part.shape, dtype=np.float32) * spread) @ turn
        return made

    def unit(vectors: Vectors) -> Vectors:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    subjects = drawn(rows, of_subjects)
    known = unit(subjects[:PROBES] + drawn(PROBES, of_examples))
    subjects += drawn(rows, of_examples)
    return unit(subjects), known, unit(drawn(PROBES // 2, of_subjects) + drawn(PROBES // 2, of_examples))


def asked(find: Find, probes: Vectors, batch: int) -> tuple[Numbers, Vectors, float]:
    """The nearest to each, its distance, and probes/s."""
    count = len(probes) if batch > 1 else ALONE
    began = time.perf_counter()
    found = [find(probes[start : start + batch]) for start in range(0, count, batch)]
    taken = time.perf_counter() - began
    return np.concatenate([one for one, _ in found]), np.concatenate([away for _, away in found]), count / taken


def measured(
    name: str, effort: object, find: Find, known: Vectors, strangers: Vectors, sure: Vectors, tau: float
) -> list[object]:
    """A line of the table. sure: the exact decisions, of known ones and then of strangers."""
    speeds = [asked(find, known, batch)[2] for batch in BATCHES]
    probes = np.concatenate([known, strangers])
    nearest, away, _ = asked(find, probes, 64)
    differs = np.where(away <= tau, nearest, -1) != sure
    matched = sure >= 0
    return [name, effort, *speeds, *(f"{100 * differs[which].mean():.3f} %" for which in (matched, ~matched))]


class Ours:
    def __init__(self, index: ExactIndex, tau: float) -> None:
        self._index, self._tau = index, tau

    def find(self, exact: bool, probes: Vectors) -> tuple[Numbers, Vectors]:
        search = Search(np.ascontiguousarray(probes), "e", 1, within=self._tau, limit=1, exact=exact)
        (found,) = self._index.search([search])
        assert isinstance(found, Found)
        near = [candidates[0] for candidates in found.candidates]
        return np.array([one.number - 1 for one in near]), np.array([one.distance for one in near], np.float32)


def hnswlib_index(rows: Vectors, threads: int) -> Iterator[tuple[str, Find]]:
    hnswlib = import_module("hnswlib")

    index = hnswlib.Index("l2", rows.shape[1])
    index.init_index(len(rows), M=16, ef_construction=100)
    index.add_items(rows, num_threads=threads)
    for effort in (16, 32, 64, 128, 256):
        index.set_ef(effort)

        def find(probes: Vectors) -> tuple[Numbers, Vectors]:
            labels, away = index.knn_query(probes, 1, num_threads=threads)
            return labels[:, 0].astype(np.int64), away[:, 0]

        yield f"ef {effort}", find


def usearch_index(rows: Vectors, threads: int) -> Iterator[tuple[str, Find]]:
    index = import_module("usearch.index").Index(
        ndim=rows.shape[1], metric="l2sq", dtype="i8", connectivity=16, expansion_add=100
    )
    index.add(np.arange(len(rows)), rows, threads=threads)
    for effort in (16, 32, 64, 128, 256):
        index.expansion_search = effort

        def find(probes: Vectors) -> tuple[Numbers, Vectors]:
            found: Any = index.search(probes, 1, threads=threads)
            labels = np.asarray(found.keys, np.int64).reshape(len(probes))
            return labels, ((rows[labels] - probes) ** 2).sum(axis=1)

        yield f"int8, expansion {effort}", find


def svs_index(rows: Vectors, threads: int) -> Iterator[tuple[str, Find]]:
    svs = import_module("svs")

    index = svs.Vamana.build(
        svs.VamanaBuildParameters(alpha=1.2, graph_max_degree=32, window_size=100), rows, svs.DistanceType.L2, threads
    )
    index.num_threads = threads
    for effort in (8, 16, 32, 64, 128):
        index.search_window_size = effort

        def find(probes: Vectors) -> tuple[Numbers, Vectors]:
            labels, away = index.search(probes, 1)
            return labels[:, 0].astype(np.int64), away[:, 0]

        yield f"window {effort}", find


RIVALS = {"hnswlib": hnswlib_index, "usearch": usearch_index, "svs": svs_index}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("rows", metavar="ROWS", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--rivals", metavar="NAME,...", default=",".join(RIVALS), help="which to compare with")
    told = parser.parse_args()
    rows, known, strangers = faces(told.rows)
    learned, known = known[: PROBES // 2], known[PROBES // 2 :]
    threads = engine.cores()
    lines: list[list[object]] = []
    builds: list[list[object]] = []
    with engine.scan_pools(threads).usual as pool:
        scan = CodedScan(pool, threads, DIMENSION)
        index = ExactIndex(DIMENSION, scan, functools.partial(every_distance, pool, threads), pool=pool)
        numbers = np.arange(1, len(rows) + 1)
        index.load(1, {number: str(number) for number in numbers.tolist()}, len(rows))
        index.append(Rows(numbers, numbers, rows))
        exactly = functools.partial(Ours(index, 0.0).find, True)
        tau = float(np.quantile(asked(exactly, strangers, 64)[1], LETS_IN))
        ours = Ours(index, tau)
        exactly, nearly = (functools.partial(ours.find, exact) for exact in (True, False))
        probes = np.concatenate([known, strangers])
        nearest, away, _ = asked(exactly, probes, 64)
        sure = np.where(away <= tau, nearest, -1)
        right = (sure[: len(known)] == np.arange(len(learned), len(learned) + len(known))).mean()
        print(f"tau {tau:.3f}; {100 * right:.2f} % of known probes are identified, by exact search", flush=True)
        lines.append(measured("ours, exact", "", exactly, known, strangers, sure, tau))
        for share in (0.99, 0.999):
            index.approximate(Approximation(share))
            asked(exactly, learned[:64], 64)
            began = time.perf_counter()
            index.tend(lambda: False)
            built = time.perf_counter() - began
            for start in range(0, len(learned), 1024):
                asked(exactly, learned[start : start + 1024], 64)
                index.tend(lambda: False)
            state = index.approximation()
            assert state is not None
            effort = f"{100 * share:g} % of mates: {100 * state.share_read:.1f} % of the cells"
            lines.append(measured("ours", effort, nearly, known, strangers, sure, tau))
            builds.append([f"ours, {100 * share:g} %", built])
            print(lines[-1], flush=True)
    for name in told.rivals.split(",") if told.rivals else ():
        began = time.perf_counter()
        for number, (effort, find) in enumerate(RIVALS[name](rows, threads)):
            if number == 0:
                builds.append([name, time.perf_counter() - began])
            lines.append(measured(name, effort, find, known, strangers, sure, tau))
            print(lines[-1], flush=True)
    header = ("", "effort", "probes/s, 64 at a time", "one at a time", "differ: with a match", "without")
    table(f"{len(rows):,} x {DIMENSION}", header, lines)
    table("Built in", ("", "s"), builds)


if __name__ == "__main__":
    main()
