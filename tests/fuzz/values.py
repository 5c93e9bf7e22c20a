"""Values for fields: what a server should expect, and what it shouldn't."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.fuzz.wire import BYTES, FIXED32, FIXED64, OPEN_GROUP, VARINT, sized, tag, varint

INTEGERS = (
    *(0, 1, 2, 3, 5, 63, 64, 65, 100, 127, 128, 255, 256, 999, 1000, 1001, 1023, 1024, 1025, 4096, 10_000, 50_001),
    *(-1, -2, -(2**31), 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, -(2**63)),
)
REALS = (
    *(0.0, -0.0, 0.01, 0.3, 0.5, 0.999, 1.0, 1.0001, 4.0, -1.0, 1e-7, 5e-324, 1e-45, 1e30, 3.4e38, 1.7e308),
    *(math.nan, math.inf, -math.inf),
)
TEXTS: tuple[bytes, ...] = (
    *(b"", b" ", b"a", b"g", b"\x00", b"a\nb", b" a ", b"../../etc/passwd", b"a" * 128, b"a" * 129, b"x" * 1001),
    *(b"'; DROP TABLE subjects; --", b"%s%n{0}", "ä".encode() * 64, "\U0001f600".encode() * 128, "\u202e".encode()),
    *(b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"a\xff", b"\xf4\x90\x80\x80", b"AAAA", b"____", b"=" * 7),
)
_KNOWN_SHARE = 0.7
_REAL_TYPES = {FieldDescriptor.TYPE_FLOAT: "<f", FieldDescriptor.TYPE_DOUBLE: "<d"}
_DEEPEST = 6
_DISTINCT = 64
MOST_BYTES = 4_000_000


@dataclass(frozen=True)
class World:
    """What exists on the server under test. ``texts``: by field name, values that mean something there."""

    texts: dict[str, Sequence[str]]
    pictures: Sequence[bytes]
    encoding_values: bytes = field(repr=False)  # packed float32, a valid encoding of the galleries


def element(rng: Random, field: FieldDescriptor, world: World, depth: int = 0) -> tuple[int, bytes]:
    """(wire type, content) of one value of ``field``, often a good one."""
    kind = field.type
    if field.message_type is not None:
        return BYTES, grown(rng, field.message_type, world, depth + 1)
    if kind == FieldDescriptor.TYPE_STRING:
        return BYTES, text(rng, field.name, world)
    if kind == FieldDescriptor.TYPE_BYTES:
        return BYTES, picture(rng, world)
    if kind in _REAL_TYPES:
        value = rng.choice(REALS) if rng.random() < 0.8 else rng.uniform(-2, 2)
        try:
            return (FIXED32 if kind == FieldDescriptor.TYPE_FLOAT else FIXED64), struct.pack(_REAL_TYPES[kind], value)
        except OverflowError:
            return FIXED32, b"\xff\xff\x7f\x7f"
    if kind == FieldDescriptor.TYPE_BOOL:
        return VARINT, varint(rng.choice((0, 1, 1, 1, 2, -1)))
    if kind == FieldDescriptor.TYPE_ENUM and rng.random() < 0.7:
        return VARINT, varint(rng.randrange(5))
    return VARINT, varint(rng.choice(INTEGERS))


def text(rng: Random, name: str, world: World) -> bytes:
    known = world.texts.get(name)
    if known and rng.random() < _KNOWN_SHARE:
        return rng.choice(known).encode()
    if rng.random() < 0.005:
        return b"m" * rng.choice((65_536, 1_000_000))
    if rng.random() < 0.3:
        return rng.randbytes(rng.randrange(40))
    return rng.choice(TEXTS)


def picture(rng: Random, world: World) -> bytes:
    chosen = rng.choice(world.pictures)
    if rng.random() < 0.4:
        return chosen
    return damaged(rng, chosen)


def damaged(rng: Random, good: bytes) -> bytes:
    """``good`` with something wrong: cut, changed, lengthened, repeated."""
    way = rng.randrange(6)
    if not good or way == 0:
        return good + rng.randbytes(rng.randrange(1, 64))
    if way == 1:
        return good[: rng.randrange(len(good))]
    if way == 2:
        return good + good
    bad = bytearray(good)
    if way == 3:
        start = rng.randrange(len(bad))
        del bad[start : start + rng.randrange(1, 16)]
        return bytes(bad)
    if way == 4:
        start = rng.randrange(len(bad))
        bad[start:start] = rng.randbytes(rng.randrange(1, 16))
        return bytes(bad)
    for _ in range(rng.choice((1, 1, 2, 8))):
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    return bytes(bad)


def count(rng: Random) -> int:
    """How often a repeated field comes. Huge counts are rare: each takes the server a while."""
    chance = rng.random()
    if chance < 0.9:
        return rng.choice((0, 1, 1, 1, 2, 3))
    return rng.choice((16, 64, 65, 256, 257)) if chance < 0.995 else rng.choice((1024, 1025, 100_000))


def grown(rng: Random, descriptor: Descriptor, world: World, depth: int = 0) -> bytes:
    """A message of any fields in any order: oneofs set twice, fields given again, some unknown."""
    if descriptor.name == "Encoding" and rng.random() < 0.6:
        digest = text(rng, "encoder_digest", world)
        return sized(1, world.encoding_values) + sized(2, digest)
    out = []
    for one in descriptor.fields:
        if depth > _DEEPEST or rng.random() < 0.3:
            continue
        times = count(rng) if one.is_repeated else 1
        if times <= _DISTINCT:
            out += [_field(rng, one.number, *element(rng, one, world, depth)) for _ in range(times)]
        else:  # what counts is their number
            value = _field(rng, one.number, *element(rng, one, world, depth))
            out.append(value * min(times, MOST_BYTES // len(value)))
    if rng.random() < 0.1:
        out.append(unknown(rng))
    if rng.random() < 0.1:
        rng.shuffle(out)
    return b"".join(out)


def unknown(rng: Random) -> bytes:
    """A field that no message has; sometimes groups within groups, or a tag that can't be."""
    way = rng.randrange(5)
    number = rng.choice((15, 16, 99, 19_000, 2**29 - 1))
    if way == 0:
        return sized(number, rng.randbytes(rng.randrange(200)))
    if way == 1:
        return tag(number, VARINT) + varint(rng.choice(INTEGERS))
    if way == 2:
        return tag(number, OPEN_GROUP) * rng.choice((1, 50, 101, 10_000))
    if way == 3:
        return tag(0, rng.randrange(8)) + rng.randbytes(4)
    return tag(number, rng.choice((4, 6, 7))) + rng.randbytes(8)


def _field(rng: Random, number: int, wire_type: int, content: bytes) -> bytes:
    if rng.random() < 0.01:  # of another wire type than the field's
        return tag(number, rng.randrange(8)) + (varint(len(content)) if rng.random() < 0.5 else b"") + content
    if wire_type == BYTES:
        return sized(number, content)
    return tag(number, wire_type) + content
