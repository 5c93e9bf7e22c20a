"""The training driver, on a line of three numbers: stops, kills, resumptions, divergence, the log."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest
import torch
from torch import Tensor, nn

from oneglance_exporter.errors import DivergedError, RunError, SettingsError
from oneglance_exporter.training.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoint,
    check_new,
    load,
    load_to_resume,
)
from oneglance_exporter.training.driver import StepReport, Training, drive
from oneglance_exporter.training.log import LOG_FILE, RunLog
from oneglance_exporter.training.settings import TrainingSettings

PROJECT = Path(__file__).resolve().parents[2]
PATHS = (Path(__file__).parent, PROJECT / "core", PROJECT / "exporter")


class ToySettings(TrainingSettings):
    steps: int | None = 50
    seed: int = 3
    learning_rate: float = 0.1
    average: float = 0.9
    checkpoint_seconds: float = 7.0


@dataclass
class ToyCheckpoint(Checkpoint):
    FORMAT: ClassVar[str] = "toy/1"
    SETTINGS: ClassVar[type[ToySettings]] = ToySettings
    FREE: ClassVar[frozenset[str]] = frozenset({"checkpoint_seconds"})

    settings: ToySettings
    validated: int = 0


@dataclass(frozen=True)
class ToyFigures:
    loss: float
    rate: float

    def __str__(self) -> str:
        return f"loss {self.loss:.3f}"


class Clock:
    """A second passes in each step, and at no other time."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Toy(Training[ToyCheckpoint, ToyFigures]):
    """Fits a line to points of (seed, step). ``happens`` is told of every moment of the training."""

    def __init__(
        self,
        checkpoint: ToyCheckpoint,
        clock: Clock,
        happens: Callable[[str, int], None] = lambda moment, step: None,
        bad: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(checkpoint)
        self.clock, self.happens, self.bad = clock, happens, bad
        self.model, self.average = nn.Linear(3, 1), nn.Linear(3, 1).eval()
        self.optimizer = optimizer_of(self.model)

    def step(self, step: int, done: float) -> tuple[Tensor, ToyFigures]:
        self.happens("step", step)
        self.clock.now += 1
        random = torch.Generator().manual_seed(self.checkpoint.settings.seed * 1000 + step)
        points = torch.randn(8, 3, generator=random)
        loss = (self.model(points)[:, 0] - points.sum(1) - 1).square().mean()
        if step in self.bad:
            loss = loss * math.nan
        return loss, ToyFigures(loss.item(), self.optimizer.param_groups[1]["lr"])

    def validate(self, figures: ToyFigures) -> ToyFigures:
        self.happens("validate", self.checkpoint.step)
        self.checkpoint.validated += 1
        return figures

    def checkpoint_saved(self, run: Path) -> None:
        self.happens("saved", self.checkpoint.step)


def optimizer_of(model: nn.Linear) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [{"params": [model.weight]}, {"params": [model.bias], "times": 2.0}]
    return torch.optim.Adam(groups, lr=1.0)


def first(**settings: Any) -> ToyCheckpoint:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return ToyCheckpoint.first(ToySettings(**settings), "a command", model, optimizer_of(model))


Reports = list[StepReport[ToyFigures]]


def go(run: Path, checkpoint: ToyCheckpoint, reports: Reports | None = None, **toy: Any) -> ToyCheckpoint:
    clock = Clock(now=toy.pop("now", 1000.0))
    validation_seconds = toy.pop("validation_seconds", math.inf)
    most_bad_steps = toy.pop("most_bad_steps", 1)
    report = toy.pop("report", (reports if reports is not None else []).append)

    def begin(checkpoint: ToyCheckpoint) -> Toy:
        training = Toy(checkpoint, clock, **toy)
        training.validation_seconds, training.most_bad_steps = validation_seconds, most_bad_steps
        return training

    return drive(run, checkpoint, begin, report, clock)


def resume(run: Path, **toy: Any) -> ToyCheckpoint:
    return go(run, load_to_resume(run, ToyCheckpoint, {}), **toy)


def stop_at(wanted: int) -> Callable[[str, int], None]:
    """Ctrl-C in batch number ``wanted``."""
    return lambda moment, step: os.kill(os.getpid(), signal.SIGINT) if (moment, step) == ("step", wanted) else None


def logged_steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / LOG_FILE).read_text().splitlines()]


