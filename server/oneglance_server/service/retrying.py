"""What a call does again where the gallery went on to another encoder since it began."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from oneglance_index import EncoderMismatch

T = TypeVar("T")


async def though_cut_over(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks again where what was encoded is of another encoder than the gallery's: of the one that it had before it was
    cut over. Nothing was written or answered then. Encodings that came with the call are refused the second time."""
    while True:
        try:
            return await ask()
        except EncoderMismatch:
            continue
