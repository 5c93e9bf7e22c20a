"""Containers and codecs, and all that may be the matter with a file: each is made small, read, and looked at.

``python -m benchmarks.containers`` prints the table; a test holds each row.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from oneglance_apps.frames.frame import Frame
from oneglance_apps.frames.source_error import SourceError
from oneglance_apps.frames.video import VideoSource

FRAMES = 50
FPS = 25
SIDE = (96, 64)  # width, height
LATE_SECONDS = 1.6
SUBTITLES = "1\n00:00:00,200 --> 00:00:00,900\nhello\n\n2\n00:00:01,000 --> 00:00:01,800\nagain\n"
UNEVEN = [i / 25 + (0.3 if i > 20 else 0.0) + (0.7 if i > 35 else 0.0) for i in range(FRAMES)]


@dataclass(frozen=True)
class Kind:
    """A container and what is in it. deep: pixel format of 10 bits; "": there is none."""

    name: str
    suffix: str
    codec: str
    sound: str = ""
    deep: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    encoder: Mapping[str, str] = field(default_factory=dict)
    subtitles: bool = False


FAST = {"preset": "ultrafast", "g": "25"}
KINDS = (
    Kind("Matroska, H.264", ".mkv", "libx264", "aac", "yuv420p10le", encoder=FAST, subtitles=True),
    Kind("Matroska, H.265", ".mkv", "libx265", "aac", "yuv420p10le", encoder={**FAST, "x265-params": "log-level=none"}),
    Kind("Matroska, FFV1", ".mkv", "ffv1", "flac", "yuv420p10le", subtitles=True),
    Kind("MP4, H.264", ".mp4", "libx264", "aac", "yuv420p10le", {"movflags": "faststart"}, FAST),
    Kind("MP4 in fragments", ".mp4", "libx264", "aac", "", {"movflags": "frag_keyframe+delay_moov"}, FAST),
    Kind("QuickTime, MPEG-4", ".mov", "mpeg4", "aac", "", {"movflags": "faststart"}),
    Kind("WebM, VP9", ".webm", "libvpx-vp9", "libopus", "", encoder={"deadline": "realtime", "cpu-used": "8"}),
    Kind("MPEG-TS, H.264", ".ts", "libx264", "mp2", "yuv420p10le", encoder=FAST),
    Kind("M2TS, H.264", ".m2ts", "libx264", "ac3", "", {"mpegts_m2ts_mode": "1"}, FAST),
    Kind("MPEG-PS, MPEG-2", ".mpg", "mpeg2video", "mp2"),
    Kind("AVI, MPEG-4", ".avi", "mpeg4", "mp2"),
    Kind("FLV, Sorenson", ".flv", "flv", "aac"),
    Kind("ASF, WMV", ".wmv", "wmv2", "wmav2"),
    Kind("Ogg, VP8", ".ogv", "libvpx", "libopus", "", encoder={"deadline": "realtime", "cpu-used": "8"}),
)


def pattern(number: int) -> np.ndarray:
    """A pattern that wanders, so that every frame needs the one before."""
    blocks = np.random.default_rng(1).integers(0, 255, (8, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return np.roll(blocks, 3 * number, 1)


@dataclass(frozen=True)
class Making:
    """How one file differs from a plain one with sound."""

    sounds: int = 1
    subtitles: bool = False
    first: float = 0.0
    times: tuple[float, ...] = ()
    rotation: int = 0
    encoder: Mapping[str, str] = field(default_factory=dict)
    pix_fmt: str = "yuv420p"
    hdr: bool = False


def make(path: Path, kind: Kind, making: Making) -> list[float]:
    """Writes the file. Returns the times of its pictures. Raises FFmpegError or ValueError when it can't be."""
    times = [making.first + at for at in (making.times or [i / FPS for i in range(FRAMES)])]
    base = Fraction(1, 1000) if making.times else Fraction(1, FPS)
    with av.open(str(path), "w", options=dict(kind.options)) as container:
        options = {**kind.encoder, **making.encoder}
        stream: Any = container.add_stream(kind.codec, rate=FPS, options=options)
        stream.width, stream.height = SIDE
        stream.pix_fmt = making.pix_fmt
        stream.bit_rate = 2_000_000
        if making.rotation:
            stream.set_display_rotation(making.rotation)
        stream.codec_context.time_base = base
        if making.hdr:
            context = stream.codec_context
            context.color_trc, context.color_primaries, context.colorspace, context.color_range = 16, 9, 9, 1
        sounds: list[Any] = []
        for _ in range(making.sounds):
            rate = 48_000 if kind.sound in ("libopus", "ac3") else 44_100
            sound: Any = container.add_stream(kind.sound, rate=rate)
            sound.layout, sound.bit_rate = "mono", 64_000
            sounds.append(sound)
        told: Any = None
        if making.subtitles:
            written: Any = av.open(io.BytesIO(SUBTITLES.encode()), format="srt")
            told = container.add_stream_from_template(written.streams.subtitles[0])
        packets: list[tuple[float, Any]] = []
        for i, at in enumerate(times):
            frame = _picture(i, making)
            frame.pts, frame.time_base = round(at / base), base
            packets += [(at, packet) for packet in stream.encode(frame)]
        for sound in sounds:
            packets += _tone(sound, times[-1] + 1 / FPS)
        if told is not None:
            for packet in written.demux():
                if packet.dts is not None:
                    packet.stream = told
                    packets.append((0.2, packet))
        packets += [(1e9, packet) for track in (stream, *sounds) for packet in track.encode(None)]
        for _, packet in sorted(packets, key=lambda one: one[0]):
            container.mux(packet)
    return times


