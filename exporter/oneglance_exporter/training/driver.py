"""The training loop, the same for every kind of network.

The driver owns the clock, the stop signals, the learning rate, the moving average of the weights, the log, the
checkpoints and the progress reports. A kind of training supplies a ``Training``: its network, its optimizer and
``step``.

A run can be stopped at any moment by Ctrl-C, SIGTERM or kill -9, and resumed. With ``--steps`` a resumed run ends with
exactly the weights of an uninterrupted one. With ``--seconds`` it doesn't, since the clock decides how many steps fit.

The run folder:

    checkpoint.pt   all that is needed to go on (``training.checkpoint``)
    best.pt         the same, of the step whose measurement on data not trained on was the best; none without such data
    log.jsonl       a line for every 20th step and the last: step, done, elapsed_seconds and the training's figures
    log.csv         the same lines as a table
    tensorboard/    the same for TensorBoard, if it was asked for
"""

import dataclasses
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from oneglance_exporter.errors import DivergedError
from oneglance_exporter.training.checkpoint import BEST_FILE, C, State, save
from oneglance_exporter.training.log import RunLog
from oneglance_exporter.training.signals import stop_signals

_WARMUP = 0.02  # share of the training in which the learning rate rises from 0
_LOG_STEPS = 20


class Figures(Protocol):
    """Numbers about one step: a dataclass, whose fields go to the log, and whose ``str`` is shown to the user."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


F = TypeVar("F", bound=Figures)


@dataclass(frozen=True, slots=True)
class StepReport(Generic[F]):
    """A step that was done, for ``Progress.step`` and for the log.

    step: how many are done. done: the share of the training, in [0, 1]. remaining_seconds: to its end at the present
    speed; None while that isn't known.
    """

    step: int
    done: float
    elapsed_seconds: float
    figures: F
    remaining_seconds: float | None = None

    def __str__(self) -> str:
        left = f"  {_duration(self.remaining_seconds)} left" if self.remaining_seconds else ""
        return f"step {self.step}  {self.figures}  {self.step / max(self.elapsed_seconds, 1e-9):.2f} steps/s{left}"

    def line(self) -> dict[str, object]:
        """The line of the log."""
        times = {"step": self.step, "done": self.done, "elapsed_seconds": self.elapsed_seconds}
        return {**times, **dataclasses.asdict(self.figures)}


Reporter = Callable[[StepReport[F]], None]
"""Called after every step of a training: ``Reporter[EncoderFigures]``."""

Clock = Callable[[], float]
"""Seconds, never falling: ``time.monotonic``, or ``time.process_time`` to count the work and not the waiting."""


class Training(ABC, Generic[C, F]):
    """One kind of training: what the driver doesn't know.

    checkpoint: where the training begins; the driver keeps it up to date, except for the fields that its class adds:
    ``step`` and ``validate`` set those. model: the network, in training mode. average: the same network in eval mode,
    whose weights the driver sets. optimizer: over the model's parameters; a parameter group with the key "times"
    gets that multiple of the learning rate. The weights that these three have at first don't matter: the checkpoint's
    replace them.
    """

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer

    largest_gradient: float = math.inf
    """A gradient of a larger L2 norm, over all parameters, is scaled down to this."""
    most_bad_steps: int = 1
    """The training ends after so many steps running whose loss or gradient isn't finite; fewer are left out."""
    validation_seconds: float = math.inf
    """Time between two calls of ``validate``."""
    validation_steps: int | None = None
    """Steps between two calls of ``validate``, instead of ``validation_seconds``: so resumed runs measure the same."""

    def __init__(self, checkpoint: C) -> None:
        self.checkpoint = checkpoint

    @abstractmethod
    def step(self, step: int, done: float) -> tuple[Tensor, F]:
        """The loss of batch number ``step``, a scalar with its graph, and figures about it.

        The batch must depend on the seed and ``step`` only. done: share of the training before this step, in [0, 1).
        """

    def validate(self, figures: F) -> F:
        """Measure ``average`` on data that isn't trained on; returns ``figures`` with the result.

        Called every ``validation_seconds`` or ``validation_steps``, and after the last step. Raises DivergedError.
        """
        return figures

    def improved(self) -> bool:
        """Whether the last ``validate`` gave the best result so far: its checkpoint is kept as ``best.pt``."""
        return False

    def finished(self) -> bool:
        """Whether to stop before the end, since nothing gets better any more. Asked before every step."""
        return False

    def checkpoint_saved(self, run: Path) -> None:
        """Called after each checkpoint, to write what belongs beside it: pictures to look at."""


