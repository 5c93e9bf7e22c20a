"""``evaluate --report`` and ``--against``: from folders and from arrays, one and the same judgement."""

import json
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from oneglance_core.judging.judge import judge as judge_encodings
from oneglance_core.judging.labelled import read_encodings
from oneglance_exporter import cli
from oneglance_exporter.api import evaluate, judge
from oneglance_exporter.errors import DataError, SettingsError
from tests.models import pixels_model

FEW: dict[str, Any] = {"splits": 2, "ways": 5, "trials": 100}
FLAGS = ["--splits", "2", "--ways", "5", "--trials", "100"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pixels_model(tmp_path_factory.mktemp("models") / "pixels")


@pytest.fixture(scope="module")
def arrays(model: Path, heldout_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("arrays") / "heldout.npz"
    assert cli.main(["encode", "--model", str(model), "--data", str(heldout_zip), "--out", str(file)]) == 0
    return file


def test_a_folder_and_its_encodings_are_judged_alike(model: Path, arrays: Path, heldout_zip: Path) -> None:
    told: list[float] = []
    folder = judge(model, heldout_zip, far=lambda done, words: told.append(done), **FEW)
    array = judge(arrays, **FEW)
    by_core = judge_encodings(read_encodings(arrays), splits=2).as_dict()
    assert array.judgement.as_dict() == by_core
    assert folder.judgement.as_dict() == by_core
    assert told == sorted(told)
    assert told[-1] == 1
    assert {one.group for one in folder.judgement.groups} == {"alphabet-200", "alphabet-201"}
    summary = evaluate(model, heldout_zip, **FEW)
    assert summary == evaluate(arrays, **FEW)
    assert folder.one_shot_error == array.one_shot_error == summary.one_shot_error
    assert folder.judgement.pairs.eer.value == summary.eer


def test_the_command_writes_a_page_with_pictures(
    model: Path, heldout_zip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    options = ["evaluate", "--model", str(model), "--data", str(heldout_zip), "--report", str(page), *FLAGS]
    assert cli.main(options) == 0
    out = capsys.readouterr()
    assert "pixels: 60 examples of 12 subjects" in out.out
    assert "EER: " in out.out
    assert "5-way one-shot error within groups" in out.out
    assert str(page) in out.err
    text = page.read_text()
    assert "data:image/" in text
    assert "heldout.zip" in text
    assert "oneglance-exporter evaluate --model" in text
    assert cli.main([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 60


def test_two_encoders_are_compared_on_what_both_have(
    model: Path, arrays: Path, heldout_zip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(arrays) as given:
        kept = given["files"][:-1]
        noise = np.random.default_rng(0).normal(size=given["encodings"].shape) * 0.15
        np.savez(
            tmp_path / "noisy.npz",
            encodings=(given["encodings"] + noise)[:-1],
            subjects=given["subjects"][:-1],
            files=kept,
        )
    page = tmp_path / "page.html"
    options = ["evaluate", "--model", str(model), "--data", str(heldout_zip), "--against", str(tmp_path / "noisy.npz")]
    assert cli.main([*options, "--report", str(page), *FLAGS]) == 0
    out = capsys.readouterr().out
    assert "pixels first, noisy second: second less first, on 59 examples of 12 subjects" in out
    assert "noisy against pixels" in page.read_text()
    found = judge(arrays, against=tmp_path / "noisy.npz", **FEW)
    assert found.comparison is not None
    assert found.comparison.differences[0].difference.value > 0
    same = judge(model, heldout_zip, against=model, **FEW)
    assert same.name != same.other_name


def test_subjects_of_two_spellings_are_refused_or_what_the_user_says(
    model: Path, heldout_zip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some drawings of a character are in a folder of the same name in capitals."""
    data, encoded = tmp_path / "two.zip", tmp_path / "two.npz"
    with zipfile.ZipFile(heldout_zip) as given, zipfile.ZipFile(data, "w") as renamed:
        first = PurePosixPath(given.namelist()[0]).parent
        for name in given.namelist():
            path = PurePosixPath(name)
            other = path.parent == first and path.stem < "02"
            renamed.writestr(str(first.with_name(first.name.upper()) / path.name) if other else name, given.read(name))
    shutil.copytree(model, tmp_path / "model")
    of_model = ["--model", str(tmp_path / "model"), "--data", str(data)]
    encode = ["encode", *of_model, "--out", str(encoded)]
    commands = (["calibrate", *of_model], ["evaluate", *of_model, *FLAGS], encode)
    for command in commands:
        assert cli.main(command) == 1
        assert "are one name in two spellings" in capsys.readouterr().err
        assert cli.main([*command, "--spellings", "one"]) == 0
    assert evaluate(encoded, **FEW) == evaluate(model, heldout_zip, **FEW)
    assert cli.main([*encode, "--spellings", "distinct"]) == 0
    with pytest.raises(DataError, match="are one name in two spellings"):
        evaluate(encoded, **FEW)
    assert "60 examples of 13 subjects" in str(judge(encoded, spellings="distinct", **FEW))
    assert "60 examples of 12 subjects" in str(judge(encoded, spellings="one", **FEW))


def test_what_can_not_be_judged_is_one_line(
    model: Path, heldout_zip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "nan.npz", encodings=np.full((4, 3), np.nan), subjects=np.array(["a", "a", "b", "b"]))
    np.savez(tmp_path / "one.npz", encodings=np.ones((4, 3)), subjects=np.array(["a"] * 4))
    for file, told in (("nan", "not finite"), ("one", "at least 2 are needed"), ("none", "no .npz")):
        assert cli.main(["evaluate", "--model", str(tmp_path / f"{file}.npz")]) == 1
        assert told in capsys.readouterr().err
    for measure in (judge, evaluate):
        with pytest.raises(SettingsError, match="--data is for a model folder"):
            measure(tmp_path / "nan.npz", heldout_zip)
    with pytest.raises(SettingsError, match="say what to encode"):
        judge(model)
    for bad in (tmp_path / "page.txt", tmp_path / "none" / "page.html"):
        assert cli.main(["evaluate", "--model", str(model), "--data", str(heldout_zip), "--report", str(bad)]) == 1
    with pytest.raises(DataError, match="can't be written"):
        judge(model, heldout_zip, report=tmp_path / "none" / "page.html", **FEW)
