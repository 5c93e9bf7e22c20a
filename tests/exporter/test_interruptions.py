"""Trainings and exports that are stopped, killed, or have no room on the disk."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from oneglance_core.folder import model_folders, read_model_folder
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.training.checkpoint import CHECKPOINT_FILE, Checkpoint, load, save
from tests.exporter.small_runs import PATH, Cli, train_arguments
from tests.waiting import PATIENCE_SECONDS, until


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, small_run: Path, drawings_zip: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def save_and_die(run: Path, state: Checkpoint) -> None:
        save(run, state)
        if state.step == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("oneglance_exporter.training.driver.save", save_and_die)
        with pytest.raises(Killed):
            cli(*train_arguments(drawings_zip, tmp_path, steps=6))
    assert load(tmp_path, EncoderCheckpoint).step == 3
    assert cli("train", "encoder", "--out", tmp_path, "--resume") == 0
    resumed, whole = load(tmp_path, EncoderCheckpoint), load(small_run, EncoderCheckpoint)
    assert resumed.step == whole.step == 6
    for name in ("model", "average"):
        a, b = getattr(resumed, name), getattr(whole, name)
        assert all(torch.equal(a[key], b[key]) for key in b)
    moments = whole.optimizer["state"]
    assert all(torch.equal(resumed.optimizer["state"][i]["exp_avg"], moments[i]["exp_avg"]) for i in moments)
    assert "--classes-per-batch 8" in resumed.command


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_a_checkpoint_and_a_word_how_to_go_on(
    tmp_path: Path, drawings_zip: Path, stop: signal.Signals
) -> None:
    arguments = train_arguments(drawings_zip, tmp_path / "run", steps=100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "oneglance_exporter.cli", *arguments],
        env={**os.environ, "PYTHONPATH": PATH},
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoint = tmp_path / "run" / CHECKPOINT_FILE
    until(lambda: checkpoint.exists() or process.poll() is not None)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert load(tmp_path / "run", EncoderCheckpoint).step >= 1


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_export_leaves_no_half_folder(
    tmp_path: Path, small_run: Path, model: Path, cli: Cli, stop: signal.Signals
) -> None:
    """Stopped while the graph is being written: one that was traced before. What a kill -9 leaves is hidden, and is in
    nobody's way."""
    models = tmp_path / "models"
    out = models / "tiny"
    shutil.copytree(model, models / "before")
    export = ["export", "--run", str(small_run), "--out", str(out), "--name", "tiny"]
    code = f"""
import sys, signal
from pathlib import Path
from oneglance_exporter.cli import main
from oneglance_exporter.encoder import export

traced = Path({str(model / "model.onnx")!r}).read_bytes()
export.to_onnx = lambda *_: traced
write = Path.write_bytes

def half(path, content):
    write(path, content[:100])
    print("here", flush=True)
    signal.pause()

Path.write_bytes = half
sys.exit(main({export!r}))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PATH}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    with process.stdout:
        assert process.stdout.readline() == "here\n"
        process.send_signal(stop)
    assert process.wait(PATIENCE_SECONDS) == (-stop if stop == signal.SIGKILL else 130)
    assert model_folders(models) == [models / "before"]
    if stop == signal.SIGKILL:
        cli(*export)
        assert read_model_folder(out).manifest.name == "tiny"
        assert model_folders(models) == [models / "before", out]
    else:
        assert list(models.iterdir()) == [models / "before"]


def test_a_full_disk_is_one_line_and_leaves_nothing_half(tmp_path: Path, small_run: Path, drawings_zip: Path) -> None:
    """In a process that may write no file above 30 kB: for the export, and for a training."""
    model, run = tmp_path / "model", tmp_path / "run"
    export = ["export", "--run", str(small_run), "--out", str(model), "--name", "tiny"]
    code = f"""
import resource, signal
from oneglance_exporter.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
for arguments in {[export, train_arguments(drawings_zip, run, steps=3)]!r}:
    print("status", main(arguments), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines().count("status 1") == 2, done.stderr
    assert done.stderr.count("can't be written") == 2
    assert "Traceback" not in done.stderr
    assert not model.exists()
    assert not [path.name for path in run.iterdir() if path.suffix in (".pt", ".part")]
