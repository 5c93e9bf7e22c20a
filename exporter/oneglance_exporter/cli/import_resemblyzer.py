"""``import resemblyzer``: parse, call one function, print."""

import argparse
from pathlib import Path

from oneglance_exporter.cli.options import model_name

_EPILOG = """\
  pip download --no-deps resemblyzer==0.1.4
  oneglance-exporter import resemblyzer --weights Resemblyzer-0.1.4-py3-none-any.whl --out models/speakers
  oneglance-exporter calibrate --model models/speakers --data speakers.zip
  oneglance serve --models models/speakers

Of the package only the file of the weights is read, and refused unless its SHA-256 is the published one. They are
Apache-2.0. Mel energies, network and unit norm are inside the graph; long sounds are encoded in windows, as in the
original. Calibrate before you identify: no threshold comes with it.
"""


def add_parser(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``resemblyzer``, a kind of ``import``."""
    parser = sources.add_parser(
        "resemblyzer",
        help="Resemblyzer's pretrained speaker encoder (GE2E)",
        description="Write a pretrained encoder of speakers as a model folder: sound files enroll and identify.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, type=Path, metavar="MODEL_DIR", help="replaced if it is there")
    parser.add_argument("--name", default="speakers", type=model_name, help="as clients will know it [%(default)s]")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="pretrained.pt, or the package's wheel [the installed package]"
    )
    parser.set_defaults(run_command=_import_resemblyzer)


def _import_resemblyzer(options: argparse.Namespace, arguments: list[str]) -> None:
    from oneglance_exporter.imports.resemblyzer import LICENSE, import_resemblyzer

    made = import_resemblyzer(options.out, options.name, options.weights)
    print(
        f"{options.out}: {made.name}, {made.output.dimension} numbers of length 1, {made.digest[:12]}, parity checked"
    )
    print(f"licence of the weights: {LICENSE}")
