"""Where a stream's next frame waits while the one before is worked on."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from oneglance_server.service.stylizing import FrameOrder


@dataclass(frozen=True, slots=True)
class WaitingFrame:
    """``index``: position in the stream. ``release``: to call when it is dealt with."""

    index: int
    image: bytes = field(repr=False)
    order: FrameOrder
    release: Callable[[], None]


class FrameSlot:
    """A latest-value slot: one frame waits here, and no more. Belongs to one event loop, one who puts and one who
    takes."""

    def __init__(self) -> None:
        self._frame: WaitingFrame | None = None
        self._closed = False
        self._taken = asyncio.Event()
        self._taken.set()
        self._come = asyncio.Event()

    async def put(self, frame: WaitingFrame, *, replace: bool) -> None:
        """Let a frame wait. When one waits already, ``replace`` it; else wait until it was taken."""
        if replace:
            self.clear()
        else:
            await self._taken.wait()
        self._frame = frame
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
                frame.release()

    def close(self) -> None:
        """No more will come; the one that waits is still taken."""
        self._closed = True
        self._come.set()

    def clear(self) -> None:
        """Forget the frame that waits, if any."""
        if self._frame is not None:
            self._frame.release()
            self._frame = None
            self._taken.set()
