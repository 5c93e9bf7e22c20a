"""``oneglance stylize`` of a folder: what it mirrors, and what it must never replace."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from oneglance import Client
from oneglance.client.errors import ResourceExhaustedError
from oneglance_apps.cli import main
from oneglance_apps.repaint import folder
from oneglance_server.app import Server
from oneglance_server.engines.stylizer import Stylizer
from tests.apps.repaint.stylizing import MOSS, Capture, Run, left_behind, names, noise, pixels
from tests.pictures import png
from tests.running import server_thread
from tests.style_models import style_model
from tests.waiting import PATIENCE_SECONDS


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
