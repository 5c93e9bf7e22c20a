"""Who may have a stream open, when only so many may be."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from oneglance_server.errors import Overloaded, StreamIdle

GIVES_WAY_SECONDS = 3.0


class StreamSlot:
    """The place of one stream. ``idle_since``: event loop time, or None while a frame is worked on."""

    def __init__(self, connection: str, end: Callable[[Exception], None]) -> None:
        self.connection = connection
        self.end = end
        self.idle_since: float | None = asyncio.get_running_loop().time()

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.idle_since = None
        try:
            yield
        finally:
            self.idle_since = asyncio.get_running_loop().time()


class StreamSlots:
    """At most ``limit`` streams at once, of one connection at most half of them.

    A newcomer that finds no place takes that of the stream that has been idle longest, if for GIVES_WAY_SECONDS.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: list[StreamSlot] = []

    @property
    def under_way(self) -> int:
        return len(self._taken)

    @contextmanager
    def hold(self, connection: str, end: Callable[[Exception], None]) -> Iterator[StreamSlot]:
        """A place while the block runs; ``end`` is called when it is taken away. Raises Overloaded."""
        own = [slot for slot in self._taken if slot.connection == connection]
        half = max(1, self._limit // 2)
        if len(own) >= half:
            self._make_room(own, half, "as many streams are open on this connection as may be")
        elif len(self._taken) >= self._limit:
            self._make_room(self._taken, self._limit, "as many streams are open as may be")
        slot = StreamSlot(connection, end)
        self._taken.append(slot)
        try:
            yield slot
        finally:
            if slot in self._taken:
                self._taken.remove(slot)

    def _make_room(self, among: list[StreamSlot], limit: int, full: str) -> None:
        latest = asyncio.get_running_loop().time() - GIVES_WAY_SECONDS
        idle = [(slot.idle_since, i) for i, slot in enumerate(among) if slot.idle_since is not None]
        since, longest = min(idle, default=(latest, -1))
        if longest < 0 or since > latest:
            raise Overloaded(full, metadata={"queue": "stylize_streams", "max_streams": limit})
        gone = among[longest]
        self._taken.remove(gone)
        gone.end(StreamIdle("the stream was idle, and another needed its place"))
