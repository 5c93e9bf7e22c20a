"""A stylized video loses nothing without a word: sound, subtitles, chapters and titles are copied, or named as left."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from oneglance_apps.frames.video import VideoSource
from oneglance_apps.repaint.files import VIDEO_CONTAINERS
from oneglance_apps.repaint.other_tracks import OtherTracks
from oneglance_apps.repaint.video_writer import VideoWriter
from tests.apps.watch.videos import level, write_video

FPS = 10
SECONDS = 2
SUBTITLE = """1
00:00:00,200 --> 00:00:00,900
hello

2
00:00:01,000 --> 00:00:01,800
again
"""


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A Matroska file with two sound tracks, subtitles, two chapters and a title; the pictures begin at 0.5 s."""
    (tmp_path / "a.srt").write_text(SUBTITLE)
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container, av.open(str(tmp_path / "a.srt")) as written:
        container.metadata["title"] = "The Gate"
        pictures: Any = container.add_stream("mpeg4", rate=FPS)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sounds: list[Any] = []
        for language in ("eng", "fra"):
            sound: Any = container.add_stream("aac", rate=8000, layout="mono")
            sound.metadata["language"] = language
            sounds.append(sound)
        subtitles: Any = container.add_stream_from_template(written.streams.subtitles[0])
        subtitles.metadata["language"] = "deu"
        base = Fraction(1, 1000)
        chapters: Any = [
            {"id": 1, "start": 0, "end": 1000, "time_base": base, "metadata": {"title": "Coming"}},
            {"id": 2, "start": 1000, "end": 2000, "time_base": base, "metadata": {"title": "Going"}},
        ]
        container.set_chapters(chapters)
        for packet in written.demux():
            if packet.dts is not None:
                packet.stream = subtitles
                container.mux(packet)
        for i in range(FPS * SECONDS):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i + FPS // 2, Fraction(1, FPS)
            container.mux(pictures.encode(frame))
            for sound in sounds:
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.float32), format="fltp", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 8000, 800 * i, Fraction(1, 8000)
                container.mux(sound.encode(samples))
        for stream in (pictures, *sounds):
            container.mux(stream.encode(None))
    return path


def written(source: Path, out: Path) -> OtherTracks:
    """The video with its own pictures, as the writer makes it."""
    video = VideoSource(str(source), live=False)
    video.open()
    with VideoWriter(out, VIDEO_CONTAINERS[out.suffix], source) as writer:
        for frame in video.frames():
            content: Any = frame.content
            writer.add(frame.encoded(1000).data, frame.moment.seconds, content.time, content.time_base)
        others = writer.end()
    assert others is not None
    return others


def spans(container: Any) -> list[tuple[float, float]]:
    """Begin and end of each chapter, in seconds."""
    return [(float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"])) for c in container.chapters()]


def test_everything_goes_into_matroska(film: Path, tmp_path: Path) -> None:
    others = written(film, tmp_path / "out.mkv")
    assert (others.left, others.has_sound) == ([], True)
    with av.open(str(film)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        assert after.metadata["title"] == "The Gate"
        assert [chapter["metadata"]["title"] for chapter in after.chapters()] == ["Coming", "Going"]
        assert spans(before) == spans(after) == [(0.0, 1.0), (1.0, 2.0)]
        kinds = [(s.type, s.metadata.get("language")) for s in after.streams]
        assert kinds == [("video", None), ("audio", "eng"), ("audio", "fra"), ("subtitle", "deu")]
        packets: dict[int, list[tuple[float, bytes]]] = {}
        for container in (before, after):
            for packet in container.demux():
                if packet.pts is not None and packet.stream.type != "video":
                    packets.setdefault(packet.stream.index, []).append(
                        (round(float(packet.pts * packet.time_base), 2), bytes(packet))
                    )
        for of_track in packets.values():
            half = len(of_track) // 2
            assert of_track[:half] == of_track[half:]  # the same, at the same times
    with av.open(str(tmp_path / "out.mkv")) as after:
        times = [frame.time for frame in after.decode(video=0)]
    assert times == pytest.approx([0.5 + i / FPS for i in range(FPS * SECONDS)], abs=0.002)


def test_what_mp4_can_not_hold_is_named(film: Path, tmp_path: Path) -> None:
    others = written(film, tmp_path / "out.mp4")
    assert others.left == ["subtitle srt (deu)"]
    assert others.has_sound is True
    with av.open(str(tmp_path / "out.mp4")) as after:
        assert [s.type for s in after.streams if s.type != "data"] == ["video", "audio", "audio"]
        assert after.metadata["title"] == "The Gate"
        assert len(after.chapters()) == 2


def hdr(code: float, curve: int) -> av.VideoFrame:
    """A gray BT.2020 frame of one level, in [0, 1] of its curve."""
    frame = av.VideoFrame(64, 48, "yuv420p10le")
    for i, plane in enumerate(frame.planes):
        plane.update(np.full(plane.buffer_size // 2, round(64 + code * 876) if i == 0 else 512, np.uint16).tobytes())
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = curve, 9, 9, 1
    return frame


def test_hdr_becomes_bt709() -> None:
    """PQ: 0.508 are 100 cd/m2, half of the white of paper. The tables for it, which take seconds, are made once."""
    from oneglance_apps.frames.frame import Frame, StandardColours
    from oneglance_apps.frames.moment import Moment

    colours = StandardColours()
    for code, curve, gray in ((0.508, 16, 189), (0.58, 16, 253), (0.75, 16, 255), (0.0, 16, 0), (0.508, 1, 129)):
        image = hdr(code, curve)
        if curve == 1:
            image.color_primaries = image.colorspace = 1
        data = Frame(Moment(0, 0.0), image, colours=colours).encoded(64).data
        assert np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).mean() == pytest.approx(gray, abs=3)


def test_the_frames_of_a_source_share_what_converts_them(film: Path) -> None:
    video = VideoSource(str(film), live=False)
    video.open()
    assert len({id(frame.colours) for frame in video.frames()}) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_video_of_uneven_rate_is_as_long_as_its_last_picture_is_shown(tmp_path: Path, suffix: str) -> None:
    times = [*(i / 25 for i in range(28)), 3.0, 5.0]
    source = write_video(tmp_path / "in.mp4", [level(8 * i) for i in range(30)], times=times)
    written(source, tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as after:
        assert after.duration is not None
        assert 5.0 <= after.duration / av.time_base < 5.5
        assert [frame.time for frame in after.decode(video=0)] == pytest.approx(times, abs=0.002)
