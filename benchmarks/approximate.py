"""What approximate answers lose, and what they gain: python -m benchmarks.approximate [ROWS] [--rivals NAME,...]

Subjects like faces: 128 numbers whose variances fall as exp(-i / 25), in directions drawn at random; an example adds a
quarter (0.24) of that in directions of its own; unit length. One example of each is enrolled. tau lets 1 % of
strangers in. Known probes are other examples: on the first half the index learns how far to look, on the second half,
those with a match by exact search, and on strangers, decisions are counted that differ from the exact ones. Rivals get
the same rows, threads and probes; what they find nearest is held against tau; each is set to several efforts, and what
it loses is counted on the same probes.
Probes come 64 at a time, and one at a time. With --like subjects spread as encodings do that there are. Rivals are
packages of PyPI: hnswlib, usearch, scalable-vs (svs).
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.report import options, table
from oneglance_index import Approximation, Found, Search
from oneglance_index.records import Rows
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.cells import cells_for, centres_of
from oneglance_index.search.coded import CodedScan
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.scan import every_distance

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
DIMENSION, WITHIN = 128, 0.24
PROBES, LETS_IN = 16_000, 0.01
BATCHES = (64, 1)
ALONE = 1000  # so many of them are asked one at a time
CERTAIN_ROWS, CERTAIN_PROBES = 50_000, 200
Find = Callable[[Vectors], tuple[Numbers, Vectors]]  # the nearest, from 0, and its squared distance


class People(NamedTuple):
    """How encodings spread: their mean float32 [D], and what turns standard normal numbers into the difference of a
    subject from it, and of an example from its subject, both float32 [D, D]."""

    mean: Vectors
    of_subjects: Vectors
    of_examples: Vectors


def made_up() -> People:
    rng = np.random.default_rng(0)
    spread = np.exp(-np.arange(DIMENSION) / 25)
    spread = np.sqrt(spread / spread.sum())[:, None]
    turns = [np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0] for _ in range(2)]
    of_subjects, of_examples = (
        (spread * turn * scale).astype(np.float32) for turn, scale in zip(turns, (1.0, WITHIN**0.5), strict=True)
    )
    return People(np.zeros(DIMENSION, np.float32), of_subjects, of_examples)


def like(files: Sequence[Path]) -> People:
    """As the subjects of these .npz spread, each file's names apart."""
    parts = [np.load(file) for file in files]
    means, away = [], []
    for part in parts:
        for name in np.unique(part["subjects"]):
            own = part["encodings"][part["subjects"] == name]
            if len(own) > 1:
                means.append(own.mean(axis=0))
                away.append((own - means[-1]) * np.sqrt(len(own) / (len(own) - 1)))
    spreads = (np.cov(np.array(means).T), np.cov(np.concatenate(away).T))
    roots = [np.linalg.cholesky(one + 1e-6 * np.eye(len(one))).T.astype(np.float32) for one in spreads]
    return People(np.mean(means, axis=0, dtype=np.float32), *roots)


