"""``oneglance stylize`` of a video: its frames, their times, its sound."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from oneglance_apps.cli import main
from tests.apps.repaint.stylizing import (
    MOSS,
    Capture,
    Run,
    blobs,
    left_behind,
    names,
    pixels,
    read_video,
    write_sound,
)
from tests.apps.watch.videos import write_video
from tests.face_models import face_models, photo
from tests.pictures import png
from tests.running import server_thread


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


def test_faces_of_a_video_are_kept(tints: Path, tmp_path: Path) -> None:
    places, ember = (32, 40, 48), ("--style", "ember")
    frames = [photo({(x, 24): 1}) for x in places]
    write_video(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    settings = {"data_dir": tmp_path / "data", "models": (tints, face_models(tmp_path / "models")), "min_face": 10}
    with server_thread(**settings) as server:
        for share in ("0", "1"):
            words = ["--server", server.address, "--steadiness", "0", "--quality", "100", "--keep-faces", share]
            assert main(["stylize", str(tmp_path / "in.mkv"), str(tmp_path / f"{share}.mkv"), *ember, *words]) == 0
    painted, kept = (read_video(tmp_path / f"{share}.mkv")[1] for share in ("0", "1"))
    for i, x in enumerate(places):
        inside = np.s_[28:36, x + 4 : x + 12]
        assert np.abs(kept[i][inside].astype(float) - frames[i][inside]).mean() < 15
        assert np.abs(painted[i][inside].astype(float) - frames[i][inside]).mean() > 40


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
    assert run(tmp_path / "in.mp4", tmp_path / "out.mp4", *MOSS, "--keep-faces", "1") == 1
    assert "keep_faces needs a face detector" in capsys.readouterr().err
    assert names(tmp_path) == ["in.mp4"]
    assert run(tmp_path / "in.mp4", tmp_path / "in.mp4", *MOSS, "--overwrite") == 2
