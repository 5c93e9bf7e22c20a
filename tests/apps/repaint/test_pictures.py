"""``oneglance stylize`` of a picture, with a real server and a tiny stylizer."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneglance_apps.cli import main
from oneglance_server.app import Server
from tests.apps.repaint.stylizing import (
    MOSS,
    Capture,
    Run,
    left_behind,
    noise,
    pixels,
)
from tests.pictures import png
from tests.style_models import tinted


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
    assert run(tmp_path / "in.png", tmp_path / "bold.png", *MOSS, "--stroke-size", "2") == 0
    assert pixels(tmp_path / "bold.png").shape == pixels(tmp_path / "out.png").shape
    assert not (pixels(tmp_path / "bold.png") == pixels(tmp_path / "out.png")).all()
    capsys.readouterr()
    assert run(tmp_path / "in.png", tmp_path / "face.png", *MOSS, "--keep-faces", "1") == 1
    assert "keep_faces needs a face detector" in capsys.readouterr().err
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
        ("in.png", "o.png", (), "say in which style"),
        ("in.png", "o.png", ("--style-picture", "no.png"), "no.png"),
    ):
        assert run(tmp_path / source, tmp_path / out, *given) == 2, told
        assert told in capsys.readouterr().err
    wrong: tuple[tuple[str, ...], ...] = (("--style", "moss=much"), ("--in-flight", "0", *MOSS))
    for words in wrong:
        with pytest.raises(SystemExit) as caught:
            run(tmp_path / "in.png", tmp_path / "o.png", *words)
        assert caught.value.code == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "in.avi", "in.png"]
