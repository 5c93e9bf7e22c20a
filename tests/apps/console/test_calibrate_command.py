"""``oneglance calibrate``: which pictures it takes, and what it prints about the others."""

import os
from pathlib import Path
from typing import Any

import pytest

from oneglance.v1.common_pb2 import Calibration
from oneglance.v1.error_pb2 import Error
from oneglance.v1.gallery_pb2 import CalibrateResponse, CalibrationProbe, SkippedProbe
from oneglance_apps.cli import main
from oneglance_apps.cli.main import parser

Capture = pytest.CaptureFixture[str]


class Calibrator:
    """A client whose server skips ``skipped`` probes and reports the first of them."""

    def __init__(self, skipped: int = 0) -> None:
        self.probes: list[CalibrationProbe] = []
        self.skipped = skipped

    def calibrate(self, gallery: str, probes: Any, **_: Any) -> CalibrateResponse:
        self.probes = list(probes)
        told = [SkippedProbe(index=0, error=Error(message="no face"))] if self.skipped else []
        return CalibrateResponse(calibration=Calibration(tau=1), skipped=told, skipped_count=self.skipped)


def calibrate(client: Calibrator, *words: str) -> None:
    options = parser().parse_args(["calibrate", "g", *words])
    list(options.call(client, options))


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_pictures_that_are_not_taken_are_counted(tmp_path: Path, capsys: Capture) -> None:
    strangers = put(tmp_path / "strangers", "a/1.jpg", "b/2.PNG", "loose.jpg", "a/deep/3.jpg", "a/notes.txt")
    mates = put(tmp_path / "mates", "ann/1.jpg", "loose.jpg", "other.png")
    put(tmp_path / "elsewhere", "4.jpg")
    os.symlink(tmp_path / "elsewhere", mates / "linked")
    client = Calibrator()
    calibrate(client, "--impostors", str(strangers), "--mates", str(mates))
    assert [(probe.subject, probe.mated, probe.example.image) for probe in client.probes] == [
        ("a", False, b"a/1.jpg"),
        ("b", False, b"b/2.PNG"),
        ("", False, b"loose.jpg"),
        ("ann", True, b"ann/1.jpg"),
        ("linked", True, b"4.jpg"),
    ]
    said = capsys.readouterr().err
    assert f"left out 1 pictures in {strangers} that are not PERSON/*.jpg or *.jpg" in said
    assert f"left out 2 pictures in {mates} that are not PERSON/*.jpg\n" in said


def test_the_number_skipped_is_said_although_few_are_told(tmp_path: Path, capsys: Capture) -> None:
    folder = put(tmp_path, "a.jpg")
    calibrate(Calibrator(skipped=1), "--impostors", str(folder))
    assert capsys.readouterr().err == f"skipped {folder}/a.jpg: no face\n"
    calibrate(Calibrator(skipped=3000), "--impostors", str(folder))
    assert "skipped 2999 more; 3000 in all" in capsys.readouterr().err


def test_folders_without_pictures_are_refused(tmp_path: Path, capsys: Capture) -> None:
    empty = put(tmp_path / "empty", "notes.txt")
    loose = put(tmp_path / "loose", "a.jpg")
    assert main(["calibrate", "g", "--impostors", str(empty)]) == 2
    assert f"no pictures in {empty}, of PERSON/*.jpg or *.jpg" in capsys.readouterr().err
    assert main(["calibrate", "g", "--impostors", str(loose), "--mates", str(loose)]) == 2
    assert f"no pictures in {loose}, of PERSON/*.jpg\n" in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "-0.1", "1", "5", "nan"])
def test_rates_that_are_none_are_refused(tmp_path: Path, capsys: Capture, rate: str) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["calibrate", "g", "--impostors", str(tmp_path), f"--fpir={rate}"])
    assert refused.value.code == 2
    assert "must be greater than 0 and less than 1" in capsys.readouterr().err


def test_help_says_that_the_largest_face_counts(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "[largest]" in words
    assert "the only one" not in words
