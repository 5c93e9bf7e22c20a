"""1, 2, 5 and 10 times what the server can do: python -m benchmarks.overload [--before CHECKOUT] [--quick].

What is asked: identify a drawing (PNG, 105 x 105 pixels, the encoder ``glyphs``, 1,000 subjects), an encoding (128-d,
in a large gallery) and, with --face-models and --photos, a photo (one subject for each person).

First, for each server in turns, medians of three rounds: idle latency, one call at a time; capacity, a closed loop of
many, that of the server that does more counting for both. Then calls come from two processes at random moments (open
loop, Poisson), whether earlier ones are answered or not; a call's time runs from when it was due. Accepted: answered
OK. A bystander makes single calls from another connection, ten a second or a fiftieth of capacity. With deadlines, each
call's is five times the idle p99. --before measures another checkout's server, too, in turns.

Client and server share the machine, so the load is sent by hand-made HTTP/2 (benchmarks.raw_traffic), at a fraction of
what a gRPC client costs; of refusals it tells only whether an error of ours came with them ("typed"). "offered/s" is
what really was sent, "clients, cores" what sending it took, "late" how late calls were sent (99th percentile): where
that is large the clients were the limit.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.attackers import IDENTIFY, LARGE, SMALL, points
from benchmarks.faces import read_photos
from benchmarks.overload_figure import draw
from benchmarks.raw_traffic import send_raw
from benchmarks.report import table
from benchmarks.stage import Side, Stage, drawings, sides, target
from benchmarks.traffic import UNANSWERED, Calls, Flow, Sent, send
from oneglance import Client, identify_request, photo
from tests.apart import Apart, meeting
from tests.running import ServerProcess
from tests.waiting import PATIENCE_SECONDS

FACTORS = (1, 2, 5, 10)
GENERATORS = 2
ROUNDS = 3
CONNECTIONS = 8  # of each
LEAST_DEADLINE_SECONDS = 0.05


@dataclass(frozen=True)
class Work:
    """What is asked: requests of Identify, and how many in flight fill the server."""

    name: str
    requests: tuple[bytes, ...]
    in_flight: int


@dataclass(frozen=True)
class Idle:
    """p50_ms, p99_ms: one call at a time. capacity: calls a second in a closed loop."""

    p50_ms: float
    p99_ms: float
    capacity: float


@dataclass(frozen=True)
class Point:
    """One load on one server: calls a second, milliseconds, cores."""

    work: str
    side: str
    factor: int
    deadline_ms: float | None
    idle: Idle
    offered: float
    accepted: float
    p50_ms: float
    p99_ms: float
    refused: float
    refused_p50_ms: float
    refused_p99_ms: float
    unanswered: int
    bystander: Calls
    cores: float
    late_ms: float
    reasons: Counter[str]


def measure_idle(server: ServerProcess, work: Work, seconds: float) -> Idle:
    def closed(in_flight: int) -> Calls:
        flow = Flow("idle", IDENTIFY, work.requests, in_flight, connections=min(in_flight, CONNECTIONS))
        with Apart(send, server.address, [flow], seconds * 1.5) as sending:
            calls = sending.result().calls["idle"].of(ok=True)
        return calls.between(float(calls.begun.min()) + seconds / 2, float("inf"))  # after a warm-up

    alone, many = closed(1), closed(work.in_flight)
    span = float(many.begun.max() - many.begun.min())
    return Idle(alone.ms(50), alone.ms(99), len(many) / span)


def idle_of_all(servers: list[tuple[ServerProcess, Work]], seconds: float) -> list[Idle]:
    """Medians over rounds in turns; the capacity of all is the largest."""
    rounds = [[measure_idle(server, work, seconds) for server, work in servers] for _ in range(ROUNDS)]
    medians = [
        Idle(*(statistics.median(getattr(idle, name) for idle in mine) for name in ("p50_ms", "p99_ms", "capacity")))
        for mine in zip(*rounds, strict=True)
    ]
    return [replace(idle, capacity=max(one.capacity for one in medians)) for idle in medians]


def measure(
    server: ServerProcess, side: Side, work: Work, idle: Idle, factor: int, deadline: float | None, seconds: float
) -> Point:
    rate = factor * idle.capacity / GENERATORS
    flows = [
        Flow(f"load{i}", IDENTIFY, work.requests, per_second=rate, deadline_seconds=deadline, connections=CONNECTIONS)
        for i in range(GENERATORS)
    ]
    bystander_rate = min(10.0, idle.capacity / 50)  # one who asks for little
    single = Flow("single", IDENTIFY, work.requests[:1], per_second=bystander_rate, even=True, deadline_seconds=30)
    together = meeting(GENERATORS + 1)
    with ExitStack() as stack:
        bystander = stack.enter_context(Apart(send, server.address, [single]))
        sending = [stack.enter_context(Apart(send_raw, server.address, flow, together, seconds)) for flow in flows]
        together.wait(PATIENCE_SECONDS)
        start, end = time.monotonic(), time.monotonic() + seconds
        sent: list[Sent] = [one.result() for one in sending]
        singles = bystander.stopped().calls["single"]
    load = [one.calls[flow.name] for one, flow in zip(sent, flows, strict=True)]
    begun, took = np.concatenate([calls.begun for calls in load]), np.concatenate([calls.seconds for calls in load])
    what = [text for calls in load for text in calls.what]
    everything = Calls(begun, took, what)
    accepted, others = everything.of(ok=True), everything.of(ok=False)
    refused = others.such(lambda text: text != UNANSWERED)
    answered = accepted.begun + accepted.seconds
    return Point(
        work=work.name,
        side=side.name,
        factor=factor,
        deadline_ms=deadline and deadline * 1e3,
        idle=idle,
        offered=len(everything.between(start, end)) / seconds,
        accepted=float(((answered >= start) & (answered < end)).sum()) / seconds,
        p50_ms=accepted.ms(50),
        p99_ms=accepted.ms(99),
        refused=len(refused.between(start, end)) / seconds,
        refused_p50_ms=refused.ms(50),
        refused_p99_ms=refused.ms(99),
        unanswered=len(others) - len(refused),
        bystander=singles.between(start, end),
        cores=sum(one.cores for one in sent),
        late_ms=max(one.late_ms for one in sent),
        reasons=refused.counts,
    )


@contextmanager
def encodings_and_drawings(stage: Stage, side: Side) -> Iterator[tuple[ServerProcess, list[Work]]]:
    with stage.serve(side) as server:
        aim = target(server, 0)
        pictures = tuple(identify_request(SMALL, [one]).SerializeToString() for one in drawings(64))
        probes = tuple(identify_request(LARGE, [one]).SerializeToString() for one in points(aim, 64))
        yield server, [Work("drawings", pictures, 64), Work("encodings", probes, 64)]


@contextmanager
def photos(models: Path, data: Path, scratch: Path, side: Side) -> Iterator[tuple[ServerProcess, list[Work]]]:
    given = read_photos(data)
    log = scratch / f"photos-{side.name}.log"
    with (
        tempfile.TemporaryDirectory(dir=scratch) as name,
        ServerProcess(Path(name), log=log, checkout=side.checkout, models=models, log_level="error") as server,
    ):
        with Client(server.address, timeout_seconds=120) as client:
            client.create_gallery("people", quality_policy="off")
            for number, person in enumerate(given.people):
                client.enroll("people", person, photo(given.data[list(given.person).index(number)], "largest"))
        requests = tuple(
            identify_request("people", [photo(one, "largest", small_faces="when-none")]).SerializeToString()
            for one in given.data[:256]
        )
        yield server, [Work("photos", requests, 16)]


def row(point: Point) -> list[object]:
    single = point.bystander
    return [
        point.work, f"{point.deadline_ms:.0f} ms" if point.deadline_ms else "none", f"{point.factor} x", point.side,
        point.offered, point.accepted, f"{point.accepted / point.idle.capacity:.0%}",
        f"{point.p50_ms:.3g} / {point.p99_ms:.3g}", point.p99_ms / point.idle.p99_ms,
        point.refused, f"{point.refused_p50_ms:.3g} / {point.refused_p99_ms:.3g}", point.unanswered,
        f"{single.of(ok=True).ms(50):.3g} / {single.of(ok=True).ms(99):.3g}",
        f"{len(single.of(ok=False))} of {len(single)}", f"{point.cores:.2f}", point.late_ms,
        ", ".join(f"{text}: {count:,}" for text, count in point.reasons.most_common(4)),
    ]  # fmt: skip


HEADER = (
    "what", "deadlines", "load", "server", "offered/s", "accepted/s", "of capacity", "p50 / p99 ms",
    "p99, times idle's", "refused/s", "refused after, p50 / p99 ms", "unanswered", "bystander p50 / p99 ms", "failed",
    "clients, cores", "late, ms", "refusals",
)  # fmt: skip


def run(servers: list[tuple[Side, ServerProcess, list[Work]]], seconds: float) -> list[Point]:
    found = []
    for number, work in enumerate(servers[0][2]):
        idles = idle_of_all([(server, works[number]) for _, server, works in servers], seconds / 2)
        for (side, _, _), idle in zip(servers, idles, strict=True):
            print(f"{work.name}, {side.name}: {idle}", flush=True)
        longest = max(5 * max(idle.p99_ms for idle in idles) / 1e3, LEAST_DEADLINE_SECONDS)
        for deadline in (None, longest):
            for factor in FACTORS:
                for (side, server, works), idle in zip(servers, idles, strict=True):
                    found.append(measure(server, side, works[number], idle, factor, deadline, seconds))
                    print(row(found[-1]), flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, run in turns with this one")
    parser.add_argument("--quick", action="store_true", help="20,000 rows and 4 s a load instead of 100,000 and 15 s")
    parser.add_argument("--kept", type=Path, metavar="DIR", help="where the filled galleries are kept for the next run")
    parser.add_argument("--face-models", type=Path, metavar="DIR", help="of oneglance-exporter import dlib-faces")
    parser.add_argument("--photos", type=Path, metavar="ZIP", help="PERSON/photo.jpg files")
    parser.add_argument("--out", type=Path, default=Path("docs/overload.svg"), metavar="FILE.svg")
    options = parser.parse_args(arguments)
    rows, seconds = (20_000, 4.0) if options.quick else (100_000, 15.0)
    found: list[Point] = []
    compared = sides(options.before)
    with Stage(options.kept, rows, options.before) as stage:
        with ExitStack() as stack:
            both = [(side, *stack.enter_context(encodings_and_drawings(stage, side))) for side in compared]
            found += run(both, seconds)
        if options.face_models and options.photos:
            with ExitStack() as stack:
                both = [
                    (side, *stack.enter_context(photos(options.face_models, options.photos, stage.scratch, side)))
                    for side in compared
                ]
                found += run(both, seconds)
    table(f"Overload; encodings in a gallery of {rows:,} x 128", HEADER, list(map(row, found)))
    draw(found, options.out)


if __name__ == "__main__":
    main()
