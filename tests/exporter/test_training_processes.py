"""One batch, however it is encoded: in pieces, in several processes, in other numbers, on a card."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from oneglance_core.manifests import InputSpec
from oneglance_exporter.api import resume, train
from oneglance_exporter.cli import main
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.network import ConvNet, Encoder
from oneglance_exporter.encoder.pieces import Pieces, with_graph
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import RunError, SettingsError
from oneglance_exporter.training.checkpoint import CHECKPOINT_FILE, load
from tests.waiting import PATIENCE_SECONDS, until

PROJECT = Path(__file__).resolve().parents[2]
PATH = ":".join(str(PROJECT / part) for part in ("core", "exporter"))
SMALL: dict[str, Any] = {"classes_per_batch": 8, "examples_per_class": 2, "dimension": 16, "shrink": 7}
# Without batch norm, so that what becomes of a picture doesn't depend on the piece it is in.
OWN = """
import os, signal, sys
import torch
from torch import distributed, nn

def make(shape, dimension):
    return nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(225, 32), nn.Tanh(), nn.Linear(32, dimension))

class Mortal(nn.Module):
    def __init__(self, dimension):
        super().__init__()
        self.linear, self.calls = nn.Linear(225, dimension), 0

    def forward(self, inputs):
        self.calls += 1
        if distributed.is_initialized() and distributed.get_rank() == 1 and self.calls == 6:
            {fate}
        return self.linear(torch.flatten(nn.functional.avg_pool2d(inputs, 7), 1))

def mortal(shape, dimension):
    return Mortal(dimension)

def unwilling(shape, dimension):
    if sys.argv[0].endswith("worker.py"):
        raise RuntimeError("not here")
    return make(shape, dimension)
"""


def own(folder: Path, function: str, fate: str = "pass") -> dict[str, Any]:
    file = folder / "own.py"
    file.write_text(OWN.replace("{fate}", fate))
    return {**SMALL, "shrink": None, "network": f"{file}:{function}"}


def moved(one: EncoderCheckpoint, other: EncoderCheckpoint) -> float:
    """The largest difference of two numbers of the networks' weights."""
    names = [name for name, value in one.model.items() if value.is_floating_point()]
    return max(float((one.model[name] - other.model[name]).abs().max()) for name in names)


def test_two_processes_end_with_the_weights_of_one(tmp_path: Path, drawings_zip: Path) -> None:
    """Batch norms included. After six steps of AdamW, in which weights move by up to 0.01, they are within 1e-4."""
    runs = {}
    for name, steps, processes in (("one", 6, 1), ("two", 6, 2), ("first", 1, 1)):
        runs[name] = train(drawings_zip, tmp_path / name, steps=steps, processes=processes, **SMALL)
    assert moved(runs["one"], runs["first"]) > 5e-3
    assert moved(runs["one"], runs["two"]) < 1e-4
    assert runs["two"].model["encoder.backbone.features.0.1.num_batches_tracked"] == 6


@pytest.mark.parametrize("loss", ["triplet", "contrastive", "arcface", "difference", "chi-square"])
def test_a_batch_in_pieces_is_one_batch_to_every_loss(tmp_path: Path, drawings_zip: Path, loss: str) -> None:
    settings = {**own(tmp_path, "make"), "steps": 4, "loss": loss, "augment": "none"}
    whole, cut, first = (
        train(drawings_zip, tmp_path / name, **{**settings, **other})
        for name, other in (("whole", {}), ("cut", {"accumulate": 5}), ("first", {"steps": 1}))
    )
    assert moved(whole, first) > 1e-3
    assert moved(whole, cut) < 2e-5


def test_pieces_in_several_processes(tmp_path: Path, drawings_zip: Path) -> None:
    settings = {**own(tmp_path, "make"), "steps": 3}
    whole = train(drawings_zip, tmp_path / "whole", **settings)
    cut = train(drawings_zip, tmp_path / "cut", processes=2, accumulate=3, **settings)
    assert moved(whole, cut) < 2e-5


def batch() -> tuple[Encoder, torch.Tensor]:
    torch.manual_seed(0)
    spec = InputSpec(kind="signal", shape=(12, 1), dtype="float32")
    return Encoder(spec, ConvNet(1, (12,), 4, (6,))), torch.randn(10, 1, 12)


def test_statistics_are_recorded_once_for_each_piece() -> None:
    encoder, inputs = batch()
    norm: Any = next(module for module in encoder.modules() if isinstance(module, nn.BatchNorm1d))
    made = Pieces(encoder, inputs, TrainSettings(steps=1, accumulate=2), step=0)
    assert norm.num_batches_tracked == 0
    with_graph(made).sum().backward()  # type: ignore[no-untyped-call]
    assert norm.num_batches_tracked == 2
    once, _ = batch()
    for part in inputs.tensor_split(2):
        once.encode(part)
    expected: Any = next(module for module in once.modules() if isinstance(module, nn.BatchNorm1d))
    assert torch.equal(norm.running_mean, expected.running_mean)


