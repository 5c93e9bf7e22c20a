"""How many bytes of requests may be under way at once, over all calls and streams."""

import asyncio
from collections import deque

from oneglance_server.errors import Overloaded


class Budget:
    """Bytes that callers take while their request is under way. One request is let in whatever its size when none is.

    Belongs to one event loop.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, size: int) -> None:
        """Raises Overloaded when there is no room."""
        if self._waiting or not self._fits(size):
            raise Overloaded(
                "too many bytes of requests under way", metadata={"queue": "requests", "max_bytes": self._limit}
            )
        self._taken += size

    async def wait(self, size: int) -> None:
        """Take ``size`` once there is room, in the order of asking."""
        if not self._waiting and self._fits(size):
            self._taken += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # It may have been let in at the very moment; if not, it no longer keeps those behind it waiting.
            self.give(size if turn.done() and not turn.cancelled() else 0)
            raise

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._taken -= size
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            size, turn = self._waiting.popleft()
            if not turn.done():  # its caller was cancelled
                self._taken += size
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._limit
