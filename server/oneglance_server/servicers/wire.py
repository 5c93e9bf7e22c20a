"""Counts what is in an encoded message before a parser makes objects of it.

A message of 64 MiB can hold thirty million empty probes: to parse it takes seconds and gigabytes, to count them up to
the limit takes a moment. Only the wire format is looked at (field numbers, lengths); values are the parser's business.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from oneglance_server.errors import InvalidRequest

MAX_FIELDS = 32_768  # of one message, with those in its parts: three times what 1,024 probes of a photo's face have
_FEW_FIELDS = 64
# A message, or an element of a repeated field, that is so short has 1,024 fields at most: the parser is quicker than a
# count. Such an element counts as a field for every _BYTES_OF_A_FIELD.
UNCOUNTED_BYTES = 2048
_BYTES_OF_A_FIELD = 128

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, are in no message of today
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_MOST_VARINT_BYTES = 10
_CONTINUED = bytes(range(0x80, 0x100))  # bytes of a varint before its last
_WIRE_TYPES = {
    FieldDescriptor.TYPE_DOUBLE: _FIXED64,
    FieldDescriptor.TYPE_FIXED64: _FIXED64,
    FieldDescriptor.TYPE_SFIXED64: _FIXED64,
    FieldDescriptor.TYPE_FLOAT: _FIXED32,
    FieldDescriptor.TYPE_FIXED32: _FIXED32,
    FieldDescriptor.TYPE_SFIXED32: _FIXED32,
    FieldDescriptor.TYPE_STRING: _BYTES,
    FieldDescriptor.TYPE_BYTES: _BYTES,
    FieldDescriptor.TYPE_MESSAGE: _BYTES,
}


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """What matters of a field.

    limit: of a repeated one. inner: of a message. packed: the wire type of its numbers, if a repeated field of numbers
    is packed here. run: matches more of the same, numbers of fixed width that are not packed.
    """

    name: str
    limit: int | None
    inner: "Shape | None"
    packed: int | None = None
    run: re.Pattern[bytes] | None = None


class Shape:
    """What a kind of message may have in it.

    Args:
        limits: the most of each repeated field, by the field's full name; all of them must be there.
        unnamed: full names of fields that are left out of the paths in errors.
    """

    def __init__(self, descriptor: Descriptor, limits: Mapping[str, int], unnamed: frozenset[str]) -> None:
        self.fields: dict[int, _Field] = {}  # by tag: number and wire type
        for field in descriptor.fields:
            name = "" if field.full_name in unnamed else field.name
            inner = Shape(field.message_type, limits, unnamed) if field.message_type else None
            limit = limits[field.full_name] if field.is_repeated else None
            wire_type = _WIRE_TYPES.get(field.type, _VARINT)
            tag = field.number << 3 | wire_type
            if limit is None or wire_type == _BYTES:
                self.fields[tag] = _Field(name, limit, inner)
            else:
                self.fields[field.number << 3 | _BYTES] = _Field(name, limit, None, packed=wire_type)
                self.fields[tag] = _Field(name, limit, None, run=_run(tag, wire_type, limit))

    def is_light(self, data: bytes) -> bool:
        """Whether it is quickly parsed, however long it is: it has few fields."""
        try:
            _Count(data, _FEW_FIELDS).message(self, 0, len(data), {})
        except (_TooMany, InvalidRequest):
            return False
        return True

    def check(self, data: bytes) -> None:
        """Raises InvalidRequest: TOO_MANY of a repeated field or of all fields, or MALFORMED."""
        if len(data) <= UNCOUNTED_BYTES:
            return
        try:
            _Count(data, MAX_FIELDS).message(self, 0, len(data), {})
        except _TooMany as found:
            path = ".".join(name for name in reversed(found.names) if name)
            raise InvalidRequest.field(
                path, f"more than {found.limit} given", reason="TOO_MANY", limit=found.limit
            ) from None


def malformed() -> InvalidRequest:
    return InvalidRequest("the request is not an encoded message of its type", reason="MALFORMED")


def _run(tag: int, wire_type: int, limit: int) -> re.Pattern[bytes] | None:
    width = _WIDTHS.get(wire_type)
    if width is None or tag >= 0x80:
        return None
    return re.compile(b"(?:%b.{%d}){0,%d}+" % (re.escape(bytes([tag])), width, limit), re.DOTALL)


class _TooMany(Exception):
    """``names``: of the field and of those it is in, outwards."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(name)
        self.names = [name]
        self.limit = limit


