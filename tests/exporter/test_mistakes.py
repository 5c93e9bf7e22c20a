"""A user's mistake, or a damaged run, is one line and status 1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.encoder.network import INPUT
from oneglance_exporter.errors import DataError
from oneglance_exporter.training.checkpoint import CHECKPOINT_FILE
from tests.exporter.small_runs import PATH, Cli, train_arguments


def test_a_run_is_not_overwritten_and_not_resumed_as_another(
    small_run: Path, drawings_zip: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(*train_arguments(drawings_zip, small_run, steps=6)) == 1
    assert "--resume" in capsys.readouterr().err
    assert cli("train", "encoder", "--out", small_run, "--resume", "--margin", "0.5") == 1
    assert "--margin: the run has 0.2" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncate", "garbage", "foreign", "missing"])
def test_a_damaged_checkpoint_is_named(
    tmp_path: Path, small_run: Path, cli: Cli, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path = tmp_path / CHECKPOINT_FILE
    content = (small_run / CHECKPOINT_FILE).read_bytes()
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif damage == "foreign":
        torch.save({"format": "something else"}, path)
    assert cli("export", "--run", tmp_path, "--out", tmp_path / "m", "--name", "x") == 1
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "encoder", "--data", "DATA", "--out", "OUT"], "--steps or --seconds"),
        (["train", "encoder", "--data", "NOWHERE", "--out", "OUT", "--steps", "1"], "no such file"),
        (["train", "encoder", "--out", "OUT", "--steps", "1"], "--data"),
        (["train", "encoder", "--data", "DATA", "--out", "OUT", "--steps", "1"], "--classes-per-batch"),
        (["train", "encoder", "--data", "DATA", "--out", "OUT", "--steps", "0"], "--steps must be"),
        (["train", "encoder", "--data", "DATA", "--out", "OUT", "--seconds", "-1"], "--seconds must be"),
        (["train", "encoder", "--data", "DATA", "--out", "OUT", "--steps", "1", "--dimension", "65537"], "--dimension"),
        (["train", "encoder", "--data", "DATA", "--out", "OUT", "--steps", "1", "--learning-rate", "1e38"], "1000"),
        (["encode", "--model", "MODEL", "--data", "DATA", "--out", "OUT"], "must end in .npz"),
        (["encode", "--model", "MODEL", "--data", "DATA", "--out", "NOFOLDER.npz"], "can't be written"),
        (["encode", "--model", "MODEL", "--data", "NOWHERE", "--out", "OUT.npz"], "no such file"),
        (["quantize", "--model", "MODEL", "--data", "DATA", "--out", "INFILE"], "can't be written"),
        (["quantize", "--model", "MODEL", "--data", "DATA", "--out", "FILE"], "something else than a model folder"),
        (["import", "onnx", "NOWHERE", "--out", "FILE", "--name", "x", "--license", "x"], "something else"),
        (["calibrate", "--model", "NOWHERE", "--data", "DATA"], "not a model folder"),
        (["evaluate", "--model", "MODEL", "--data", "DATA"], "no group has 20"),
        (["evaluate", "--model", "MODEL", "--data", "DATA", "--trials", "0"], "trials"),
        (["calibrate", "--model", "MODEL", "--data", "DATA", "--gallery-size", "12"], "--gallery-size"),
        (["calibrate", "--model", "MODEL", "--data", "DATA", "--fpir", "0"], "--fpir"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_1(
    tmp_path: Path,
    model: Path,
    drawings_zip: Path,
    cli: Cli,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "file").write_text("x")
    names = {
        "DATA": drawings_zip, "MODEL": model, "NOWHERE": tmp_path / "nowhere", "OUT": tmp_path / "out",
        "OUT.npz": tmp_path / "out.npz", "NOFOLDER.npz": tmp_path / "nowhere" / "out.npz",
        "FILE": tmp_path / "file", "INFILE": tmp_path / "file" / "inside",
    }  # fmt: skip
    if message == "--classes-per-batch":
        arguments = [*arguments, "--classes-per-batch", "1000"]
    assert cli(*[names.get(argument, argument) for argument in arguments]) == 1
    errors = capsys.readouterr().err
    *told, error = errors.splitlines()
    assert error.startswith("oneglance-exporter: error: ")
    assert message in error
    assert all(line.startswith(("the encoder takes ", "--data: ")) for line in told)  # of the data, before a training
    assert not (tmp_path / "out.npz").exists()
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("threads", ["0", "-3"])
def test_threads_below_1_are_a_usage_error(
    tmp_path: Path, model: Path, drawings_zip: Path, cli: Cli, capsys: pytest.CaptureFixture[str], threads: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli("encode", "--model", model, "--data", drawings_zip, "--out", tmp_path / "out.npz", "--threads", threads)
    assert stopped.value.code == 2
    assert f"argument --threads: must be at least 1 and at most 4096, got {threads}" in capsys.readouterr().err


def test_a_picture_that_can_not_be_read_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "a/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DataError, match=r"can't be read: .*Permission denied"):
        read_examples([tmp_path], INPUT)


def test_export_replaces_a_model_folder_and_nothing_else(
    tmp_path: Path, small_run: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years")
    assert cli("export", "--run", small_run, "--out", precious, "--name", "x") == 1
    assert "something else than a model folder" in capsys.readouterr().err
    assert (precious / "thesis.tex").read_text() == "years"


def test_a_bad_name_is_a_usage_error(tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli("export", "--run", tmp_path, "--out", tmp_path / "m", "--name", "Not A Name")
    assert stopped.value.code == 2
    assert "a-z 0-9" in capsys.readouterr().err


def test_help_teaches_without_loading_torch() -> None:
    code = "import sys, oneglance_exporter.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'onnx', 'onnxruntime', 'grpc'} & set(sys.modules), 'loaded'"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for word in ("train encoder", "export", "calibrate", "evaluate", "subject/*.png"):
        assert word in done.stdout
