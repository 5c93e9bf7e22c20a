"""How long a Milvus takes until its files have forgotten what was deleted, and where a deleted vector still is.

    python -m benchmarks.milvus_forgets --milvus PATH [--rows 300000] [--look 300] [--page-bytes 67108864]

PATH: a wheel of milvus==2.3.5, or a folder that it was unpacked to. K rows x 128 are brought there and sealed as a
server does; one is deleted, then a thousand; Engine.forget is timed, which asks for compactions until all files have
as many rows as there are. Milvus's garbage collection comes after 3 s, and its message queue keeps for a minute; for
`--look` seconds a row is written every 30 s, and all its files are searched for the bytes of the first vector that was
deleted.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.random_directions import random_directions
from benchmarks.report import options, table
from oneglance_index.records import Integers, Rows
from oneglance_index.search.milvus.access import Access
from oneglance_index.search.milvus.address import parse_address
from oneglance_index.search.milvus.connection import Connection
from oneglance_index.search.milvus.engine import Collection, Engine
from oneglance_index.search.milvus.index import stamps_of
from tests.index.milvus.engine import VARIABLE, installation, why_not
from tests.index.milvus.engine import Engine as Milvus

D, AT_ONCE, MANY, GONE_FIRST = 128, 8192, 1000, 1500
COLLECTION = Collection(1, "encodings", D)
NONE: Integers = np.empty(0, np.int64)


def rows_of(numbers: Integers, vectors: np.ndarray) -> Rows:
    return Rows(numbers, numbers, vectors)


def brought(engine: Engine, vectors: np.ndarray) -> None:
    unsealed = 0
    for start in range(0, len(vectors), AT_ONCE):
        some = vectors[start : start + AT_ONCE]
        rows = rows_of(np.arange(start, start + len(some)), some)
        engine.write(COLLECTION, NONE, rows, stamps_of(rows), None)
        unsealed += len(some)
        if unsealed >= max(AT_ONCE, (start + len(some)) // 8):
            engine.seal(COLLECTION)
            unsealed = 0


def forgotten(engine: Engine, gone: Integers, left: int) -> float:
    """Seconds."""
    nothing = rows_of(NONE, np.empty((0, D), np.float32))
    engine.write(COLLECTION, gone, nothing, NONE, int(time.time()))
    begun = time.perf_counter()
    engine.forget(COLLECTION, left, lambda: time.perf_counter() < begun + 600)
    return time.perf_counter() - begun


def folders_with(data: Path, wanted: bytes) -> Iterator[str]:
    for path in sorted(data.rglob("*")):
        try:
            if path.is_file() and wanted in path.read_bytes():
                yield path.relative_to(data).parts[0]
        except FileNotFoundError:  # removed meanwhile
            continue


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--milvus", type=Path, required=True, metavar="PATH")
    parser.add_argument("--rows", metavar="K", type=int, default=300_000)
    parser.add_argument("--look", metavar="SECONDS", type=float, default=300.0)
    parser.add_argument("--page-bytes", type=int, default=64 << 20, help="of the message queue: it removes whole pages")
    told = parser.parse_args()
    os.environ[VARIABLE] = str(told.milvus)
    if reason := why_not():
        sys.exit(reason)
    vectors = random_directions(np.random.default_rng(0), told.rows + 1, D)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        quick = {"interval": "3", "dropTolerance": "3", "retentionTimeInMinutes": "1", "compactionInterval": "20"}
        milvus = Milvus(installation(Path(scratch) / "installed"), data, **quick, rocksmqPageSize=str(told.page_bytes))
        engine = Engine(Connection(parse_address(milvus.url()), Access()), replicas=1)
        engine.belongs_to("store")
        engine.make(COLLECTION)
        brought(engine, vectors[:-1])
        many = np.arange(MANY) + GONE_FIRST + 1
        one = forgotten(engine, np.array([GONE_FIRST]), told.rows - 1)
        begun = time.perf_counter()
        lines = [("1", one), (f"{MANY:,}", forgotten(engine, many, told.rows - 1 - MANY))]
        table(f"Until {told.rows:,} x {D} have forgotten", ["deleted", "seconds"], lines)
        looked = []
        while time.perf_counter() < begun + told.look:
            time.sleep(30)
            found = sorted(set(folders_with(data / "milvus", vectors[GONE_FIRST].tobytes())))
            looked.append((time.perf_counter() - begun, ", ".join(found) or "nowhere"))
            more = rows_of(np.array([told.rows]), vectors[-1:])
            engine.write(COLLECTION, NONE, more, stamps_of(more), None)
        table("Where the first is", ["seconds after", "folders"], looked)
        engine.close()
        milvus.close()


if __name__ == "__main__":
    main()
