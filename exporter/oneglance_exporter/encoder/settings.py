"""What a training is told: each default is stated here, and the command line is made from this table."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from oneglance_exporter.errors import SettingsError


def option(default: Any, text: str, metavar: str | None = None) -> Any:
    """A setting's default, its line of help, and what stands for its value there if not the type's own."""
    return field(default=default, metadata={"help": text, "metavar": metavar})


class Training:
    """What the settings of every training have: when to stop, in what precision, from which seed."""

    steps: int | None
    seconds: float | None
    precision: Literal["fp32", "bf16"]
    seed: int

    def progress(self, step: int, elapsed_seconds: float) -> float:
        """How much of the training is done, in [0, 1]; --steps decides where both limits are given."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        return min(elapsed_seconds / (self.seconds or 1.0), 1.0)

    def resumed(self, changed: Mapping[str, object], free: Set[str]) -> Self:
        """With what was ``changed``, of which all but the ``free`` must be as it was. Raises SettingsError."""
        for name, value in changed.items():
            if name not in free and getattr(self, name) != value:
                raise SettingsError(
                    f"--{name.replace('_', '-')}: the run has {getattr(self, name)!r}, "
                    f"and resuming can't change it to {value!r}"
                )
        return replace(self, **{name: value for name, value in changed.items() if name in free})  # type: ignore[type-var]

    def check(self) -> None:
        """Raises SettingsError."""
        if self.steps is None and self.seconds is None:
            raise SettingsError("say when to stop: --steps or --seconds")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"--seed must be in [0, 2**32), got {self.seed}")
        if self.precision not in ("fp32", "bf16"):
            raise SettingsError(f"--precision must be fp32 or bf16, got {self.precision}")


@dataclass(frozen=True)
class TrainSettings(Training):
    """Settings of ``train encoder``. Raises SettingsError for values out of range."""

    data: tuple[str, ...] = option((), "folders or zips of .../subject/*.png|jpg to learn from")
    validation: tuple[str, ...] = option((), "the same, only measured now and then, never learned from")
    steps: int | None = option(None, "stop after so many batches")
    seconds: float | None = option(None, "stop after so many seconds of training (without --steps)")
    margin: float = option(0.2, "alpha of the triplet loss, squared L2")
    dimension: int = option(128, "numbers per encoding")
    classes_per_batch: int = option(64, "P: classes in a batch")
    examples_per_class: int = option(4, "K: examples of each class in a batch")
    procedural: float = option(0.2, "share of a batch's classes that are invented characters")
    composite: float = option(0.25, "share of a batch's classes that are two drawings on one paper")
    learning_rate: float = option(3e-3, "AdamW's highest; falls linearly to 0")
    weight_decay: float = option(0.05, "AdamW's decay of the weights")
    average: float = option(0.998, "decay of the weights' moving average, which is what is exported")
    precision: Literal["fp32", "bf16"] = option(
        "fp32", "fp32, or bf16 (autocast; about twice as fast on a CPU with avx512_bf16 or AMX)"
    )
    seed: int = option(0, "decides first weights and every batch")
    threads: int = option(1, "torch threads")
    checkpoint_seconds: float = option(60.0, "time between checkpoints")
    validation_seconds: float = option(120.0, "time between measurements on --validation")

    def __post_init__(self) -> None:
        self.check()
        for name in ("steps", "dimension", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"--{name} must be at least 1, got {value}")
        for name in ("seconds", "margin", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingsError(f"--{name.replace('_', '-')} must be above 0, got {value}")
        if not 0 <= self.average < 1:
            raise SettingsError(f"--average must be in [0, 1), got {self.average}")
