"""Data that can't be what was meant: a clear line for each kind, and nothing that is lost in silence."""

import io
import os
import shutil
import stat
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oneglance_core.folder import read_model_folder
from oneglance_core.glyphs import alphabet
from oneglance_exporter.api import calibrate
from oneglance_exporter.data.files import labelled_files, unlabelled_files
from oneglance_exporter.data.spelling import checked
from oneglance_exporter.encoder.data import read_training_data
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import DataError
from oneglance_server.settings import BUNDLED_MODEL

PROJECT = Path(__file__).resolve().parents[2]


def shade(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((10, 10), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def folder_of(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def read(told: list[str], *data: Path, **settings: Any) -> Any:
    made = TrainSettings(data=tuple(map(str, data)), steps=1, **settings)
    return read_training_data(made, data[0].parent, told.append)


def pictures(first: int = 0) -> dict[str, bytes]:
    return {f"{name}/{i}.png": shade(first + 10 * i + n) for n, name in enumerate(("ann", "bo")) for i in (1, 2)}


def test_other_examples_of_the_same_name_in_another_set_are_kept(tmp_path: Path) -> None:
    one, other = folder_of(tmp_path / "one", pictures()), folder_of(tmp_path / "other", pictures(100))
    both = read([], one, other).examples
    assert both.subjects == ("ann", "bo")
    assert np.bincount(both.subject_of).tolist() == [4, 4]
    assert len({row.tobytes() for row in both.inputs}) == 8
    assert both.files[:2] == (f"{one}: ann/1.png", f"{other}: ann/1.png")


def test_an_example_that_is_in_two_sets_is_read_once(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", pictures())
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, content in (pictures() | {"bo/3.png": shade(77)}).items():
            archive.writestr(name, content)
    assert len(read([], one, tmp_path / "all.zip").examples.inputs) == 5
    rows = np.zeros((4, 6, 1), np.float32)
    rows[2:] = 1
    for name, given in (("a", rows), ("b", rows), ("c", rows + 1)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "0.npz", inputs=given, subjects=np.array(["x", "x", "y", "y"]))
    stacks = [tmp_path / name / "0.npz" for name in "abc"]
    assert len(labelled_files(stacks[:2], (".npy",))) == 4
    assert len(labelled_files(stacks, (".npy",))) == 8


def test_one_picture_with_two_labels_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, {"1.png": shade(1), "2.png": shade(2)})
    (tmp_path / "list.csv").write_text("path,label\n1.png,ann\n2.png,ann\n1.png,bo\n")
    with pytest.raises(DataError, match=r"line 4: 1\.png has the label 'bo', and 'ann' before"):
        read([], tmp_path / "list.csv")


def test_one_broken_file_of_a_subject_that_stays_is_left_out_alone(tmp_path: Path) -> None:
    told: list[str] = []
    data = folder_of(tmp_path / "data", pictures() | {"bo/3.png": b"no picture"})
    assert len(read(told, data, on_broken="skip").examples.inputs) == 4
    assert told[-1] == "--data: 1 file(s) are left out"


def test_numbers_that_are_not_finite_are_named_by_their_row(tmp_path: Path) -> None:
    inputs = np.ones((6, 5, 1))
    inputs[3, 2] = np.nan
    np.savez(tmp_path / "all.npz", inputs=inputs, subjects=np.array(list("aaabbb")))
    with pytest.raises(DataError, match=r"all\.npz: row 3: .*NaN, infinite"):
        read([], tmp_path / "all.npz", input="signal")
    told: list[str] = []
    assert len(read(told, tmp_path / "all.npz", input="signal", on_broken="skip").examples.inputs) == 5
    assert any(line.startswith(f"left out: {tmp_path / 'all.npz'}: row 3: ") for line in told)


@pytest.mark.parametrize("which", ["data", "validation"])
def test_a_split_without_examples_is_named(tmp_path: Path, which: str) -> None:
    whole = folder_of(tmp_path / "whole", pictures())
    (tmp_path / "empty.csv").write_text("path,label\n")
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    np.savez(tmp_path / "empty.npz", inputs=np.zeros((0, 10, 10, 1), np.uint8), subjects=np.zeros(0, str))
    for name in ("empty.csv", "empty", "empty.zip", "empty.npz"):
        empty = tmp_path / name
        data, validation = (empty, ()) if which == "data" else (whole, (str(empty),))
        with pytest.raises(DataError, match=f"{name}: no pictures in it"):
            read([], data, validation=validation)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Anna", "anna "),
        ("Anna", "an\u200bna"),
        ("Zo\u00eb", unicodedata.normalize("NFD", "Zo\u00eb")),
        ("Stra\u00dfe", "STRASSE"),
        ("1_12", "1-12"),
        ("class/7 b", "class/7_b"),
    ],
)
def test_two_spellings_of_a_label_are_refused(tmp_path: Path, one: str, other: str) -> None:
    folder = folder_of(tmp_path, {f"{name}/{i}.png": shade(i) for name in (one, other, "x/y") for i in (1, 2)})
    with pytest.raises(DataError, match=r"are one name in two spellings; .*--spellings one, or --spellings distinct"):
        checked(labelled_files([folder]), "refuse")


@pytest.mark.parametrize(("one", "other"), [("1_12", "11_2"), ("1 2", "12"), ("Greek/1", "Latin/1"), ("ann", "anne")])
def test_other_labels_are_not_two_spellings(tmp_path: Path, one: str, other: str) -> None:
    folder = folder_of(tmp_path, {f"{name}/{i}.png": shade(i) for name in (one, other, "x/y") for i in (1, 2)})
    assert len(checked(labelled_files([folder]), "refuse")) == 6


def test_a_subject_that_is_learned_and_measured_is_told_whatever_its_spelling(tmp_path: Path) -> None:
    told: list[str] = []
    heldout = folder_of(tmp_path / "heldout", {f"{name}/{i}.png": shade(i) for name in ("Ann", "cy") for i in (1, 2)})
    read(told, folder_of(tmp_path / "data", pictures()), validation=(str(heldout),))
    assert told[-1] == "note: 1 subject(s) are in --data and in --validation, as 'Ann'"


def test_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_zipfile = zipfile.is_zipfile

    def looked(path: Any) -> bool:
        assert not stat.S_ISFIFO(os.stat(path).st_mode), "it would wait for a writer"
        return is_zipfile(path)

    monkeypatch.setattr(zipfile, "is_zipfile", looked)
    data = folder_of(tmp_path / "data", pictures())
    os.mkfifo(tmp_path / "pipe.zip")
    os.mkfifo(data / "ann" / "9.png")
    for look in (lambda: read([], tmp_path / "pipe.zip"), lambda: unlabelled_files(tmp_path / "pipe.zip")):
        with pytest.raises(DataError, match=r"pipe\.zip: neither a folder nor a zip"):
            look()
    (tmp_path / "list.csv").write_text("path,label\npipe.zip,a\ndata/ann/9.png,a\n")
    with pytest.raises(DataError, match=r"pipe\.zip ends in none of"):
        read([], tmp_path / "list.csv")
    assert len(read([], data).examples.inputs) == 4


def drawings(root: Path, seed: int) -> Path:
    for character in alphabet(seed, 4, 2):
        for i, drawing in enumerate(character.drawings):
            place = root / "letters" / character.name / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawing).save(place)
    return root


