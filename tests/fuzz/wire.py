"""Protobuf's wire format by hand, so that messages can be wrong in every way.

https://protobuf.dev/programming-guides/encoding
"""

from dataclasses import dataclass
from typing import Literal

from google.protobuf.descriptor import Descriptor, FieldDescriptor

VARINT, FIXED64, BYTES, OPEN_GROUP, CLOSE_GROUP, FIXED32 = range(6)
WireType = Literal[0, 1, 2, 3, 4, 5]


def varint(value: int) -> bytes:
    """``value`` modulo 2^64, least significant seven bits first."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def sized(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return tag(number, BYTES) + varint(len(content)) + content


@dataclass
class Node:
    """One field as it stands in a message. ``children``: its fields, if it is a message; else ``content``, the bytes
    after the tag and, for wire type 2, after the length."""

    number: int
    wire_type: int
    field: FieldDescriptor | None
    content: bytes = b""
    children: "list[Node] | None" = None

    def serialized(self) -> bytes:
        content = self.content if self.children is None else serialized(self.children)
        if self.wire_type == BYTES:
            return sized(self.number, content)
        return tag(self.number, self.wire_type) + content


def serialized(nodes: list[Node]) -> bytes:
    return b"".join(node.serialized() for node in nodes)


def parsed(message: bytes, descriptor: Descriptor) -> list[Node]:
    """The fields of a valid message, those of its messages within them."""
    nodes = []
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = number()
        field = descriptor.fields_by_number.get(key >> 3)
        node = Node(key >> 3, key & 7, field)
        start = at
        if node.wire_type == VARINT:
            number()
        elif node.wire_type == BYTES:
            length = number()
            start = at
            at += length
        else:
            at += 8 if node.wire_type == FIXED64 else 4
        node.content = message[start:at]
        if node.wire_type == BYTES and field is not None and field.message_type is not None:
            node.children = parsed(node.content, field.message_type)
        nodes.append(node)
    return nodes


def all_nodes(nodes: list[Node]) -> list[tuple[list[Node], int]]:
    """Each node of the tree as its list and its place in it."""
    found = []
    for i, node in enumerate(nodes):
        found.append((nodes, i))
        if node.children:
            found += all_nodes(node.children)
    return found
