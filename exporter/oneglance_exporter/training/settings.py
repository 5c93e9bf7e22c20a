"""The settings that every kind of training has: when to stop, in what precision, from which seed."""

from collections.abc import Mapping, Set
from typing import Self

from pydantic import Field, model_validator

from oneglance_core.flags import flag_name
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.settings import DEVICE, CommandSettings, DeviceName


class TrainingSettings(CommandSettings):
    """Those of every training. Each kind states its own defaults of ``learning_rate`` and ``checkpoint_seconds``, and
    the ``precision`` that it knows: fp32, bf16 or fp16."""

    learning_rate: float
    checkpoint_seconds: float
    steps: int | None = Field(None, ge=1, description="stop after so many batches")
    seconds: float | None = Field(None, gt=0, description="stop after so many seconds of training (without --steps)")
    average: float = Field(
        0.998, ge=0, lt=1, description="decay of the weights' moving average, which is what is exported"
    )
    precision: str = "fp32"
    device: DeviceName = Field("cpu", description=DEVICE)
    seed: int = Field(0, ge=0, lt=2**32, description="decides first weights and every batch")
    threads: int = Field(1, ge=1, description="torch threads, of each process")
    tensorboard: bool = Field(
        False,
        description="write the log for TensorBoard, too, in RUN_DIR/tensorboard: pip install 'oneglance[tensorboard]'",
    )

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.steps is None and self.seconds is None:
            raise ValueError("say when to stop: --steps or --seconds")
        return self

    def progress(self, step: int, elapsed_seconds: float) -> float:
        """How much of the training is done, in [0, 1]; --steps decides where both limits are given."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        return min(elapsed_seconds / (self.seconds or 1.0), 1.0)

    def resumed(self, changed: Mapping[str, object], free: Set[str]) -> Self:
        """With what was ``changed``, of which all but the ``free`` must be as it was. Raises SettingsError."""
        new = type(self)(**{**dict(self), **changed})
        for name in changed:
            was, asked = getattr(self, name), getattr(new, name)
            if name not in free and was != asked:
                raise SettingsError(
                    f"{flag_name(name)}: the run has {was!r}, and resuming can't change it to {asked!r}"
                )
        return new
