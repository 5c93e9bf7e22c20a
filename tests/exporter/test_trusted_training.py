"""A training that can be trusted: finite or stopped, on the data it was begun with, the best kept, safe from kills."""

import csv
import io
import json
import math
import os
import resource
import shutil
import signal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from oneglance_core.folder import read_model_folder
from oneglance_exporter.api import export, resume, train
from oneglance_exporter.cli import main
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.train import _Validation
from oneglance_exporter.errors import DivergedError, ExporterError, RunError, SettingsError
from oneglance_exporter.training.checkpoint import BEST_FILE, CHECKPOINT_FILE, load
from oneglance_exporter.training.log import LOG_FILE, TABLE_FILE, RunLog

SMALL: dict[str, Any] = {"classes_per_batch": 8, "examples_per_class": 2, "dimension": 16, "shrink": 7}


@pytest.fixture
def folder(tmp_path: Path, drawings_zip: Path) -> Path:
    """The drawings as a folder of its own."""
    with zipfile.ZipFile(drawings_zip) as archive:
        archive.extractall(tmp_path / "drawings")
    return tmp_path / "drawings"


def assert_same_weights(one: EncoderCheckpoint, other: EncoderCheckpoint) -> None:
    assert one.step == other.step
    for name in ("model", "average"):
        a, b = getattr(one, name), getattr(other, name)
        assert all(torch.equal(a[key], b[key]) for key in b), name


@pytest.mark.parametrize("loss", ["triplet", "difference"])
def test_a_learning_rate_far_too_high_ends_in_an_error_and_no_json_has_nan(
    tmp_path: Path, drawings_zip: Path, heldout_zip: Path, capsys: pytest.CaptureFixture[str], loss: str
) -> None:
    arguments = ["--data", drawings_zip, "--validation", heldout_zip, "--out", tmp_path, "--steps", 3000]
    arguments += ["--loss", loss]
    arguments += ["--learning-rate", 1000, "--weight-decay", 1000, "--checkpoint-seconds", 0, "--classes-per-batch", 8]
    arguments += ["--examples-per-class", 2, "--dimension", 16, "--shrink", 7, "--validation-steps", 50]
    assert main(["train", "encoder", *map(str, arguments)]) == 1
    errors = capsys.readouterr().err
    assert "not finite" in errors
    assert "--learning-rate" in errors
    assert "Traceback" not in errors
    for line in (tmp_path / LOG_FILE).read_text().splitlines():
        json.loads(line, parse_constant=lambda constant: pytest.fail(constant))
    if (tmp_path / CHECKPOINT_FILE).exists():
        kept = load(tmp_path, EncoderCheckpoint)
        assert all(value.isfinite().all() for value in (*kept.model.values(), *kept.average.values()))


