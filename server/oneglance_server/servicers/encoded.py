"""Large answers are serialised off the event loop; a handler then returns bytes in place of a message."""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message

from oneglance_server.offload import off_loop

Answer = TypeVar("Answer", bound=Message)
LARGE_BYTES = 1 << 20  # of pictures in an answer: to serialise more takes above a millisecond


async def answer(make: Callable[[], Answer], *, large: bool) -> Answer | bytes:
    """What ``make`` makes; when it is ``large``, off the event loop and serialised."""
    return await off_loop(lambda: make().SerializeToString()) if large else make()


def with_part(message: Message, field: str, encoded: bytes) -> bytes:
    """``message`` serialised, and in one of its fields a message that is serialised already."""
    size = bytearray()
    left = len(encoded)
    while left >= 0x80:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    size.append(left)
    tag = message.DESCRIPTOR.fields_by_name[field].number << 3 | 2
    return b"".join((message.SerializeToString(), bytes([tag]), size, encoded))  # fields may come in any order
