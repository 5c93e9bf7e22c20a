"""Reading frames of files, folders and streams, and the messages for those that can't be read."""

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from oneglance_apps.clock import SystemClock
from oneglance_apps.frames.frame import EncodedFrame, Frame
from oneglance_apps.frames.moment import Moment
from oneglance_apps.frames.pace import FilePace
from oneglance_apps.frames.source_error import SourceError
from oneglance_apps.frames.sources import source_from
from oneglance_apps.frames.video import VideoSource
from oneglance_apps.watch.frame_reader import FrameReader, ReadCounts
from tests.apps.watch.videos import level, write_video
from tests.waiting import reached


def read(path: Path | str, fps: float = 5) -> list[Frame]:
    source = source_from(str(path), fps)
    source.open()
    pace = FilePace(fps)
    return [frame for frame in source.frames() if pace.due(frame.moment.seconds)]


def decoded(encoded: EncodedFrame) -> Image.Image:
    return Image.open(io.BytesIO(encoded.data)).convert("RGB")


def test_a_file_is_read_whole_at_the_rate_asked_for(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [level(5 * i) for i in range(50)])
    frames = read(video)
    assert [f.moment.seconds for f in frames] == pytest.approx([i / 5 for i in range(10)])
    assert [f.moment.frame for f in frames] == [5 * i for i in range(10)]
    assert all(f.moment.time is None for f in frames)
    # The frames themselves, in order.
    levels = [np.asarray(decoded(f.encoded(1000))).mean() for f in frames]
    assert levels == pytest.approx([25 * i for i in range(10)], abs=6)
    assert len(read(video, fps=1000)) == 50


def test_variable_frame_rate_goes_by_the_times(tmp_path: Path) -> None:
    times = [0, 0.05, 0.1, 0.2, 1.0, 1.01, 1.02, 1.03, 3.5]
    video = write_video(tmp_path / "a.mkv", [level(100)] * len(times), times=times)
    assert [f.moment.seconds for f in read(video)] == pytest.approx([0, 0.2, 1.0, 3.5])
    assert [f.moment.seconds for f in read(video, fps=1000)] == pytest.approx(times)


