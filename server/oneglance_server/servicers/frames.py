"""Where a stream's next frame waits while the one before is worked on."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from oneglance_server.admission import Limiter
from oneglance_server.calls import Call
from oneglance_server.service.stylizing import FrameOrder


@dataclass(frozen=True, slots=True)
class WaitingFrame:
    """``index``: position in the stream. ``size``: bytes taken from the limiter."""

    index: int
    image: bytes = field(repr=False)
    order: FrameOrder
    size: int


class FrameSlot:
    """A latest-value slot: one frame waits here, and no more. Belongs to one event loop, one who puts and one who
    takes. ``request_bytes``: what frames that wait or are worked on take from; ``call``: a patient one."""

    def __init__(self, call: Call, request_bytes: Limiter) -> None:
        self._call = call
        self._request_bytes = request_bytes
        self._frame: WaitingFrame | None = None
        self._closed = False
        self._taken = asyncio.Event()
        self._taken.set()
        self._come = asyncio.Event()

    async def put(self, index: int, image: bytes, order: FrameOrder, size: int, *, replace: bool) -> None:
        """Let a frame wait. When one waits already, ``replace`` it; else wait until it was taken.

        Takes ``size`` of ``request_bytes``, which are given back once the frame is dealt with.
        """
        if replace:
            self.clear()
        else:
            await self._taken.wait()
        await self._request_bytes.acquire(self._call, size)
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
                self._request_bytes.give(frame.size)

    def close(self) -> None:
        """No more will come; the one that waits is still taken."""
        self._closed = True
        self._come.set()

    def clear(self) -> None:
        """Forget the frame that waits, if any."""
        if self._frame is not None:
            self._request_bytes.give(self._frame.size)
            self._frame = None
            self._taken.set()