def test_sets_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    model = Path(shutil.copytree(BUNDLED_MODEL, tmp_path / "model"))
    sets = [drawings(tmp_path / place / "set", seed) for seed, place in enumerate(("here", "there"))]
    calibrate(model, sets, fpir=0.2)
    measured = read_model_folder(model).manifest.false_positives
    assert measured is not None
    assert {one.data for one in measured.evidence} == set(map(str, sets))
    copied = Path(shutil.copytree(sets[0], tmp_path / "again" / "set"))
    with pytest.raises(DataError, match=f"{copied}: all its files are in the other data sets, too"):
        calibrate(model, [sets[0], copied], fpir=0.2)


def test_what_judges_needs_no_torch(tmp_path: Path) -> None:
    model = Path(shutil.copytree(BUNDLED_MODEL, tmp_path / "model"))
    data = drawings(tmp_path / "set", 0)
    commands = [
        ["calibrate", "--model", str(model), "--data", str(data), "--fpir", "0.2"],
        ["evaluate", "--model", str(model), "--data", str(data), "--ways", "4", "--trials", "10"],
        ["encode", "--model", str(model), "--data", str(data), "--out", str(tmp_path / "all.npz")],
        ["measure-input", "--model", str(model), "--data", str(data)],
    ]
    code = "import sys; sys.modules['torch'] = None\nfrom oneglance_exporter.cli import main\n"
    code += f"sys.exit(max(main(arguments) for arguments in {commands!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": ":".join(str(PROJECT / part) for part in ("core", "exporter"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "tau " in done.stdout
