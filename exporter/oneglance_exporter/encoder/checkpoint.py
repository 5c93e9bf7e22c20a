"""The checkpoint of an encoder's training."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import nn

from oneglance_core.manifests import InputSpec
from oneglance_exporter.encoder.backbones import backbone, backbone_digest
from oneglance_exporter.encoder.losses import loss_of
from oneglance_exporter.encoder.network import Encoder
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import RunError
from oneglance_exporter.training.checkpoint import Checkpoint, State


class Learner(nn.Module):
    """What is trained: the encoder, and the loss, which may have weights of its own."""

    def __init__(self, settings: TrainSettings, spec: InputSpec, classes: int) -> None:
        super().__init__()
        positive = settings.loss == "chi-square"
        self.encoder = Encoder(spec, backbone(settings, spec), positive, settings.views)
        self.loss = loss_of(settings, classes)


@dataclass
class EncoderCheckpoint(Checkpoint):
    """An encoder's training between two steps.

    spec: what the encoder takes. classes: of the data. data_digest: of the data (``data.identity``). network_digest: of
    the file with the user's own network, or of the base; else empty. made_for: the MadeFor of the training pictures, as
    JSON values; None for arrays. validation_error: the latest, in [0, 1]; None before the first. best_error, best_step:
    the lowest, and after how many steps. since_best: how often it was measured since. pair_fit: of a pair head, the
    latest PairFit on --validation, as JSON values, with the step it was made after.
    """

    FORMAT: ClassVar[str] = "oneglance-run/2"
    SETTINGS: ClassVar[type[TrainSettings]] = TrainSettings
    FREE: ClassVar[frozenset[str]] = frozenset(
        {
            "data",
            "validation",
            "finders",
            "memory_bytes",
            "device",
            "processes",
            "threads",
            "tensorboard",
            "patience",
            "checkpoint_seconds",
            "validation_seconds",
            "validation_steps",
        }
    )

    settings: TrainSettings
    spec: InputSpec
    classes: int
    data_digest: str
    network_digest: str
    made_for: dict[str, Any] | None = None
    validation_error: float | None = None
    best_error: float | None = None
    best_step: int | None = None
    since_best: int = 0
    pair_fit: dict[str, Any] | None = None

    def content(self) -> State:
        return {**super().content(), "spec": self.spec.model_dump()}

    @classmethod
    def of(cls, content: State) -> Self:
        return super().of({**content, "spec": InputSpec(**content["spec"])})

    def learner(self) -> Learner:
        """A new one, whose weights don't matter. Raises RunError when the user's own network isn't what it was."""
        if backbone_digest(self.settings) != self.network_digest:
            changed = self.settings.base or self.settings.network
            raise RunError(f"{changed}: is not what it was when the run began")
        return Learner(self.settings, self.spec, self.classes)

    def preparer(self) -> Encoder:
        """Without a network: for ``Encoder.prepared`` only, with the scale that arrays are given."""
        encoder = Encoder(self.spec, nn.Identity())
        scale = {name: self.average[f"encoder.{name}"] for name in encoder.state_dict()}
        encoder.load_state_dict(scale)
        return encoder

    def encoder(self) -> Encoder:
        """The averaged network, in eval mode."""
        return self.averaged().encoder

    def averaged(self) -> Learner:
        """The averaged encoder and loss, in eval mode."""
        learner = self.learner()
        learner.load_state_dict(self.average)
        return learner.eval()
