"""Train an encoder: draw a batch, encode it, take the triplet loss. The loop around it is ``training.driver``."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from oneglance_core.trials import OneShotTrials, one_shot_error
from oneglance_exporter.data import Pictures, read_pictures
from oneglance_exporter.encoder.batches import Batches
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.loss import TripletLoss
from oneglance_exporter.encoder.made_for import made_for
from oneglance_exporter.encoder.network import INPUT, Encoder, encode
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.encoder.trials import one_shot_trials
from oneglance_exporter.training.checkpoint import check_new, load_to_resume
from oneglance_exporter.training.driver import Reporter, Training, drive

_VALIDATION_TRIALS, _VALIDATION_WAYS = 4000, 20


@dataclass(frozen=True, slots=True)
class EncoderFigures:
    """One step. loss: of the batch. active_triplets: how many it was summed over. validation_error: the latest."""

    loss: float
    active_triplets: int
    validation_error: float | None

    def __str__(self) -> str:
        error = "" if self.validation_error is None else f"  one-shot error {self.validation_error:.1%}"
        return f"loss {self.loss:.4f}  active triplets {self.active_triplets}{error}"


def train(settings: TrainSettings, run: Path, command: str, report: Reporter[EncoderFigures]) -> EncoderCheckpoint:
    """Train a new encoder in the run folder ``run``. Returns the last checkpoint, which is saved.

    Raises RunError when ``run`` has a checkpoint already, DataError for unusable pictures, and as ``drive``.
    """
    check_new(run)
    torch.manual_seed(settings.seed)
    model = Encoder(settings.dimension)
    start = EncoderCheckpoint.first(settings, command, model, _optimizer(model, settings))
    return drive(run, start, EncoderTraining, report)


def resume(run: Path, changed: dict[str, object], report: Reporter[EncoderFigures]) -> EncoderCheckpoint:
    """Go on with the training in ``run``; ``changed`` holds the settings that were given anew.

    Raises RunError when there is nothing to resume, SettingsError when a changed setting would make it another
    training, and as ``drive``.
    """
    return drive(run, load_to_resume(run, EncoderCheckpoint, changed), EncoderTraining, report)


class EncoderTraining(Training[EncoderCheckpoint, EncoderFigures]):
    """The encoder's network, batches, loss and validation. Raises DataError for unusable pictures."""

    model: Encoder
    average: Encoder

    def __init__(self, checkpoint: EncoderCheckpoint) -> None:
        super().__init__(checkpoint)
        settings = checkpoint.settings
        pictures = read_pictures(settings.data, INPUT)
        described = ", ".join(Path(path).name for path in settings.data)
        checkpoint.made_for = made_for(pictures.images, described).model_dump(mode="json")
        self.batches = Batches(
            pictures,
            settings.classes_per_batch,
            settings.examples_per_class,
            settings.procedural,
            settings.composite,
            settings.seed,
        )
        self.validation = _Validation.read(settings)
        self.validation_seconds = settings.validation_seconds
        self.model = Encoder(settings.dimension)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.average = Encoder(settings.dimension).eval()
        self.optimizer = _optimizer(self.model, settings)
        self.loss_of = TripletLoss(settings.margin)

    def step(self, step: int, done: float) -> tuple[Tensor, EncoderFigures]:
        ink, labels = self.batches(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.checkpoint.settings.precision == "bf16"):
            encodings = self.model.encode_ink(ink)
        loss, active = self.loss_of(encodings, labels)
        return loss, EncoderFigures(loss.item(), active, self.checkpoint.validation_error)

    def validate(self, figures: EncoderFigures) -> EncoderFigures:
        if self.validation is None:
            return figures
        self.checkpoint.validation_error = self.validation.error(self.average)
        return dataclasses.replace(figures, validation_error=self.checkpoint.validation_error)


def _optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    # Batch norm's scales and all biases are left undecayed.
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


@dataclass(frozen=True, slots=True)
class _Validation:
    """Pictures that aren't trained on, and the trials that are drawn from them."""

    pictures: Pictures
    trials: OneShotTrials

    @classmethod
    def read(cls, settings: TrainSettings) -> "_Validation | None":
        if not settings.validation:
            return None
        pictures = read_pictures(settings.validation, INPUT)
        ways = min(_VALIDATION_WAYS, int(np.bincount(pictures.group_of).max()))
        return cls(pictures, one_shot_trials(pictures, _VALIDATION_TRIALS, ways, seed=settings.seed))

    def error(self, model: Encoder) -> float:
        """One-shot error within groups, 20-way where the largest group has as many subjects."""
        return one_shot_error(encode(model, self.pictures.images), self.trials)
