"""Honest callers while one attack after the other goes on: python -m benchmarks.soak [--minutes 60] [--honest 64].

The honest callers identify drawings and encodings, verify, enroll and list, each from a connection of its own, together
at a third of what the server can do. A quiet phase comes first, whose p99 is "idle's", then each attack of
benchmarks.attackers, repeated, with a quiet phase after it. Told are the honest callers' p50 and p99 by phase, what was
refused (with a reason of ours) and what failed (anything else), and the server's memory.

The exit status is 1 when an honest call failed or the server ended.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.attackers import ATTACKS, ENROLL, IDENTIFY, LARGE, SMALL, Attack, Target, points
from benchmarks.report import table
from benchmarks.soak_figure import draw
from benchmarks.stage import Side, Stage, drawings, target
from benchmarks.traffic import SERVICE, Calls, Flow, Sent, send
from oneglance import enroll_request, identify_request
from oneglance.client.requests import example
from oneglance.v1.identification_pb2 import VerifyRequest
from oneglance.v1.subject_pb2 import ListSubjectsRequest
from tests.apart import Apart
from tests.running import ServerProcess

SHARE = 1 / 3  # of capacity that honest callers ask for
PROCESSES = 2
DEADLINE_SECONDS = 10.0
PAUSE_SECONDS = 1.0  # between two runs of an attack
LEFT_OUT = ("nothing", "64 patient callers", "a log that can't be written", "SIGTERM among WebPs")
VERIFY = SERVICE + "IdentificationService/Verify"
LIST = SERVICE + "SubjectService/ListSubjects"


@dataclass(frozen=True)
class Phase:
    """``start``, ``end``: time.monotonic(). memory: resident bytes at most, and at the end."""

    name: str
    start: float
    end: float
    most_bytes: int
    end_bytes: int
    told: str = ""


def honest(aim: Target, callers: int, per_second: float) -> list[list[Flow]]:
    """The flows of each process: a mix of calls, each kind's share of the callers and of the rate."""
    ones = points(aim, 32, seed=5)
    pictures = drawings(32)
    mix = (
        ("drawings", IDENTIFY, 0.4, [identify_request(SMALL, [one]) for one in pictures]),
        ("encodings", IDENTIFY, 0.3, [identify_request(LARGE, [one]) for one in ones]),
        ("verify", VERIFY, 0.1, [VerifyRequest(gallery_id=SMALL, subject_id="s1", probe=example(p)) for p in pictures]),
        ("enroll", ENROLL, 0.1,
         [enroll_request(SMALL, f"honest{i}", [one], on_existing="replace") for i, one in enumerate(ones)]),
        ("list", LIST, 0.1, [ListSubjectsRequest(gallery_id=SMALL, page_size=50)]),
    )  # fmt: skip
    return [
        [
            Flow(f"{name} {process}", method, tuple(request.SerializeToString() for request in requests),
                 per_second=per_second * share / PROCESSES, deadline_seconds=DEADLINE_SECONDS,
                 connections=max(round(callers * share / PROCESSES), 1))
            for name, method, share, requests in mix
        ]
        for process in range(PROCESSES)
    ]  # fmt: skip


def capacity(aim: Target, seconds: float) -> float:
    """Drawings a second, 64 in flight."""
    requests = tuple(identify_request(SMALL, [one]).SerializeToString() for one in drawings(32))
    flow = Flow("all", IDENTIFY, requests, 64, connections=8)
    with Apart(send, aim.address, [flow], seconds) as sending:
        calls = sending.result().calls["all"].of(ok=True)
    return len(calls) / float(calls.begun.max() - calls.begun.min())