def test_a_video_that_does_not_start_at_zero_counts_from_its_first_frame(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", [level(100)] * 3, times=[7.0, 7.5, 8.0])
    assert [f.moment.seconds for f in read(video)] == pytest.approx([0, 0.5, 1.0])


@pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (1, 0)), (-90, (0, 1)), (180, (1, 1))])
def test_rotated_phone_videos_stand_upright(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    picture = level(0, 48, 96)
    picture[:24, :48] = 255  # upper left
    video = write_video(tmp_path / "a.mp4", [picture] * 3, rotation=rotation)
    image = np.asarray(decoded(read(video)[0].encoded(1000)))
    assert image.shape[:2] == ((96, 48) if rotation in (90, -90) else (48, 96))
    quarters = image.reshape(2, image.shape[0] // 2, 2, image.shape[1] // 2, 3).mean(axis=(1, 3, 4))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == corner


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [level(100, 48, 64)] * 3, aspect=Fraction(3, 2))
    encoded = read(video)[0].encoded(1000)
    assert decoded(encoded).size == (96, 48)
    assert encoded.scale_x == pytest.approx(64 / 96)
    assert encoded.scale_y == 1
    rotated = write_video(tmp_path / "b.mp4", [level(100, 48, 64)] * 3, aspect=Fraction(3, 2), rotation=90)
    assert decoded(read(rotated)[0].encoded(1000)).size == (48, 96)


def test_large_frames_are_shrunk_and_small_ones_never_enlarged(tmp_path: Path) -> None:
    frame = read(write_video(tmp_path / "a.mp4", [level(100, 100, 400)] * 2))[0]
    small = frame.encoded(200)
    assert decoded(small).size == (200, 50)
    assert (small.scale_x, small.scale_y) == (2.0, 2.0)
    assert decoded(frame.encoded(2000)).size == (400, 100)
    assert decoded(frame.encoded(1)).size == (1, 1)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("ffv1", "gray"), ("ffv1", "gray16le"), ("png", "rgba"), ("qtrle", "argb")]
)
def test_gray_and_alpha_are_frames_like_others(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    video = write_video(
        tmp_path / ("a.mkv" if codec == "ffv1" else "a.mov"), [level(200)] * 3, codec=codec, pix_fmt=pix_fmt
    )
    image = decoded(read(video)[0].encoded(1000))
    assert np.asarray(image).mean() == pytest.approx(200, abs=4)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, side in (("b.png", 30), ("a.jpg", 20), ("c.PNG", 400), ("notes.txt", 10)):
        Image.new("RGB", (side, 2 * side), "red").save(tmp_path / name, "JPEG" if name == "a.jpg" else "PNG")
    frames = read(tmp_path)
    assert [f.moment for f in frames] == [
        Moment(i, i / 5, picture=p) for i, p in enumerate(["a.jpg", "b.png", "c.PNG"])
    ]
    a, _, c = [f.encoded(100) for f in frames]
    assert a == EncodedFrame((tmp_path / "a.jpg").read_bytes())  # as it is
    assert decoded(c).size == (50, 100)
    assert (c.scale_x, c.scale_y) == (8.0, 8.0)


def test_odd_pictures_of_a_folder_reach_the_server_too(tmp_path: Path) -> None:
    turned = Image.new("RGB", (400, 200), "white")
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "a.jpg", exif=turned.getexif())
    Image.new("RGBA", (400, 200), (0, 0, 0, 0)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    Image.new("I;16", (400, 200), 30000).save(tmp_path / "d.png")
    (tmp_path / "e.png").mkdir()
    a, b, c, d, e = read(tmp_path)
    assert decoded(a.encoded(100)).size == (50, 100)
    assert np.asarray(decoded(b.encoded(100))).min() == 255  # transparency on white
    assert c.encoded(100).data == b"no picture"
    sixteen = decoded(d.encoded(100))
    assert sixteen.size == (100, 50)
    assert abs(np.asarray(sixteen).astype(int) - 30000 / 257).max() <= 1  # 16 bits to 8, as the server does it
    with pytest.raises(OSError, match="directory"):
        e.encoded(100)


def broken_files(folder: Path) -> Iterator[tuple[Path, str]]:
    whole = write_video(folder / "whole.mp4", [level(i) for i in range(100)], movflags="faststart").read_bytes()
    late_index = write_video(folder / "late.mp4", [level(i) for i in range(100)]).read_bytes()
    for name, data, words in (
        ("cut.mp4", whole[: len(whole) * 2 // 3], "broken off"),
        ("no-index.mp4", late_index[: len(late_index) * 2 // 3], "can't be opened as a video"),
        ("text.mp4", b"hello " * 1000, "can't be opened as a video"),
        ("empty.mp4", b"", "can't be opened as a video"),
    ):
        (folder / name).write_bytes(data)
        yield folder / name, words
    yield folder / "missing.mp4", "there is no such file or folder"
    with av.open(str(folder / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    yield folder / "sound.wav", "there is no video in it"
    (folder / "folder").mkdir()
    yield folder / "folder", "no pictures in this folder"


def test_what_can_not_be_read_is_said_in_words(tmp_path: Path) -> None:
    for path, words in broken_files(tmp_path):
        with pytest.raises(SourceError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_a_file_cut_short_gives_the_frames_it_has(tmp_path: Path) -> None:
    cut = next(path for path, words in broken_files(tmp_path) if words == "broken off")
    source = source_from(str(cut), 5)
    source.open()
    frames: list[Frame] = []
    with pytest.raises(SourceError, match=r"only \d\.\d s of 4\.0 s"):
        frames.extend(frame for frame in source.frames() if frame.moment.frame % 5 == 0)  # and then the error
    seconds = [frame.moment.seconds for frame in frames]
    assert seconds == pytest.approx([i / 5 for i in range(len(seconds))])
    assert 5 <= len(seconds) < 20


def test_damaged_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", [level(5 * i) for i in range(50)], codec="png", pix_fmt="rgb24")
    data = bytearray(path.read_bytes())
    at = [i for i in range(len(data) - 4) if data[i : i + 4] == b"IHDR"]
    data[at[10] : at[10] + 4] = b"XXXX"
    path.write_bytes(data)
    source = source_from(str(path), 25)
    source.open()
    assert isinstance(source, VideoSource)
    with pytest.raises(SourceError, match="damaged: 1 damaged packet, 1 frame missing") as caught:
        for number, _ in enumerate(source.frames()):  # noqa: B007
            pass
    assert number == 48
    assert caught.value.reason == "damaged"
    assert (source.damaged, source.missing) == (1, 1)


def test_cameras_and_urls() -> None:
    camera = source_from("7", 5)
    assert (camera.name, camera.live) == ("/dev/video7", True)
    with pytest.raises(SourceError, match="there is no such camera"):
        camera.open()
    stream = source_from("rtsp://guard:secret@127.0.0.1:9/door", 5)
    assert (stream.name, stream.live) == ("rtsp://127.0.0.1:9/door", True)
    with pytest.raises(SourceError, match="can't be opened") as caught:
        stream.open()
    assert "secret" not in str(caught.value)
    web = source_from("http://127.0.0.1:9/x?user=guard&password=secret", 5)
    assert (web.name, web.live) == ("http://127.0.0.1:9/x?***", False)


@pytest.mark.parametrize("url", ["rtsp://guard:secret@[::1/x", "rtsp://guard:se/secret@h/x", "http://[secret@x"])
def test_urls_that_are_none_are_said_without_their_secrets(url: str) -> None:
    with pytest.raises(SourceError, match="can't be opened") as caught:
        source_from(url, 5).open()
    assert "secret" not in str(caught.value)


class Camera(BaseHTTPRequestHandler):
    """An IP camera: JPEG after JPEG over HTTP, 100 a second, each with its number as gray level; hangs up after
    ``length``."""

    length = 20

    def picture(self, number: int) -> Image.Image:
        return Image.new("RGB", (64, 48), (number, number, number))

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for i in range(self.length):
            buffer = io.BytesIO()
            self.picture(i).save(buffer, "JPEG")
            data = buffer.getvalue()
            try:
                self.wfile.write(b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
            except OSError:
                return
            time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a server on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_proxy")
async def test_a_live_source_gives_the_newest_frame_and_comes_back_when_it_breaks() -> None:
    told: list[str] = []
    with serving(Camera) as url:
        source = source_from(url, 1000)
        reader = FrameReader(source, 1000, told.append, SystemClock())
        await reader.open()
        assert source.live
        first = await reader.next()
        before = reader.counts.dropped  # those before the first
        await reached(lambda: reader.counts.dropped > before)
        dropped = reader.counts.dropped - before
        second = await reader.next()
        assert first is not None
        assert second is not None
        assert second.moment.frame > first.moment.frame + 1
        assert 0 < dropped < second.moment.frame - first.moment.frame  # those due, and not taken
        assert second.moment.time is not None
        assert second.moment.seconds > first.moment.seconds
        # 20 frames a connection: later ones come over a new one.
        frame = second
        while frame.moment.frame < 25:
            following = await reader.next()
            assert following is not None
            frame = following
        assert any("trying again" in words for words in told)
        waiting = asyncio.create_task(reader.next())
        reader.close()
        await waiting
        assert await reader.next() is None


async def test_a_file_waits_for_its_reader(tmp_path: Path) -> None:
    reader = FrameReader(
        source_from(str(write_video(tmp_path / "a.mp4", [level(9)] * 30)), 25), 25, print, SystemClock()
    )
    await reader.open()
    numbers = []
    while (frame := await reader.next()) is not None:
        await asyncio.sleep(0.002)
        numbers.append(frame.moment.frame)
    assert numbers == list(range(30))
    assert reader.counts == ReadCounts(read=30, given=30)


async def test_a_feed_hands_on_what_went_wrong(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        await FrameReader(source_from(str(tmp_path / "missing"), 5), 5, print, SystemClock()).open()
    cut = next(path for path, words in broken_files(tmp_path) if words == "broken off")
    reader = FrameReader(source_from(str(cut), 5), 5, print, SystemClock())
    await reader.open()
    for _ in range(5):
        assert await reader.next() is not None

    async def read_on() -> None:
        while await reader.next():
            pass

    with pytest.raises(SourceError, match="broken off"):
        await read_on()
