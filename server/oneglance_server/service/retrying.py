"""What a call does again where the gallery went on to another encoder since it began."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from oneglance_index import EncoderMismatch

T = TypeVar("T")

_TIMES = 100  # nobody cuts over so often while a call is under way


async def though_cut_over(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks again where what was encoded is of another encoder than the gallery's: of the one that it had before it was
    cut over, or made anew. Nothing was written or answered then. Encodings that came with the call are refused the
    second time."""
    for _ in range(_TIMES - 1):
        with contextlib.suppress(EncoderMismatch):
            return await ask()
    return await ask()