class Watched:
    """The server's memory, sampled as the phases go by."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.samples: list[tuple[float, int]] = []

    def sample(self) -> None:
        self.samples.append((time.monotonic(), self._server.resident_bytes()))

    def wait(self, until: float) -> None:
        while time.monotonic() < until:
            self.sample()
            time.sleep(0.5)

    def phase(self, name: str, start: float, told: str = "") -> Phase:
        self.sample()
        mine = [size for when, size in self.samples if when >= start]
        return Phase(name, start, time.monotonic(), max(mine), mine[-1], told)


def attacked(watched: Watched, which: Attack, aim: Target, seconds: float) -> Phase:
    """The attack, again and again."""
    start = time.monotonic()
    told = ""
    with ExitStack() as stack:
        while (left := start + seconds - time.monotonic()) > PAUSE_SECONDS:
            shorter = Target(aim.address, aim.digest, aim.dimension, aim.style, aim.drawing, left)
            attacker = stack.enter_context(Apart(which.run, shorter))
            while attacker.running:
                watched.sample()
                time.sleep(0.5)
            told = ", ".join(f"{what}: {count:,}" for what, count in attacker.result().most_common(3))
            time.sleep(PAUSE_SECONDS)
    return watched.phase(which.name, start, told)


def soak(server: ServerProcess, aim: Target, minutes: float, callers: int) -> tuple[list[Phase], Watched, list[Calls]]:
    watched = Watched(server)
    rate = capacity(aim, 6.0) * SHARE
    print(f"honest callers: {callers}, {rate:.0f} calls a second together", flush=True)
    attacks = [attack for attack in ATTACKS if attack.name not in LEFT_OUT]
    each = minutes * 60 / (2 * len(attacks) + 2)
    with ExitStack() as stack:
        sending = [stack.enter_context(Apart(send, aim.address, flows)) for flows in honest(aim, callers, rate)]
        time.sleep(3)  # they come up
        start = time.monotonic()
        watched.wait(start + 2 * each)
        phases = [watched.phase("quiet", start)]
        for which in attacks:
            phases.append(attacked(watched, which, aim, each))
            print(phases[-1], flush=True)
            if server.process.poll() is not None:
                break
            start = time.monotonic()
            watched.wait(start + each)
            phases.append(watched.phase("quiet again", start))
        sent: list[Sent] = [one.stopped() for one in sending]
    return phases, watched, [calls for one in sent for calls in one.calls.values()]


def together(calls: list[Calls]) -> Calls:
    return Calls(
        np.concatenate([one.begun for one in calls]),
        np.concatenate([one.seconds for one in calls]),
        [what for one in calls for what in one.what],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--honest", type=int, default=64, help="callers, each a connection")
    parser.add_argument("--quick", action="store_true", help="20,000 rows instead of 100,000, and 6 minutes")
    parser.add_argument("--checkout", type=Path, help="soak the server of this other checkout")
    parser.add_argument("--kept", type=Path, metavar="DIR", help="where the filled galleries are kept for the next run")
    parser.add_argument("--out", type=Path, default=Path("docs/soak.svg"), metavar="FILE.svg")
    options = parser.parse_args(arguments)
    rows, minutes = (20_000, 6.0) if options.quick else (100_000, options.minutes)
    side = Side("soak", options.checkout)
    with Stage(options.kept, rows, options.checkout) as stage, stage.serve(side) as server:
        phases, watched, sent = soak(server, target(server, 0), minutes, options.honest)
        alive = server.process.poll() is None
    calls = together(sent)
    quiet = calls.between(phases[0].start, phases[0].end).of(ok=True)
    lines: list[list[object]] = []
    for phase in phases:
        mine = calls.between(phase.start, phase.end)
        good = mine.of(ok=True)
        bad = mine.of(ok=False)
        failed = bad.such(lambda what: not typed(what))
        lines.append(
            [phase.name, f"{phase.end - phase.start:.0f}", len(mine), good.ms(50), good.ms(99),
             good.ms(99) / quiet.ms(99), len(bad) - len(failed), len(failed),
             ", ".join(f"{what}: {count}" for what, count in bad.counts.most_common(3)),
             f"{phase.most_bytes / 1e6:,.0f} / {phase.end_bytes / 1e6:,.0f}", phase.told]
        )  # fmt: skip
    table(
        f"Soak of {minutes:.0f} minutes, {options.honest} honest callers",
        ("phase", "s", "honest calls", "p50 ms", "p99 ms", "p99, times quiet's", "refused", "failed", "statuses",
         "MB at most / at the end", "the attacker was told, last"),
        lines,
    )  # fmt: skip
    draw(phases, watched.samples, calls, options.out)
    failures = calls.such(lambda what: what != "OK" and not typed(what)).counts
    print(f"\nthe server is alive: {alive}; honest calls that failed without a reason of ours: {dict(failures)}")
    sys.exit(0 if alive and not failures else 1)


def typed(what: str) -> bool:
    """A refusal with a reason of ours: RESOURCE_EXHAUSTED QUEUE_FULL."""
    return " " in what and not what.startswith(("INTERNAL", "UNKNOWN"))


if __name__ == "__main__":
    main()
