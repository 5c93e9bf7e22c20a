"""How many frames may be under way at a time."""

import asyncio

MOST_UNDER_WAY = 4
MARGIN = 0.8  # of the bound: a larger window must promise to stay below that


class Window:
    """Lets so many frames be under way that their latency keeps a bound; without a bound, 4.

    More frames under way use the server better, and each waits longer. The window begins with 1. It shrinks by 1 when
    an answer was later than the bound; it grows by 1 when frames waited for it and when even then, with latency in
    proportion to the window, the slowest of the last answers would be below 0.8 of the bound. It is never less than 1.
    """

    def __init__(self, bound_seconds: float | None) -> None:
        self.size = MOST_UNDER_WAY if bound_seconds is None else 1
        self._bound = bound_seconds
        self._under_way = 0
        self._slowest = 0.0
        self._answers = 0  # since the last change
        self._waited = False
        self._changed = asyncio.Event()

    async def enter(self) -> None:
        """Returns once another frame may be sent. For one caller at a time."""
        while self._under_way >= self.size:
            self._waited = True
            self._changed.clear()
            await self._changed.wait()
        self._under_way += 1

    def leave(self, latency_seconds: float | None = None) -> None:
        """A frame is done, after ``latency_seconds``; None: it was not answered."""
        self._under_way -= 1
        if self._bound is not None and latency_seconds is not None:
            self._adapt(latency_seconds, self._bound)
        self._changed.set()

    def _adapt(self, latency: float, bound: float) -> None:
        self._answers += 1
        self._slowest = max(self._slowest, latency)
        if latency > bound:
            change = -1 if self.size > 1 else 0
        elif self._answers <= 2 * self.size:
            return
        else:
            promised = self._slowest * (self.size + 1) / self.size
            change = int(self._waited and self.size < MOST_UNDER_WAY and promised < MARGIN * bound)
        self.size += change
        self._answers, self._slowest, self._waited = 0, 0.0, False
