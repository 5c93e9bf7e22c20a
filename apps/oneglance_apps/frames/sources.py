"""Where frames come from: a folder of pictures, or what ``video`` reads; and which of them a text names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from oneglance_apps.clock import Clock, SystemClock
from oneglance_apps.frames.frame import Frame
from oneglance_apps.frames.moment import Moment
from oneglance_apps.frames.source_error import SourceError
from oneglance_apps.frames.video import NetworkSettings, VideoSource
from oneglance_core.picture_files import PICTURE_SUFFIXES, is_picture


class Source(Protocol):
    """A source of frames.

    name: for messages; a URL is given without password and query.
    live: a camera or stream: frames arrive in real time and have no end. Known after ``open``.
    length: in seconds; None when unknown.
    damaged: packets and frames that could not be decoded. missing: frames that are not there, as the times of the
    others tell.
    """

    name: str
    live: bool
    length: float | None
    damaged: int
    missing: int

    def open(self) -> None:
        """Raises SourceError."""

    def frames(self) -> Iterator[Frame]:
        """All frames, in order. A second call opens a live source again. Raises SourceError where the source breaks
        off, and, after its last frame, for a file that is incomplete or damaged."""


def source_from(
    text: str, fps: float, network: NetworkSettings | None = None, clock: Clock | None = None
) -> "VideoSource | FolderSource":
    """The source that ``text`` names: a folder, a URL, the number of a camera, a device or a file.

    fps: of a folder of pictures. Nothing is opened yet.
    """
    if Path(text).is_dir():
        return FolderSource(Path(text), fps)
    if "://" in text:
        live = text.partition("://")[0].lower() not in ("http", "https", "file")
    else:
        # /dev/shm has files.
        live = text.isdecimal() or (text.startswith("/dev/") and not text.startswith("/dev/shm/"))
        text = f"/dev/video{text}" if text.isdecimal() else text
    return VideoSource(text, live=live, network=network or NetworkSettings(), clock=clock or SystemClock())


class FolderSource:
    """The pictures of a folder in the order of their names, with times as if taken ``fps`` a second."""

    live = False
    damaged = 0
    missing = 0

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
            raise SourceError(f"{self.name}: no pictures in this folder ({', '.join(PICTURE_SUFFIXES)})", "unreadable")
        self.length = len(self._pictures) / self._fps

    def frames(self) -> Iterator[Frame]:
        for number, path in enumerate(self._pictures):
            yield Frame(Moment(number, number / self._fps, picture=path.name), path)
