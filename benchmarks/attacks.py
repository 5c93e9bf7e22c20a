"""Attacks, one after the other, each on a fresh server: python -m benchmarks.attacks [--before CHECKOUT] [--quick].

Meanwhile other processes ask the server's health every 50 ms, and bystanders identify: an encoding in the large
gallery, one in a small gallery, a drawing in the small one, ten, ten and five times a second, each from a connection of
its own. "Deaf": the longest that health was not answered. p50, p99 and what failed are the bystanders'. Memory is
resident: before, at most, and some seconds after the attack. Drain: from SIGTERM to the end.

--before runs every attack also on the server of another checkout of this project, in turns.
"""

import argparse
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.attackers import ATTACKS, IDENTIFY, LARGE, SMALL, Attack, Target, points
from benchmarks.report import table
from benchmarks.stage import Side, Stage, drawings, sides, target
from benchmarks.traffic import Calls, Flow, Sent, send
from oneglance import identify_request
from tests.apart import Apart
from tests.health_watch import Answer, watch_health
from tests.running import ServerDidNotStart, ServerProcess

PATIENCE_SECONDS = 300.0
DRAIN_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Seen:
    """What one attack did. Seconds and bytes; ``statuses``: the attacker's; ``drain``: None: it had to be killed."""

    deaf_seconds: float
    bystanders: dict[str, Calls]
    memory: tuple[int, int, int]
    took_seconds: float
    drain_seconds: float | None
    exit_status: int
    statuses: Counter[str]


def bystanders(aim: Target) -> list[Flow]:
    return [
        Flow("same", IDENTIFY, _probes(aim, LARGE), per_second=10, even=True, deadline_seconds=30),
        Flow("other", IDENTIFY, _probes(aim, SMALL), per_second=10, even=True, deadline_seconds=30),
        Flow("drawing", IDENTIFY, tuple(identify_request(SMALL, [one]).SerializeToString() for one in drawings(16)),
             per_second=5, even=True, deadline_seconds=30),
    ]  # fmt: skip


def _probes(aim: Target, gallery: str) -> tuple[bytes, ...]:
    return tuple(identify_request(gallery, [one]).SerializeToString() for one in points(aim, 32, seed=3))


def attack(stage: Stage, side: Side, which: Attack, hold_seconds: float, after_seconds: float) -> Seen:
    log = Path(which.log) if which.log else None
    with stage.serve(side, log=log, **which.settings) as server:
        aim = target(server, hold_seconds)
        with Apart(watch_health, server.address) as health, Apart(send, server.address, bystanders(aim)) as others:
            time.sleep(3)  # spawned processes come up
            before = server.resident_bytes()
            begun = time.monotonic()
            with Apart(which.run, aim) as attacker:
                drain: float | None = None
                if which.terminate:
                    time.sleep(2)
                    drain = _drain(server)
                statuses = attacker.result(PATIENCE_SECONDS)
            ended = time.monotonic()
            if not which.terminate:
                time.sleep(after_seconds)
            memory = (before, server.peak_bytes(), server.resident_bytes())
            sent: Sent = others.stopped(PATIENCE_SECONDS)
            answers: list[Answer] = health.stopped(PATIENCE_SECONDS)
        if not which.terminate:
            drain = _drain(server)
        watched = [one.seconds for one in answers if begun <= one.begun + one.seconds and one.begun <= ended]
        calls = {name: flow.between(begun, ended) for name, flow in sent.calls.items()}
        status = server.process.returncode
    stage.clear()
    return Seen(max(watched, default=0.0), calls, memory, ended - begun, drain, status, statuses)


def _drain(server: ServerProcess) -> float | None:
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(DRAIN_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        return None
    return time.monotonic() - begun


def row(which: Attack, side: Side, seen: Seen) -> list[object]:
    def by(name: str) -> list[object]:
        calls = seen.bystanders[name]
        failed = calls.of(ok=False)
        return [f"{calls.of(ok=True).ms(50):.3g} / {calls.of(ok=True).ms(99):.3g}", f"{len(failed)} of {len(calls)}"]

    before, peak, after = (f"{memory / 1e6:,.0f}" if memory else "gone" for memory in seen.memory)
    drain = "killed" if seen.drain_seconds is None else f"{seen.drain_seconds:.1f}"
    return [
        which.name, side.name, seen.deaf_seconds, *by("other"), *by("drawing"), *by("same"),
        f"{before} / {peak} / {after}", f"{seen.took_seconds:.1f}", f"{drain} ({seen.exit_status})",
        said(seen.statuses),
    ]  # fmt: skip


def said(statuses: Counter[str]) -> str:
    return ", ".join(f"{what}: {count:,}" for what, count in statuses.most_common())


HEADER = (
    "attack", "server", "health deaf, s", "small gallery p50 / p99 ms", "failed", "drawing p50 / p99 ms", "failed",
    "large gallery p50 / p99 ms", "failed", "MB before / at most / after", "attack took, s", "drain, s (exit status)",
    "the attacker was told",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, run in turns with this one")
    parser.add_argument("--quick", action="store_true", help="20,000 rows and short holds instead of 200,000 and 30 s")
    parser.add_argument("--kept", type=Path, metavar="DIR", help="where the filled galleries are kept for the next run")
    parser.add_argument("--only", action="append", metavar="WORDS", help="attacks whose name has these words")
    options = parser.parse_args(arguments)
    rows, hold, after = (20_000, 6.0, 3.0) if options.quick else (200_000, 30.0, 10.0)
    lines = []
    with Stage(options.kept, rows, options.before) as stage:
        for which in ATTACKS:
            if options.only and not any(words in which.name for words in options.only):
                continue
            for side in sides(options.before):
                try:
                    lines.append(row(which, side, attack(stage, side, which, hold, after)))
                except ServerDidNotStart:
                    lines.append([which.name, side.name, *["–"] * (len(HEADER) - 3), "the server did not start"])
                print(lines[-1], flush=True)
    table(f"Attacks, large gallery {rows:,} x 128", HEADER, lines)


if __name__ == "__main__":
    main()