def faces(rows: int, people: People, unit: bool) -> tuple[Vectors, Vectors, Vectors]:
    """Enrolled ones, known probes and strangers: float32 [*, D]."""
    rng = np.random.default_rng(1)

    def drawn(count: int, turn: Vectors) -> Vectors:
        made = np.empty((count, len(turn)), np.float32)
        for start in range(0, count, 1 << 16):
            part = made[start : start + (1 << 16)]
            part[:] = rng.standard_normal(part.shape, dtype=np.float32) @ turn
        return made

    def told(vectors: Vectors) -> Vectors:
        vectors += people.mean
        if unit:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    subjects = drawn(rows, people.of_subjects)
    known = told(subjects[:PROBES] + drawn(PROBES, people.of_examples))
    subjects += drawn(rows, people.of_examples)
    strangers = drawn(PROBES // 2, people.of_subjects) + drawn(PROBES // 2, people.of_examples)
    return told(subjects), known, told(strangers)


def certain(rows: Vectors, probes: Vectors, tau: float) -> float:
    """Of rows in cells as the index makes them, the share that is certainly farther from a probe than tau, by the
    triangle inequality with the centre of its cell: what need not be looked at for an exact decision."""
    rows, probes = rows[:CERTAIN_ROWS], probes[:CERTAIN_PROBES]
    centres = centres_of(np.ascontiguousarray(rows), cells_for(len(rows)), lambda: False)
    assert centres is not None
    cells = engine.Cells(centres).cells_of(np.ascontiguousarray(rows))
    own = np.linalg.norm(rows - centres[cells], axis=1)
    away = np.linalg.norm(probes[:, None] - centres, axis=2)
    return float(np.mean([((away[i, cells] - own) ** 2 > tau).mean() for i in range(len(probes))]))


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
    parts = differs[: len(known)][sure[: len(known)] >= 0], differs[len(known) :]
    return [name, effort, *speeds, *(f"{100 * part.mean():.3f} %" for part in parts)]


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
    for effort in (64, 256, 1024, 4096):
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
    for effort in (64, 256, 1024, 4096):
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
    for effort in (32, 128, 512, 2048):
        index.search_window_size = effort

        def find(probes: Vectors) -> tuple[Numbers, Vectors]:
            labels, away = index.search(probes, 1)
            return labels[:, 0].astype(np.int64), away[:, 0]

        yield f"window {effort}", find


RIVALS = {"hnswlib": hnswlib_index, "usearch": usearch_index, "svs": svs_index}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("rows", metavar="ROWS", nargs="?", type=int, default=1_000_000)
    parser.add_argument(
        "--like", metavar="FILE.npz", nargs="+", type=Path, help="subjects spread as these (oneglance-exporter encode)"
    )
    parser.add_argument("--tau", type=float, help="in place of the one that lets 1 %% of strangers in")
    parser.add_argument("--rivals", metavar="NAME,...", default=",".join(RIVALS), help="which to compare with")
    told = parser.parse_args()
    rows, known, strangers = faces(told.rows, like(told.like) if told.like else made_up(), unit=not told.like)
    learned, known = known[: PROBES // 2], known[PROBES // 2 :]
    threads = engine.cores()
    lines: list[list[object]] = []
    builds: list[list[object]] = []
    with engine.scan_pools(threads).usual as pool:
        scan = CodedScan(pool, threads, rows.shape[1])
        index = ExactIndex(rows.shape[1], scan, functools.partial(every_distance, pool, threads), pool=pool)
        numbers = np.arange(1, len(rows) + 1)
        index.load(1, {number: str(number) for number in numbers.tolist()}, len(rows))
        index.append(Rows(numbers, numbers, rows))
        exactly = functools.partial(Ours(index, 0.0).find, True)
        tau = told.tau or float(np.quantile(asked(exactly, strangers, 64)[1], LETS_IN))
        ours = Ours(index, tau)
        exactly, nearly = (functools.partial(ours.find, exact) for exact in (True, False))
        probes = np.concatenate([known, strangers])
        nearest, away, _ = asked(exactly, probes, 64)
        sure = np.where(away <= tau, nearest, -1)
        right = (sure[: len(known)] == np.arange(len(learned), len(learned) + len(known))).mean()
        print(f"tau {tau:.3f}; {100 * right:.2f} % of known probes are identified, by exact search", flush=True)
        sure_of = certain(rows, np.concatenate([known[:CERTAIN_PROBES:2], strangers[:CERTAIN_PROBES:2]]), tau)
        print(f"{100 * sure_of:.2f} % of rows are certainly farther than tau, by the triangle inequality", flush=True)
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
    header = ("", "effort", "probes/s, 64 at a time", "one at a time", "differ: known probes", "strangers")
    table(f"{len(rows):,} x {rows.shape[1]}", header, lines)
    table("Built in", ("", "s"), builds)


if __name__ == "__main__":
    main()
