"""Frames of a video file, a camera, a network stream or a folder of pictures, in order, read with PyAV."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import Image, ImageOps

from oneglance_apps.watch.appearances import Moment
from oneglance_apps.watch.urls import shown
from oneglance_core.picture_files import PICTURE_SUFFIXES, is_picture

TIMEOUT_SECONDS = 10.0  # of a network source, to connect and between two reads
MISSING_SECONDS = 1.0  # a file that ends this much earlier than it says is broken off
AS_IT_IS_BYTES = 8 << 20  # larger picture files are encoded anew
TOO_LARGE_BYTES = 60 << 20  # of a picture file; a message has 64 MiB


class SourceError(Exception):
    """The source can't be read, or not to its end. Says so in words."""


@dataclass(frozen=True)
class Encoded:
    """A frame for the wire. ``scale_x``, ``scale_y``: from its pixels to those of the frame."""

    data: bytes
    scale_x: float = 1.0
    scale_y: float = 1.0


@dataclass(frozen=True)
class Frame:
    """A frame as it was decoded, or the path of a picture. ``aspect``: width / height of one of its pixels."""

    moment: Moment
    content: av.VideoFrame | Path
    aspect: float = 1.0

    def encoded(self, max_side: int) -> Encoded:
        """As JPEG, upright, with square pixels, its longer side at most ``max_side`` pixels. A picture file that is
        no larger stays as it is, and so does one that can't be decoded here: the server has the say. Raises OSError
        for a file that can't be read."""
        if isinstance(self.content, Path):
            return _encoded_file(self.content, max_side)
        image = Image.fromarray(self.content.to_ndarray(format="rgb24"))
        if turns := round(self.content.rotation / 90) % 4:
            image = image.transpose(
                (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)[turns - 1]
            )
        stretch = (1.0, self.aspect) if turns % 2 else (self.aspect, 1.0)
        return _shrunk(image, max_side, stretch)


class Source(Protocol):
    """Something to watch.

    name: for people; of a URL without password and query.
    live: frames come when they come, and never end for good. Known once it is open.
    length: in seconds, where known.
    """

    name: str
    live: bool
    length: float | None

    def open(self) -> None:
        """Raises SourceError when that can't be done."""

    def frames(self) -> Iterator[Frame]:
        """The frames that are due, in order. A live source is opened again when it is iterated again. Raises
        SourceError where it breaks."""


def source_from(text: str, fps: float) -> Source:
    """What ``text`` names: a folder, a URL, the number of a camera, a device or a file. ``fps``: frames a second, at
    most, that are due. Nothing is opened yet."""
    if "://" in text:
        return Video(text, fps, live=text.partition("://")[0].lower() not in ("http", "https", "file"))
    if text.isdecimal():
        return Video(f"/dev/video{text}", fps, live=True)
    if Path(text).is_dir():
        return Folder(Path(text), fps)
    return Video(text, fps, live=text.startswith("/dev/"))


class Folder:
    """The pictures of a folder in the order of their names, as if taken one after the other, ``fps`` a second."""

    live = False

    def __init__(self, path: Path, fps: float) -> None:
        self.name = str(path)
        self._path = path
        self._fps = fps
        self._pictures: list[Path] = []
        self.length: float | None = None

    def open(self) -> None:
        try:
            self._pictures = sorted(p for p in self._path.iterdir() if is_picture(p))
        except OSError as error:
            raise SourceError(f"{self.name}: {error.strerror}") from error
        if not self._pictures:
            raise SourceError(f"{self.name}: no pictures in this folder ({', '.join(PICTURE_SUFFIXES)})")
        self.length = len(self._pictures) / self._fps

    def frames(self) -> Iterator[Frame]:
        for number, path in enumerate(self._pictures):
            yield Frame(Moment(number, number / self._fps, picture=path.name), path)


