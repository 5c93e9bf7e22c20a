"""A video file, a camera or a network stream, read with PyAV."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import av
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition
from av.video.stream import VideoStream

from oneglance_apps.clock import Clock, SystemClock
from oneglance_apps.frames.frame import Frame, StandardColours
from oneglance_apps.frames.frame_clock import FrameClock
from oneglance_apps.frames.gaps import Gaps
from oneglance_apps.frames.intact import is_intact_flv, is_intact_matroska, is_intact_ts, is_overwritten
from oneglance_apps.frames.moment import Moment
from oneglance_apps.frames.positions import Positions
from oneglance_apps.frames.source_error import SourceError, explained
from oneglance_apps.frames.whole import missing_bytes
from oneglance_apps.text import counted
from oneglance_apps.urls import redacted

MISSING_SECONDS = 1.0  # a file that ends this much before its stated length is reported as broken off
CLOCK_STEPS: int = cast(Any, Flags.ts_discont).value  # of formats whose clock may step
RTSP_ANALYZED = "1000000"  # us, before the first frame comes: a door can't wait FFmpeg's 5 s after each break
USUAL_FPS = 25  # of a video that doesn't say
# Live formats whose timestamps are those of the camera. Others, motion JPEG over HTTP for one, have none, and FFmpeg
# makes them up.
STAMPED_FORMATS = ("rtsp", "rtp", "sdp", "mpegts", "flv", "hls", "video4linux2,v4l2")
INDEXED_FORMATS = ("mov", "avi")  # state the time of every frame, so a gap is meant
LONG_FORMATS = ("matroska", "mov", "avi", "flv", "ogg")  # state the length of the longest stream

RtspTransport = Literal["tcp", "udp", "http"]


@dataclass(frozen=True)
class NetworkSettings:
    """How network sources are read.

    connect_seconds: to open one. read_seconds: one that gives nothing for so long is opened again.
    rtsp_transport: UDP may lose packets, which damages frames.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 10.0
    rtsp_transport: RtspTransport = "tcp"


