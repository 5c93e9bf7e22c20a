"""What a keeper of galleries is spared by the servers before it: `--workers` against one process, in one run.

    python -m benchmarks.together [--subjects 10000]

One process; one worker and two before a keeper (`--workers 1`, `--workers 2`). Each has a gallery of K subjects;
callers identify by encodings, by pictures that the bundled encoder encodes, and enroll by encodings. Eight
connections. On two cores, shared with the callers, nobody is faster for it: what counts is the processor's time a call
of the one process that there can be only one of, since that bounds how many workers it can carry.
"""

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.message import Message

from benchmarks.identify import D
from benchmarks.load import IDENTIFY, Load, drive
from benchmarks.random_directions import random_directions
from benchmarks.report import options, table
from benchmarks.stage import GLYPHS
from oneglance import Client, encoded_subject, encoding, enroll_request
from oneglance.client.requests import ExampleLike, example
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance.v1.subject_pb2 import EnrollRequest
from oneglance_core.glyphs import alphabet
from tests.pictures import png
from tests.running import ServerProcess

WORKERS = (0, 1, 2)
ENROLL = "/oneglance.v1.SubjectService/Enroll"
ROUNDS = 3
SECONDS = 3.0
CONNECTIONS = 8
_TICKS = os.sysconf("SC_CLK_TCK")


def seconds_of(pid: int) -> float:
    """Of the processor, that a process had so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def started_by(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


@dataclass(frozen=True)
class Cost:
    """Of a run: its load, and the processor's milliseconds a call, of the process that has the galleries, and of those
    before it."""

    load: Load
    keeper: float
    workers: float


def measured(server: ServerProcess, method: str, requests: Sequence[Message], in_flight: int) -> Cost:
    processes = [server.process.pid, *started_by(server.process.pid)]
    before = [seconds_of(pid) for pid in processes]
    load = drive(
        *(server.address, method, requests),
        in_flight=in_flight,
        seconds=SECONDS,
        go_on=True,
        connections=CONNECTIONS,
    )
    spent = [seconds_of(pid) - begun for pid, begun in zip(processes, before, strict=True)]
    calls = load.per_second * SECONDS * 4 / 3  # with the warm-up
    return Cost(load, 1e3 * spent[0] / calls, 1e3 * sum(spent[1:]) / calls)


def identifying(probe: ExampleLike) -> IdentifyRequest:
    return IdentifyRequest(gallery_id="bench", probes=[example(probe)])


def enrolling(subject: str, point: ExampleLike) -> EnrollRequest:
    return enroll_request("bench", subject, [point], on_existing="replace")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--subjects", metavar="K", type=int, default=10_000)
    count: int = parser.parse_args().subjects
    rng = np.random.default_rng(0)
    gallery, probes = random_directions(rng, count, D), random_directions(rng, 256, D)
    pictures = [png(drawing) for one in alphabet(seed=1, characters=8, drawings=8) for drawing in one.drawings]
    with ExitStack() as opened:
        servers: dict[int, ServerProcess] = {}
        for workers in WORKERS:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            server = servers[workers] = opened.enter_context(ServerProcess(folder, models=GLYPHS, workers=workers))
            with Client(server.address) as client:
                digest = client.create_gallery("bench", doubt_policy="off", fusion="nearest").encoder_digest
                new = (encoded_subject(f"s{i}", row) for i, row in enumerate(gallery))
                for outcome in client.bulk_enroll_encodings("bench", new, encoder_digest=digest):
                    assert outcome.HasField("enrolled")
        points = [encoding(row, digest) for row in probes]
        cases: list[tuple[str, str, list[Message]]] = [
            ("identify, encodings", IDENTIFY, [identifying(point) for point in points]),
            ("identify, pictures", IDENTIFY, [identifying(one) for one in pictures]),
            ("enroll, encodings", ENROLL, [enrolling(f"s{i}", point) for i, point in enumerate(points)]),
        ]
        rows = []
        for name, method, requests in cases:
            for in_flight in (8, 64):
                costs: dict[int, list[Cost]] = {workers: [] for workers in WORKERS}
                for _ in range(ROUNDS):
                    for workers, server in servers.items():
                        costs[workers].append(measured(server, method, requests, in_flight))
                for workers, found in costs.items():
                    ratios = [alone.keeper / one.keeper for alone, one in zip(costs[0], found, strict=True)]
                    middle = sorted(found, key=lambda one: one.load.per_second)[ROUNDS // 2]
                    rows.append(
                        (
                            name, in_flight, workers or "one process", middle.load.per_second, middle.load.p50_ms,
                            middle.load.p99_ms, middle.keeper, middle.workers, statistics.median(ratios),
                        )
                    )  # fmt: skip
    table(
        f"Workers before a keeper of galleries, K = {count:,}",
        ("call", "in flight", "workers", "calls/s", "p50 ms", "p99 ms", "keeper: CPU ms a call",
         "workers: CPU ms a call", "the keeper carries, times"),
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