def assert_equal(one: ToyCheckpoint, other: ToyCheckpoint) -> None:
    assert one.step == other.step
    for name in ("model", "average"):
        a, b = getattr(one, name), getattr(other, name)
        assert all(torch.equal(a[key], b[key]) for key in b), name
    moments = other.optimizer["state"]
    assert moments
    assert all(torch.equal(one.optimizer["state"][i]["exp_avg_sq"], moments[i]["exp_avg_sq"]) for i in moments)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    """50 steps without any interruption."""
    return go(tmp_path_factory.mktemp("whole"), first())


def test_a_training_ends_with_its_checkpoint_log_and_reports(tmp_path: Path) -> None:
    reports: Reports = []
    done = go(tmp_path, first(), reports, validation_seconds=20)
    assert [report.step for report in reports] == list(range(1, 51))
    assert (done.step, done.elapsed_seconds, done.validated) == (50, 50.0, 3)
    assert reports[-1].done == 1
    assert reports[-1].figures.loss < 0.1 * reports[0].figures.loss
    assert str(reports[-1]).startswith("step 50  loss ")
    assert str(reports[-1]).endswith("1.00 steps/s")
    lines = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 50]
    assert set(lines[0]) == {"step", "done", "elapsed_seconds", "loss", "rate"}
    saved = load(tmp_path, ToyCheckpoint)
    assert (saved.command, saved.settings, saved.validated) == ("a command", ToySettings(), 3)
    assert_equal(saved, done)
    assert not torch.equal(done.average["weight"], done.model["weight"])
    assert_equal(resume(tmp_path), done)  # nothing is left to do
    assert logged_steps(tmp_path) == [20, 40, 50]


def test_the_learning_rate_rises_then_falls_to_zero_and_groups_have_multiples(tmp_path: Path) -> None:
    reports: Reports = []
    go(tmp_path, first(steps=1000, checkpoint_seconds=1e7), reports)
    rates = [report.figures.rate for report in reports]
    assert rates[0] == 0
    assert rates[10] == pytest.approx(0.1 * 2 * 0.5)  # half way through the first 2 %
    assert rates[500] == pytest.approx(0.1 * 2 * 0.5)
    assert rates[999] == pytest.approx(0.1 * 2 * 0.001)


@pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, 1), (signal.SIGTERM, 33)])
@pytest.mark.parametrize("moment", ["step", "validate", "report", "replace", "saved"])
def test_a_signal_at_any_moment_leaves_the_checkpoint_of_the_last_step(
    tmp_path: Path,
    whole: ToyCheckpoint,
    moment: str,
    number: signal.Signals,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports: Reports = []

    def happens(now: str, step: int) -> None:
        if now == moment and step >= at and not sent:
            sent.append(step)
            os.kill(os.getpid(), number)

    def report(line: StepReport[ToyFigures]) -> None:
        reports.append(line)
        happens("report", line.step)

    def replace(source: Path, target: Path) -> None:
        happens("replace", len(reports))
        os_replace(source, target)

    sent: list[int] = []
    os_replace = os.replace
    monkeypatch.setattr(os, "replace", replace)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, first(checkpoint_seconds=12.0), report=report, happens=happens, validation_seconds=3)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    stopped = load(tmp_path, ToyCheckpoint)
    assert stopped.step == len(reports) <= sent[0] + 1
    resumed = resume(tmp_path, now=5.0)
    assert_equal(resumed, whole)
    assert resumed.elapsed_seconds == 50
    assert logged_steps(tmp_path) == [20, 40, 50]


def test_a_signal_in_the_last_step_interrupts_though_all_is_saved(tmp_path: Path, whole: ToyCheckpoint) -> None:
    def happens(moment: str, step: int) -> None:
        if (moment, step) == ("saved", 50):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, first(), happens=happens)
    assert_equal(load(tmp_path, ToyCheckpoint), whole)


