"""The place where a stream's next frame waits while the one before is worked on."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from oneglance_server.service.stylizing import FrameOrder
from oneglance_server.servicers.budget import Budget


@dataclass(frozen=True, slots=True)
class WaitingFrame:
    """``index``: position in the stream. ``size``: bytes taken from the budget."""

    index: int
    image: bytes = field(repr=False)
    order: FrameOrder
    size: int


class WaitingPlace:
    """One frame waits here, and no more. Belongs to one event loop, one who puts and one who takes."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._frame: WaitingFrame | None = None
        self._closed = False
        self._taken = asyncio.Event()
        self._taken.set()
        self._come = asyncio.Event()

    async def put(self, index: int, image: bytes, order: FrameOrder, size: int, *, replace: bool) -> None:
        """Let a frame wait. When one waits already, ``replace`` it; else wait until it was taken.

        Takes ``size`` bytes of the budget, which are given back once the frame is dealt with.
        """
        if replace:
            self.clear()
        else:
            await self._taken.wait()
        await self._budget.wait(size)
        self._frame = WaitingFrame(index, image, order, size)
        self._taken.clear()
        self._come.set()

    async def frames(self) -> AsyncGenerator[WaitingFrame, None]:
        """Each frame that waits when the one before is dealt with, until ``close``."""
        while True:
            while self._frame is None and not self._closed:
                self._come.clear()
                await self._come.wait()
            frame, self._frame = self._frame, None
            self._taken.set()
            if frame is None:
                return
            try:
                yield frame
            finally:
                self._budget.give(frame.size)

    def close(self) -> None:
        """No more will come; the one that waits is still taken."""
        self._closed = True
        self._come.set()

    def clear(self) -> None:
        """Forget the frame that waits, if any."""
        if self._frame is not None:
            self._budget.give(self._frame.size)
            self._frame = None
            self._taken.set()
