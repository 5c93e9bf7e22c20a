"""The checkpoint of an encoder's training."""

from dataclasses import dataclass
from typing import Any, ClassVar

from oneglance_exporter.encoder.network import Encoder
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.training.checkpoint import Checkpoint


@dataclass
class EncoderCheckpoint(Checkpoint):
    """An encoder's training between two steps.

    validation_error: the latest, in [0, 1]; None before the first. made_for: the MadeFor of the training pictures, as
    JSON values; None in a checkpoint that was made without.
    """

    FORMAT: ClassVar[str] = "oneglance-run/1"
    SETTINGS: ClassVar[type[TrainSettings]] = TrainSettings
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"data", "validation", "threads", "checkpoint_seconds", "validation_seconds"}
    )

    settings: TrainSettings
    validation_error: float | None = None
    made_for: dict[str, Any] | None = None

    def encoder(self) -> Encoder:
        """The averaged network, in eval mode."""
        model = Encoder(self.settings.dimension)
        model.load_state_dict(self.average)
        return model.eval()
