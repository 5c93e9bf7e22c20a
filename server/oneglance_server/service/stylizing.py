"""Pictures and frames stylized, apart from identification: a queue and threads of their own.

A picture is painted in steps of at most one tile, and those under way take turns step by step: a picture of many tiles
delays a small one, or a stream's next frame, by a tile and not by a minute. Calls and streams take turns, too, whatever
the number of either.

What is held is bounded: encoded pictures by the bytes of requests under way; decoded ones by the pixels of calls under
way, and for streams by their number and the size of a frame; pictures that are shrunk as they are decoded, by the
number of workers. What waits is counted in calls. A call of many pixels takes longer than one of few, but what it takes
isn't known before its header is read, and one whose deadline passes meanwhile leaves.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from oneglance_core.manifests import Style
from oneglance_server.calls import Call
from oneglance_server.engines.batcher import Batcher, BatchObserver
from oneglance_server.engines.steadying import FrameMemory
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.limiter import Limiter
from oneglance_server.offload import Threads
from oneglance_server.service.auditing import Audit
from oneglance_server.service.encoding import Encoding
from oneglance_server.service.picture_pass import QUEUE, PicturePass, RunStep, Steps, Stylized, StylizeLimits
from oneglance_server.service.stream_slots import StreamSlot, StreamSlots
from oneglance_server.service.styles import Order, StyleSettings, Stylizers, check_steadiness

_SHOWN_NAME = 63


@dataclass(frozen=True, slots=True)
class FrameOrder:
    """What holds for the frames from now on."""

    order: Order
    steadiness: float


class StylizationService:
    """Stylizes pictures. Belongs to one event loop.

    Args:
        reads: where styles that are kept are written.
        faces: finds those that are to be kept; None when no face finder is loaded.
        executor: where pictures are decoded, painted and encoded; ``workers``: how many steps it takes at once.
        on_stage: hears how long each step took, in the stage ``stylize``.
    """

    def __init__(
        self, stylizers: Stylizers, reads: Threads, audit: Audit, faces: Encoding | None, executor: Executor,
        limits: StylizeLimits, *, workers: int, observer: BatchObserver, on_stage: Callable[[str, float], None],
    ) -> None:  # fmt: skip
        self._stylizers = stylizers
        self._reads = reads
        self._audit = audit
        self._limits = limits
        self.calls = Limiter(QUEUE, limits.max_calls, unit="calls")
        self.streams = StreamSlots(limits.max_streams)
        self.pixels = Limiter(QUEUE, limits.inflight_pixels, unit="pixels")
        self._pictures = PicturePass(
            limits,
            faces,
            # Calls and streams were let in by the limiters; each has one step in the batcher at most.
            Batcher[Steps, Any](
                QUEUE,
                RunStep(on_stage),
                executor,
                workers=workers,
                max_cost=1,
                max_wait=1.0,
                observer=observer,
            ),
        )

    @property
    def steps_waiting(self) -> int:
        return self._pictures.batcher.waiting

    def styles(self, call: Call) -> list[tuple[Stylizer, Sequence[Style]]]:
        """The loaded stylizers, by name, with their styles."""
        call.need_any()
        return self._stylizers.all()

    async def create_style(self, call: Call, picture: bytes, style: Style, stylizer: str) -> tuple[Stylizer, Style]:
        """Keep the style of a picture.

        Raises InvalidRequest, ModelNotFound, StylizerNotLoaded, StyleExists, StylesBusy, Overloaded, DeadlinePassed.
        """
        call.need("administer")
        painter, reader = self._stylizers.for_any(stylizer)
        self.calls.take()
        try:
            vector = await self._pictures.read_style(call, picture, "picture", reader)
        finally:
            self.calls.give()
        await self._audit.did(call, "create-style", style=style.name, stylizer=painter.digest)
        kept = await self._reads.run(call.let_in, self._stylizers.kept.add, style, reader.manifest.space, vector)
        return painter, kept

    async def delete_style(self, call: Call, name: str, stylizer: str) -> None:
        """Raises InvalidRequest, ModelNotFound, StylizerNotLoaded, StyleNotFound, StylesBusy."""
        call.need("administer")
        painter, reader = self._stylizers.for_any(stylizer)
        await self._audit.did(call, "delete-style", style=name[:_SHOWN_NAME], stylizer=painter.digest)
        await self._reads.run(call, self._stylizers.kept.remove, reader.manifest.space, name)

    async def stylize(self, call: Call, image: bytes, settings: StyleSettings) -> Stylized:
        """One picture.

        Raises InvalidRequest, ModelNotFound, StyleNotFound, StylizerNotLoaded, DetectorNotLoaded, Overloaded,
        DeadlinePassed.
        """
        call.need("stylize")
        order = self._stylizers.order(settings, "settings")
        self.calls.take()
        try:
            order = await self._pictures.ready(call, order)
            return await self._pictures.stylize(call, image, order, "image", self._limits.max_pixels, self.pixels)
        finally:
            self.calls.give()

    @contextmanager
    def stream(self, call: Call, end: Callable[[Exception], None]) -> Iterator["FrameStream"]:
        """A stream of frames, open while the block runs; ``end`` is called when it has to give way to another.

        Raises StylizerNotLoaded, Overloaded.
        """
        call.need("stylize")
        self._stylizers.check_loaded()
        with self.streams.hold(call.caller.connection, end) as slot:
            yield FrameStream(self._stylizers, self._pictures, call, slot, self._limits.max_frame_pixels)


class FrameStream:
    """One stream: its frames are stylized one after another, and each may remember the one before."""

    def __init__(
        self, stylizers: Stylizers, pictures: PicturePass, call: Call, slot: StreamSlot, max_pixels: int
    ) -> None:
        self._stylizers = stylizers
        self._pictures = pictures
        self._call = call
        self._slot = slot
        self._max_pixels = max_pixels
        self._memory = FrameMemory()

    async def order(self, settings: StyleSettings, steadiness: float | None) -> FrameOrder:
        """Raises InvalidRequest, ModelNotFound, StyleNotFound, StylizerNotLoaded, DetectorNotLoaded."""
        order = self._stylizers.order(settings, "settings.settings")
        kept = check_steadiness("settings.steadiness", steadiness)
        return FrameOrder(await self._pictures.ready(self._call, order), kept)

    async def stylize(self, frame: bytes, order: FrameOrder) -> Stylized:
        """The next frame, after the one before is done. Raises as StylizationService.stylize.

        Frames take no pixels of the limiter: they would wait behind large pictures.
        """
        self._call.need("stylize")
        with self._slot.busy():
            return await self._pictures.stylize(
                self._call, frame, order.order, "frame", self._max_pixels, None, self._memory, order.steadiness
            )