class _Count:
    """One pass over one message. ``fields``: how many there may be."""

    def __init__(self, data: bytes, fields: int) -> None:
        self._data = data
        self._left = fields

    def message(self, shape: Shape, position: int, end: int, counts: dict[Any, Any]) -> None:
        """Count the fields in ``data[position:end]``.

        ``counts``: how many of each repeated field there are in this message so far, and the counts of each message in
        it that is not repeated: given twice, the two are merged.
        """
        data, fields = self._data, shape.fields
        while position < end:
            tag = data[position]
            position += 1
            if tag >= 0x80:
                tag, position = self._varint(position - 1, end)
            self._left -= 1
            if self._left < 0:
                raise InvalidRequest(
                    f"more than {MAX_FIELDS} fields in one message", reason="TOO_MANY", metadata={"limit": MAX_FIELDS}
                )
            field = fields.get(tag)
            wire_type = tag & 7
            if wire_type == _BYTES:
                size, position = self._varint(position, end)
                stop = position + size
                if stop > end:
                    raise malformed()
                if field is not None:
                    self._bytes(field, position, stop, counts)
                position = stop
                continue
            if wire_type == _VARINT:
                _, position = self._varint(position, end)
            elif wire_type in _WIDTHS:
                position += _WIDTHS[wire_type]
                if position > end:
                    raise malformed()
            else:
                raise malformed()
            if field is not None and field.limit is not None:
                count = 1
                if field.run is not None and (run := field.run.match(data, position, end)) is not None:
                    count += (run.end() - position) // (_WIDTHS[wire_type] + 1)
                    position = run.end()
                _add(field, count, counts)

    def _bytes(self, field: _Field, position: int, stop: int, counts: dict[Any, Any]) -> None:
        if field.packed is not None:
            _add(field, self._packed(field, position, stop), counts)
            return
        index = None if field.limit is None else _add(field, 1, counts) - 1
        if field.inner is None:
            return
        if index is not None and stop - position <= UNCOUNTED_BYTES:
            self._left -= (stop - position) // _BYTES_OF_A_FIELD
            return
        try:
            self.message(field.inner, position, stop, counts.setdefault(field.inner, {}) if index is None else {})
        except _TooMany as found:
            found.names.append(field.name if index is None else f"{field.name}[{index}]")
            raise

    def _packed(self, field: _Field, position: int, stop: int) -> int:
        """How many numbers there are; of varints no more are counted than show that they are too many."""
        if field.packed != _VARINT:
            return (stop - position) // _WIDTHS[field.packed or _FIXED32]
        assert field.limit is not None
        stop = min(stop, position + _MOST_VARINT_BYTES * (field.limit + 1))
        return len(self._data[position:stop].translate(None, _CONTINUED))

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """(value, position behind it)."""
        data = self._data
        if position + 1 < end:  # most are short
            value, second = data[position], data[position + 1]
            if value < 0x80:
                return value, position + 1
            if second < 0x80:
                return value & 0x7F | second << 7, position + 2
        value = shift = 0
        for at in range(position, min(end, position + _MOST_VARINT_BYTES)):
            value |= (data[at] & 0x7F) << shift
            if data[at] < 0x80:
                return value, at + 1
            shift += 7
        raise malformed()


def _add(field: _Field, count: int, counts: dict[Any, Any]) -> int:
    """Count more of a repeated field; how many there are now. Numbers count together, packed or not."""
    total: int = counts.get(field.name, 0) + count
    if field.limit is not None and total > field.limit:
        raise _TooMany(field.name, field.limit)
    counts[field.name] = total
    return total