def drive(
    run: Path,
    checkpoint: C,
    begin: Callable[[C], Training[C, F]],
    report: Reporter[F],
    clock: Clock = time.monotonic,
) -> C:
    """Train from ``checkpoint`` to the end, in the folder ``run``. Returns the last checkpoint, which is saved.

    Args:
        begin: makes the Training; called when ``run`` is known to be writable, since it may read data for minutes.
        report: called after every step.
        clock: what ``--seconds`` and the times between checkpoints and measurements are counted by.

    Raises RunError when ``run`` can't be written; DivergedError when the loss stays NaN or infinite, or a weight is,
    the last checkpoint, in which all is finite, being kept; KeyboardInterrupt after SIGINT or SIGTERM, once the
    checkpoint is saved.
    """
    torch.set_num_threads(checkpoint.settings.threads)
    with RunLog(run, checkpoint.step, tensorboard=checkpoint.settings.tensorboard) as log:
        training = begin(checkpoint)
        training.model.load_state_dict(checkpoint.model)
        training.average.load_state_dict(checkpoint.average)
        training.optimizer.load_state_dict(checkpoint.optimizer)
        with stop_signals() as stopped:
            _loop(run, training, log, report, clock, stopped)
            if stopped():
                raise KeyboardInterrupt
    return checkpoint


def _loop(
    run: Path,
    training: Training[C, F],
    log: RunLog,
    report: Reporter[F],
    clock: Clock,
    stopped: Callable[[], bool],
) -> None:
    """Step until the training is done or ``stopped``. The checkpoint of the last step is saved, then."""
    model, average, optimizer = training.model, training.average, training.optimizer
    state, settings = training.checkpoint, training.checkpoint.settings
    begun, before = clock(), state.elapsed_seconds
    scaler = torch.amp.GradScaler(_device_of(model), enabled=settings.precision == "fp16")
    if state.scaler:
        scaler.load_state_dict(state.scaler)
    saved = validated = begun
    saved_step, bad_steps, stopping = state.step, 0, False
    first_done = settings.progress(state.step, state.elapsed_seconds)

    def diverged(what: str) -> DivergedError:
        kept = f"the checkpoint of step {saved_step} is kept" if saved_step else "there is no checkpoint yet"
        return DivergedError(f"{what}; try a lower --learning-rate ({kept})")

    while not stopping and (done := settings.progress(state.step, state.elapsed_seconds)) < 1:
        if training.finished():
            break
        _set_learning_rate(optimizer, settings.learning_rate * min(done / _WARMUP, 1 - done))
        loss, figures = training.step(state.step, done)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), training.largest_gradient)
        finite = math.isfinite(loss.item()) and math.isfinite(norm.item())
        bad_steps = 0 if finite else bad_steps + 1
        if bad_steps == training.most_bad_steps:
            where = f"step {state.step + 1}" if bad_steps == 1 else f"{bad_steps} steps running"
            raise diverged(f"the loss or its gradient was not finite in {where}")
        if finite:
            scaler.step(optimizer)
        scaler.update()
        if not _finite(model.state_dict()):
            raise diverged(f"a weight was not finite after step {state.step + 1}")
        _move_average(average, model, min(settings.average, (1 + state.step) / (10 + state.step)))

        now = clock()
        state.step, state.elapsed_seconds = state.step + 1, before + now - begun
        done = settings.progress(state.step, state.elapsed_seconds)
        improved = False
        if done >= 1 or _validates(training, state.step, now - validated):
            figures, validated = training.validate(figures), now
            improved = training.improved()
        last = done >= 1 or training.finished()
        remaining = (now - begun) * (1 - done) / (done - first_done) if done > first_done and not last else None
        told = StepReport(state.step, done, state.elapsed_seconds, figures, remaining)
        report(told)
        if last or state.step % _LOG_STEPS == 0:
            log.write(told.line())
        stopping = stopped()  # asked once: a signal after this line is for the next step
        if last or stopping or improved or now - saved > settings.checkpoint_seconds:
            log.sync()
            state.model, state.average = model.state_dict(), average.state_dict()
            state.optimizer, state.scaler = optimizer.state_dict(), scaler.state_dict()
            if not _finite({"average": state.average, "optimizer": state.optimizer}):
                raise diverged(f"the moving average or the optimizer's moments were not finite at step {state.step}")
            if improved:
                save(run, state, BEST_FILE)
            save(run, state)
            training.checkpoint_saved(run)
            saved, saved_step = clock(), state.step


def _device_of(model: nn.Module) -> str:
    return next(parameter.device.type for parameter in model.parameters())


def _validates(training: Training[C, F], step: int, seconds: float) -> bool:
    """Whether it is time for another ``validate``, ``seconds`` after the last one."""
    if training.validation_steps is not None:
        return step % training.validation_steps == 0
    return seconds > training.validation_seconds


def _finite(state: State) -> bool:
    """Whether no number in a state dict, however nested, is NaN or infinite."""
    floats = [value for value in _tensors(state) if value.is_floating_point() and value.numel()]
    return not floats or math.isfinite(nn.utils.get_total_norm(floats, math.inf).item())


def _tensors(state: Any) -> Iterable[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _tensors(value)


def _duration(seconds: float) -> str:
    minutes = round(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {round(seconds) % 60:02d} s" if minutes else f"{round(seconds)} s"


def _set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("times", 1.0)


@torch.no_grad()
def _move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * model, for weights and for the statistics of batch norm."""
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])
