"""``style ...``: parse, call one function, print."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import get_args

import numpy as np

from oneglance_core.ranges import within
from oneglance_exporter.cli import style_optimize as optimize_command
from oneglance_exporter.settings import DeviceName
from oneglance_exporter.stylizer.settings import MEASURED_SIDE


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``style ...``."""
    style = commands.add_parser("style", help="stylize one picture by optimisation; measure stylizers")
    kinds = style.add_subparsers(required=True, metavar="COMMAND")
    optimize_command.add_parser(kinds)
    evaluate = kinds.add_parser(
        "evaluate",
        help="J of a stylizer against the textbook's, and how calm it is",
        description="Measure a stylizer on photos it never saw: J of its pictures by J of the photo and of Gatys'\n"
        "optimisation, content and style apart; how much its pictures change when the photo moves by 1, 2, 3 or 5\n"
        "pixels, and by how much small noise grows; the grid it leaves, its light, and flashes in a fade to black.\n"
        "Prints a table; medians over the photos, but the worst of shift, gain, grid and flash.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.add_argument("--model", required=True, type=Path, metavar="MODEL_DIR")
    evaluate.add_argument("--styles", required=True, nargs="+", metavar="PATH", help="as it was trained on")
    evaluate.add_argument("--photos", required=True, nargs="+", metavar="PATH", help="never trained on; at most 64")
    evaluate.add_argument(
        "--size",
        type=within(int, least=64, most=1024),
        default=MEASURED_SIDE,
        metavar="N",
        help="longer side in pixels [%(default)s]",
    )
    evaluate.add_argument(
        "--sizes",
        type=within(int, least=32, most=8192),
        nargs="+",
        default=(),
        metavar="N",
        help="grid and shift at these sizes, too",
    )
    evaluate.add_argument(
        "--gatys",
        type=within(int, least=0, most=1_000_000),
        default=0,
        metavar="N",
        help="compare with Gatys after N evaluations of J, 50 say",
    )
    evaluate.add_argument(
        "--references",
        type=Path,
        metavar="DIR",
        help="keep Gatys' pictures there, and reuse them for the same photos and J",
    )
    evaluate.add_argument("--sheet", type=Path, metavar="FILE.png", help="write a contact sheet")
    evaluate.add_argument("--loss-network", type=Path, metavar="PATH", help="as it was trained with")
    evaluate.add_argument(
        "--device", choices=get_args(DeviceName), default="cpu", help="where Gatys' pictures are made [%(default)s]"
    )
    evaluate.add_argument(
        "--threads", type=within(int, least=1, most=4096), default=1, metavar="N", help="[%(default)s]"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON: medians, and every photo in every style")
    evaluate.set_defaults(run_command=_evaluate)


def _evaluate(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.cli.outputs import check_outputs, png, write
    from oneglance_exporter.stylizer.measure import measure

    if options.sheet:
        check_outputs({"--sheet": (options.sheet, (".png",))}, [Path(path) for path in options.styles])

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = measure(
        options.model,
        options.styles,
        options.photos,
        size=options.size,
        sizes=options.sizes,
        evaluations=options.gatys,
        references=options.references,
        loss_network=options.loss_network,
        threads=options.threads,
        device=options.device,
        report=report,
    )
    if options.json:
        rows, at_sizes = ([dataclasses.asdict(row) for row in part] for part in (found.rows, found.at_sizes))
        print(json.dumps({"styles": found.by_style(), "photos": rows, "sizes": at_sizes}, indent=2))
    else:
        print(found)
    if options.sheet:  # after the numbers: should it fail, they are there
        write(options.sheet, png(np.asarray(found.sheet)))
