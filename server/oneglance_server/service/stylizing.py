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
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from oneglance_core.pictures import PictureError, PictureLimits, read_header, shrunk
from oneglance_server.engines.batcher import Batcher, BatchObserver
from oneglance_server.engines.painting import Painted, Steps
from oneglance_server.engines.picture_output import OutputFormat, check_sides
from oneglance_server.engines.steadying import FrameMemory
from oneglance_server.errors import DeadlinePassed, InvalidRequest, Overloaded
from oneglance_server.service.styles import Order, StyleSettings, Stylizers, check_steadiness

_QUEUE = "stylize"
_OVERHEAD_BYTES = 1024  # of the message around a picture, at most
_SAME: dict[str, OutputFormat] = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WEBP"}


class Room(Protocol):
    """Something limited that is taken for a while; see servicers.budget.Budget."""

    async def wait(self, size: int, /) -> None: ...
    def give(self, size: int, /) -> None: ...


@dataclass(frozen=True, slots=True)
class StylizeLimits:
    """max_calls: waiting or under way. max_streams: open. max_pixels, max_frame_pixels: of a picture, of a frame.
    max_answer_bytes: of the message that carries one."""

    pictures: PictureLimits
    max_calls: int
    max_streams: int
    max_pixels: int
    max_frame_pixels: int
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


@dataclass(frozen=True, slots=True)
class _Job:
    """Where a picture is in the request, for errors, and what holds for it."""

    path: str
    max_pixels: int
    deadline: float | None
    patient: bool = False
    memory: FrameMemory | None = None
    steadiness: float = 0.0


class StylizationService:
    """Stylizes pictures. Belongs to one event loop.

    Args:
        executor: where pictures are decoded, painted and encoded; ``workers``: how many steps it takes at once.
        room: the pixels of calls under way.
        on_stage: hears how long each step took, in the stage ``stylize``.
    """

    def __init__(
        self, stylizers: Stylizers, executor: Executor, room: Room, limits: StylizeLimits, *, workers: int,
        observer: BatchObserver, on_stage: Callable[[str, float], None],
    ) -> None:  # fmt: skip
        self.stylizers = stylizers
        self._room = room
        self._limits = limits
        self._on_stage = on_stage
        self._calls = 0
        self._streams = 0
        # Calls and streams are admitted here; each has one step in the batcher at most, which never refuses.
        self._batcher = Batcher[Steps, Painted | None](
            _QUEUE,
            self._step,
            executor,
            workers=workers,
            max_batch_rows=1,
            max_queue_rows=limits.max_calls + limits.max_streams,
            observer=observer,
        )

    async def stylize(self, image: bytes, settings: StyleSettings, *, deadline: float | None) -> Stylized:
        """One picture.

        Raises InvalidRequest, ModelNotFound, StyleNotFound, StylizerNotLoaded, Overloaded, DeadlinePassed.
        """
        order = self.stylizers.order(settings, "settings")
        if self._calls >= self._limits.max_calls:
            raise Overloaded(
                f"the {_QUEUE} queue is full", metadata={"queue": _QUEUE, "max_calls": self._limits.max_calls}
            )
        self._calls += 1
        try:
            return await self._paint(image, order, _Job("image", self._limits.max_pixels, deadline))
        finally:
            self._calls -= 1

    @contextmanager
    def stream(self, deadline: float | None) -> Iterator["FrameStream"]:
        """A stream of frames, open while the block runs. Raises StylizerNotLoaded, Overloaded."""
        self.stylizers.check_loaded()
        if self._streams >= self._limits.max_streams:
            raise Overloaded(
                "as many streams are open as may be",
                metadata={"queue": "stylize_streams", "max_streams": self._limits.max_streams},
            )
        self._streams += 1
        try:
            yield FrameStream(self, self._limits.max_frame_pixels, deadline)
        finally:
            self._streams -= 1

    async def _paint(self, image: bytes, order: Order, job: _Job) -> Stylized:
        try:
            header = await asyncio.get_running_loop().run_in_executor(None, read_header, image, self._limits.pictures)
            width, height = shrunk(header.width, header.height, order.look.max_side)
            format = order.format or _SAME.get(header.format, "PNG")
            least = order.painter.grid.least
            if max(width, least) * max(height, least) > job.max_pixels:
                raise PictureError(
                    "IMAGE_TOO_LARGE",
                    f"{width} x {height} pixels to stylize, at most {job.max_pixels} in all, a side counting as "
                    f"{least} at least; max_side shrinks it",
                )
            check_sides(width, height, format)
            steps = order.painter.paint(image, order.look, format, job.memory, job.steadiness)
            # Frames take none of it: they would wait behind large pictures.
            async with nullcontext() if job.patient else self._space(width * height, job.deadline):
                painted = None
                while painted is None:
                    painted = await self._batcher.submit(steps, deadline=job.deadline, patient=job.patient)
        except MemoryError as error:
            raise Overloaded.for_want_of_memory("pictures") from error
        except PictureError as error:
            raise InvalidRequest.field(job.path, str(error), reason=error.reason) from error
        allowed = self._limits.max_answer_bytes - _OVERHEAD_BYTES
        if len(painted.image) > allowed:
            raise InvalidRequest.field(
                job.path,
                f"the stylized picture has {len(painted.image)} bytes as {format}, a message holds {allowed}; ask for "
                "JPEG or WebP, or less max_side",
                reason="ANSWER_TOO_LARGE",
                bytes=len(painted.image),
                limit=allowed,
            )
        return Stylized(painted, order.painter.stylizer.digest, order.painter.stylizer.execution_provider)

    @asynccontextmanager
    async def _space(self, pixels: int, deadline: float | None) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(deadline):
                await self._room.wait(pixels)
        except TimeoutError as error:
            raise DeadlinePassed(f"the deadline passed in the {_QUEUE} queue") from error
        try:
            yield
        finally:
            self._room.give(pixels)

    def _step(self, items: Sequence[Steps]) -> Sequence[Painted | Exception | None]:
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


class FrameStream:
    """One stream: its frames are stylized one after another, and each may remember the one before."""

    def __init__(self, service: StylizationService, max_pixels: int, deadline: float | None) -> None:
        self._service = service
        self._max_pixels = max_pixels
        self._deadline = deadline
        self._memory = FrameMemory()

    def order(self, settings: StyleSettings, steadiness: float | None) -> FrameOrder:
        """Raises InvalidRequest, ModelNotFound, StyleNotFound."""
        order = self._service.stylizers.order(settings, "settings.settings")
        return FrameOrder(order, check_steadiness("settings.steadiness", steadiness))

    async def stylize(self, frame: bytes, order: FrameOrder) -> Stylized:
        """The next frame, after the one before is done. Raises as StylizationService.stylize."""
        job = _Job(
            "frame", self._max_pixels, self._deadline, patient=True, memory=self._memory, steadiness=order.steadiness
        )
        return await self._service._paint(frame, order.order, job)
