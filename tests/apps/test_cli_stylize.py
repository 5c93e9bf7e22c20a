"""``oneglance stylize`` with a real server and a tiny stylizer: its outputs, and what it must never leave."""

import argparse
import io
import itertools
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from oneglance import Client
from oneglance.client.errors import ResourceExhaustedError
from oneglance_apps.cli import main
from oneglance_apps.cli.main import parser
from oneglance_apps.repaint import folder, parts_writer
from oneglance_core.progress import Progress
from oneglance_server.app import Server
from oneglance_server.engines.stylizer import Stylizer
from tests.apps.watch.videos import Picture, write_video
from tests.pictures import png
from tests.running import server_thread
from tests.style_models import style_model, tinted
from tests.waiting import PATIENCE_SECONDS, until

Capture = pytest.CaptureFixture[str]
Run = Callable[..., int]
MOSS = ("--style", "moss")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("stylize")
    with server_thread(data_dir=root / "data", models=(style_model(root / "tints"),)) as running:
        yield running


@pytest.fixture
def run(server: Server) -> Run:
    return lambda *words: main(["stylize", "--server", server.address, *map(str, words)])


def noise(seed: int, height: int = 48, width: int = 64) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blobs(seed: int, height: int = 48, width: int = 64) -> Picture:
    """A smooth picture, which a video codec keeps well."""
    small = Image.fromarray(noise(seed, 4, 5))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def pixels(path: Path) -> Picture:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def left_behind(path: Path) -> list[str]:
    return sorted(p.name for p in path.rglob("*") if p.name.endswith(".part"))