def _picture(number: int, making: Making) -> av.VideoFrame:
    if not making.hdr:
        return av.VideoFrame.from_ndarray(pattern(number), format="rgb24")
    frame = av.VideoFrame(*SIDE, "yuv420p10le")
    for i, plane in enumerate(frame.planes):  # 100 cd/m2: half of the white of paper
        level = round(64 + 0.508 * 876) if i == 0 else 512
        plane.update(np.full(plane.buffer_size // 2, level, np.uint16).tobytes())
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = 16, 9, 9, 1
    return frame


def _tone(sound: Any, seconds: float) -> list[tuple[float, Any]]:
    rate, size = sound.rate, sound.codec_context.frame_size or 1024
    formats = [one.name for one in sound.codec_context.codec.audio_formats or ()]
    packets = []
    resampler = av.AudioResampler(format=formats[0] if formats else "s16", layout=sound.layout.name, rate=rate)
    for at in range(0, round(rate * seconds), size):
        part = av.AudioFrame.from_ndarray(np.zeros((1, size), np.int16), format="s16", layout="mono")
        part.sample_rate, part.pts, part.time_base = rate, at, Fraction(1, rate)
        for frame in resampler.resample(part):
            packets += [(at / rate, packet) for packet in sound.encode(frame)]
    return packets


def read(path: Path) -> tuple[list[Frame], str, VideoSource]:
    """The frames, and why the file isn't complete."""
    source = VideoSource(str(path), live=False)
    frames: list[Frame] = []
    try:
        source.open()
        frames.extend(source.frames())
    except SourceError as error:
        return frames, f"{error.reason}: {error}", source
    return frames, "", source


def whole(path: Path, times: list[float]) -> str:
    """What is wrong with reading a file that is whole; empty: nothing."""
    frames, problem, _ = read(path)
    if problem:
        return problem
    if len(frames) != len(times):
        return f"{len(frames)} of {len(times)} frames"
    off = [frame.moment.seconds - at for frame, at in zip(frames, times, strict=True)]
    # Coding delays the sound a little, and in some containers that is when the file begins.
    wrong = max(max(off) - min(off) - 0.005, max(map(abs, off)) - 0.05)
    return f"times are off by {max(off, key=abs):.3f} s" if wrong > 0 else ""


def told(path: Path, data: bytes) -> str:
    """What is wrong with reading a file that isn't: it must be told, with the frames there are in order."""
    path.write_bytes(data)
    frames: list[Frame] = []
    source = VideoSource(str(path), live=False)
    try:
        source.open()
        for frame in source.frames():
            frames.append(frame)
    except SourceError as error:
        if error.reason not in ("damaged", "unreadable"):
            return f"told as {error.reason}"
        seconds = [frame.moment.seconds for frame in frames]
        return "" if seconds == sorted(seconds) else "frames out of order"
    return f"not told, {len(frames)} frames"


def _level(path: Path) -> float:
    source = VideoSource(str(path), live=False)
    source.open()
    data = next(iter(source.frames())).encoded(1000).data
    return float(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).mean())


Check = Callable[[Path, Kind, Path], str]


def _plain(making: Making) -> Check:
    def check(folder: Path, kind: Kind, path: Path) -> str:
        return whole(path, make(path, kind, making))

    return check


def _cut(folder: Path, kind: Kind, path: Path) -> str:
    make(path, kind, Making())
    data = path.read_bytes()
    # Not just between two packets of MPEG-TS, which may be between two pictures, too: that can't be told.
    found = {told(path, data[: int(share * len(data)) // 188 * 188 - 7]) for share in (0.4, 2 / 3, 0.9)}
    return "; ".join(sorted(found - {""}))


def _garbage(folder: Path, kind: Kind, path: Path) -> str:
    make(path, kind, Making())
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, min(20_000, len(data) // 4)
    data[middle : middle + length] = np.random.default_rng(2).bytes(length)
    return told(path, bytes(data))


def _rotated(folder: Path, kind: Kind, path: Path) -> str:
    times = make(path, kind, Making(rotation=90))
    source = VideoSource(str(path), live=False)
    source.open()
    frame = next(iter(source.frames()))
    if not frame.content.rotation:  # type: ignore[union-attr]
        raise ValueError("the container holds no rotation")
    size = Image.open(io.BytesIO(frame.encoded(1000).data)).size
    return whole(path, times) or ("" if size == SIDE[::-1] else f"{size[0]} x {size[1]}")


def _deep(folder: Path, kind: Kind, path: Path) -> str:
    if not kind.deep:
        raise ValueError("no codec of 10 bits")
    return whole(path, make(path, kind, Making(pix_fmt=kind.deep)))


def _hdr(folder: Path, kind: Kind, path: Path) -> str:
    if not kind.deep:
        raise ValueError("no codec of 10 bits")
    problem = whole(path, make(path, kind, Making(pix_fmt=kind.deep, hdr=True)))
    level = _level(path)
    return problem or ("" if abs(level - 189) < 4 else f"gray level {level:.0f}")


def _late(folder: Path, kind: Kind, path: Path) -> str:
    times = make(path, kind, Making(first=LATE_SECONDS))
    with av.open(str(path)) as container:
        first = next(packet for packet in container.demux(video=0) if packet.pts is not None)
        if not first.pts or not first.time_base or first.pts * first.time_base < LATE_SECONDS / 2:
            raise ValueError("all tracks of the container begin at once")
    return whole(path, times)


def _uneven(folder: Path, kind: Kind, path: Path) -> str:
    times = make(path, kind, Making(times=tuple(UNEVEN)))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        held = sorted(float(packet.pts * packet.time_base) for packet in packets)  # type: ignore[operator]
    if max(abs(at - held[0] - time) for at, time in zip(held, times, strict=True)) > 0.05:
        raise ValueError("the container holds no uneven times")
    return whole(path, times)


def _subtitles(folder: Path, kind: Kind, path: Path) -> str:
    if not kind.subtitles:
        raise ValueError("not tried")
    return whole(path, make(path, kind, Making(subtitles=True)))


CHECKS: dict[str, Check] = {
    "whole": _plain(Making()),
    "cut": _cut,
    "garbage": _garbage,
    "late start": _late,
    "uneven rate": _uneven,
    "rotated": _rotated,
    "interlaced": _plain(Making(encoder={"flags": "+ildct+ilme"})),
    "10 bits": _deep,
    "HDR": _hdr,
    "no sound": _plain(Making(sounds=0)),
    "two sounds": _plain(Making(sounds=2)),
    "subtitles": _subtitles,
}


SLOW = ("HDR",)


def row(kind: Kind, folder: Path, *, slow: bool = True) -> dict[str, str | None]:
    """By check what is wrong with it; empty: nothing; None: the container, or what writes it here, can't do it."""
    found: dict[str, str | None] = {}
    for i, (name, check) in enumerate(CHECKS.items()):
        if name in SLOW and not slow:
            continue
        path = folder / f"{i}{kind.suffix}"
        try:
            found[name] = check(folder, kind, path)
        except (av.FFmpegError, ValueError):
            found[name] = None
    return found
