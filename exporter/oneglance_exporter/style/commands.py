"""``train stylizer``, ``export stylizer`` and ``style ...``: parse, call one function, print."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from oneglance_exporter.options import add_settings, given_settings
from oneglance_exporter.style import optimize_command
from oneglance_exporter.style.settings import StylizerSettings

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
    add_settings(stylizer, StylizerSettings)
    stylizer.set_defaults(run_command=_train)


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``style ...``."""
    style = commands.add_parser("style", help="stylize one picture by optimisation")
    kinds = style.add_subparsers(required=True, metavar="COMMAND")
    optimize_command.add_parser(kinds)


def export(options: argparse.Namespace) -> None:
    """``export stylizer``."""
    from oneglance_exporter.style.export import export

    manifest = export(Path(options.run), Path(options.out), options.name, options.description, options.license)
    names = ", ".join(style.name for style in manifest.styles)
    print(f"{options.out}: {manifest.name}, {len(manifest.styles)} styles ({names}), parity checked")


def _train(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter import progress
    from oneglance_exporter.style import train

    given: dict[str, Any] = given_settings(options, StylizerSettings)
    run = Path(options.out)
    try:
        with progress.shown() as report:
            if options.resume:
                done = train.resume(run, given, report)
            else:
                command = shlex.join(["oneglance-exporter", *arguments])
                done = train.train(StylizerSettings(**given), run, command, report)
    except KeyboardInterrupt:
        print(f"stopped; go on with: oneglance-exporter train stylizer --out {run} --resume", file=sys.stderr)
        raise
    print(f"{run}: {done.step} steps in {done.elapsed_seconds:.0f} s; look at {run}/sheets")