def test_encodings_that_are_not_finite_are_no_loss_of_zero(
    tmp_path: Path, drawings_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No triplet of NaN is semi-hard: the loss is 0, and so is its gradient."""
    encode = "oneglance_exporter.encoder.network.Encoder.encode"
    monkeypatch.setattr(encode, lambda self, inputs: self.backbone(inputs) * math.nan)
    with pytest.raises(DivergedError, match="not finite in step 1"):
        train(drawings_zip, tmp_path, steps=3, **SMALL)


def test_an_encoding_of_the_validation_that_is_not_finite_ends_the_training(
    tmp_path: Path, drawings_zip: Path, heldout_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nan(model: object, inputs: Any) -> Any:
        return inputs[:, 0, 0, :].astype("float32") * math.nan

    monkeypatch.setattr("oneglance_exporter.encoder.train.encode", nan)
    with pytest.raises(DivergedError, match="encoding of --validation was not finite"):
        train(drawings_zip, tmp_path, validation=heldout_zip, steps=3, **SMALL)


def without_some(folder: Path) -> str:
    for file in sorted(folder.rglob("04.png")):
        file.unlink()
    return "12 gone or changed"


def with_another(folder: Path) -> str:
    first = min(folder.rglob("00.png"))
    shutil.copy(first, first.with_name("99.png"))
    shutil.copy(max(folder.rglob("00.png")), first)
    return "1 new or changed"


def with_others_swapped(folder: Path) -> str:
    first, second = sorted(folder.rglob("00.png"))[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    return "2 gone or changed"


@pytest.mark.parametrize("change", [without_some, with_another, with_others_swapped])
def test_a_run_is_resumed_with_the_data_it_was_begun_with(
    tmp_path: Path, folder: Path, change: Callable[[Path], str]
) -> None:
    run = tmp_path / "run"
    train(folder, run, steps=2, **SMALL)
    moved = folder.rename(tmp_path / "moved")
    assert resume(run, data=moved).step == 2  # where they lie doesn't matter
    with pytest.raises(RunError, match=rf"not the data that the run was begun with: .*{change(moved)}"):
        resume(run, data=moved)
    (run / "data.csv").unlink()
    with pytest.raises(RunError, match="the files, their subjects or their order differ"):
        resume(run, data=moved)


def test_other_validation_data_are_other_data(tmp_path: Path, drawings_zip: Path, heldout_zip: Path) -> None:
    train(drawings_zip, tmp_path, validation=heldout_zip, steps=2, **SMALL)
    with pytest.raises(RunError, match="begun with"):
        resume(tmp_path, validation=())


def test_the_list_of_the_data_names_every_file(tmp_path: Path, drawings_zip: Path, heldout_zip: Path) -> None:
    train(drawings_zip, tmp_path, validation=heldout_zip, steps=1, **SMALL)
    with open(tmp_path / "data.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["part"] for line in lines] == ["data"] * 60 + ["validation"] * 60
    assert lines[0]["file"].startswith(f"{drawings_zip}: top/alphabet-100/")
    assert len({line["sha256"] for line in lines}) == 120


def errors_are(monkeypatch: pytest.MonkeyPatch, *errors: float) -> None:
    """What the measurements on --validation give, one after the other."""
    given = iter(errors)
    monkeypatch.setattr(_Validation, "error", lambda self, learner: next(given))


def test_the_best_checkpoint_is_kept_and_exported(
    tmp_path: Path, drawings_zip: Path, heldout_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors_are(monkeypatch, 0.5, 0.3, 0.4, 0.35)
    run = tmp_path / "run"
    done = train(drawings_zip, run, validation=heldout_zip, steps=8, validation_steps=2, **SMALL)
    assert (done.step, done.best_step, done.best_error, done.since_best) == (8, 4, 0.3, 2)
    best = load(run, EncoderCheckpoint, BEST_FILE)
    assert (best.step, best.validation_error) == (4, 0.3)
    assert not torch.equal(best.average["encoder.backbone.head.weight"], done.average["encoder.backbone.head.weight"])
    told = {which: export(run, tmp_path / "model", "m", which=which).training for which in ("best", "last", None)}
    assert [told[which]["steps"] for which in ("best", "last", None)] == [4, 8, 4]
    assert [told[which]["checkpoint"] for which in ("best", "last", None)] == ["best", "last", "best"]
    assert read_model_folder(tmp_path / "model").manifest.training["validation_error"] == 0.3


def test_patience_ends_a_training_that_gets_no_better(
    tmp_path: Path, drawings_zip: Path, heldout_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors_are(monkeypatch, 0.5, 0.4, 0.45, 0.4, 0.4, 0.1, *[0.2] * 5)
    some: dict[str, Any] = {"validation": heldout_zip, "steps": 60, "validation_steps": 2, **SMALL}
    done = train(drawings_zip, tmp_path, patience=3, **some)
    assert (done.step, done.best_step) == (10, 4)
    assert json.loads((tmp_path / LOG_FILE).read_text().splitlines()[-1])["step"] == 10
    assert resume(tmp_path).step == 10
    assert resume(tmp_path, patience=5).step == 22
    with pytest.raises(SettingsError, match="--patience needs --validation"):
        train(drawings_zip, tmp_path / "other", steps=4, patience=3)


def test_the_table_has_the_lines_of_the_log(tmp_path: Path, drawings_zip: Path) -> None:
    train(drawings_zip, tmp_path, steps=41, **SMALL)
    lines = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    with open(tmp_path / TABLE_FILE, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["20", "40", "41"]
    assert [float(row["loss"]) for row in rows] == [line["loss"] for line in lines]
    assert resume(tmp_path).step == 41
    assert (tmp_path / TABLE_FILE).read_text().count("\n") == 4


def test_the_log_for_tensorboard_has_each_step_once(tmp_path: Path, drawings_zip: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'oneglance[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def stop(report: Any) -> None:
        if report.step == 45:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(drawings_zip, tmp_path, steps=61, tensorboard=True, report=stop, **SMALL)
    with open(tmp_path / LOG_FILE, "a") as file:  # what a killed run wrote after its last checkpoint
        file.write('{"step": 60, "loss": 7.0}\n')
    resume(tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert [event.step for event in events.Scalars("loss")] == [line["step"] for line in lines] == [20, 40, 60, 61]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([line["loss"] for line in lines])
    assert "active_triplets" in events.Tags()["scalars"]


def test_tensorboard_that_is_not_there_is_named(
    tmp_path: Path, drawings_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SettingsError, match=r"--tensorboard: pip install 'oneglance\[tensorboard\]'"):
        train(drawings_zip, tmp_path, steps=1, tensorboard=True, **SMALL)


def test_a_disk_that_fills_up_ends_the_training_and_the_last_good_checkpoint_stays(
    tmp_path: Path, drawings_zip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file may grow beyond 20 kB any more, after the third step."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(report: Any) -> None:
        if report.step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, usual[1]))

    try:
        with pytest.raises(RunError, match=r"can't be written: .*File too large"):
            train(drawings_zip, tmp_path, steps=9, checkpoint_seconds=0, report=fill, **SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert load(tmp_path, EncoderCheckpoint).step == 2
    assert not list(tmp_path.glob(".*"))
    assert_same_weights(resume(tmp_path), train(drawings_zip, tmp_path / "whole", steps=9, **SMALL))


def test_a_line_of_which_a_part_fits_is_an_error(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            return super().write(content[:3])

    with RunLog(tmp_path, 0) as log:
        monkeyed, log._file = log._file, Full()  # type: ignore[assignment]
        with pytest.raises(RunError, match="No space left on device"):
            log.write({"step": 20, "loss": 1.0})
        monkeyed.close()


def test_reports_tell_the_time_that_remains(tmp_path: Path, drawings_zip: Path) -> None:
    reports: list[Any] = []
    train(drawings_zip, tmp_path, steps=10, report=reports.append, **SMALL)
    assert all(report.remaining_seconds > 0 for report in reports[:-1])
    assert str(reports[0]).endswith(" left")
    assert reports[-1].remaining_seconds is None


def test_a_network_of_ones_own_is_not_resumed_with_another(tmp_path: Path, drawings_zip: Path) -> None:
    file = tmp_path / "mine.py"
    code = "from torch.nn import *\n\n"
    code += "def make(shape, dimension):\n    return Sequential({}Flatten(), Linear(25, dimension))\n"
    file.write_text(code.format("AvgPool2d(21), Dropout(0.2), "))
    run, settings = tmp_path / "run", {**SMALL, "network": f"{file}:make", "augment": "none", "shrink": None}
    whole = train(drawings_zip, run, steps=6, **settings)
    again = train(drawings_zip, tmp_path / "again", steps=6, **settings)
    assert_same_weights(again, whole)  # dropout, too, is a function of seed and step
    assert export(run, tmp_path / "model", "mine").output.dimension == 16
    file.write_text(code.format("AvgPool2d(21), "))
    with pytest.raises(ExporterError, match="is not what it was when the run began"):
        export(run, tmp_path / "model", "mine")
