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
        flag = "--" + field.name.replace("_", "-")
        given: dict[str, Any] = {"default": argparse.SUPPRESS, "help": field.metadata["help"]}
        if field.default is not None and field.default is not False and field.default != ():
            shown = " ".join(field.default) if isinstance(field.default, tuple) else field.default
            given["help"] += f" ({shown})"
        metavar = field.metadata.get("metavar")
        if kind is bool:
            given["action"] = "store_true"
        elif typing.get_origin(kind) is tuple:
            given |= {"nargs": "+", "metavar": metavar or "PATH"}
        elif typing.get_origin(kind) is typing.Literal:
            given["choices"] = typing.get_args(kind)
        elif str in (kind, *typing.get_args(kind)):
            given["metavar"] = metavar or "PATH"
        else:
            number = float if float in (kind, *typing.get_args(kind)) else int
            given |= {"type": number, "metavar": metavar or ("X" if number is float else "N")}
        parser.add_argument(flag, **given)


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
