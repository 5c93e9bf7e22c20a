"""Answers as dataclasses: made of messages, and printed so that people can read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_WIDTH = 100  # characters of a line, where what is printed can be broken
_EVER = 1 << 30  # before any line's end
_NUMBERS_SHOWN = 4


@dataclass(frozen=True, repr=False, eq=False)
class Answer:
    """Printed without what is absent or empty; numbers to six digits, bytes and long lists of numbers shortened."""

    def __repr__(self) -> str:
        return _printed(self, 0, 0)


def dataclass_of(message: Message, classes: Mapping[str, Any]) -> Answer:
    """classes: by the names of their messages. Raises TypeError for a message without one, and for anything else."""
    if not isinstance(message, Message) or message.DESCRIPTOR.name not in classes:
        raise TypeError(f"an answer of the server, or a part of one, is needed, not {type(message).__name__}")
    values = {field.name: _value(field, message, classes) for field in message.DESCRIPTOR.fields}
    made: Answer = classes[message.DESCRIPTOR.name](**values)
    return made


def _value(field: Any, message: Message, classes: Mapping[str, Any]) -> Any:
    if field.has_presence and not message.HasField(field.name):
        return None
    value: Any = getattr(message, field.name)
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        each = inner.fields_by_name["value"]
        return {key: _one(each, value[key], classes) for key in sorted(value)}
    if not field.is_repeated:
        return _one(field, value, classes)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        array = np.array(value, np.float32 if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else np.float64)
        array.flags.writeable = False
        return array
    return tuple(_one(field, one, classes) for one in value)


def _one(field: Any, value: Any, classes: Mapping[str, Any]) -> Any:
    if field.enum_type is not None:
        return _word(field.enum_type, value)
    if isinstance(value, Timestamp):
        return value.ToDatetime(UTC)
    return dataclass_of(value, classes) if isinstance(value, Message) else value


def _word(enum: Any, number: int) -> str:
    """DOUBT_KIND_LIKE_ANOTHER is "like-another", as arguments are written; a number that isn't known yet as it is."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    if number not in enum.values_by_number:
        return str(number)
    name: str = enum.values_by_number[number].name.removeprefix(prefix)
    return "" if name == "UNSPECIFIED" else name.lower().replace("_", "-")


def _printed(value: Any, column: int, indent: int) -> str:
    """On one line if it fits between ``column`` and _WIDTH, else its parts on lines of their own."""
    match value:
        case Answer():
            opened, closed, parts = f"{type(value).__name__}(", ")", list(_fields(value))
        case tuple():
            opened, closed, parts = "(", ",)" if len(value) == 1 else ")", [("", one) for one in value]
        case dict():
            opened, closed, parts = "{", "}", [(f"{key!r}: ", one) for key, one in value.items()]
        case _:
            return _plain(value)
    line = opened + ", ".join(name + _printed(one, -_EVER, 0) for name, one in parts) + closed
    if column + len(line) <= _WIDTH:
        return line
    indent += 4
    lines = [f"{' ' * indent}{name}{_printed(one, indent + len(name), indent)},\n" for name, one in parts]
    return f"{opened}\n{''.join(lines)}{' ' * (indent - 4)}{closed.lstrip(',')}"


def _fields(value: Answer) -> Iterator[tuple[str, Any]]:
    for field in fields(value):
        found = getattr(value, field.name)
        empty = found is None or (isinstance(found, (str, bytes, tuple, dict, np.ndarray)) and len(found) == 0)
        if not empty:
            yield f"{field.name}=", found


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, datetime):
        return f"<{value:%Y-%m-%d %H:%M:%S} UTC>"
    if isinstance(value, np.ndarray):
        shown = ", ".join(f"{number:.4g}" for number in value[:_NUMBERS_SHOWN])
        return f"<{len(value):,} numbers: {shown}{', ...' if len(value) > _NUMBERS_SHOWN else ''}>"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
