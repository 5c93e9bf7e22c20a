"""Command-line options made from a dataclass of settings."""

import argparse
import dataclasses
import re
import typing
from typing import Any


def add_settings(parser: argparse.ArgumentParser, settings: type[Any]) -> None:
    """One option per field of ``settings``. Only those given reach the namespace: --resume needs to know."""
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        kind = hints[field.name]
        known = f" ({field.default})" if field.default not in ((), None) else ""
        flag, text = "--" + field.name.replace("_", "-"), field.metadata["help"] + known
        if typing.get_origin(kind) is tuple:
            parser.add_argument(flag, nargs="+", metavar="PATH", default=argparse.SUPPRESS, help=text)
        elif typing.get_origin(kind) is typing.Literal:
            choices = typing.get_args(kind)
            parser.add_argument(flag, choices=choices, default=argparse.SUPPRESS, help=text)
        elif str in (kind, *typing.get_args(kind)):
            parser.add_argument(flag, metavar="PATH", default=argparse.SUPPRESS, help=text)
        else:
            number = float if float in (kind, *typing.get_args(kind)) else int
            letter = "X" if number is float else "N"
            parser.add_argument(flag, type=number, metavar=letter, default=argparse.SUPPRESS, help=text)


def given_settings(options: argparse.Namespace, settings: type[Any]) -> dict[str, Any]:
    """Those of ``settings``' fields that were given."""
    names = {field.name for field in dataclasses.fields(settings)}
    given = {name: value for name, value in vars(options).items() if name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def model_name(text: str) -> str:
    """A model's name, checked here so that a bad one is a usage error."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", text):
        raise argparse.ArgumentTypeError(f"{text!r} has other characters than a-z 0-9 . _ -, or is too long")
    return text
