"""Pictures and frames stylized, apart from identification: a queue and threads of their own.

A picture is painted in steps of at most one tile, and those under way take turns step by step: a picture of many tiles
delays a small one, or a stream's next frame, by a tile and not by a minute. Calls and streams take turns, too, whatever
the number of either.

What is held is bounded: encoded pictures by the bytes of requests under way; decoded ones by the pixels of calls under
way, and for streams by their number and the size of a frame; pictures that are shrunk as they are decoded, by the
number of workers. What waits is counted in calls. A call of many pixels takes longer than one of few, but what it takes
isn't known before its header is read, and one whose deadline passes meanwhile leaves.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from oneglance_core.faces.crops import CropRequest, FaceChoice
from oneglance_core.faces.finder import Photo
from oneglance_core.pictures import PictureError, PictureLimits, read_header, shrunk
from oneglance_server.calls import Call
from oneglance_server.engines.batcher import Batcher, BatchObserver
from oneglance_server.engines.painting import Painted, Steps
from oneglance_server.engines.picture_output import OutputFormat, check_sides
from oneglance_server.engines.steadying import FrameMemory
from oneglance_server.engines.style_reader import StylePicture, StylePictureError
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.errors import RETRY_AFTER, DetectorNotLoaded, InvalidRequest, Overloaded
from oneglance_server.limiter import Limiter
from oneglance_server.offload import off_loop
from oneglance_server.service.encoding import Encoding
from oneglance_server.service.stream_slots import StreamSlot, StreamSlots
from oneglance_server.service.styles import Order, StyleSettings, Stylizers, check_steadiness

_QUEUE = "stylize"
_OVERHEAD_BYTES = 1024  # of the message around a picture, at most
_SAME: dict[str, OutputFormat] = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WEBP"}


@dataclass(frozen=True, slots=True)
class StylizeLimits:
    """max_calls: waiting or under way. max_streams: open. max_pixels, max_frame_pixels: of a picture, of a frame.
    inflight_pixels: of the pictures, not frames, under way at once. max_answer_bytes: of the message that carries one.
    """

    pictures: PictureLimits
    max_calls: int
    max_streams: int
    max_pixels: int
    max_frame_pixels: int
    inflight_pixels: int
    max_answer_bytes: int


@dataclass(frozen=True, slots=True)
class Stylized:
    """A painted picture and who painted it."""

    painted: Painted
    stylizer_digest: str
    execution_provider: str


@dataclass(frozen=True, slots=True)
class FrameOrder:
    """What holds for the frames from now on."""

    order: Order
    steadiness: float


class StylizationService:
    """Stylizes pictures. Belongs to one event loop.

    Args:
        faces: finds those that are to be kept; None when no face finder is loaded.
        executor: where pictures are decoded, painted and encoded; ``workers``: how many steps it takes at once.
        on_stage: hears how long each step took, in the stage ``stylize``.
    """

    def __init__(
        self, stylizers: Stylizers, faces: Encoding | None, executor: Executor, limits: StylizeLimits, *,
        workers: int, observer: BatchObserver, on_stage: Callable[[str, float], None],
    ) -> None:  # fmt: skip
        self._stylizers = stylizers
        self._limits = limits
        self.calls = Limiter(_QUEUE, limits.max_calls, unit="calls")
        self.streams = StreamSlots(limits.max_streams)
        self.pixels = Limiter(_QUEUE, limits.inflight_pixels, unit="pixels")
        self._pictures = _PicturePass(
            limits,
            faces,
            # Calls and streams were let in by the limiters; each has one step in the batcher at most.
            Batcher[Steps, Painted | None](
                _QUEUE,
                _Step(on_stage),
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

    def styles(self, call: Call) -> list[Stylizer]:
        """The loaded stylizers, by name."""
        call.need_any()
        return self._stylizers.all()

    async def stylize(self, call: Call, image: bytes, settings: StyleSettings) -> Stylized:
        """One picture.

        Raises InvalidRequest, ModelNotFound, StyleNotFound, StylizerNotLoaded, DetectorNotLoaded, Overloaded,
        DeadlinePassed.
        """
        call.need("stylize")
        order = self._pictures.checked(self._stylizers.order(settings, "settings"))
        self.calls.take()
        try:
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
        self, stylizers: Stylizers, pictures: "_PicturePass", call: Call, slot: StreamSlot, max_pixels: int
    ) -> None:
        self._stylizers = stylizers
        self._pictures = pictures
        self._call = call
        self._slot = slot
        self._max_pixels = max_pixels
        self._memory = FrameMemory()

    def order(self, settings: StyleSettings, steadiness: float | None) -> FrameOrder:
        """Raises InvalidRequest, ModelNotFound, StyleNotFound, DetectorNotLoaded."""
        order = self._pictures.checked(self._stylizers.order(settings, "settings.settings"))
        return FrameOrder(order, check_steadiness("settings.steadiness", steadiness))

    async def stylize(self, frame: bytes, order: FrameOrder) -> Stylized:
        """The next frame, after the one before is done. Raises as StylizationService.stylize.

        Frames take no pixels of the limiter: they would wait behind large pictures.
        """
        self._call.need("stylize")
        with self._slot.busy():
            return await self._pictures.stylize(
                self._call, frame, order.order, "frame", self._max_pixels, None, self._memory, order.steadiness
            )


class _PicturePass:
    """What a picture and a frame go through alike: header, checks, faces, painting step by step."""

    def __init__(self, limits: StylizeLimits, faces: Encoding | None, batcher: Batcher[Steps, Painted | None]) -> None:
        self._limits = limits
        self._faces = faces
        self.batcher = batcher
        self._steps_ahead = 0  # of the pictures that are being painted, or wait for it

    def checked(self, order: Order) -> Order:
        """Raises DetectorNotLoaded for one that can't be met."""
        if order.options.keep_faces and self._faces is None:
            raise DetectorNotLoaded("keep_faces needs a face detector and a landmark finder; add them to --models")
        return order

    async def stylize(
        self,
        call: Call,
        image: bytes,
        order: Order,
        path: str,
        max_pixels: int,
        pixels: Limiter | None,
        memory: FrameMemory | None = None,
        steadiness: float = 0.0,
    ) -> Stylized:
        """``path`` names the picture in errors. ``pixels``: the limiter that its pixels pass, if any."""
        try:
            header = await off_loop(lambda: read_header(image, self._limits.pictures))
            width, height = shrunk(header.width, header.height, order.options.max_side)
            format = order.format or _SAME.get(header.format, "PNG")
            least = order.painter.grid.least
            work = order.painter.work(height, width, order.options.stroke_size)
            for wide, high in ((width, height), (work.width, work.height)):
                if max(wide, least) * max(high, least) > max_pixels:
                    raise PictureError(
                        "IMAGE_TOO_LARGE",
                        f"{wide} x {high} pixels to stylize, at most {max_pixels} in all, a side counting as {least} "
                        "at least; max_side shrinks it",
                    )
            check_sides(width, height, format)
            fresh = [picture for picture in order.options.pictures if picture.style is None]
            looked_at = 0
            if fresh:
                looked_at = sum(await off_loop(lambda: [self._style_pixels(picture, max_pixels) for picture in fresh]))
            call.spend("pixels", max(width * height, work.width * work.height) + looked_at)
            with self._counted(work.steps + len(fresh), call):
                seen = None
                if self._faces is not None and order.options.keep_faces:
                    seen = await _faces_of(self._faces, call, image, path, upright_only=memory is not None)
                steps = order.painter.paint(image, order.options, format, memory, steadiness, seen)
                call = call.let_in
                async with nullcontext() if pixels is None else pixels.hold(call, work.pixels):
                    painted = None
                    while painted is None:
                        painted = await self.batcher.submit(steps, call)
        except MemoryError as error:
            raise Overloaded.for_want_of_memory("pictures") from error
        except PictureError as error:
            named = error.path if isinstance(error, StylePictureError) else path
            raise InvalidRequest.field(named, str(error), reason=error.reason) from error
        allowed = self._limits.max_answer_bytes - _OVERHEAD_BYTES
        if len(painted.image) > allowed:
            raise InvalidRequest.field(
                path,
                f"the stylized picture has {len(painted.image)} bytes as {format}, a message holds {allowed}; ask for "
                "JPEG or WebP, or less max_side",
                reason="ANSWER_TOO_LARGE",
                bytes=len(painted.image),
                limit=allowed,
            )
        return Stylized(painted, order.painter.stylizer.digest, order.painter.stylizer.execution_provider)

    def _style_pixels(self, picture: StylePicture, most: int) -> int:
        """Of a picture whose style is to be read. Raises StylePictureError."""
        try:
            header = read_header(picture.data, self._limits.pictures)
            if header.width * header.height > most:
                told = f"{header.width} x {header.height} pixels to read a style from, at most {most} in all"
                raise PictureError("IMAGE_TOO_LARGE", told)
        except PictureError as error:
            raise StylePictureError(picture.path, error) from error
        return header.width * header.height

    @contextmanager
    def _counted(self, steps: int, call: Call) -> Iterator[None]:
        """Raises Overloaded for a single picture that would not be painted before its deadline."""
        seconds = self._steps_ahead * self.batcher.pace if self._steps_ahead else 0.0
        left = math.inf if call.deadline is None else call.deadline - asyncio.get_running_loop().time()
        if not call.patient and 0 < seconds < math.inf and seconds + steps * self.batcher.pace > left:
            raise Overloaded(
                "the stylize queue is full; it would not be done before its deadline",
                metadata={"queue": _QUEUE, RETRY_AFTER: max(1, round(1000 * seconds))},
            )
        self._steps_ahead += steps
        try:
            yield
        finally:
            self._steps_ahead -= steps


async def _faces_of(faces: Encoding, call: Call, image: bytes, path: str, *, upright_only: bool) -> Photo:
    """Raises as Encoding.crop."""
    every = FaceChoice("all", upright_only=upright_only)
    (seen,) = await faces.crop(call, [CropRequest(image, every, None)], [path])
    return seen.photo


class _Step:
    """Runs one step of one picture: None until it is painted."""

    def __init__(self, on_stage: Callable[[str, float], None]) -> None:
        self._on_stage = on_stage

    def __call__(self, items: Sequence[Steps]) -> Sequence[Painted | Exception | None]:
        (steps,) = items
        started = time.perf_counter()
        try:
            next(steps)
        except StopIteration as done:
            painted: Painted = done.value
            return [painted]
        except MemoryError:
            return [Overloaded.for_want_of_memory(_QUEUE)]
        except Exception as error:
            return [error]
        finally:
            self._on_stage(_QUEUE, time.perf_counter() - started)
        return [None]
