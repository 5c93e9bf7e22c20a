"""Galleries on a Milvus against galleries in the process, and against calling Milvus directly, in one run.

    python -m benchmarks.on_milvus --milvus PATH [--subjects 100000] [--seconds 3]

PATH: a wheel of milvus==2.3.5, or a folder that it was unpacked to. K subjects x 128, one encoding each, unit norm; a
probe a call, five candidates. "Direct" is Milvus's own client, a thread for each call in flight, its FLAT index and
consistency Strong, as who wants to see what was written before has to ask: it gives rows and float32 distances, no
decision. Both servers answer exactly and see all that was acknowledged. Milvus, servers and callers share the machine.
"""

import itertools
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.checker import milvus
from benchmarks.identify import D, Vectors
from benchmarks.load import IDENTIFY, Load, drive
from benchmarks.random_directions import random_directions
from benchmarks.report import options, table
from benchmarks.stage import GLYPHS
from benchmarks.together import ENROLL, enrolling, identifying
from oneglance import Client, encoded_subject, encoding
from tests.running import ServerProcess

ROUNDS = 3
IN_FLIGHT = (1, 8, 64, 256)
_BATCH = 5000
# After it was told to, until Milvus searches new rows as fast as it can: so long, and for each row.
_SEALING_SECONDS, _SEALING_SECONDS_EACH = 20.0, 5e-5


class Direct:
    """Milvus's own client, and a collection of the rows."""

    def __init__(self, port: int, rows: Vectors) -> None:
        from pymilvus import DataType, MilvusClient

        self._uri = f"http://127.0.0.1:{port}"
        client: Any = MilvusClient(uri=self._uri)
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=D)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        client.create_collection("direct", schema=schema, index_params=index, consistency_level="Strong")
        begun = time.perf_counter()
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
            client.insert("direct", [{"id": start + i, "vector": row} for i, row in enumerate(some.tolist())])
        client.flush("direct")
        self.inserted = len(rows) / (time.perf_counter() - begun)
        client.close()

    def await_rows(self, count: int) -> None:
        """Returns once a collection of the server has so many: they are brought there behind the commits."""
        from pymilvus import MilvusClient

        client: Any = MilvusClient(uri=self._uri)
        while True:
            for name in set(client.list_collections()) - {"direct"}:
                (found,) = client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")
                if found["count(*)"] >= count:
                    client.close()
                    return
            time.sleep(1)

    def drive(self, probes: Vectors, in_flight: int, seconds: float) -> Load:
        from pymilvus import MilvusClient

        measure_from = time.perf_counter() + seconds / 3
        until = measure_from + seconds
        latencies: list[float] = []
        lists = probes.tolist()

        def call(number: int) -> None:
            client: Any = MilvusClient(uri=self._uri)
            for turn in itertools.count(number, in_flight):
                begun = time.perf_counter()
                if begun >= until:
                    break
                client.search(
                    "direct", [lists[turn % len(lists)]], limit=5, consistency_level="Strong", output_fields=[]
                )
                if measure_from <= (ended := time.perf_counter()) < until:
                    latencies.append(ended - begun)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(in_flight)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        p50, p99 = np.percentile(latencies, [50, 99]) * 1e3 if latencies else (np.inf, np.inf)
        return Load(len(latencies) / seconds, float(p50), float(p99), 0)


def fill(client: Client, rows: Vectors) -> tuple[str, float]:
    """The encoder's digest, and subjects a second, each durable when it is acknowledged."""
    digest = client.create_gallery("bench", doubt_policy="off", fusion="nearest").encoder_digest
    begun = time.perf_counter()
    new = (encoded_subject(f"s{i}", row) for i, row in enumerate(rows))
    for outcome in client.bulk_enroll_encodings("bench", new, encoder_digest=digest):
        assert outcome.HasField("enrolled")
    return digest, len(rows) / (time.perf_counter() - begun)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--milvus", type=Path, required=True, metavar="PATH")
    parser.add_argument("--subjects", metavar="K", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    told = parser.parse_args()
    rng = np.random.default_rng(0)
    rows, probes = random_directions(rng, told.subjects, D), random_directions(rng, 256, D)
    with ExitStack() as opened:
        port = opened.enter_context(milvus(told.milvus))
        addresses: dict[str, str] = {}
        bulk: dict[str, float] = {}
        ways: dict[str, dict[str, Any]] = {
            "in the process": {},
            "on Milvus": {"galleries": f"milvus://127.0.0.1:{port}/default"},
        }
        for name, settings in ways.items():
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            server = opened.enter_context(ServerProcess(folder, models=GLYPHS, log=folder / "log", **settings))
            with Client(server.address, timeout_seconds=600) as client:
                digest, bulk[name] = fill(client, rows)
                point = encoding(rows[-1], digest)
                assert client.identify("bench", point, max_candidates=1).results[0].candidates[0].distance == 0
            addresses[name] = server.address
        direct = Direct(port, rows)
        bulk["Milvus directly"] = direct.inserted
        begun = time.perf_counter()
        direct.await_rows(told.subjects)
        print(f"all rows at Milvus {time.perf_counter() - begun:.0f} s after the others", flush=True)
        time.sleep(_SEALING_SECONDS + told.subjects * _SEALING_SECONDS_EACH)
        points = [encoding(row, digest) for row in probes]
        asked = [identifying(point) for point in points]
        lines: list[tuple[object, ...]] = []
        for in_flight in IN_FLIGHT:
            loads: dict[str, list[Load]] = {name: [] for name in bulk}
            for _ in range(ROUNDS):
                for name, address in addresses.items():
                    loads[name].append(
                        drive(address, IDENTIFY, asked, in_flight=in_flight, seconds=told.seconds, go_on=True)
                    )
                loads["Milvus directly"].append(direct.drive(probes, in_flight, told.seconds))
            ours = [load.per_second for load in loads["on Milvus"]]
            for name, found in loads.items():
                ratio = statistics.median(a / max(b.per_second, 1e-9) for a, b in zip(ours, found, strict=True))
                middle = sorted(found, key=lambda load: load.per_second)[ROUNDS // 2]
                lines.append((in_flight, name, middle.per_second, middle.p50_ms, middle.p99_ms, ratio))
        enrolled = [
            (name, in_flight, drive(address, ENROLL, [enrolling(f"e{i}", point) for i, point in enumerate(points)],
                                    in_flight=in_flight, seconds=told.seconds, go_on=True))
            for name, address in addresses.items()
            for in_flight in (1, 64)
        ]  # fmt: skip
    header = ("in flight", "", "probes/s", "p50 ms", "p99 ms", "ours on Milvus, times")
    table(f"Identify, K = {told.subjects:,} x {D}", header, lines)
    table("Bulk", ("", "rows/s"), list(bulk.items()))
    table(
        "Enroll, one a call, replacing",
        ("", "in flight", "calls/s", "p50 ms", "p99 ms"),
        [(name, in_flight, load.per_second, load.p50_ms, load.p99_ms) for name, in_flight, load in enrolled],
    )


if __name__ == "__main__":
    main()
