"""``oneglance stylize`` of a video that is stopped, killed, without room, and resumed."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_apps.repaint import parts_writer
from oneglance_core.progress import Progress
from oneglance_server.app import Server
from oneglance_server.engines.stylizer import Stylizer
from tests.apps.repaint.stylizing import MOSS, Capture, Run, blobs, left_behind, names, noise, read_video, write_sound
from tests.apps.watch.videos import Picture, write_video
from tests.pictures import png
from tests.waiting import PATIENCE_SECONDS, until


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


@pytest.mark.parametrize("steadiness", ["0", "0.5"])
def test_a_killed_video_goes_on_and_becomes_what_it_would_have_become(
    server: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, steadiness: str
) -> None:
    write_sound(tmp_path / "in.mp4", "aac", frames=60)
    words = [*MOSS, "--resume", "--steadiness", steadiness, "--json"]
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
    assert names(tmp_path) == ["in.mp4", "out.mp4", "whole.mp4"]
    assert run(tmp_path / "in.mp4", tmp_path / "usual.mp4", *MOSS, "--steadiness", steadiness) == 0
    videos = [read_video(tmp_path / name) for name in ("out.mp4", "whole.mp4", "usual.mp4")]
    (_, resumed, at), (_, whole, whole_at), (_, usual, usually_at) = videos
    assert at == whole_at == usually_at
    if steadiness == "0":  # every pixel; libx264 writes the same pictures in a byte more or less now and then
        assert largest_difference(resumed, whole) == 0
    # What the server keeps of frames before is rounded: a number may round the other way after a second begin.
    assert largest_difference(resumed, whole) <= 0.05
    assert largest_difference(resumed, usual) < 2


def largest_difference(some: list[Picture], others: list[Picture]) -> float:
    """Mean difference of the two frames that differ most, in levels of 255."""
    return max(float(np.abs(a.astype(int) - b).mean()) for a, b in zip(some, others, strict=True))


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