def test_a_piece_drops_the_same_numbers_when_it_is_encoded_again() -> None:
    seen: list[torch.Tensor] = []
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 4))
    network.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    encoder = Encoder(InputSpec(kind="signal", shape=(12, 1), dtype="float32"), network)
    made = Pieces(encoder, torch.ones(6, 1, 12), TrainSettings(steps=1, accumulate=2), step=3)
    with_graph(made).sum().backward()  # type: ignore[no-untyped-call]
    first, second, first_again, second_again = seen
    assert torch.equal(first, first_again)
    assert torch.equal(second, second_again)
    assert not torch.equal(first, second)


def test_bf16_learns_about_the_same(tmp_path: Path, drawings_zip: Path) -> None:
    done = {
        precision: train(drawings_zip, tmp_path / precision, steps=3, precision=precision, **SMALL)
        for precision in ("fp32", "bf16")
    }
    assert 0 < moved(done["fp32"], done["bf16"]) < 0.02
    assert all(value.dtype != torch.bfloat16 for value in done["bf16"].model.values())


def test_a_process_that_ends_stops_the_training_and_the_checkpoint_stays(tmp_path: Path, drawings_zip: Path) -> None:
    settings = own(tmp_path, "mortal", "os.kill(os.getpid(), signal.SIGKILL)")
    run = tmp_path / "run"
    with pytest.raises(RunError, match=r"process 1 of the training's 2 has ended, with status -9; .*--resume"):
        train(drawings_zip, run, steps=30, processes=2, checkpoint_seconds=0, **settings)
    assert 1 <= load(run, EncoderCheckpoint).step < 30
    assert not torch.distributed.is_initialized()
    assert resume(run, processes=1).step == 30


def test_a_process_that_does_not_begin_is_named(
    tmp_path: Path, drawings_zip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunError, match=r"process 1 of the training's 2 has ended, with status 1"):
        train(drawings_zip, tmp_path / "run", steps=1, processes=2, **own(tmp_path, "unwilling"))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("oneglance-exporter: process 1: SettingsError: --network ")
    assert line.endswith("RuntimeError: not here")


def test_no_process_outlives_the_training(tmp_path: Path, drawings_zip: Path) -> None:
    """Process 0 is killed."""
    pids = tmp_path / "pids"
    settings = own(tmp_path, "mortal", f"open({str(pids)!r}, 'w').write(str(os.getpid()))")
    settings |= {"steps": 10**7, "processes": 2, "checkpoint_seconds": 1e7}
    code = f"""
from oneglance_exporter.api import train
train({str(drawings_zip)!r}, {str(tmp_path / "run")!r}, **{settings!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PATH})
    until(lambda: (pids.exists() and pids.read_text()) or process.poll() is not None)
    process.kill()
    assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    other = Path("/proc", pids.read_text())
    until(lambda: not other.exists() or ") Z " in (other / "stat").read_text())


def test_a_signal_stops_all_processes_after_a_step(tmp_path: Path, drawings_zip: Path) -> None:
    def stop(report: Any) -> None:
        if report.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(drawings_zip, tmp_path, steps=100, processes=2, report=stop, **SMALL)
    assert load(tmp_path, EncoderCheckpoint).step == 3


def test_cuda_without_a_card_is_an_error_before_the_work(
    tmp_path: Path, drawings_zip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = [
        "train",
        "encoder",
        "--data",
        drawings_zip,
        "--out",
        tmp_path / "run",
        "--steps",
        1,
        "--device",
        "cuda",
    ]
    assert main(list(map(str, arguments))) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"oneglance-exporter: error: --device cuda: torch {torch.__version__} ")
    assert error.endswith("nothing is computed on the CPU instead")
    assert not (tmp_path / "run" / CHECKPOINT_FILE).exists()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingsError, match="--processes 2: each needs a card of its own, and there are 1"):
        train(drawings_zip, tmp_path / "run", steps=1, device="cuda", processes=2)


def test_what_can_not_be_shared_is_refused(tmp_path: Path, drawings_zip: Path) -> None:
    with pytest.raises(SettingsError, match="more pieces than a batch has examples"):
        TrainSettings(steps=1, classes_per_batch=2, examples_per_class=2, accumulate=5)
    with pytest.raises(SettingsError, match="more pieces than a batch has examples: 24"):  # of twelve subjects only
        train(drawings_zip, tmp_path, steps=1, **{**SMALL, "classes_per_batch": 30}, accumulate=25, augment="none")
    with pytest.raises(SettingsError, match="--precision fp16 needs --device cuda"):
        TrainSettings(steps=1, precision="fp16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and a torch built for it")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_card_learns_about_what_the_cpu_does(tmp_path: Path, drawings_zip: Path, precision: str) -> None:
    pieces = {"steps": 4, "accumulate": 2, **SMALL}  # batch norms see the same pieces on both
    cpu = train(drawings_zip, tmp_path / "cpu", **pieces)
    card = train(drawings_zip, tmp_path / "card", device="cuda", precision=precision, **pieces)
    kept = load(tmp_path / "card", EncoderCheckpoint)
    assert np.isfinite(moved(cpu, kept))
    assert moved(cpu, kept) < 0.05
    assert card.step == resume(tmp_path / "card", device="cpu").step == 4
