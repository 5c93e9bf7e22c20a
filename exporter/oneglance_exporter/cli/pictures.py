"""The options ``--model`` and ``--data`` of several commands, and what is read for them."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from oneglance_core.ranges import within
from oneglance_exporter.settings import Spellings

if TYPE_CHECKING:
    from oneglance_exporter.encoder.encoded import Reading


def add_pictures(parser: argparse.ArgumentParser, which: str, *, model: str = "MODEL_DIR", needed: bool = True) -> None:
    """The options; ``which``: what the examples must be, for --data's help. model: stands for --model's value. needed:
    --data can't be left out."""
    parser.add_argument("--model", required=True, metavar=model)
    parser.add_argument("--data", required=needed, default=(), nargs="+", metavar="PATH", help=which)
    add_reading(parser)


def add_reading(parser: argparse._ActionsContainer) -> None:
    """The options that ``read_as`` reads."""
    parser.add_argument(
        "--finders",
        metavar="DIR",
        help="for an encoder of faces: where the detector's and the landmarks' model folders are [beside the model]",
    )
    parser.add_argument("--aligned", action="store_true", help="the pictures are aligned faces already")
    parser.add_argument(
        "--spellings",
        choices=get_args(Spellings),
        default="refuse",
        help='subjects whose names are one in two spellings ("Ann Lee", "ann_lee") [%(default)s]',
    )
    parser.add_argument(
        "--threads", type=within(int, least=1, most=4096), default=1, metavar="N", help="of ONNX Runtime [%(default)s]"
    )


def described(options: argparse.Namespace) -> str:
    """``--data`` in words: what ``--described`` says, else the names."""
    return options.described or ", ".join(Path(path).name for path in options.data)


def read_as(options: argparse.Namespace) -> dict[str, Any]:
    """The options that say how the examples are read, as ``oneglance_exporter.api`` takes them."""
    names = ("finders", "aligned", "threads", "spellings")
    return {**{name: getattr(options, name) for name in names}, "tell": say}


def reading(options: argparse.Namespace, least: int = 2) -> "Reading":
    """At least ``least`` examples of each subject."""
    from oneglance_exporter.encoder.encoded import Reading

    return Reading(
        options.model, options.data, options.finders, options.aligned, options.threads, least, options.spellings
    )


def say(line: str) -> None:
    """To the user, on standard error."""
    print(line, file=sys.stderr, flush=True)