def test_time_is_counted_over_resumptions(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, first(steps=None, seconds=12.0), happens=stop_at(3))
    assert (load(tmp_path, ToyCheckpoint).step, load(tmp_path, ToyCheckpoint).elapsed_seconds) == (4, 4.0)
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path, now=77.0, happens=stop_at(8))
    assert load(tmp_path, ToyCheckpoint).elapsed_seconds == 9.0
    done = resume(tmp_path, now=0.0)
    assert (done.step, done.elapsed_seconds) == (12, 12.0)
    assert logged_steps(tmp_path) == [12]


def child(run: Path, moment: str) -> NoReturn:
    """Train in ``run``; stand still at the third checkpoint, in the given moment, and say so."""
    count = 0

    def stand_still() -> NoReturn:
        print("here", flush=True)
        while True:
            signal.pause()

    def save(content: object, file: Any) -> None:
        nonlocal count
        count += 1
        torch_save(content, file)
        if count == 3 and moment == "half written":
            file.seek(0, os.SEEK_END)
            file.truncate(file.tell() // 2)
            file.flush()
            stand_still()

    def replace(source: Path, target: Path) -> None:
        if count == 3 and moment == "before it is replaced":
            stand_still()
        os_replace(source, target)
        if count == 3 and moment == "after it is replaced":
            stand_still()

    torch_save, os_replace = torch.save, os.replace
    patch = pytest.MonkeyPatch()
    patch.setattr(torch, "save", save)
    patch.setattr(os, "replace", replace)
    go(run, first())
    raise AssertionError("the third checkpoint never came")


@pytest.mark.parametrize(
    ("moment", "step"), [("half written", 16), ("before it is replaced", 16), ("after it is replaced", 24)]
)
def test_a_kill_during_a_checkpoint_leaves_the_old_or_the_new_one(
    tmp_path: Path, whole: ToyCheckpoint, moment: str, step: int
) -> None:
    code = f"from pathlib import Path; from {__name__} import child; child(Path({str(tmp_path)!r}), {moment!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": ":".join(map(str, PATHS))},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    with process.stdout:
        assert process.stdout.readline() == "here\n"
        process.kill()
    process.wait()
    assert load(tmp_path, ToyCheckpoint).step == step
    assert_equal(resume(tmp_path), whole)
    assert logged_steps(tmp_path) == [20, 40, 50]


def test_divergence_keeps_the_last_good_checkpoint(tmp_path: Path, whole: ToyCheckpoint) -> None:
    with pytest.raises(DivergedError, match=r"not finite in step 30;.*--learning-rate"):
        go(tmp_path, first(), bad=frozenset({29}))
    kept = load(tmp_path, ToyCheckpoint)
    assert kept.step == 24
    assert all(value.isfinite().all() for value in (*kept.model.values(), *kept.average.values()))
    assert_equal(resume(tmp_path), whole)  # had the step been a good one


def test_single_bad_steps_are_left_out_where_a_training_allows_them(tmp_path: Path) -> None:
    reports: Reports = []
    done = go(tmp_path / "one", first(), reports, bad=frozenset({8, 9, 20}), most_bad_steps=3)
    assert done.step == 50
    assert [report.step for report in reports if not math.isfinite(report.figures.loss)] == [9, 10, 21]
    assert all(value.isfinite().all() for value in (*done.model.values(), *done.average.values()))
    with pytest.raises(DivergedError, match="3 steps running"):
        go(tmp_path / "three", first(), bad=frozenset({8, 9, 10}), most_bad_steps=3)


def test_in_fp16_the_scale_of_the_loss_is_found_and_kept(tmp_path: Path) -> None:
    """A step whose gradient overflows is left out, and halves the scale; a resumed run goes on with it."""
    bad = frozenset({0, 1, 20})
    whole = go(tmp_path / "whole", first(precision="fp16"), bad=bad, most_bad_steps=3)
    assert whole.scaler["scale"] == 2.0**16 / 2 ** len(bad)
    plain = go(tmp_path / "plain", first(), bad=bad, most_bad_steps=3)
    assert plain.scaler == {}
    assert torch.allclose(whole.model["weight"], plain.model["weight"], atol=1e-5)  # powers of 2 divide exactly
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "stopped", first(precision="fp16"), bad=bad, most_bad_steps=3, happens=stop_at(10))
    assert load(tmp_path / "stopped", ToyCheckpoint).scaler["scale"] == 2.0**14
    resumed = resume(tmp_path / "stopped", bad=bad, most_bad_steps=3)
    assert_equal(resumed, whole)
    assert resumed.scaler == whole.scaler


