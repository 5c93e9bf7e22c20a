"""``oneglance demo``: the main job, end to end."""

import argparse
import sys
from pathlib import Path

DESCRIPTION = """\
Start a real server on a free loopback port and show what it is for: enroll every
subject from one picture, identify new pictures of them, verify pairs, show
strangers to it, delete a subject, kill the server hard and start it again, and
repaint a picture in every style. Prints its results and writes one HTML page
with the pictures and every figure.

Without --images the subjects are characters of invented alphabets, drawn by many
hands. With --images they are yours: DIR/SUBJECT/*.png (or jpg, webp, bmp, gif,
tiff, pnm), or one level deeper, DIR/GROUP/SUBJECT/*. The first picture of each is
enrolled, the others are probes; a third of the subjects are strangers.

Half of the strangers only serve to set the gallery's threshold, for the share of
strangers given by --fpir; what it is worth is measured on the other half.
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "demo",
        help="the main job, end to end, on a server of its own",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    command.add_argument("--images", type=Path, metavar="DIR", help="your own pictures, a folder per subject")
    command.add_argument(
        "--out", type=Path, metavar="FILE", default=Path("oneglance-demo.html"), help="the page to write [%(default)s]"
    )
    command.add_argument(
        "--subjects", type=int, metavar="N", default=200, help="subjects to enroll, at most [%(default)s]"
    )
    command.add_argument("--strangers", type=int, metavar="N", default=100, help="strangers, at most [%(default)s]")
    command.add_argument("--seed", type=int, metavar="N", default=0, help="another seed, another run [%(default)s]")
    command.add_argument(
        "--fpir", type=float, metavar="SHARE", default=0.05, help="strangers to let in, to set tau by [%(default)s]"
    )
    command.add_argument("--keep-data", type=Path, metavar="DIR", help="keep the server's data in this new folder")


def run(options: argparse.Namespace) -> int:
    from oneglance.client.errors import OneglanceError
    from oneglance_apps.demo.errors import DemoError
    from oneglance_apps.demo.run import DemoSettings, run_demo
    from oneglance_apps.demo.step_printer import StepPrinter
    from oneglance_apps.server_process import ServerProcessError

    settings = DemoSettings(
        images=options.images,
        out=options.out,
        subjects=options.subjects,
        strangers=options.strangers,
        seed=options.seed,
        fpir=options.fpir,
        keep_data=options.keep_data,
    )
    try:
        results = run_demo(settings, StepPrinter())
    except (DemoError, ServerProcessError, OneglanceError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"oneglance demo: {error}", file=sys.stderr)
        return 1
    return 0 if results.held else 1