class VideoSource:
    """A video file, a camera or a network stream; see ``Source``.

    The time of a frame of a file is its position in the file. That of a live source is when it was taken, which is when
    it arrived unless its timestamp tells that it was held up.
    """

    def __init__(
        self, text: str, *, live: bool, network: NetworkSettings | None = None, clock: Clock | None = None
    ) -> None:
        self.live = live
        self.length: float | None = None
        self.damaged = 0
        self.missing = 0
        self._text = text
        self._network = network or NetworkSettings()
        self._clock = clock or SystemClock()
        self._is_url = "://" in text
        self.name = redacted(text) if self._is_url else text
        self._container: InputContainer | None = None
        self._number = 0
        self._started = self._clock.now()
        self._last_taken = self._started
        self._colours = StandardColours()

    def open(self) -> None:
        options: dict[str, str] = {}
        if self._text.startswith("rtsp"):
            options["rtsp_transport"] = self._network.rtsp_transport
            options["analyzeduration"] = RTSP_ANALYZED
        if not self.live:
            options["correct_ts_overflow"] = "0"  # FFmpeg takes a clock that is set back for one that starts over
        if not self._is_url and not Path(self._text).exists():
            raise SourceError(f"{self.name}: there is no such {'camera' if self.live else 'file or folder'}", "path")
        timeouts = (self._network.connect_seconds, self._network.read_seconds) if self._is_url else None
        begun = self._clock.now()
        try:
            self._container = av.open(
                self._text if self._is_url or self.live else f"file:{self._text}",
                format="v4l2" if self.live and not self._is_url else None,
                options=options,
                timeout=timeouts,
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._error("can't be opened as a video", error, begun, timeouts and timeouts[0]) from error
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
            yield from self._live(container, stream) if self.live else self._file(container, stream)

    def _live(self, container: InputContainer, stream: VideoStream) -> Iterator[Frame]:
        frame_clock = FrameClock()
        stamped = any(name in STAMPED_FORMATS for name in (container.format.name, *container.format.name.split(",")))
        aspect = float(stream.sample_aspect_ratio or 1)
        for image in _Decoding(self, container, stream).frames():
            arrived = self._clock.now()
            taken = frame_clock.taken(image.time if stamped else None, arrived)
            self._last_taken = max(self._last_taken, taken)
            time = self._clock.wall() - timedelta(seconds=max(0.0, arrived - taken))
            moment = Moment(self._number, self._last_taken - self._started, time)
            yield Frame(moment, image, aspect, taken, self._colours)
            self._number += 1

    def _file(self, container: InputContainer, stream: VideoStream) -> Iterator[Frame]:
        step = 1 / float(stream.average_rate or USUAL_FPS)
        start = None if container.start_time is None else max(0.0, container.start_time / av.time_base)
        positions = Positions(start, step, may_step=bool(container.format.flags & CLOCK_STEPS))
        gaps = Gaps(step)
        aspect = float(stream.sample_aspect_ratio or 1)
        decoding = _Decoding(self, container, stream)
        seconds = 0.0
        try:
            for image in decoding.frames():
                damaged = decoding.damaged_since_last_frame
                seconds = positions.of(image.time)
                gaps.add(seconds, damaged=damaged)
                yield Frame(Moment(self._number, seconds), image, aspect, self._clock.now(), self._colours)
                self._number += 1
        except SourceError as error:
            raise SourceError(f"{error}, after {seconds:.1f} s", error.reason) from error
        finally:
            meant = not gaps.in_long_ones or self._gaps_are_meant(container)
            self.missing = gaps.missing(long_ones_count=not meant)
            if _is_of(container, ("avi",)):  # whose frames have no times: its index tells how many there are
                self.missing = max(self.missing, len(stream.index_entries) - decoding.packets)
        if not self._number:
            raise SourceError(f"{self.name}: not a single frame could be read", "unreadable")
        self._check_end(container, stream, decoding, seconds + step)
        if self.damaged or self.missing:
            raise SourceError(f"{self.name}: damaged: {self.damage()}", "damaged")
        if not self._is_url and is_overwritten(Path(self._text)):
            raise SourceError(
                f"{self.name}: damaged: a part of it was overwritten, {self._number} frames could be read", "damaged"
            )

    def _gaps_are_meant(self, container: InputContainer) -> bool:
        """Whether nothing that the container holds was lost."""
        if _is_of(container, INDEXED_FORMATS):
            return True
        if self._is_url:
            return False
        path = Path(self._text)
        return is_intact_matroska(path) is True or is_intact_ts(path) or is_intact_flv(path)

    def damage(self) -> str:
        """``3 damaged packets, 41 frames missing``; empty when there is no damage."""
        parts = [
            counted(self.damaged, "damaged packet") if self.damaged else "",
            f"{counted(self.missing, 'frame')} missing" if self.missing else "",
        ]
        return ", ".join(filter(None, parts))

    def _check_end(self, container: InputContainer, stream: VideoStream, read: "_Decoding", end: float) -> None:
        """Raises SourceError if the file ends before its container says so."""
        if not self._is_url and (missing := missing_bytes(Path(self._text))):
            whole = f" of {self.length:.1f} s" if self.length else ""
            raise SourceError(
                f"{self.name}: broken off, only {end:.1f} s{whole} could be read: {missing:,} bytes are missing",
                "damaged",
            )
        begin, length = _seconds(stream.start_time, stream) or 0.0, _seconds(stream.duration, stream)
        told = [(read.end_of(stream), begin, length)]
        if _is_of(container, ("asf",)):  # which states one length for all streams
            told = [(read.end, 0.0, length)]
        if container.duration is not None and _is_of(container, LONG_FORMATS):
            told.append((read.end, 0.0, container.duration / av.time_base))  # Matroska counts from 0
        for read_to, begin, length in told:
            if length is not None and read_to is not None and read_to < begin + length - MISSING_SECONDS:
                raise SourceError(
                    f"{self.name}: broken off, only {read_to - begin:.1f} s of {length:.1f} s could be read", "damaged"
                )

    def _stream(self, container: InputContainer) -> VideoStream:
        for stream in container.streams.video:
            if not stream.disposition & Disposition.attached_pic:
                return stream
        raise SourceError(f"{self.name}: there is no video in it", "unreadable")

    def _error(self, what: str, error: Exception, begun: float, timeout_seconds: float | None) -> SourceError:
        reason, words = explained(error, self._clock.now() - begun, timeout_seconds)
        return SourceError(f"{self.name}: {what}: {words}", reason)


class _Decoding:
    """Decodes the pictures of one opened source; of a file, the packets of all its streams are read, to see where they
    end.

    end: the latest end of a packet so far, in seconds of the file's clock; None before the first.
    packets: of the stream, read so far.
    """

    def __init__(self, source: VideoSource, container: InputContainer, stream: VideoStream) -> None:
        self.end: float | None = None
        self.packets = 0
        self._ends: dict[int, float] = {}
        self._source = source
        self._container = container
        self._stream = stream
        self._damaged_before = source.damaged

    @property
    def damaged_since_last_frame(self) -> bool:
        """Whether something was damaged since the last call."""
        before, self._damaged_before = self._damaged_before, self._source.damaged
        return self._source.damaged > before

    def end_of(self, stream: VideoStream) -> float | None:
        return self._ends.get(stream.index)

    def frames(self) -> Iterator[av.VideoFrame]:
        source = self._source
        packets: Iterator[Any] = self._container.demux(self._stream) if source.live else self._container.demux()
        timeout = source._network.read_seconds if source._is_url else None
        while True:
            begun = source._clock.now()
            try:
                packet = next(packets)
            except (StopIteration, EOFError):
                return
            except (av.FFmpegError, OSError, ValueError) as error:
                raise source._error("broke off", error, begun, timeout) from error
            self._note_end(packet)
            source.damaged += packet.is_corrupt
            if packet.stream.index != self._stream.index:
                continue
            self.packets += packet.size > 0
            try:
                images = packet.decode()
            except EOFError:
                return
            except (av.FFmpegError, ValueError):
                source.damaged += not packet.is_corrupt
                continue
            for image in images:
                if isinstance(image, av.VideoFrame):
                    source.damaged += image.is_corrupt and not packet.is_corrupt
                    yield image

    def _note_end(self, packet: "av.Packet[Any]") -> None:
        begin = packet.pts if packet.pts is not None else packet.dts
        if begin is None or packet.time_base is None:
            return
        end = float((begin + (packet.duration or 0)) * packet.time_base)
        self._ends[packet.stream.index] = max(end, self._ends.get(packet.stream.index, end))
        self.end = end if self.end is None else max(end, self.end)


def _seconds(value: int | None, stream: VideoStream) -> float | None:
    return None if value is None or not stream.time_base else float(value * stream.time_base)


def _is_of(container: InputContainer, formats: tuple[str, ...]) -> bool:
    return not set(formats).isdisjoint(container.format.name.split(","))
