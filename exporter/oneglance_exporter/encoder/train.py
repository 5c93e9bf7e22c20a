"""Train the encoder: draw a batch, find its semi-hard triplets, step, average. One loop.

A run can be stopped by Ctrl-C, SIGTERM or kill -9 and resumed. With ``--steps`` a resumed run ends
with exactly the weights of an uninterrupted one; with ``--seconds`` the clock decides how many steps
fit, so it does not.
"""

import copy
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from oneglance_core.measures import OneShotTrials, one_shot_error
from oneglance_exporter.data import Pictures, read_pictures
from oneglance_exporter.encoder.batches import Batches
from oneglance_exporter.encoder.loss import TripletLoss
from oneglance_exporter.encoder.network import INPUT, Encoder
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.encoder.training_step import TrainingStep
from oneglance_exporter.encoder.trials import one_shot_trials
from oneglance_exporter.errors import RunError
from oneglance_exporter.training import checkpoint as checkpoints
from oneglance_exporter.training.checkpoint import Checkpoint
from oneglance_exporter.training.loop import move_average, stop_signals

# Settings that a resumed run may change without becoming another run.
_FREE = {"data", "validation", "threads", "checkpoint_seconds", "validation_seconds"}
_WARMUP = 0.02  # share of the training in which the learning rate rises from 0


def train(settings: TrainSettings, run: Path, command: str, report: Callable[[TrainingStep], None]) -> Checkpoint:
    """Train a new encoder into the run folder ``run``. Returns the last checkpoint, saved.

    Raises RunError when ``run`` has a checkpoint already, DataError for unusable pictures, and
    KeyboardInterrupt after a signal, once the checkpoint is written.
    """
    if (run / checkpoints.CHECKPOINT_FILE).exists():
        raise RunError(f"{run}: holds a training already; go on with --resume, or choose another --out")
    torch.manual_seed(settings.seed)
    model = Encoder(settings.dimension)
    optimizer = _optimizer(model, settings)
    start = Checkpoint(
        settings=settings,
        command=command,
        step=0,
        elapsed_seconds=0.0,
        model=model.state_dict(),
        average=copy.deepcopy(model.state_dict()),
        optimizer=optimizer.state_dict(),
    )
    return _run(start, run, report)


def resume(run: Path, changed: dict[str, object], report: Callable[[TrainingStep], None]) -> Checkpoint:
    """Go on with the training in ``run``; ``changed`` holds settings that were given anew.

    Raises RunError when there is nothing to resume, SettingsError when a changed setting would make
    it another training.
    """
    start = checkpoints.load(run)
    start.settings = start.settings.resumed(changed, _FREE)
    return _run(start, run, report)


def _run(state: Checkpoint, run: Path, report: Callable[[TrainingStep], None]) -> Checkpoint:
    settings = state.settings
    torch.set_num_threads(settings.threads)
    pictures = read_pictures(settings.data, INPUT)
    batches = Batches(
        pictures,
        settings.classes_per_batch,
        settings.examples_per_class,
        settings.procedural,
        settings.composite,
        settings.seed,
    )
    validation = _Validation.read(settings)

    model = Encoder(settings.dimension)
    model.load_state_dict(state.model)
    average = Encoder(settings.dimension).eval()
    average.load_state_dict(state.average)
    optimizer = _optimizer(model, settings)
    optimizer.load_state_dict(state.optimizer)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    loss_of = TripletLoss(settings.margin)
    with checkpoints.writing(run):
        run.mkdir(parents=True, exist_ok=True)
        log = open(run / checkpoints.LOG_FILE, "a")  # noqa: SIM115  # closed below

    begun, before = time.monotonic(), state.elapsed_seconds
    saved = measured = begun
    with log, stop_signals() as stopped:
        while (done := settings.progress(state.step, state.elapsed_seconds)) < 1 and not stopped():
            rate = settings.learning_rate * min(done / _WARMUP, 1 - done)
            for group in optimizer.param_groups:
                group["lr"] = rate
            ink, labels = batches(state.step)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
                encodings = model.encode_ink(ink)
            loss, active = loss_of(encodings, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            move_average(average, model, min(settings.average, (1 + state.step) / (10 + state.step)))

            now = time.monotonic()
            state.step, state.elapsed_seconds = state.step + 1, before + now - begun
            finished = settings.progress(state.step, state.elapsed_seconds) >= 1
            if validation and (finished or now - measured > settings.validation_seconds):
                state.validation_error, measured = validation.error(average), now
            line = TrainingStep(
                step=state.step,
                done=settings.progress(state.step, state.elapsed_seconds),
                elapsed_seconds=state.elapsed_seconds,
                loss=loss.item(),
                active_triplets=active,
                validation_error=state.validation_error,
            )
            report(line)
            if state.step % 20 == 0 or finished:
                with checkpoints.writing(run):
                    log.write(json.dumps(dataclasses.asdict(line)) + "\n")
                    log.flush()
            if finished or stopped() or now - saved > settings.checkpoint_seconds:
                state.model, state.average = model.state_dict(), average.state_dict()
                state.optimizer, saved = optimizer.state_dict(), now
                checkpoints.save(run, state)
        if stopped():
            raise KeyboardInterrupt
    return state


def _optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    # Batch norm's scales and all biases are left undecayed.
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


@dataclasses.dataclass(frozen=True)
class _Validation:
    pictures: Pictures
    trials: OneShotTrials

    @classmethod
    def read(cls, settings: TrainSettings) -> "_Validation | None":
        if not settings.validation:
            return None
        pictures = read_pictures(settings.validation, INPUT)
        largest = int(np.bincount(pictures.group_of).max())
        return cls(pictures, one_shot_trials(pictures, 4000, min(20, largest), seed=settings.seed))

    def error(self, model: Encoder) -> float:
        """One-shot error, up to 20-way, on 4,000 trials."""
        return one_shot_error(encode(model, self.pictures.images), self.trials)


@torch.no_grad()
def encode(model: Encoder, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Encode uint8 [N, H, W, 1] -> float32 [N, D] in blocks, with the model as it is (eval or not)."""
    blocks = [model(torch.from_numpy(images[i : i + 256])).numpy() for i in range(0, len(images), 256)]
    return np.concatenate(blocks)
