"""What a picture and a frame go through alike to be stylized: header, checks, styles, faces, painting step by step."""

import asyncio
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from oneglance_core.faces.crops import CropRequest, FaceChoice
from oneglance_core.faces.finder import Photo
from oneglance_core.pictures import PictureError, PictureLimits, read_header, shrunk
from oneglance_server.calls import Call
from oneglance_server.engines.batcher import Batcher
from oneglance_server.engines.painting import Painted
from oneglance_server.engines.picture_output import OutputFormat, check_sides
from oneglance_server.engines.steadying import FrameMemory
from oneglance_server.engines.style_reader import Floats, StyleReader
from oneglance_server.errors import RETRY_AFTER, DetectorNotLoaded, InvalidRequest, Overloaded
from oneglance_server.limiter import Limiter
from oneglance_server.offload import off_loop
from oneglance_server.service.encoding import Encoding
from oneglance_server.service.styles import Order

QUEUE = "stylize"
_OVERHEAD_BYTES = 1024  # of the message around a picture, at most
_SAME: dict[str, OutputFormat] = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WEBP"}

Steps = Generator[None, None, Any]  # of a picture that is painted, or whose style is read


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


class PicturePass:
    """``faces``: finds those that are to be kept; None when no face finder is loaded."""

    def __init__(self, limits: StylizeLimits, faces: Encoding | None, batcher: Batcher[Steps, Any]) -> None:
        self._limits = limits
        self._faces = faces
        self.batcher = batcher
        self._steps_ahead = 0  # of the pictures that are being painted, or wait for it

    async def ready(self, call: Call, order: Order) -> Order:
        """With the styles of its pictures read. Raises DetectorNotLoaded, and as ``read_style``."""
        if order.options.keep_faces and self._faces is None:
            raise DetectorNotLoaded("keep_faces needs a face detector and a landmark finder; add them to --models")
        reader, weights = order.painter.reader, order.options.weights
        if reader is None:
            return order
        for picture in order.pictures:
            style = await self.read_style(call, picture.data, picture.path, reader)
            weights = np.add(weights, picture.weight * style, dtype=np.float32)
        return replace(order, options=replace(order.options, weights=weights), pictures=())

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
            call.spend("pixels", max(width * height, work.width * work.height))
            with self._counted(work.steps, call):
                seen = None
                if self._faces is not None and order.options.keep_faces:
                    seen = await _faces_of(self._faces, call, image, path, upright_only=memory is not None)
                steps = order.painter.paint(image, order.options, format, memory, steadiness, seen)
                call = call.let_in
                async with nullcontext() if pixels is None else pixels.hold(call, work.pixels):
                    painted: Painted | None = None
                    while painted is None:
                        painted = await self.batcher.submit(steps, call)
        except MemoryError as error:
            raise Overloaded.for_want_of_memory("pictures") from error
        except PictureError as error:
            raise InvalidRequest.field(path, str(error), reason=error.reason) from error
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

    async def read_style(self, call: Call, picture: bytes, path: str, reader: StyleReader) -> Floats:
        """The style of a picture, float32 [S]. Raises InvalidRequest, Overloaded, DeadlinePassed."""
        try:
            header = await off_loop(lambda: read_header(picture, self._limits.pictures))
            most = self._limits.max_pixels
            if header.width * header.height > most:
                told = f"{header.width} x {header.height} pixels to read a style from, at most {most} in all"
                raise PictureError("IMAGE_TOO_LARGE", told)
            call.spend("pixels", header.width * header.height)
            with self._counted(1, call):
                style: Floats = await self.batcher.submit(reader.read(picture, self._limits.pictures), call)
        except MemoryError as error:
            raise Overloaded.for_want_of_memory("pictures") from error
        except PictureError as error:
            raise InvalidRequest.field(path, str(error), reason=error.reason) from error
        return style

    @contextmanager
    def _counted(self, steps: int, call: Call) -> Iterator[None]:
        """Raises Overloaded for a single picture that would not be painted before its deadline."""
        seconds = self._steps_ahead * self.batcher.pace if self._steps_ahead else 0.0
        left = math.inf if call.deadline is None else call.deadline - asyncio.get_running_loop().time()
        if not call.patient and 0 < seconds < math.inf and seconds + steps * self.batcher.pace > left:
            raise Overloaded(
                "the stylize queue is full; it would not be done before its deadline",
                metadata={"queue": QUEUE, RETRY_AFTER: max(1, round(1000 * seconds))},
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


class RunStep:
    """Runs one step of one picture: None until it is done."""

    def __init__(self, on_stage: Callable[[str, float], None]) -> None:
        self._on_stage = on_stage

    def __call__(self, items: Sequence[Steps]) -> Sequence[Any]:
        (steps,) = items
        started = time.perf_counter()
        try:
            next(steps)
        except StopIteration as done:
            return [done.value]
        except MemoryError:
            return [Overloaded.for_want_of_memory(QUEUE)]
        except Exception as error:
            return [error]
        finally:
            self._on_stage(QUEUE, time.perf_counter() - started)
        return [None]
