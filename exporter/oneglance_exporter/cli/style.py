"""``train stylizer``, ``export stylizer`` and ``style ...``: parse, call one function, print."""

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path

import numpy as np

from oneglance_core.flags import add_flags, given_values
from oneglance_core.ranges import within
from oneglance_exporter.cli import style_optimize as optimize_command
from oneglance_exporter.stylizer.settings import MEASURED_SIDE, StylizerSettings

_TRAIN_EPILOG = """\
from paintings to a served stylizer:

  pip install 'oneglance[exporter,style]'
  oneglance-exporter train stylizer --styles wave.jpg night.jpg --photos photos/ --out runs/style --seconds 7200
  oneglance-exporter export stylizer --run runs/style --out models/style --name mine
  oneglance serve --models models/style

A style more, later; the others stay as they are, to the bit:

  oneglance-exporter train stylizer --base runs/style --styles third.jpg --photos photos/ --out runs/more --seconds 900

Where a picture is from and its terms, which the manifest hands on, can be told in a .toml given with --styles:

  [[style]]
  picture = "wave.jpg"
  name = "wave"
  title = "Katsushika Hokusai: The Great Wave off Kanagawa, 1831"
  source = "where the picture is from"
  license = "public domain"
"""


def add_training(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``train stylizer``."""
    stylizer = kinds.add_parser(
        "stylizer",
        help="one feed-forward network for several styles",
        description="Train a stylizer: one network for all the styles, each of them a scale and a shift per channel.\n"
        "Ctrl-C or a kill loses at most the time since the last checkpoint, which comes with a contact sheet in\n"
        "RUN_DIR/sheets; --resume goes on.",
        epilog=_TRAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stylizer.add_argument("--out", required=True, metavar="RUN_DIR", help="where checkpoints, sheets and the log go")
    stylizer.add_argument("--resume", action="store_true", help="go on with the training in RUN_DIR")
    add_flags(stylizer, StylizerSettings)
    stylizer.set_defaults(run_command=_train)


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``style ...``."""
    style = commands.add_parser("style", help="stylize one picture by optimisation; measure stylizers")
    kinds = style.add_subparsers(required=True, metavar="COMMAND")
    optimize_command.add_parser(kinds)
    evaluate = kinds.add_parser(
        "evaluate",
        help="J of a stylizer against the textbook's, and how calm it is",
        description="Measure a stylizer on photos it never saw: J of its pictures by J of the photo and of Gatys'\n"
        "optimisation, content and style apart; how much its pictures change when the photo moves by 4 pixels,\n"
        "and by how much small noise grows. Prints a table; medians over the photos, but the worst of the last two.",
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
        "--gatys",
        type=within(int, least=0),
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
    evaluate.add_argument("--threads", type=within(int, least=1), default=1, metavar="N", help="[%(default)s]")
    evaluate.add_argument("--json", action="store_true", help="print JSON: medians, and every photo in every style")
    evaluate.set_defaults(run_command=_evaluate)


def export(options: argparse.Namespace) -> None:
    """``export stylizer``."""
    from oneglance_exporter.stylizer.export import export

    manifest = export(Path(options.run), Path(options.out), options.name, options.description, options.license)
    names = ", ".join(style.name for style in manifest.styles)
    print(f"{options.out}: {manifest.name}, {len(manifest.styles)} styles ({names}), parity checked")


def _evaluate(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.gatys.outputs import check_outputs, png, write
    from oneglance_exporter.stylizer.measure import measure

    if options.sheet:
        check_outputs({"--sheet": (options.sheet, (".png",))}, [])

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = measure(
        options.model,
        options.styles,
        options.photos,
        size=options.size,
        evaluations=options.gatys,
        references=options.references,
        loss_network=options.loss_network,
        threads=options.threads,
        report=report,
    )
    if options.json:
        rows = [dataclasses.asdict(row) for row in found.rows]
        print(json.dumps({"styles": found.by_style(), "photos": rows}, indent=2))
    else:
        print(found)
    if options.sheet:  # after the numbers: should it fail, they are there
        write(options.sheet, png(np.asarray(found.sheet)))


def _train(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_core.progress import Progress
    from oneglance_exporter.stylizer import train
    from oneglance_exporter.training.checkpoint import CHECKPOINT_FILE

    given = given_values(options, StylizerSettings)
    run = Path(options.out)
    try:
        with Progress("reading pictures", lasting=True) as progress:
            if options.resume:
                done = train.resume(run, given, progress.step)
            else:
                command = shlex.join(["oneglance-exporter", *arguments])
                done = train.train(StylizerSettings(**given), run, command, progress.step)
    except KeyboardInterrupt:
        if (run / CHECKPOINT_FILE).is_file():  # not if it was stopped before the first step
            again = shlex.join(["oneglance-exporter", "train", "stylizer", "--out", str(run), "--resume"])
            print(f"stopped; go on with: {again}", file=sys.stderr)
        raise
    print(f"{run}: {done.step} steps in {done.elapsed_seconds:.0f} s; look at {run}/sheets")
