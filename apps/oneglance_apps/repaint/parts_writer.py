"""Write a video in parts that are kept until it is complete, so that it goes on where it was ended."""

import contextlib
import fcntl
import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.codec.context import Flags

from oneglance_apps.repaint.h264 import CODEC, OPTIONS, even, pixels_of, set_up, to_frame
from oneglance_apps.repaint.other_tracks import OtherTracks
from oneglance_apps.repaint.video_writer import VideoWriter
from oneglance_core.files import replacing

PART_FRAMES = 100
_BEGUN = "begun.json"
_PACKET = struct.Struct(">qqBI")  # pts, dts, whether it is a key frame, length


@dataclass(frozen=True)
class _Begun:
    """What all parts have in common. settings: how the run is told to paint. painted_by: digest of the stylizer.
    start: the time in the source that becomes 0 in the output. base: the unit of times."""

    settings: Mapping[str, Any]
    painted_by: str
    size: tuple[int, int]
    start: float
    base: str


class PartsWriter:
    """A PictureWriter that keeps what is painted in a hidden folder beside the output: a file for every 100 frames,
    each encoded by itself. ``end`` makes the output of them, and removes the folder.

    done: frames that earlier runs have painted. The next picture is to be the one after them.

    Raises ValueError when the folder was begun with other ``settings`` (what JSON can hold), or another process has it.
    """

    def __init__(self, out: Path, container_format: str, source: Path, settings: Mapping[str, Any]) -> None:
        self._out = out
        self._format = container_format
        self._source = source
        self._settings = settings
        self._begun: _Begun | None = None
        self._painter = ""
        self._last = -1  # time of the last picture
        self.done = 0
        self._folder = out.with_name(f".{out.name}.oneglance-parts")
        self._folder.mkdir(exist_ok=True)
        self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._take_up()
        except BaseException:
            os.close(self._lock)
            raise
        self._encoder: Any = None
        self._packets: list[Any] = []
        self._in_part = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # it isn't empty, or is gone
            self._folder.rmdir()
        os.close(self._lock)

    @property
    def size(self) -> tuple[int, int]:
        assert self._begun is not None
        return self._begun.size

    def check_painter(self, digest: str) -> None:
        """Raises ValueError when the parts were painted by another stylizer than that of this digest."""
        self._painter = digest
        if self._begun is not None and self._begun.painted_by != digest:
            raise ValueError(f"{self._out}: another stylizer painted the begin of it; remove {self._folder}")

    def add(self, jpeg: bytes, seconds: float, read_at: float, base: Fraction) -> None:
        pixels = pixels_of(jpeg)
        if self._begun is None:
            begun = _Begun(self._settings, self._painter, even(pixels), read_at - seconds, str(base))
            with replacing(self._folder / _BEGUN) as fresh:
                fresh.write_text(json.dumps(asdict(begun)))
            self._begun = begun
        unit = Fraction(self._begun.base)
        if self._encoder is None:
            self._encoder = av.CodecContext.create(CODEC, "w")
            self._encoder.options = dict(OPTIONS)
            self._encoder.flags |= Flags.global_header
            set_up(self._encoder, self.size, unit)
        self._last = max(round(seconds / unit), self._last + 1)
        self._packets += self._encoder.encode(to_frame(pixels, self.size, self._last, unit))
        self._in_part += 1
        if self._in_part == PART_FRAMES:
            self._end_part()

    def end(self) -> OtherTracks | None:
        if self._in_part:
            self._end_part()
        if self._begun is None:
            return None
        unit = Fraction(self._begun.base)
        with replacing(self._out) as fresh, VideoWriter(fresh, self._format, self._source) as writer:
            writer.open(self._begun.size, self._begun.start, unit)
            for packet in self._all_packets(unit):
                writer.mux([packet], float(packet.dts * unit))
            others = writer.end()
        shutil.rmtree(self._folder)
        return others

    def _take_up(self) -> None:
        """Find what earlier runs have left."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{self._out}: another process is making it") from None
        if not (parts := self._parts()):
            return
        found = json.loads((self._folder / _BEGUN).read_text())
        self._begun = _Begun(**{**found, "size": tuple(found["size"])})
        if self._begun.settings != self._settings:
            raise ValueError(
                f"{self._out}: was begun with other settings, or from another file; the same go on, or remove "
                f"{self._folder}"
            )
        self.done = int(parts[-1].stem.partition("-")[2])
        self._last = max(pts for pts, _, _, _ in _read(parts[-1]))

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("*-*.h264"))

    def _end_part(self) -> None:
        packets = [*self._packets, *self._encoder.encode(None)]
        end = self.done + self._in_part
        with replacing(self._folder / f"{self.done:09d}-{end:09d}.h264") as fresh, fresh.open("wb") as file:
            for packet in packets:
                data = bytes(packet)
                file.write(_PACKET.pack(packet.pts, packet.dts, packet.is_keyframe, len(data)) + data)
        self._encoder, self._packets, self._in_part, self.done = None, [], 0, end

    def _all_packets(self, unit: Fraction) -> Iterator[Any]:
        last = None
        for part in self._parts():
            for pts, dts, is_keyframe, data in _read(part):
                packet: Any = av.Packet(data)
                # At the begin of a part the decoding times may reach back behind the end of the one before.
                last = dts if last is None else max(dts, last + 1)
                packet.pts, packet.dts, packet.time_base, packet.is_keyframe = pts, last, unit, is_keyframe
                yield packet


def _read(part: Path) -> Iterator[tuple[int, int, bool, bytes]]:
    """(pts, dts, whether it is a key frame, data) of each packet."""
    with part.open("rb") as file:
        while head := file.read(_PACKET.size):
            pts, dts, is_keyframe, length = _PACKET.unpack(head)
            yield pts, dts, bool(is_keyframe), file.read(length)
