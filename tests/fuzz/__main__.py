"""Hostile messages for every RPC, built from the descriptors: python -m tests.fuzz --messages 200000 --seed 1.

Calls are made of good messages with fields changed, dropped, repeated, of wrong types, unknown, nested too deep, not
UTF-8, not finite, cut off or flipped, and of fields at random; streams of several, closed early, cancelled or with a
deadline. The server is a process of its own with tiny models of every kind. Afterwards it must be alive, have answered
nothing with INTERNAL or UNKNOWN, have written no traceback, and its health never have been deaf for a second.

A case that went wrong is written to DIR; ``--replay FILE`` runs it alone. The same seed gives the same cases.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from oneglance import Client
from tests.apart import Apart
from tests.fuzz.cases import Cases, read_case
from tests.fuzz.drive import Findings, Outcome, drive, run_alone
from tests.fuzz.log import errors_in
from tests.fuzz.seeds import make_seeds, make_world, restore, write_models
from tests.health_watch import longest_stall, watch_health
from tests.running import ServerProcess

WRITTEN = 20  # of one kind of wrong answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=16, help="calls under way")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), metavar="DIR")
    parser.add_argument("--checkout", type=Path, help="run the server of this other checkout of the project")
    parser.add_argument("--most-seconds", type=float, default=1.0, help="that health may be deaf")
    parser.add_argument("--most-growth-mb", type=float, default=500, help="of memory, from the first tenth to the end")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="run the case of this number alone")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the case of this file alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "server.log"
        with ServerProcess(
            folder / "data", log=log, checkout=options.checkout, models=write_models(folder), log_level="error"
        ) as server:
            sys.exit(0 if _fuzz(options, server, log) else 1)


def _fuzz(options: argparse.Namespace, server: ServerProcess, log: Path) -> bool:
    with Client(server.address) as client:
        digests = restore(client)
    cases = Cases(options.seed, make_seeds(digests), make_world(digests))
    if options.only is not None or options.replay:
        case = read_case(options.replay) if options.replay else cases.case(options.only)
        outcome = asyncio.run(run_alone(server.address, case))
        print(f"{case}\n{outcome.code} {outcome.reason} {outcome.details}\n{outcome.seconds:.3f} s\n{log.read_text()}")
        return not outcome.wrong
    findings, begun = Findings(), time.perf_counter()
    with Apart(watch_health, server.address) as watch:
        asyncio.run(drive(cases, server.address, findings, messages=options.messages // 10, at_once=options.at_once))
        warm = server.resident_bytes()
        asyncio.run(drive(cases, server.address, findings, messages=options.messages, at_once=options.at_once,
                          first=findings.cases))  # fmt: skip
        stall = longest_stall(watch.stopped())
    took = time.perf_counter() - begun
    alone = [asyncio.run(run_alone(server.address, outcome.case)).seconds for outcome in findings.slowest]
    end, peak = server.resident_bytes(), server.peak_bytes()
    alive = server.process.poll() is None
    status, _ = server.terminate() if alive else (server.process.returncode, "")
    tracebacks = errors_in(log.read_text(errors="replace"))

    print(f"{findings.cases:,} calls, {findings.messages:,} messages in {took:.0f} s; seed {options.seed}")
    _print("answers", findings.codes)
    _print("refusals without a reason", findings.untyped)
    print(f"\nhealth was deaf for {stall.seconds:.2f} s at most")
    print(f"memory: {warm / 1e6:.0f} MB after a tenth, {end / 1e6:.0f} MB at the end, {peak / 1e6:.0f} MB at most")
    print("\nslowest calls: number, seconds, seconds alone afterwards, method, bytes, answer")
    for outcome, seconds in zip(findings.slowest, alone, strict=True):
        size = sum(map(len, outcome.case.messages))
        print(
            f"  {outcome.case.number} {outcome.seconds:.2f} {seconds:.2f} {outcome.case.path} {size:,} {outcome.code}"
        )
    if tracebacks:
        options.out.mkdir(parents=True, exist_ok=True)
        shutil.copy(log, options.out / f"seed{options.seed}.log")
    _print("in the server's log", tracebacks)
    kinds = _write(findings.wrong, options)
    _print(f"wrong, written to {options.out}", kinds)
    grown = (end - warm) / 1e6
    good = {
        "alive": alive and status == 0,
        "no wrong answer": not findings.wrong,
        "no traceback": not tracebacks,
        "no stall": stall.seconds <= options.most_seconds,
        "memory bounded": grown <= options.most_growth_mb,
    }
    print("\n" + ", ".join(f"{what}: {'yes' if true else 'NO'}" for what, true in good.items()))
    return all(good.values())


def _write(wrong: list[Outcome], options: argparse.Namespace) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for outcome in wrong:
        kind = f"{outcome.case.path} {outcome.wrong[:100]}"
        kinds[kind] += 1
        if kinds[kind] <= WRITTEN:
            options.out.mkdir(parents=True, exist_ok=True)
            path = options.out / f"seed{options.seed}-{outcome.case.number}.json"
            outcome.case.write(path, wrong=outcome.wrong, seconds=outcome.seconds)
    return kinds


def _print(title: str, counts: Counter[str]) -> None:
    if counts:
        print(f"\n{title}:")
        for what, count in counts.most_common():
            print(f"  {count:7,} {what}")


if __name__ == "__main__":
    main()
