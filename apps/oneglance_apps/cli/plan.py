"""``oneglance plan``: what a gallery of so many subjects would take."""

import argparse
import math

from oneglance_core.ranges import seconds, within

SUMMARY = "compute what so many subjects and probes a second take: memory, disk, cores or a GPU"
DESCRIPTION = f"""\
{SUMMARY[0].upper()}{SUMMARY[1:]}.

It scales what was measured on two cores and one GPU, and simulates how probes
wait for each other; see docs/planning.md for each figure, its source, and how
near such sums came to what was measured. Numbers may end in K, M or B.

  oneglance plan 1M --probes 200
  oneglance plan 100M --dimension 512 --probes 50 --as photos --within 0.5
"""
_ENDINGS = {"K": 1e3, "M": 1e6, "B": 1e9}
_MOST = 1e12


def amount(text: str) -> float:
    """A number above 0, as 20000, 1.5M or 2B."""
    ending = _ENDINGS.get(text[-1:].upper(), 1.0)
    try:
        value = float(text[:-1] if ending > 1 else text) * ending
    except ValueError:
        value = math.nan
    if not 0 < value <= _MOST:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1000B, as 20000, 1.5M or 2B, got {text!r}")
    return value


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "plan", help=SUMMARY, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", type=amount, metavar="SUBJECTS", help="how many are enrolled")
    parser.add_argument("--encodings", type=amount, default=1.0, metavar="N", help="encodings of each [1]")
    parser.add_argument(
        "--dimension", type=within(int, least=1), default=128, metavar="D", help="numbers of an encoding [128]"
    )
    parser.add_argument("--probes", type=amount, default=100.0, metavar="N", help="identified a second [100]")
    parser.add_argument(
        "--as", dest="kind", choices=["encodings", "drawings", "photos"], default="encodings", help="[encodings]"
    )
    parser.add_argument(
        "--within",
        type=seconds(above=0),
        default=0.2,
        metavar="SECONDS",
        help="99 of 100 are to be answered within so long [0.2]",
    )
    parser.set_defaults(run=run)


def run(o: argparse.Namespace) -> int:
    from oneglance_apps.planning.costs import NODE_CORES, SERVER_CORES
    from oneglance_apps.planning.sheet import Load, Option, options, sizes

    load = Load(o.subjects, o.encodings, o.dimension, o.probes, o.kind, o.within)
    size = sizes(load)
    print(f"{load.subjects:,.0f} subjects, {load.rows:,.0f} encodings of {load.dimension} numbers")
    print(f"  memory        {_bytes(size.memory)}; while it compacts or backs up {_bytes(size.peak)}")
    print(f"  disk          {_bytes(size.disk)}, and as much for each backup")
    print(f"  first answer  after {_told(size.load_seconds)} of one core, and what the disk takes to be read")
    print(f"\n{load.per_second:,.4g} probes a second as {load.probes}, 99 of 100 within {_told(load.within)}")

    def line(one: Option) -> str:
        name = f"  {one.name + ', ' if one.name != 'CPU' else ''}{one.cores} cores"
        if one.nodes:
            name = f"  {one.name}, {one.nodes} query node{'s' if one.nodes > 1 else ''} of {NODE_CORES} cores"
        if one.servers:
            name += f" behind {one.servers} server{'s' if one.servers > 1 else ''} of {SERVER_CORES}"
        if one.waited is None:
            return f"{name:42} doesn't fit into its memory"
        if math.isinf(one.waited.p99):
            return f"{name:42} no: more come than it answers"
        told = f"p50 {_told(one.waited.p50)}, p99 {_told(one.waited.p99)}"
        return f"{name:42} {'' if one.does(load.within) else 'no: '}{told}, busy {one.waited.busy:.0%}"

    found = options(load)
    print("\n".join(line(one) for one in found))
    if not any(one.does(load.within) for one in found):
        print("\nNo machine that this knows does. See docs/operations.md on approximate answers, and docs/milvus.md.")
    return 0


def _bytes(size: float) -> str:
    for unit, name in ((1e12, "TB"), (1e9, "GB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size / 1e6:.3g} MB"


def _told(taken: float) -> str:
    if taken < 1:
        return f"{taken * 1000:.3g} ms"
    return f"{taken:.3g} s" if taken < 120 else f"{taken / 60:.3g} min"
