"""A file that is cut or damaged is never complete, whatever its container; one that is whole always is."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from oneglance_apps.clock import SystemClock
from oneglance_apps.frames.frame import Frame
from oneglance_apps.frames.intact import is_intact_matroska, is_intact_ts
from oneglance_apps.frames.source_error import SourceError
from oneglance_apps.frames.video import VideoSource
from oneglance_apps.frames.whole import missing_bytes
from oneglance_apps.watch.frame_reader import FrameReader
from tests.apps.watch import containers
from tests.apps.watch.videos import Picture, level, write_video

FRAMES = 100  # 4 seconds
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mkv": ("a.mkv", "libx264", {}),
    "mp4": ("a.mp4", "libx264", {"movflags": "faststart"}),
    "fragmented mp4": ("f.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "mov": ("a.mov", "mpeg4", {"movflags": "faststart"}),
    "ts": ("a.ts", "libx264", {}),
    "avi": ("a.avi", "mpeg4", {}),
    "webm": ("a.webm", "libvpx", {}),
    "flv": ("a.flv", "flv", {}),
    "mpg": ("a.mpg", "mpeg2video", {}),
    "m2ts": ("a.m2ts", "libx264", {"mpegts_m2ts_mode": "1"}),
    "wmv": ("a.wmv", "wmv2", {}),
    "ogv": ("a.ogv", "libvpx", {}),
}


def pictures() -> Iterator[Picture]:
    """A pattern that wanders, so that every frame needs the one before."""
    pattern = np.random.default_rng(1).integers(0, 255, (12, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return (np.roll(pattern, 3 * i, 1) for i in range(FRAMES))


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, codec, options = KINDS[request.param]
    return write_video(tmp_path_factory.mktemp("whole") / name, pictures(), codec=codec, **options)


def read(path: Path) -> tuple[list[Frame], str, VideoSource]:
    """The frames, and why the file isn't complete."""
    source = VideoSource(str(path), live=False)
    frames: list[Frame] = []
    try:
        source.open()
        for frame in source.frames():
            frames.append(frame)
    except SourceError as error:
        return frames, f"{error.reason}: {error}", source
    return frames, "", source


def assert_in_order(frames: list[Frame]) -> None:
    times = [frame.moment.seconds for frame in frames]
    assert times == sorted(times)
    assert all(0 <= seconds <= FRAMES / 25 for seconds in times)


def test_a_whole_file_is_complete(whole: Path) -> None:
    frames, problem, source = read(whole)
    assert (problem, source.damaged, source.missing) == ("", 0, 0)
    assert [frame.moment.seconds for frame in frames] == pytest.approx([i / 25 for i in range(FRAMES)])


@pytest.mark.parametrize("share", [0.4, 2 / 3, 0.97, 0.9999])
def test_a_file_that_is_cut_is_not(whole: Path, share: float) -> None:
    cut = whole.with_stem("cut")
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    frames, problem, _ = read(cut)
    assert problem.startswith("damaged: ")
    assert len(frames) < FRAMES or share > 0.9
    assert_in_order(frames)


def test_garbage_in_the_middle_is_told_and_counted(whole: Path) -> None:
    data = bytearray(whole.read_bytes())
    middle, length = len(data) // 2, min(20_000, len(data) // 4)
    data[middle : middle + length] = np.random.default_rng(2).bytes(length)
    damaged = whole.with_stem("damaged")
    damaged.write_bytes(data)
    frames, problem, source = read(damaged)
    assert problem.startswith("damaged: ")
    assert source.damaged + source.missing > 0 or "could be read" in problem
    if "could be read" not in problem and whole.suffix not in (
        ".avi",
        ".mpg",
    ):  # whose frames have no times of their own
        assert len(frames) + source.missing + source.damaged >= FRAMES - 5
    assert_in_order(frames)


@pytest.mark.parametrize("packets", [1, 5, 20])
def test_a_transport_stream_that_is_cut_between_packets_is_told_by_its_last_picture(
    tmp_path: Path, packets: int
) -> None:
    # Every picture takes many packets.
    noise = np.random.default_rng(1).integers(0, 255, (20, 96, 128, 3), dtype=np.uint8)
    path = write_video(tmp_path / "a.ts", noise, codec="libx264")
    path.write_bytes(path.read_bytes()[: -188 * packets])
    assert missing_bytes(path) == 0
    assert read(path)[1].startswith("damaged: ")


def test_a_transport_stream_that_is_cut_between_packets_is_told_by_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    containers.make(path, next(kind for kind in containers.KINDS if kind.suffix == ".ts"), containers.Making())
    data = path.read_bytes()
    assert missing_bytes(path) == 0
    assert is_intact_ts(path)
    told = 0
    for packets in range(1, 20):
        path.write_bytes(data[: -188 * packets])
        told += read(path)[1].startswith("damaged: ")
        assert is_intact_ts(path)  # as far as it goes
    assert told > 9, told  # but where both a picture and a packet of sound end
    path.write_bytes(data[: 188 * 50] + data[188 * 53 :])
    assert not is_intact_ts(path)


