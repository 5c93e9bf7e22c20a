"""Write pictures as a video, next to the other tracks of the source video. Needs PyAV and Pillow."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import av
from av.container import OutputContainer

from oneglance_apps.repaint.h264 import CODEC, OPTIONS, even, pixels_of, set_up, to_frame
from oneglance_apps.repaint.other_tracks import OtherTracks

IN_DECODING_TIME = ("mp4", "mov")
"""Formats that take the end of the last picture decoded for the video's; the last one shown may be another."""


class PictureWriter(Protocol):
    """What takes the pictures of a video, in order. The first one decides the video's size."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; known after the first picture."""

    def add(self, jpeg: bytes, seconds: float, read_at: float, base: Fraction) -> None:
        """Write the next picture, shown at ``seconds``. ``read_at``: its time in the source; ``base``: time unit."""

    def end(self) -> OtherTracks | None:
        """Finish the video. Returns what was copied beside the pictures; None when there were none."""


class VideoWriter:
    """Writes one video file; see PictureWriter."""

    def __init__(self, path: Path, container_format: str, source: Path) -> None:
        self._path = path
        self._format = container_format
        self._source = source
        self._container: OutputContainer | None = None
        self._stream: Any = None
        self._others: OtherTracks | None = None
        self._base = Fraction(1, 90_000)
        self._last = -1
        self._held: Any = None  # the latest packet
        self._begin: tuple[int, int] | None = None  # pts and dts of the first packet
        self._end = 0  # of the last picture shown so far

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._others is not None:
            self._others.close()
        if self._container is not None:
            self._container.close()

    @property
    def size(self) -> tuple[int, int]:
        return self._stream.width, self._stream.height

    def add(self, jpeg: bytes, seconds: float, read_at: float, base: Fraction) -> None:
        pixels = pixels_of(jpeg)
        if self._container is None:
            self.open(even(pixels), read_at - seconds, base)
        self._last = max(round(seconds / self._base), self._last + 1)
        self.mux(self._stream.encode(to_frame(pixels, self.size, self._last, self._base)), seconds)

    def mux(self, packets: Iterable[Any], seconds: float) -> None:
        """Write encoded pictures, after what the other tracks have up to ``seconds``."""
        assert self._container is not None
        assert self._others is not None
        self._container.mux(list(self._others.until(seconds)))
        for packet in packets:
            self._write_held()
            packet.stream = self._stream
            self._held = packet
            self._begin = self._begin or (packet.pts, packet.dts)
            self._end = max(self._end, packet.pts + max(1, round(1 / self._others.frame_rate / packet.time_base)))

    def end(self) -> OtherTracks | None:
        if self._container is not None:
            assert self._others is not None
            self.mux(self._stream.encode(None), float("inf"))
            if self._held is not None and self._begin is not None and self._format in IN_DECODING_TIME:
                first_pts, first_dts = self._begin
                self._held.duration = (self._end - first_pts) - (self._held.dts - first_dts)
            self._write_held()
            container, self._container = self._container, None
            container.close()
        return self._others

    def _write_held(self) -> None:
        if self._held is not None:
            assert self._container is not None
            self._container.mux(self._held)
            self._held = None

    def open(self, size: tuple[int, int], start: float, base: Fraction) -> None:
        """Begin the file. ``start``: the time in the source that becomes 0 in the output."""
        self._base = base
        self._others = others = OtherTracks(self._source, self._format, start)
        container = self._container = av.open(
            str(self._path),
            "w",
            format=self._format,
            options={} if self._format == "matroska" else {"movflags": "+faststart"},
        )
        self._stream = container.add_stream(CODEC, rate=others.frame_rate, options=dict(OPTIONS))
        set_up(self._stream.codec_context, size, base)
        others.copy_to(container)
        container.start_encoding()