def test_a_picture_comes_out_as_the_stylizer_computes_it(run: Run, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in.png").write_bytes(png(noise(0, 64, 64)))
    assert run(tmp_path / "in.png", tmp_path / "out.png", *MOSS) == 0
    expected, _ = tinted(noise(0, 64, 64), [0, 1, 0, 0])
    assert np.abs(pixels(tmp_path / "out.png") - expected).max() <= 1
    line = capsys.readouterr().out
    assert line.startswith(f"{tmp_path}/out.png: 64 x 64 png, by stylizer ")
    assert line.endswith(" on CPUExecutionProvider\n")
    assert run(tmp_path / "in.png", tmp_path / "half.png", "--style", "ember=0.25", "--style", "moss=0.75") == 0
    expected, _ = tinted(noise(0, 64, 64), [0.25, 0.75, 0, 0])
    assert np.abs(pixels(tmp_path / "half.png") - expected).max() <= 1
    assert run(tmp_path / "in.png", tmp_path / "equal.png", "--style", "ember", "--style", "moss") == 0
    expected, _ = tinted(noise(0, 64, 64), [0.5, 0.5, 0, 0])
    assert np.abs(pixels(tmp_path / "equal.png") - expected).max() <= 1
    assert run(tmp_path / "in.png", tmp_path / "none.png", *MOSS, "--strength", "0") == 0
    assert (pixels(tmp_path / "none.png") == noise(0, 64, 64)).all()
    assert run(tmp_path / "in.png", tmp_path / "kept.png", *MOSS, "--keep-colors") == 0
    assert not (pixels(tmp_path / "kept.png") == pixels(tmp_path / "out.png")).all()
    assert not left_behind(tmp_path)


def test_the_name_says_the_format(run: Run, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in.png").write_bytes(png(noise(0)))
    for name, told in (
        ("o.jpg", "JPEG"),
        ("o.JPEG", "JPEG"),
        ("o.webp", "WEBP"),
        ("o.png", "PNG"),
        ("new/o.png", "PNG"),
    ):
        assert run(tmp_path / "in.png", tmp_path / name, *MOSS, "--json") == 0
        with Image.open(tmp_path / name) as picture:
            assert picture.format == told
        line = json.loads(capsys.readouterr().out)
        assert (line["in"], line["out"]) == (str(tmp_path / "in.png"), str(tmp_path / name))
        assert (line["format"], line["width"], line["tiles"]) == (f"PICTURE_FORMAT_{told}", 64, 1)
        assert "image" not in line
    low, high = tmp_path / "low.jpg", tmp_path / "high.jpg"
    assert run(tmp_path / "in.png", low, *MOSS, "--quality", "10") == 0
    assert run(tmp_path / "in.png", high, *MOSS, "--quality", "100") == 0
    assert low.stat().st_size < high.stat().st_size
    assert run(tmp_path / "in.png", tmp_path / "small.png", *MOSS, "--max-side", "32") == 0
    assert pixels(tmp_path / "small.png").shape == (24, 32, 3)
    (tmp_path / "there").mkdir()
    assert run(tmp_path / "in.png", tmp_path / "there", *MOSS) == 0
    assert (tmp_path / "there" / "in.png").is_file()
    assert run(tmp_path / "in.png", tmp_path / "plain", *MOSS, "--format", "webp") == 0
    with Image.open(tmp_path / "plain") as picture:
        assert picture.format == "WEBP"


def test_stdin_and_stdout(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    given = io.BytesIO()
    Image.fromarray(noise(0)).save(given, "WEBP")
    given.seek(0)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(given))
    assert run("-", "-", *MOSS) == 0
    out, words = capfdbinary.readouterr()
    with Image.open(io.BytesIO(out)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (64, 48))
    assert words.startswith(b"-: 64 x 48 webp")
    (tmp_path / "in.png").write_bytes(png(noise(0)))
    assert run(tmp_path / "in.png", "-", *MOSS, "--format", "jpeg") == 0
    assert capfdbinary.readouterr().out.startswith(b"\xff\xd8")


def test_what_is_there_is_not_replaced_unasked(run: Run, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in.png").write_bytes(png(noise(0)))
    (tmp_path / "out.png").write_text("precious")
    assert run(tmp_path / "in.png", tmp_path / "out.png", *MOSS) == 2
    assert "out.png: exists; --overwrite replaces it" in capsys.readouterr().err
    assert (tmp_path / "out.png").read_text() == "precious"
    assert run(tmp_path / "in.png", tmp_path / "out.png", *MOSS, "--overwrite") == 0
    assert pixels(tmp_path / "out.png").shape == (48, 64, 3)
    # A picture is never replaced by its own stylization.
    (tmp_path / "link.png").symlink_to(tmp_path / "in.png")
    for out in ("in.png", "link.png"):
        assert run(tmp_path / "in.png", tmp_path / out, *MOSS, "--overwrite") == 2
        assert "would replace what it is made of" in capsys.readouterr().err
    assert (pixels(tmp_path / "in.png") == noise(0)).all()


def test_what_the_server_refuses_leaves_nothing(run: Run, server: Server, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in.png").write_bytes(png(noise(0)))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "out.png"
    for words, told in (
        (("in.png", "--style", "nope"), "NOT_FOUND [STYLE_NOT_FOUND]: no style 'nope'; there are ember, moss"),
        (("in.png", "--style", "moss=0.5", "--style", "ember=0.4"), "must sum to 1, not 0.9"),
        (("in.png", *MOSS, "--stylizer", "other"), "NOT_FOUND [MODEL_NOT_FOUND]"),
        (("in.png", *MOSS, "--strength", "2"), "settings.strength"),
        (("bad.png", *MOSS), "INVALID_ARGUMENT [IMAGE_UNDECODABLE]"),
    ):
        assert run(tmp_path / words[0], out, *words[1:]) == 1, words
        assert told in capsys.readouterr().err
    assert run(tmp_path / "in.png", out, "--style", "nope", "--json") == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "STYLE_NOT_FOUND"
    assert main(["stylize", str(tmp_path / "in.png"), str(out), *MOSS, "--server", "127.0.0.1:1"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.png", "in.png"]


def test_misuse_is_told_before_anything_is_sent(run: Run, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in.png").write_bytes(png(noise(0)))
    (tmp_path / "in.avi").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for source, out, given, told in (
        ("none.png", "o.png", MOSS, "no such picture, folder or video"),
        ("in.png", "o.tiff", MOSS, "a picture that is written ends in .png, .jpg, .jpeg, .webp"),
        ("in.png", "o", MOSS, "a picture that is written ends in"),
        ("in.png", "o.jpg", (*MOSS, "--format", "png"), "its name says jpeg, --format says png"),
        ("in.avi", "o.jpg", MOSS, "is a video, so OUT ends in .mp4, .m4v, .mov, .mkv"),
        ("in.avi", "o.mp4", (*MOSS, "--format", "png"), "--format is of pictures"),
        ("empty", "o", MOSS, "no pictures in it"),
        ("empty", "o.mp4", MOSS, "so OUT is a folder, too"),
        ("empty", "empty", MOSS, "name another folder"),
        ("in.png", "o.png", ("--style", "moss", "--style", "moss"), "the same style twice"),
        ("in.png", "o.png", ("--style", "moss=1", "--style", "ember"), "give every style a weight, or none"),
    ):
        assert run(tmp_path / source, tmp_path / out, *given) == 2, told
        assert told in capsys.readouterr().err
    wrong: tuple[tuple[str, ...], ...] = (("--style", "moss=much"), ("--in-flight", "0", *MOSS), ())
    for words in wrong:
        with pytest.raises(SystemExit) as caught:
            run(tmp_path / "in.png", tmp_path / "o.png", *words)
        assert caught.value.code == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "in.avi", "in.png"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven picture files, one of them not a picture; a text; and a hidden picture."""
    root = tmp_path / "photos"
    (root / "a" / "b").mkdir(parents=True)
    (root / ".hidden").mkdir()
    for i in range(4):
        (root / "a" / "b" / f"{i}.png").write_bytes(png(noise(i)))
    (root / "a" / "bad.jpg").write_bytes(b"no picture")
    Image.fromarray(noise(4)).save(root / "4.JPG")
    Image.fromarray(noise(5)).save(root / "5.bmp")
    (root / "notes.txt").write_text("")
    (root / ".hidden" / "6.png").write_bytes(png(noise(6)))
    return root


def names(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def test_a_folder_is_mirrored_and_a_bad_picture_holds_nothing_up(
    run: Run, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert run(photos, out, *MOSS) == 1
    told = capsys.readouterr()
    assert names(out) == ["4.JPG", "5.png", "a/b/0.png", "a/b/1.png", "a/b/2.png", "a/b/3.png"]
    assert len(told.out.splitlines()) == 6
    assert f"oneglance: {photos}/a/bad.jpg: not a picture" in told.err
    assert "6 stylized" in told.err
    assert "; 1 failed; 1 other files left out" in told.err
    for i in range(4):
        expected = tmp_path / f"{i}.png"
        assert run(photos / "a" / "b" / f"{i}.png", expected, *MOSS) == 0
        assert (pixels(out / "a" / "b" / f"{i}.png") == pixels(expected)).all()
    with Image.open(out / "4.JPG") as picture:
        assert picture.format == "JPEG"
    capsys.readouterr()
    # Again: what is there is left alone, and what is not is made up for.
    (out / "4.JPG").write_text("precious")
    (out / "5.png").unlink()
    assert run(photos, out, *MOSS, "--json") == 1
    told = capsys.readouterr()
    lines = {Path(line["in"]).name: line for line in map(json.loads, told.out.splitlines())}
    assert {name for name, line in lines.items() if line.get("skipped")} == {"4.JPG", *(f"{i}.png" for i in range(4))}
    assert lines["bad.jpg"]["error"]["reason"] == "IMAGE_UNDECODABLE"
    assert lines["5.bmp"]["out"] == f"{out}/5.png"
    assert "5 skipped" in told.err
    assert (out / "4.JPG").read_text() == "precious"
    (photos / "a" / "bad.jpg").unlink()
    assert run(photos, out, *MOSS, "--overwrite") == 0
    assert pixels(out / "4.JPG").shape == (48, 64, 3)


def test_outputs_below_their_inputs_are_not_stylized_again(run: Run, photos: Path) -> None:
    (photos / "a" / "bad.jpg").unlink()
    for _ in range(2):
        assert run(photos, photos / "painted", *MOSS, "--format", "jpeg", "--in-flight", "1") == 0
        made = ["painted/4.JPG", "painted/5.jpg", *(f"painted/a/b/{i}.jpg" for i in range(4))]
        assert [name for name in names(photos) if name.startswith("painted")] == made


def test_two_pictures_that_would_become_one_are_refused(
    run: Run, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    Image.fromarray(noise(5)).save(photos / "5.png")
    assert run(photos, tmp_path / "out", *MOSS) == 2
    assert "5.bmp and " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_output_takes_the_place_of_another_input(run: Run, tmp_path: Path, capsys: Capture) -> None:
    inputs = [tmp_path / "in" / "a.png", tmp_path / "in" / "in" / "a.png"]
    for seed, path in enumerate(inputs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(noise(seed)))
    before = [path.read_bytes() for path in inputs]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "in").symlink_to(inputs[1].parent)
    (tmp_path / "file").touch()
    for out, words in ((tmp_path, "to be stylized, too"), (tmp_path / "linked", "too"), (tmp_path / "file", "a file")):
        assert run(tmp_path / "in", out, *MOSS, "--overwrite") == 2
        assert words in capsys.readouterr().err
    assert [path.read_bytes() for path in inputs] == before


def test_names_that_stdout_has_no_letters_for_hold_nothing_up(server: Server, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("\u2603.png", os.fsdecode(b"\xff.png")):
        (tmp_path / "in" / name).write_bytes(png(noise(0)))
    for encoding in ("utf-8:strict", "ascii:strict"):
        words = ["stylize", tmp_path / "in", tmp_path / encoding[:5], *MOSS, "--server", server.address]
        done = subprocess.run(
            [sys.executable, "-m", "oneglance_apps.cli", *map(str, words)],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr


def test_what_no_picture_survives_ends_a_folder_at_once(
    run: Run, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    for words, told in (
        (("--style", "nope"), "STYLE_NOT_FOUND"),
        (("--style", "moss=0.2"), "WEIGHTS_INVALID"),
        ((*MOSS, "--server", "127.0.0.1:1"), "UNAVAILABLE"),
    ):
        assert run(photos, tmp_path / "out", *words, "--in-flight", "1") == 1
        err = capsys.readouterr().err
        assert err.count(told) == 1
        assert " not done" in err
    assert not (tmp_path / "out").exists()


def test_a_full_queue_is_waited_for(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen calls at the same time, to a server with a queue of two."""
    monkeypatch.setattr("oneglance_apps.repaint.picture.PAUSE_SECONDS", 0.02)
    for i in range(30):
        (photos / f"more-{i}.png").write_bytes(png(noise(i)))
    (photos / "a" / "bad.jpg").unlink()
    refused = threading.Event()  # nothing is painted before
    stylize, paint = Client.stylize, Stylizer.run

    def noted(*words: Any, **more: Any) -> Any:
        try:
            return stylize(*words, **more)
        except ResourceExhaustedError:
            refused.set()
            raise

    def held(*words: Any) -> Any:
        assert refused.wait(PATIENCE_SECONDS)
        return paint(*words)

    monkeypatch.setattr(Client, "stylize", noted)
    monkeypatch.setattr(Stylizer, "run", held)
    model = style_model(tmp_path / "tints")
    with server_thread(data_dir=tmp_path / "data", models=(model,), stylize_queue=2) as small:
        command = ["stylize", str(photos), str(tmp_path / "out"), *MOSS, "--server", small.address]
        assert main([*command, "--in-flight", "16"]) == 0
    assert len(names(tmp_path / "out")) == 36
    assert refused.is_set()


def test_ctrl_c_in_a_folder_leaves_whole_pictures(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    told: list[folder.TaskResult] = []

    def interrupt(result: folder.TaskResult, *rest: object) -> None:
        told.append(result)
        if len(told) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("oneglance_apps.cli.stylize._print_result", interrupt)
    assert run(photos, tmp_path / "out", *MOSS, "--in-flight", "1") == 130
    assert " not done" in capsys.readouterr().err
    assert not left_behind(tmp_path)
    made = names(tmp_path / "out")
    assert 0 < len(made) < 6
    assert all(pixels(tmp_path / "out" / name).size for name in made)


def read_video(path: Path) -> tuple[Any, list[Picture], list[float]]:
    """The stream of a video, its frames and their times."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name == "h264"
        return (
            stream,
            [np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in frames],
            [float(f.time) for f in frames],
        )


def test_every_frame_of_a_video_is_repainted_at_its_time(run: Run, tmp_path: Path, capsys: Capture) -> None:
    frames = [blobs(i // 10, 47, 63) for i in range(25)]
    write_video(tmp_path / "in.mkv", frames, fps=10, codec="ffv1", pix_fmt="bgr0")
    out = tmp_path / "out.mp4"
    assert run(tmp_path / "in.mkv", out, *MOSS, "--steadiness", "0", "--json") == 0
    told = capsys.readouterr()
    line = json.loads(told.out)
    assert (line["frames"], line["width"], line["height"], line["seconds"]) == (25, 64, 48, 2.4)
    assert line["sound"] is None
    assert "25 frames in" in told.err
    stream, got, times = read_video(out)
    assert (stream.width, stream.height, len(got), stream.average_rate) == (64, 48, 25, 10)
    assert times == pytest.approx([i / 10 for i in range(25)], abs=1e-3)
    # What the frames show: the middle, as edges are lengthened to the stylizer's multiples, within what H.264 keeps.
    for i in (0, 15, 24):
        still = tmp_path / f"{i}.png"
        still.write_bytes(png(frames[i]))
        assert run(still, tmp_path / f"{i}-out.png", *MOSS) == 0
        error = got[i][8:40, 8:56].astype(float) - pixels(tmp_path / f"{i}-out.png")[8:40, 8:56]
        assert np.abs(error).mean() < 8
    assert np.abs(got[0].astype(float) - got[15]).mean() > 8
    assert not left_behind(tmp_path)


def test_uneven_times_and_the_largest_side(run: Run, tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.55, 2.0]
    write_video(tmp_path / "in.mkv", [blobs(i) for i in range(5)], times=times)
    assert run(tmp_path / "in.mkv", tmp_path / "out.mkv", *MOSS, "--max-side", "30") == 0
    stream, got, at = read_video(tmp_path / "out.mkv")
    assert (stream.width, stream.height, len(got)) == (30, 22, 5)
    assert at == pytest.approx(times, abs=2e-3)


def write_sound(path: Path, codec: str, video: str = "mpeg4", frames: int = 20) -> None:
    """A video of 20 frames a second: gray pictures, and a tone of one second."""
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream(video, rate=20)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream(codec, rate=48_000)
        sound.layout, sound.bit_rate = "mono", 96_000
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * i % 250, np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        tone = (8000 * np.sin(np.arange(48_000) * 2 * np.pi * 440 / 48_000)).astype(np.int16)[np.newaxis]
        for at in range(0, 48_000, 1024):
            part = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone[:, at : at + 1024]), "s16", "mono")
            part.sample_rate, part.pts, part.time_base = 48_000, at, Fraction(1, 48_000)
            container.mux(sound.encode(part))
        container.mux(pictures.encode(None))
        container.mux(sound.encode(None))


def test_sound_is_copied_where_the_container_holds_it(run: Run, tmp_path: Path, capsys: Capture) -> None:
    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    write_sound(tmp_path / "in.mp4", "aac")
    assert run(tmp_path / "in.mp4", tmp_path / "out.mp4", *MOSS, "--json") == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True
    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "in.mp4")
    assert len(read_video(tmp_path / "out.mp4")[1]) == 20
    write_sound(tmp_path / "in.mkv", "flac")
    assert run(tmp_path / "in.mkv", tmp_path / "out.mov", *MOSS) == 0
    assert "the sound is left out, .mov can't hold it" in capsys.readouterr().err
    assert len(read_video(tmp_path / "out.mov")[1]) == 20


def test_a_video_that_breaks_off_becomes_what_can_be_read(run: Run, tmp_path: Path, capsys: Capture) -> None:
    whole = write_video(tmp_path / "in.mp4", [blobs(i) for i in range(50)], fps=10, movflags="faststart")
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert run(whole, tmp_path / "out.mp4", *MOSS) == 1
    assert "broken off" in capsys.readouterr().err
    assert 5 < len(read_video(tmp_path / "out.mp4")[1]) < 40
    (tmp_path / "none.mp4").write_bytes(b"no video")
    assert run(tmp_path / "none.mp4", tmp_path / "no.mp4", *MOSS) == 1
    assert "can't be opened as a video" in capsys.readouterr().err
    assert not (tmp_path / "no.mp4").exists()
    assert not left_behind(tmp_path)


def test_a_video_that_is_refused_leaves_nothing(run: Run, tmp_path: Path, capsys: Capture) -> None:
    write_video(tmp_path / "in.mp4", [blobs(0)] * 5)
    assert run(tmp_path / "in.mp4", tmp_path / "out.mp4", "--style", "nope") == 1
    assert "STYLE_NOT_FOUND" in capsys.readouterr().err
    assert run(tmp_path / "in.mp4", tmp_path / "out.mp4", *MOSS, "--steadiness", "1") == 1
    assert "steadiness" in capsys.readouterr().err
    assert names(tmp_path) == ["in.mp4"]
    assert run(tmp_path / "in.mp4", tmp_path / "in.mp4", *MOSS, "--overwrite") == 2


def test_ctrl_c_in_a_video_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "in.mp4", [blobs(i) for i in range(50)])
    parts: list[str] = []

    def interrupt(*words: object) -> None:
        parts.extend(left_behind(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "show", interrupt)
    assert run(tmp_path / "in.mp4", tmp_path / "out.mp4", *MOSS) == 130
    assert len(parts) == 1  # it was under way
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_kill_in_the_middle_leaves_no_half_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    write_video(tmp_path / "in.mp4", [noise(i % 7) for i in range(130)])  # of noise: some 5 kB a frame
    # The server paints enough frames for some to be written, but not the last ones before the program has ended.
    painted, ended = itertools.count(1), threading.Event()
    paint = Stylizer.run

    def held(*words: Any) -> Any:
        if next(painted) > 110:
            assert ended.wait(PATIENCE_SECONDS)
        return paint(*words)

    monkeypatch.setattr(Stylizer, "run", held)
    command = [sys.executable, "-m", "oneglance_apps.cli", "stylize", "--server", server.address, *MOSS]
    with subprocess.Popen(
        [*command, str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    ) as process:
        try:
            until(lambda: any(p.stat().st_size for p in tmp_path.glob(".*.part")) or process.poll() is not None)
            assert process.poll() is None
            process.send_signal(number)
            _, words = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            ended.set()
        assert process.returncode == status, words
    assert "Traceback" not in words
    assert not (tmp_path / "out.mp4").exists()
    if number != signal.SIGKILL:
        assert names(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("words", [(), ("--resume",)])
def test_a_full_disk_is_no_misuse(run: Run, tmp_path: Path, capsys: Capture, words: tuple[str, ...]) -> None:
    write_video(tmp_path / "in.mp4", [noise(i, 96, 128) for i in range(30)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # as on a disk with no more room
    try:
        status = run(tmp_path / "in.mp4", tmp_path / "out.mp4", *MOSS, *words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 1
    assert "File too large" in capsys.readouterr().err
    assert names(tmp_path) == ([".out.mp4.oneglance-parts/begun.json"] if words else []) + ["in.mp4"]


def test_a_killed_video_goes_on_and_becomes_the_same_file(
    server: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_sound(tmp_path / "in.mp4", "aac", frames=60)
    words = [*MOSS, "--resume", "--steadiness", "0.5", "--json"]
    painted, ended = itertools.count(1), threading.Event()
    paint = Stylizer.run

    def held(*given: Any) -> Any:
        if next(painted) > 47:
            assert ended.wait(PATIENCE_SECONDS)
        return paint(*given)

    code = "import sys; from oneglance_apps.repaint import parts_writer; parts_writer.PART_FRAMES = 10; "
    code += "from oneglance_apps.cli import main; sys.exit(main())"
    given = [sys.executable, "-c", code, "stylize", "--server", server.address, *words]
    parts = tmp_path / ".out.mp4.oneglance-parts"
    with monkeypatch.context() as patched:
        patched.setattr(Stylizer, "run", held)
        with subprocess.Popen(
            [*given, str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4")],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        ) as process:
            try:
                until(lambda: len(list(parts.glob("*.h264"))) == 4 or process.poll() is not None)
                assert process.poll() is None
                assert run(tmp_path / "in.mp4", tmp_path / "out.mp4", *words) == 2
                assert "another process is making it" in capsys.readouterr().err
                process.kill()
                process.communicate(timeout=PATIENCE_SECONDS)
            finally:
                ended.set()
    assert not (tmp_path / "out.mp4").exists()
    assert run(tmp_path / "in.mp4", tmp_path / "out.mp4", *words, "--strength", "0.5") == 2
    assert "was begun with other settings" in capsys.readouterr().err
    monkeypatch.setattr(parts_writer, "PART_FRAMES", 10)
    assert run(tmp_path / "in.mp4", tmp_path / "out.mp4", *words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["frames"], told["resumed"], told["sound"]) == (60, 40, True)
    assert run(tmp_path / "in.mp4", tmp_path / "whole.mp4", *words) == 0
    assert json.loads(capsys.readouterr().out)["resumed"] == 0
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert names(tmp_path) == ["in.mp4", "out.mp4", "whole.mp4"]
    assert run(tmp_path / "in.mp4", tmp_path / "usual.mp4", *MOSS, "--steadiness", "0.5") == 0
    (_, resumed, at), (_, usual, usually_at) = read_video(tmp_path / "out.mp4"), read_video(tmp_path / "usual.mp4")
    assert at == usually_at
    assert all(np.abs(a.astype(int) - b).mean() < 2 for a, b in zip(resumed, usual, strict=True))


def test_ctrl_c_keeps_what_is_to_be_resumed_and_another_stylizer_does_not_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_video(tmp_path / "in.mkv", [blobs(i) for i in range(30)], times=[i * i / 100 for i in range(30)])
    monkeypatch.setattr(parts_writer, "PART_FRAMES", 7)
    shown = itertools.count(1)

    def interrupt(*words: object) -> None:
        if next(shown) == 16:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "show", interrupt)
        assert run(tmp_path / "in.mkv", tmp_path / "out.mkv", *MOSS, "--resume") == 130
    begun = tmp_path / ".out.mkv.oneglance-parts" / "begun.json"
    kept = begun.read_text()
    begun.write_text(json.dumps({**json.loads(kept), "painted_by": "another"}))
    assert run(tmp_path / "in.mkv", tmp_path / "out.mkv", *MOSS, "--resume") == 2
    assert "another stylizer painted the begin of it" in capsys.readouterr().err
    begun.write_text(kept)
    assert run(tmp_path / "in.mkv", tmp_path / "out.mkv", *MOSS, "--resume") == 0
    assert "14 were painted before" in capsys.readouterr().err
    assert read_video(tmp_path / "out.mkv")[2] == pytest.approx([i * i / 100 for i in range(30)], abs=2e-3)
    assert names(tmp_path) == ["in.mkv", "out.mkv"]
    (tmp_path / "in.png").write_bytes(png(noise(0)))
    assert run(tmp_path / "in.png", tmp_path / "out.png", *MOSS, "--resume") == 2
    assert run(tmp_path / "in.mkv", tmp_path / "new.mkv", "--style", "nope", "--resume") == 1
    assert names(tmp_path) == ["in.mkv", "in.png", "out.mkv"]


def test_pictures_and_folders_need_the_bare_install_alone_and_a_video_says_what_it_needs(
    server: Server, photos: Path, tmp_path: Path
) -> None:
    (photos / "a" / "bad.jpg").unlink()
    write_video(tmp_path / "in.mp4", [blobs(0)] * 2)

    def bare(*words: object) -> subprocess.CompletedProcess[str]:
        absent = ("av", "PIL", "rich", "pydantic", "structlog", "jinja2", "onnxruntime", "faiss", "grpc_health")
        given = ["stylize", "--server", server.address, *map(str, words)]
        code = f"import sys; sys.modules.update(dict.fromkeys({absent})); from oneglance_apps.cli import main; "
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-c", f"{code}sys.exit(main({given}))"]
        return subprocess.run(command, capture_output=True, text=True, env=env)

    done = bare(photos, tmp_path / "out", *MOSS)
    assert done.returncode == 0, done.stderr
    assert len(names(tmp_path / "out")) == 6
    done = bare(tmp_path / "in.mp4", tmp_path / "out.mp4", *MOSS)
    assert done.returncode == 1
    assert "pip install 'oneglance[watch]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_styles_are_listed_for_people_and_programs(server: Server, capsys: Capture) -> None:
    assert main(["list-styles", "--server", server.address]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["ember", "moss", "slate", "inverse"]
    assert lines[0].startswith("ember: Ember; invented, CC0-1.0; stylizer tints ")
    assert main(["list-styles", "--server", server.address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[1])["title"] == "Moss"


def test_the_docs_tell_every_option_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "stylize.md").read_text()
    parts = dict(re.findall(r"^#+ (.+?)\n(.*?)(?=^#+ |\Z)", re.sub("(?m)  +#.*", "", page), re.MULTILINE | re.DOTALL))
    names = ("Pictures and videos in another style", "From the command line", "Video")
    text = "".join(parts[name] for name in names)
    told = re.findall(r"^(oneglance stylize .*?)(?:[<>].*)?$", text, re.MULTILINE)
    assert len(told) >= 8
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for line in told:
        options = parser().parse_args(shlex.split(line)[1:])
        assert options.style, line
    actions = commands.choices["stylize"]._actions
    flags = {flag for action in actions for flag in action.option_strings if flag.startswith("--")}
    mentioned = set(re.findall(r"(--[a-z][a-z-]+)", text))
    of_the_server = {"--server", "--ca", "--client-cert", "--client-key", "--token-file"}  # docs/security.md
    assert flags - mentioned == {"--help", *of_the_server}
    assert mentioned - flags == {"--models"}  # of serve
