"""Requests and answers as JSON, the one that protobuf defines for its messages (proto3 JSON)."""

import functools
import json
import re
from typing import Any, NoReturn

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from oneglance_server.errors import InvalidRequest
from oneglance_server.offload import off_loop
from oneglance_server.servicers.message_limits import LABELS_BYTES
from oneglance_server.servicers.receiving import GZIP, Parser, unpacked, unpacked_size
from oneglance_server.servicers.wire import MAX_FIELDS

MAX_VALUES = 1 << 21  # in one text: 1,024 encodings of 2,048 numbers
_ON_THE_LOOP_BYTES = 256 << 10
_ON_THE_LOOP_VALUES = 500
_VALUES_PER_COST = 250
_BYTES_PER_COST = 1 << 20  # of a picture
_ANSWER_ON_THE_LOOP_BYTES = 4096
_ANSWER_BYTES_PER_COST = 1024
MAX_NAMES = 1 << 17  # in one text: each message, and each of the few fields that most have
MAX_CHARACTERS = 64 << 10  # of a name, and of a text that is no base64: the library looks at each, and at nobody else
_MAX_TEXT = 200  # characters of what the library says

# json_format tells where in the request it was, in one of these ways.
_PATH = re.compile(r' at "?\w+\.([\w.\[\]]+)"?')
_FIELD = re.compile(r"Failed to parse (\w+) field: ")
_UNKNOWN = re.compile(r'Message type "[\w.]+" has no field named "([^"]*)" at "\w+\.?([\w.\[\]]*)"')


class JsonParser(Parser):
    """Makes the request messages of one method from JSON texts.

    What a text may cost is bounded before it is read: its bytes as those of an encoded message; how many objects,
    lists and values are in it by what the largest request has. How deeply they are nested, Python and
    the library bound.
    """

    async def parse(self, data: bytes) -> Any:
        """Raises as Parser.parse; UNKNOWN_FIELD for a field that the message doesn't have."""
        size = unpacked_size(data) if data[:3] == GZIP else len(data)
        self.check_size(size)
        size += len(data)
        opened = functools.partial(_opened, data)
        text, values = await off_loop(
            opened, when=size > _ON_THE_LOOP_BYTES, cost=1 + size // _BYTES_PER_COST, refuse=True
        )
        light = values <= _ON_THE_LOOP_VALUES and len(text) <= _ON_THE_LOOP_BYTES
        cost = 1 + values // _VALUES_PER_COST + len(text) // _BYTES_PER_COST
        return await off_loop(functools.partial(self._read, text), when=not light, cost=cost, refuse=True)

    def _read(self, text: bytes) -> Message:
        try:
            given = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise _malformed(f"the body is no JSON text: {str(error)[:_MAX_TEXT]}") from None
        if not isinstance(given, dict):
            raise _malformed("the body is no JSON object")
        message = self._message()
        _check_texts(given, message.DESCRIPTOR, "")
        try:
            json_format.ParseDict(given, message)
        except MemoryError:
            raise
        except Exception as error:  # of many types, and all are about the text
            _refuse(str(error))
        self._shape.check(message.SerializeToString())
        return message


async def json_text(message: Message, encoded: bytes) -> bytes:
    """An answer as JSON: ``encoded``, a ``message`` of this kind."""

    def made() -> bytes:
        message.MergeFromString(encoded)
        return as_text(message)

    size = len(encoded)
    return await off_loop(made, when=size > _ANSWER_ON_THE_LOOP_BYTES, cost=1 + size // _ANSWER_BYTES_PER_COST)


def as_text(message: Message) -> bytes:
    """With all fields: a distance of 0 is there, too."""
    return json_format.MessageToJson(message, indent=None, always_print_fields_with_no_presence=True).encode()


def _opened(data: bytes) -> tuple[bytes, int]:
    """(the text, how many values are in it at most). Raises InvalidRequest when they are too many."""
    text = unpacked(data) if data[:3] == GZIP else data
    opening = text.count(b"{") + text.count(b"[")
    values = opening + text.count(b",")
    if len(text) > LABELS_BYTES:  # shorter ones can't have that many
        for count, limit, what in (
            (opening, MAX_FIELDS, "objects and lists"),
            (values, MAX_VALUES, "values"),
            (text.count(b":"), MAX_NAMES, "names and colons"),
        ):
            if count > limit:
                raise InvalidRequest(
                    f"more than {limit} {what} in one text", reason="TOO_MANY", metadata={"limit": limit}
                )
    return text, values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice in one object")
    if any(len(name) > MAX_CHARACTERS for name in found):
        raise ValueError(f"a name has more than {MAX_CHARACTERS} characters")
    return found


def _check_texts(given: dict[str, Any], kind: Any, path: str) -> None:
    """Raises InvalidRequest for a long text. ``kind``: the descriptor of what is ``given``; ParseDict tells what else
    is wrong."""
    for name, value in given.items():
        field = kind.fields_by_name.get(name) or kind.fields_by_camelcase_name.get(name)
        if field is None:
            continue
        inner = field.message_type
        if inner is not None and not inner.GetOptions().map_entry:
            for i, one in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(one, dict):
                    _check_texts(one, inner, f"{path}{name}[{i}]." if isinstance(value, list) else f"{path}{name}.")
        elif inner is not None or field.type == FieldDescriptor.TYPE_STRING:
            texts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
            if any(isinstance(one, str) and len(one) > MAX_CHARACTERS for one in texts):
                raise InvalidRequest.field(
                    f"{path}{name}", f"has more than {MAX_CHARACTERS} characters", reason="MALFORMED"
                )


def _malformed(text: str) -> InvalidRequest:
    return InvalidRequest(text, reason="MALFORMED")


def _refuse(told: str) -> NoReturn:
    """Raise InvalidRequest that names the field, as json_format told of it."""
    if (unknown := _UNKNOWN.search(told)) is not None:
        name, path = unknown[1][:_MAX_TEXT], unknown[2]
        raise InvalidRequest.field(
            f"{path}.{name}" if path else name, "the request has no such field", reason="UNKNOWN_FIELD"
        )
    where = _PATH.search(told)
    path = where[1].rstrip(".") if where is not None else ".".join(_FIELD.findall(told))
    text = _FIELD.sub("", told)
    text = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
    if not path:
        raise _malformed(f"the body can't be read: {text}")
    raise InvalidRequest.field(path, f"can't be read: {text}", reason="MALFORMED")