class Video:
    """A video file, a camera or a network stream.

    Of a file, time is the position in it: frames without one, or that step back, follow the frame before. Of a live
    source, time is the time of arrival.
    """

    def __init__(self, text: str, fps: float, *, live: bool) -> None:
        self.live = live
        self.length: float | None = None
        self.damaged = 0  # packets that could not be decoded
        self._text = text
        self._fps = fps
        self._is_url = "://" in text
        self.name = shown(text) if self._is_url else text
        self._container: InputContainer | None = None
        self._number = 0
        self._started = time.monotonic()

    def open(self) -> None:
        options: dict[str, str] = {}
        if self._text.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # UDP loses packets, and pictures with them
        if not self._is_url and not Path(self._text).exists():
            raise SourceError(f"{self.name}: there is no such {'camera' if self.live else 'file or folder'}")
        try:
            self._container = av.open(
                self._text if self._is_url or self.live else f"file:{self._text}",
                format="v4l2" if self.live and not self._is_url else None,
                options=options,
                timeout=TIMEOUT_SECONDS if self._is_url else None,
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{self.name}: can't be opened as a video: {_words(error)}") from error
        try:
            stream = self._stream(self._container)
        except SourceError:
            self._container.close()
            raise
        duration = self._container.duration
        if self._is_url and duration is None:
            self.live = True
        if not self.live:
            ours = stream.duration
            self.length = float(ours * stream.time_base) if ours and stream.time_base else None
            if self.length is None and duration is not None:
                self.length = duration / av.time_base

    def frames(self) -> Iterator[Frame]:
        if self._container is None:
            self.open()
        assert self._container is not None
        container, self._container = self._container, None
        with container:
            stream = self._stream(container)
            aspect = float(stream.sample_aspect_ratio or 1)
            yield from self._live(container, stream, aspect) if self.live else self._file(container, stream, aspect)

    def _live(self, container: InputContainer, stream: VideoStream, aspect: float) -> Iterator[Frame]:
        due = 0.0
        for image in self._decoded(container, stream):
            now = time.monotonic()
            if now >= due:
                due = now + 1 / self._fps
                moment = Moment(self._number, now - self._started, datetime.now().astimezone())
                yield Frame(moment, image, aspect)
            self._number += 1

    def _file(self, container: InputContainer, stream: VideoStream, aspect: float) -> Iterator[Frame]:
        step = 1 / float(stream.average_rate or 25)
        first: float | None = None
        shift = 0.0
        seconds = -step
        end = 0.0
        last_slot = -1
        try:
            for image in self._decoded(container, stream):
                at = image.time
                if at is not None:
                    if first is None:
                        first = at
                    if at - first + shift < seconds:
                        shift = seconds + step - (at - first)
                    seconds = at - first + shift
                else:
                    seconds += step
                end = seconds + (float(image.duration * image.time_base) if image.time_base else 0.0)
                slot = int(seconds * self._fps + 1e-6)
                if slot > last_slot:
                    last_slot = slot
                    yield Frame(Moment(self._number, seconds), image, aspect)
                self._number += 1
        except SourceError as error:
            raise SourceError(f"{error}, after {max(seconds, 0.0):.1f} s") from error
        if not self._number:
            raise SourceError(f"{self.name}: not a single frame could be read")
        told = stream.duration
        if told and stream.time_base and end < (length := float(told * stream.time_base)) - MISSING_SECONDS:
            raise SourceError(f"{self.name}: broken off, only {end:.1f} s of {length:.1f} s could be read")

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, EOFError):
                return
            except (av.FFmpegError, OSError, ValueError) as error:
                raise SourceError(f"{self.name}: broke off: {_words(error)}") from error
            try:
                images = packet.decode()
            except EOFError:
                return
            except (av.FFmpegError, ValueError):
                self.damaged += 1
                continue
            yield from (image for image in images if isinstance(image, av.VideoFrame))

    def _stream(self, container: InputContainer) -> VideoStream:
        for stream in container.streams.video:
            if not stream.disposition & Disposition.attached_pic:
                return stream
        raise SourceError(f"{self.name}: there is no video in it")


def _encoded_file(path: Path, max_side: int) -> Encoded:
    data = path.read_bytes()
    if len(data) > TOO_LARGE_BYTES:
        raise OSError(f"{path}: {len(data):,} bytes, too large for a message")
    try:
        with Image.open(io.BytesIO(data)) as image:
            small = max(image.size) <= max_side and len(data) <= AS_IT_IS_BYTES
            if small or image.mode.startswith(("I", "F")):  # more than 8 bits: the server's business
                return Encoded(data)
            upright = ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        return Encoded(data)
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return _shrunk(upright.convert("RGB"), max_side, (1.0, 1.0))


def _shrunk(image: Image.Image, max_side: int, stretch: tuple[float, float]) -> Encoded:
    width, height = image.size
    shown = width * stretch[0], height * stretch[1]
    factor = min(1.0, max_side / max(shown))
    size = max(1, round(shown[0] * factor)), max(1, round(shown[1] * factor))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return Encoded(buffer.getvalue(), width / size[0], height / size[1])


def _words(error: Exception) -> str:
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {TIMEOUT_SECONDS:g} s"
    return getattr(error, "strerror", None) or str(error)
