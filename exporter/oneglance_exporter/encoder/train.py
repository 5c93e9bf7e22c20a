"""Train an encoder: draw a batch, encode it, take the loss. The loop around it is ``training.driver``."""

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneglance_core.folder import read_model_folder
from oneglance_core.trials import OneShotTrials, one_shot_error
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.encoder.backbones import backbone_digest
from oneglance_exporter.encoder.batches import batches_of
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint, Learner
from oneglance_exporter.encoder.data import Tell, TrainingData, read_training_data
from oneglance_exporter.encoder.made_for import made_for
from oneglance_exporter.encoder.network import encode
from oneglance_exporter.encoder.optimizer import optimizer_of
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.encoder.start import start_from
from oneglance_exporter.encoder.trials import one_shot_trials
from oneglance_exporter.errors import DivergedError
from oneglance_exporter.training.checkpoint import check_new, check_writable, load_to_resume, writing
from oneglance_exporter.training.driver import Clock, Reporter, Training, drive

_VALIDATION_TRIALS, _VALIDATION_WAYS = 4000, 20


@dataclass(frozen=True, slots=True)
class EncoderFigures:
    """One step. loss: of the batch. active_triplets: how many it was summed over; None for losses of other kinds.
    validation_error: the latest."""

    loss: float
    active_triplets: int | None
    validation_error: float | None

    def __str__(self) -> str:
        active = "" if self.active_triplets is None else f"  active triplets {self.active_triplets}"
        error = "" if self.validation_error is None else f"  one-shot error {self.validation_error:.1%}"
        return f"loss {self.loss:.4f}{active}{error}"


def train(
    settings: TrainSettings,
    run: Path,
    command: str,
    report: Reporter[EncoderFigures],
    tell: Tell = lambda line: None,
    clock: Clock = time.monotonic,
) -> EncoderCheckpoint:
    """Train a new encoder in the run folder ``run``. Returns the last checkpoint, which is saved.

    tell: hears what the data are like, what is lost on the way in, and what is left out. clock: of ``drive``.
    Raises RunError when ``run`` has a checkpoint already, SettingsError, DataError for unusable data, and as ``drive``.
    """
    check_new(run)
    check_writable(run)
    data = read_training_data(settings, run, tell)
    torch.manual_seed(settings.seed)
    classes = batches_of(data.examples, settings, lambda inputs: inputs).classes
    learner = Learner(settings, data.spec, classes)
    if data.spec.kind != "image":
        learner.encoder.scale_to(data.examples.inputs)
    if settings.init is not None:
        start_from(learner, Path(settings.init), tell)
    first = EncoderCheckpoint.first(
        settings,
        command,
        learner,
        optimizer_of(learner, settings),
        spec=data.spec,
        classes=classes,
        data_digest=data.identity.digest,
        network_digest=backbone_digest(settings),
        made_for=_made_for(data, settings),
    )
    with writing(run):
        data.identity.write(run)
    return drive(run, first, lambda checkpoint: EncoderTraining(checkpoint, data), report, clock)


def resume(
    run: Path,
    changed: Mapping[str, object],
    report: Reporter[EncoderFigures],
    tell: Tell = lambda line: None,
    clock: Clock = time.monotonic,
) -> EncoderCheckpoint:
    """Go on with the training in ``run``; ``changed`` holds the settings that were given anew. clock: of ``drive``.

    Raises RunError when there is nothing to resume or the data are others, SettingsError when a changed setting would
    make it another training, and as ``drive``.
    """
    checkpoint = load_to_resume(run, EncoderCheckpoint, changed)

    def begin(checkpoint: EncoderCheckpoint) -> EncoderTraining:
        data = read_training_data(checkpoint.settings, run, tell, checkpoint.spec)
        data.identity.check(run, checkpoint.data_digest)
        return EncoderTraining(checkpoint, data)

    return drive(run, checkpoint, begin, report, clock)


class EncoderTraining(Training[EncoderCheckpoint, EncoderFigures]):
    """The encoder's network, batches, loss and validation."""

    model: Learner
    average: Learner

    def __init__(self, checkpoint: EncoderCheckpoint, data: TrainingData) -> None:
        super().__init__(checkpoint)
        settings = checkpoint.settings
        self.model, self.average = checkpoint.learner(), checkpoint.learner().eval()
        if data.spec.axes == 2:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.optimizer = optimizer_of(self.model, settings)
        # By the average's copy, since the scale of arrays is a buffer, which stays as the checkpoint has it.
        self.batches = batches_of(data.examples, settings, self.average.encoder.prepared)
        self.validation = None if data.validation is None else _Validation.of(data.validation, settings.seed)
        self.validation_seconds, self.validation_steps = settings.validation_seconds, settings.validation_steps
        self._improved = False

    def step(self, step: int, done: float) -> tuple[Tensor, EncoderFigures]:
        settings = self.checkpoint.settings
        inputs, labels = self.batches(step)
        generator = torch.manual_seed((settings.seed << 32) + step)  # of all torch: a network may have dropout
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            encodings = self.model.encoder.encode(inputs)
        loss, active = self.model.loss(encodings, labels, generator)
        if not encodings.isfinite().all():  # no triplet is active then, and the loss would be 0
            loss = loss * math.nan
        return loss, EncoderFigures(loss.item(), active, self.checkpoint.validation_error)

    def validate(self, figures: EncoderFigures) -> EncoderFigures:
        state = self.checkpoint
        if self.validation is None:
            return figures
        error = state.validation_error = self.validation.error(self.average)
        self._improved = state.best_error is None or error < state.best_error
        if self._improved:
            state.best_error, state.best_step, state.since_best = error, state.step, 0
        else:
            state.since_best += 1
        return dataclasses.replace(figures, validation_error=error)

    def improved(self) -> bool:
        return self._improved

    def finished(self) -> bool:
        patience = self.checkpoint.settings.patience
        return patience is not None and self.checkpoint.since_best >= patience


@dataclass(frozen=True, slots=True)
class _Validation:
    """Examples that aren't trained on, and the trials that are drawn from them."""

    examples: Examples
    trials: OneShotTrials

    @classmethod
    def of(cls, examples: Examples, seed: int) -> "_Validation":
        ways = min(_VALIDATION_WAYS, int(np.bincount(examples.group_of).max()))
        return cls(examples, one_shot_trials(examples, _VALIDATION_TRIALS, ways, seed=seed))

    def error(self, learner: Learner) -> float:
        """One-shot error within groups, 20-way where the largest group has as many subjects. Raises DivergedError."""
        encodings = encode(learner.encoder, self.examples.inputs)
        if not np.isfinite(encodings).all():
            raise DivergedError("an encoding of --validation was not finite; try a lower --learning-rate")
        return one_shot_error(encodings, self.trials)


def _made_for(data: TrainingData, settings: TrainSettings) -> dict[str, object] | None:
    if settings.base is not None:
        found = read_model_folder(settings.base).manifest.made_for
        return None if found is None else found.model_dump(mode="json")
    if data.spec.kind != "image":
        return None
    described = ", ".join(Path(path).name for path in settings.data)
    return made_for(data.examples.inputs, described).model_dump(mode="json")
