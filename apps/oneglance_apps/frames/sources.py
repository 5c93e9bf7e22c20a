"""Where frames come from: a video file, a camera, a network stream (all read with PyAV) or a folder of pictures."""

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from oneglance_apps.frames.frame import Frame
from oneglance_apps.frames.moment import Moment
from oneglance_apps.urls import redacted
from oneglance_core.picture_files import PICTURE_SUFFIXES, is_picture

TIMEOUT_SECONDS = 10.0  # of a network source: to connect, and between two reads
MISSING_SECONDS = 1.0  # a file that ends this much before its stated length is reported as broken off


class SourceError(Exception):
    """The source can't be opened, or breaks off before its end. The message is for people."""


class Source(Protocol):
    """A source of frames.

    name: for messages; a URL is given without password and query.
    live: a camera or stream: frames arrive in real time and have no end. Known after ``open``.
    length: in seconds; None when unknown.
    """

    name: str
    live: bool
    length: float | None

    def open(self) -> None:
        """Raises SourceError."""

    def frames(self) -> Iterator[Frame]:
        """The frames in order, at most ``fps`` a second. A second call opens a live source again. Raises SourceError
        where the source breaks off."""


def source_from(text: str, fps: float) -> Source:
    """The source that ``text`` names: a folder, a URL, the number of a camera, a device or a file.

    fps: frames a second that the source gives at most. Nothing is opened yet.
    """
    if "://" in text:
        return VideoSource(text, fps, live=text.partition("://")[0].lower() not in ("http", "https", "file"))
    if text.isdecimal():
        return VideoSource(f"/dev/video{text}", fps, live=True)
    if Path(text).is_dir():
        return FolderSource(Path(text), fps)
    return VideoSource(text, fps, live=text.startswith("/dev/"))


class FolderSource:
    """The pictures of a folder in the order of their names, with times as if taken ``fps`` a second."""

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


class VideoSource:
    """A video file, a camera or a network stream.

    The time of a frame of a file is its position in the file. A frame without a time, or with an earlier one than the
    frame before, gets the time just after that frame. The time of a frame of a live source is when it arrived.
    """

    def __init__(self, text: str, fps: float, *, live: bool) -> None:
        self.live = live
        self.length: float | None = None
        self.damaged = 0  # packets that could not be decoded
        self._text = text
        self._fps = fps
        self._is_url = "://" in text
        self.name = redacted(text) if self._is_url else text
        self._container: InputContainer | None = None
        self._number = 0
        self._started = time.monotonic()

    def open(self) -> None:
        options: dict[str, str] = {}
        if self._text.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # UDP loses packets, which damages frames
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
            raise SourceError(f"{self.name}: can't be opened as a video: {_reason(error)}") from error
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
                raise SourceError(f"{self.name}: broke off: {_reason(error)}") from error
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


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {TIMEOUT_SECONDS:g} s"
    return getattr(error, "strerror", None) or str(error)
