"""Do codes of the rows pay, through the index: python -m benchmarks.row_codes [ROWS DIMENSION]... [--rounds 12]

Five nearest subjects of 1 to 16 probes in one question, with ``row_codes`` off and on in turn, in one process, over the
unit vectors of benchmarks.fewer_bytes; answers must be equal. "again": searches whose answers weren't certain after
the codes, for which every row was read.
"""

import statistics
import time

import numpy as np

from benchmarks.fewer_bytes import Vectors, like_an_encoders
from benchmarks.random_directions import random_directions
from benchmarks.report import options, table
from oneglance_index import Found, Search
from oneglance_index.records import Rows
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.coded import CodedScan
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.scan import CpuScan, every_distance

COUNTS = (1, 2, 3, 4, 6, 8, 16)
PROBES = 64


def measure(name: str, rows: Vectors, probes: Vectors, rounds: int) -> None:
    threads = engine.cores()
    again = 0
    with engine.scan_pools(threads).usual as pool:

        def every(matrix: Vectors, probe: Vectors) -> Vectors:
            nonlocal again
            again += 1
            return every_distance(pool, threads, matrix, probe)

        numbers = np.arange(1, len(rows) + 1)
        scans = {"off": CpuScan(pool, threads), "on": CodedScan(pool, threads, rows.shape[1])}
        indexes, loaded = {}, {}
        for codes, scan in scans.items():
            begun = time.process_time()
            indexes[codes] = ExactIndex(rows.shape[1], scan, every)
            indexes[codes].load(1, {number: str(number) for number in numbers.tolist()}, len(rows))
            indexes[codes].append(Rows(numbers, numbers, rows))
            while indexes[codes].improve():
                pass
            loaded[codes] = time.process_time() - begun
        cells = []
        for count in COUNTS:
            taken: dict[str, list[float]] = {codes: [] for codes in indexes}
            again = 0
            for i in range(rounds):
                start = i * count % (PROBES - count + 1)
                search = Search(np.ascontiguousarray(probes[start : start + count]), "e", 5)
                answers = []
                for codes, index in indexes.items():
                    begun = time.perf_counter()
                    answer = index.search([search])[0]
                    taken[codes].append(1000 * (time.perf_counter() - begun))
                    assert isinstance(answer, Found)
                    answers.append(answer.candidates)
                assert answers[0] == answers[1]
            off, on = (statistics.median(taken[codes]) for codes in ("off", "on"))
            cells.append([count, off, on, on / off, again])
    table(f"{len(rows):,} x {rows.shape[1]}, {name}", ("probes", "off, ms", "on, ms", "of off", "again"), cells)
    print(f"\nTaking the rows in: {loaded['on'] - loaded['off']:.2f} s of the processor more with codes")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("sizes", metavar="ROWS DIMENSION", nargs="*", type=int)
    parser.add_argument("--rounds", type=int, default=12)
    told = parser.parse_args()
    sizes = told.sizes or [1_000_000, 128, 500_000, 512]
    for count, dimension in zip(sizes[::2], sizes[1::2], strict=True):
        for make in (random_directions, like_an_encoders):
            drawn = make(np.random.default_rng(0), count + PROBES, dimension)
            measure(make.__name__.replace("_", " "), drawn[:count], drawn[count:], told.rounds)


if __name__ == "__main__":
    main()