def test_a_gradient_that_is_too_large_is_scaled_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []

    class Watched(Toy):
        largest_gradient = 0.01

        def validate(self, figures: ToyFigures) -> ToyFigures:
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            norms.append(nn.utils.get_total_norm(gradients).item())
            return figures

    drive(tmp_path, first(steps=1), lambda checkpoint: Watched(checkpoint, Clock()), lambda report: None)
    assert norms == [pytest.approx(0.01, rel=1e-3)]


def test_a_changed_setting_is_refused_by_name_unless_it_is_free(tmp_path: Path) -> None:
    go(tmp_path, first())
    with pytest.raises(SettingsError, match=r"--learning-rate: the run has 0.1, .* 0.2"):
        load_to_resume(tmp_path, ToyCheckpoint, {"learning_rate": 0.2})
    same = load_to_resume(tmp_path, ToyCheckpoint, {"learning_rate": 0.1, "checkpoint_seconds": 1.0})
    assert same.settings == ToySettings(checkpoint_seconds=1.0)
    with pytest.raises(RunError, match="go on with --resume"):
        check_new(tmp_path)


def test_checkpoints_of_another_kind_or_with_other_fields_are_refused(tmp_path: Path) -> None:
    class Other(ToyCheckpoint):
        FORMAT = "other/1"

    class Larger(ToyCheckpoint):
        @classmethod
        def of(cls, content: dict[str, Any]) -> "Larger":
            return super().of({**content, "unknown": 1})

    go(tmp_path, first(steps=1))
    with pytest.raises(RunError, match="another kind of training"):
        load(tmp_path, Other)
    with pytest.raises(RunError, match=r"damaged checkpoint: .*unknown"):
        load(tmp_path, Larger)
    with pytest.raises(RunError, match="no such file"):
        load(tmp_path / "nowhere", ToyCheckpoint)


@pytest.mark.parametrize(
    "end", ["", '{"step": 40}\n', '{"step": 40}\n{"step": 60}\n', '{"step": 3', '{"step": 20}', "\0\0\0", "[1]\n"]
)
def test_lines_after_the_checkpoint_are_written_once(tmp_path: Path, whole: ToyCheckpoint, end: str) -> None:
    """A kill may come between a line and the next checkpoint, and within a line."""
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, first(), happens=stop_at(29))
    with open(tmp_path / LOG_FILE, "a") as file:
        file.write(end)
    assert_equal(resume(tmp_path), whole)
    assert logged_steps(tmp_path) == [20, 40, 50]


def test_lines_are_on_the_disk_before_the_checkpoint_of_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(RunLog, "sync", lambda self: order.append("log"))
    monkeypatch.setattr("oneglance_exporter.training.driver.save", lambda run, state: order.append("checkpoint"))
    go(tmp_path, first(steps=20))
    assert order == ["log", "checkpoint"] * 3


def test_a_full_disk_is_a_run_error_and_the_old_checkpoint_stays(tmp_path: Path) -> None:
    """In a process of its own that may write no file above 100 kB."""
    code = f"""
import resource, signal, sys, torch
from pathlib import Path
from oneglance_exporter.errors import RunError
from oneglance_exporter.training.checkpoint import read, write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = Path({str(tmp_path)!r})
write(run, "toy", {{"step": 1}})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write(run, "toy", {{"step": 2, "weights": torch.zeros(1_000_000)}})
except RunError as error:
    assert "can't be written" in str(error)
    assert read(run, "toy") == {{"step": 1}}
    sys.exit(17)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 17, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    def begin(checkpoint: ToyCheckpoint) -> NoReturn:
        raise AssertionError("the work has begun")

    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="can't be written"):
            drive(run, first(), begin, lambda report: None)
    assert not (tmp_path / "file" / CHECKPOINT_FILE).exists()
