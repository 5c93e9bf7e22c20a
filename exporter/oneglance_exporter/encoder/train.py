"""Train an encoder: draw a batch, encode it, take the loss. The loop around it is ``training.driver``."""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneglance_core.folder import read_model_folder
from oneglance_core.pair_head import PairHead
from oneglance_core.trials import Encodings, OneShotTrials, one_shot_error
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.device import usable_device
from oneglance_exporter.encoder.backbones import backbone_digest
from oneglance_exporter.encoder.batches import batches_of
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint, Learner
from oneglance_exporter.encoder.data import Tell, TrainingData, read_training_data
from oneglance_exporter.encoder.learning import learner_on
from oneglance_exporter.encoder.made_for import made_for
from oneglance_exporter.encoder.network import encode
from oneglance_exporter.encoder.optimizer import fix_layers, optimizer_of
from oneglance_exporter.encoder.pair_fit import PairFit, platt, sampled_pairs
from oneglance_exporter.encoder.pair_losses import PairLoss
from oneglance_exporter.encoder.pieces import seed_of, with_graph
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.encoder.start import start_from
from oneglance_exporter.encoder.trials import one_shot_trials
from oneglance_exporter.encoder.workers import Workers
from oneglance_exporter.errors import DivergedError, RunError, SettingsError
from oneglance_exporter.training.checkpoint import check_new, check_writable, load_to_resume, writing
from oneglance_exporter.training.driver import Clock, Reporter, Training, drive

_VALIDATION_TRIALS, _VALIDATION_WAYS = 4000, 20
_MOST_BAD_STEPS_FP16 = 20


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
    device = usable_device(settings.device, processes=settings.processes)
    data = read_training_data(settings, run, tell)
    torch.manual_seed(settings.seed)
    classes = batches_of(data.examples, settings, lambda inputs: inputs).classes
    learner = Learner(settings, data.spec, classes)
    if data.spec.kind != "image":
        learner.encoder.scale_to(data.examples.inputs)
    if settings.init is not None:
        start_from(learner, Path(settings.init), data.examples.inputs, tell)
    fix_layers(learner, settings)
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
    with _enough_memory(), Workers(first, device) as workers:
        return drive(run, first, lambda checkpoint: EncoderTraining(checkpoint, data, workers, device), report, clock)


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
    device = usable_device(checkpoint.settings.device, processes=checkpoint.settings.processes)
    with _enough_memory(), Workers(checkpoint, device) as workers:

        def begin(checkpoint: EncoderCheckpoint) -> EncoderTraining:
            data = read_training_data(checkpoint.settings, run, tell, checkpoint.spec)
            data.identity.check(run, checkpoint.data_digest)
            return EncoderTraining(checkpoint, data, workers, device)

        return drive(run, checkpoint, begin, report, clock)


class EncoderTraining(Training[EncoderCheckpoint, EncoderFigures]):
    """The encoder's network, batches, loss and validation."""

    model: Learner
    average: Learner

    def __init__(
        self, checkpoint: EncoderCheckpoint, data: TrainingData, workers: Workers, device: torch.device
    ) -> None:
        super().__init__(checkpoint)
        settings = checkpoint.settings
        self.workers, self.device = workers, device
        self.model = learner_on(checkpoint, device)
        self.average = checkpoint.learner().to(device).eval()
        self.optimizer = optimizer_of(self.model, settings)
        preparer = checkpoint.preparer().to(device)
        self.batches = batches_of(data.examples, settings, lambda inputs: preparer.prepared(inputs.to(device)))
        if settings.precision == "fp16":  # the scale of the loss is found by steps that are left out
            self.most_bad_steps = _MOST_BAD_STEPS_FP16
        self.validation = None if data.validation is None else _Validation.of(data.validation, settings.seed)
        self.validation_seconds, self.validation_steps = settings.validation_seconds, settings.validation_steps
        self._improved = False

    def step(self, step: int, done: float) -> tuple[Tensor, EncoderFigures]:
        settings = self.checkpoint.settings
        inputs, labels = self.batches(step)
        if len(inputs) < settings.processes * settings.accumulate:
            raise SettingsError(
                f"--processes and --accumulate make more pieces than a batch has examples: {len(inputs)}"
            )
        encodings = with_graph(self.workers.encoded(self.model.encoder, inputs, step))
        generator = torch.Generator(self.device).manual_seed(seed_of(settings, step))
        loss, active = self.model.loss(encodings, labels.to(self.device), generator)
        if not encodings.isfinite().all():  # no triplet is active then, and the loss would be 0
            loss = loss * math.nan
        return loss, EncoderFigures(loss.item(), active, self.checkpoint.validation_error)

    def validate(self, figures: EncoderFigures) -> EncoderFigures:
        state = self.checkpoint
        if self.validation is None:
            return figures
        encodings = self.validation.encodings(self.average)
        error = state.validation_error = self.validation.error(encodings)
        if isinstance(self.average.loss, PairLoss):
            fit = self.validation.pair_fit(encodings, self.average.loss.head.served())
            state.pair_fit = None if fit is None else {**dataclasses.asdict(fit), "step": state.step}
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


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"the card has too little memory for a batch: raise --accumulate; what was saved before stays ({error})"
        ) from error


@dataclass(frozen=True, slots=True)
class _Validation:
    """Examples that aren't trained on, and the trials that are drawn from them."""

    examples: Examples
    trials: OneShotTrials

    @classmethod
    def of(cls, examples: Examples, seed: int) -> "_Validation":
        ways = min(_VALIDATION_WAYS, int(np.bincount(examples.group_of).max()))
        return cls(examples, one_shot_trials(examples, _VALIDATION_TRIALS, ways, seed=seed))

    def encodings(self, learner: Learner) -> Encodings:
        """float32 [N, D]. Raises DivergedError."""
        encodings = encode(learner.encoder, self.examples.inputs)
        if not np.isfinite(encodings).all():
            raise DivergedError("an encoding of --validation was not finite; try a lower --learning-rate")
        return encodings

    def error(self, encodings: Encodings) -> float:
        """One-shot error within groups, 20-way where the largest group has as many subjects."""
        return one_shot_error(encodings, self.trials)

    def pair_fit(self, encodings: Encodings, head: PairHead) -> PairFit | None:
        """What makes the head's y a probability; None where there are no pairs of both kinds."""
        pairs = sampled_pairs(encodings, self.examples.subject_of)
        return None if pairs is None else platt(head.logits(pairs.first, pairs.second).astype(np.float64), pairs.same)


def _made_for(data: TrainingData, settings: TrainSettings) -> dict[str, object] | None:
    if settings.base is not None:
        found = read_model_folder(settings.base).manifest.made_for
        return None if found is None else found.model_dump(mode="json")
    if data.spec.kind != "image":
        return None
    described = ", ".join(Path(path).name for path in settings.data)
    return made_for(data.examples.inputs, described).model_dump(mode="json")
