"""Command-line flags made from a pydantic model, and words about values that the model refuses.

``max_image_bytes: int = Field(16, ge=1, description="Largest picture.")`` is the flag::

    --max-image-bytes BYTES   Largest picture. [16 bytes]

and 0 is refused with ``--max-image-bytes must be at least 1, got 0``.
"""

import argparse
import typing
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

_UNITS = ("bytes", "pixels", "seconds")
_METAVARS = {int: "N", float: "X", Path: "PATH"}


@dataclass(frozen=True)
class Flag:
    """What a flag shows or takes, where its name and type don't say it: ``Annotated[str, Flag(metavar="URL")]``.

    metavar: stands for the value, or one for each value of a tuple.
    unit: of the value, where the field's name doesn't end in it.
    default: words for what holds when the flag isn't given, where that is no plain value.
    alone: the value of the flag given without one.
    separator: parts the values of a tuple that come as one word; without, each is a word.
    """

    metavar: str | tuple[str, ...] = ""
    unit: str = ""
    default: str = ""
    alone: str | None = None
    separator: str = ""


def add_flags(parser: argparse._ActionsContainer, model: type[BaseModel]) -> None:
    """A flag for each field of ``model``. Only those given reach the namespace."""
    for name, field in model.model_fields.items():
        shown = default_text(name, field)
        words = f"{field.description} [{shown}]" if shown else f"{field.description}"
        parser.add_argument(
            flag_name(name),
            dest=name,
            default=argparse.SUPPRESS,
            required=field.is_required(),
            help=words.replace("%", "%%"),
            **_arguments(name, field),
        )


def given_values(options: argparse.Namespace, model: type[BaseModel]) -> dict[str, Any]:
    """By field of ``model``, the values of the flags that were given; not checked yet."""
    return {name: value for name, value in vars(options).items() if name in model.model_fields}


def complaints(error: ValidationError) -> list[str]:
    """One line for each value that was refused; it names the flag."""
    return [_complaint(details) for details in error.errors(include_url=False)]


def flag_name(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")


def default_text(name: str, field: FieldInfo) -> str:
    """The field's default with its unit, as help shows it; "" if there is nothing to show."""
    flag, value = _flag(field), field.default
    if flag.default or field.is_required() or value is None or value is False or value in ("", ()):
        return flag.default
    values = value if isinstance(value, tuple) else (value,)
    texts = [f"{each:g}" if isinstance(each, float) else str(each) for each in values]
    return f"{(flag.separator or ' ').join(texts)} {_unit(name, field)}".rstrip()


def _arguments(name: str, field: FieldInfo) -> dict[str, Any]:
    """Of ``add_argument``, from the field's type."""
    flag, kind = _flag(field), field.annotation
    alternatives = [alternative for alternative in typing.get_args(kind) if alternative is not NoneType]
    if NoneType in typing.get_args(kind) and len(alternatives) == 1:
        (kind,) = alternatives
    found: dict[str, Any] = {}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(kind) is tuple:
        kind, *others = typing.get_args(kind)
        if not flag.separator:
            found["nargs"] = "+" if others == [...] else 1 + len(others)
    elif flag.alone is not None:
        found |= {"nargs": "?", "const": flag.alone}
    if typing.get_origin(kind) is typing.Literal:
        return {**found, "choices": typing.get_args(kind)}
    if kind in (int, float):
        found["type"] = kind
    usual = _unit(name, field) or _METAVARS.get(typing.cast(type, kind)) or _last_word(name)
    return {**found, "metavar": flag.metavar or usual.upper()}


def _flag(field: FieldInfo) -> Flag:
    return next((each for each in field.metadata if isinstance(each, Flag)), Flag())


def _unit(name: str, field: FieldInfo) -> str:
    return _flag(field).unit or (_last_word(name) if _last_word(name) in _UNITS else "")


def _last_word(name: str) -> str:
    return name.rpartition("_")[2]


def _complaint(details: ErrorDetails) -> str:
    message, value = details["msg"].removeprefix("Value error, "), details["input"]
    if not details["loc"]:
        return message
    name = str(details["loc"][0])
    if details["type"] == "extra_forbidden":
        return f"{name}: no such setting"
    if details["type"] == "missing":
        return f"{flag_name(name)} is missing"
    for theirs, ours in (("greater than or equal to", "at least"), ("less than or equal to", "at most")):
        message = message.replace(theirs, ours)
    _, should, expected = message.partition(" should ")  # "Input should be ...", "String should match ..."
    if should:
        expected = expected.partition(", unable to parse")[0]
        return f"{flag_name(name)} must {expected}, got {value!r}"
    return f"{flag_name(name)}: {message}, got {value!r}"