def test_gaps_in_matroska_are_meant_unless_something_is_missing(tmp_path: Path) -> None:
    """As of a camera that records only what moves."""
    times = [i / 25 + (0.9 if i >= 50 else 0.0) for i in range(FRAMES)]
    path = write_video(tmp_path / "a.mkv", pictures(), times=times, codec="libx264")
    assert is_intact_matroska(path)
    frames, problem, _ = read(path)
    assert (problem, len(frames)) == ("", FRAMES)
    data = bytearray(path.read_bytes())
    data[len(data) // 4 : len(data) // 4 + 3000] = np.random.default_rng(2).bytes(3000)
    path.write_bytes(data)
    assert not is_intact_matroska(path)
    assert read(path)[1].startswith("damaged: ")


def test_sound_that_goes_on_is_no_reason_and_pictures_that_begin_later_have_later_times(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    write_sound_and_pictures(path, sound_seconds=6.0, first_picture=1.6, count=50)
    frames, problem, _ = read(path)
    assert problem == ""
    assert [frame.moment.seconds for frame in frames] == pytest.approx([1.6 + i / 25 for i in range(50)], abs=0.002)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[:-2000])
    assert "broken off" in read(cut)[1]


def write_sound_and_pictures(path: Path, *, sound_seconds: float, first_picture: float, count: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        packets = []
        for i in range(round(10 * sound_seconds)):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 8000, 800 * i, Fraction(1, 8000)
            packets += [(i / 10, packet) for packet in sound.encode(samples)]
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(level(50 + i), format="rgb24")
            frame.pts, frame.time_base = round(25 * first_picture) + i, Fraction(1, 25)
            packets += [(first_picture + i / 25, packet) for packet in stream.encode(frame)]
        packets += [(1e9, packet) for packet in [*stream.encode(None), *sound.encode(None)]]
        for _, packet in sorted(packets, key=lambda one: one[0]):
            container.mux(packet)


def test_a_clock_that_steps_back_an_hour_moves_no_event(tmp_path: Path) -> None:
    """Two broadcasts, one after the other; the second one's clock is an hour behind."""
    early = write_video(tmp_path / "early.ts", [level(50)] * 50, muxdelay="0")
    late = write_video(tmp_path / "late.ts", [level(50)] * 50, output_ts_offset="3600")
    both = tmp_path / "both.ts"
    for first, second in ((late, early), (early, late)):
        both.write_bytes(first.read_bytes() + second.read_bytes())
        source = VideoSource(str(both), live=False)
        source.open()
        times: list[float] = []
        with pytest.raises(SourceError, match="damaged"):  # the counters of its packets don't fit, either
            times.extend(frame.moment.seconds for frame in source.frames())
        assert times[:50] == pytest.approx([i / 25 for i in range(50)])
        assert times == sorted(times)
        assert times[-1] < 5


def test_a_recording_without_an_end_is_read_as_it_is(tmp_path: Path) -> None:
    """Streamed Matroska states no sizes: nobody can tell where it should end."""
    path = write_video(tmp_path / "a.mkv", [level(i) for i in range(50)], live="1")
    assert missing_bytes(path) == 0
    assert is_intact_matroska(path) is None
    assert len(read(path)[0]) == 50


@pytest.mark.parametrize(
    "data", [b"", b"x", b"RIFF", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x00", b"G" * 189, b"\0" * 50]
)
def test_anything_can_be_asked_for_its_end(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert 0 <= missing_bytes(tmp_path / "a") <= 1 << 20
    assert not is_intact_matroska(tmp_path / "a")
    is_intact_ts(tmp_path / "a")


@pytest.mark.parametrize("fps", [1.0, 4.9, 10.0, 24.0, 25.0, 1000.0])
@pytest.mark.parametrize("cut", [False, True])
async def test_frames_of_a_file_add_up_at_every_rate(whole: Path, fps: float, cut: bool) -> None:
    """Read = skipped + given, exactly; none is dropped."""
    path = whole
    if cut:
        path = whole.with_stem("part")
        path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    source = VideoSource(str(path), live=False)
    reader = FrameReader(source, fps, print, SystemClock())
    await reader.open()
    given: list[Frame] = []
    with pytest.raises(SourceError) if cut else contextlib.nullcontext():
        while frame := await reader.next():
            given.append(frame)
    counts = reader.counts
    assert counts.read == counts.skipped + counts.given
    assert (counts.dropped, counts.waiting, counts.given) == (0, 0, len(given))
    if not cut:
        assert counts.read == FRAMES
        assert counts.given == (FRAMES if fps >= 25 else len({int(i / 25 * fps + 1e-6) for i in range(FRAMES)}))
