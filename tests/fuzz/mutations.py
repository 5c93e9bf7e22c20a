"""One hostile message out of a good one."""

from random import Random

from google.protobuf.descriptor import Descriptor

from tests.fuzz.values import MOST_BYTES, World, count, damaged, element, grown, unknown
from tests.fuzz.wire import BYTES, Node, all_nodes, parsed, serialized, varint

_DEEP = 200  # protobuf's parsers stop at 100


def hostile(rng: Random, descriptor: Descriptor, good: bytes, world: World) -> bytes:
    """A message of ``descriptor``: ``good`` itself, with parts of it changed, grown anew, or with wrong bytes."""
    chance = rng.random()
    if chance < 0.1:
        return good
    if chance < 0.35:
        return grown(rng, descriptor, world)
    if chance < 0.55:
        return damaged(rng, good)
    if chance < 0.6:
        return good + grown(rng, descriptor, world)  # concatenated messages merge
    if chance < 0.62:
        return rng.randbytes(rng.choice((1, 10, 1000, 100_000)))
    if chance < 0.63:
        return nested(rng, descriptor)
    nodes = parsed(good, descriptor)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _change(rng, nodes, descriptor, world)
    return serialized(nodes)


def nested(rng: Random, descriptor: Descriptor) -> bytes:
    """A field within itself, deeper than parsers go."""
    content = b""
    number = rng.choice([field.number for field in descriptor.fields] or [1])
    for _ in range(rng.choice((_DEEP, 5000))):
        content = bytes([number << 3 & 0x7F | BYTES]) + varint(len(content)) + content
    return content


def _change(rng: Random, nodes: list[Node], descriptor: Descriptor, world: World) -> None:
    """Change one field somewhere in the tree."""
    places = all_nodes(nodes)
    if not places:
        nodes.append(Node(1, BYTES, None, unknown(rng)))
        return
    siblings, at = rng.choice(places)
    node = siblings[at]
    way = rng.randrange(8)
    if way == 0:
        del siblings[at]
    elif way == 1:
        siblings[at:at] = [node] * min(count(rng), MOST_BYTES // len(node.serialized()))
    elif way == 2:
        node.wire_type = rng.randrange(8)
    elif way == 3:
        other_siblings, other = rng.choice(places)
        if other < len(other_siblings):
            node.content, node.children = other_siblings[other].serialized(), None
    elif way == 4 and node.children is None and node.wire_type == BYTES:
        node.content = damaged(rng, node.content)
    elif node.field is not None:
        node.wire_type, node.content = element(rng, node.field, world)
        node.children = None
    else:
        siblings.insert(at, Node(1, BYTES, None, rng.randbytes(8)))
