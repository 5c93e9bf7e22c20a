"""What one step of an encoder's training tells: a line of its log, and of its progress."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """``done`` is in [0, 1]; ``validation_error`` is the latest, if any."""

    step: int
    done: float
    elapsed_seconds: float
    loss: float
    active_triplets: int
    validation_error: float | None

    def __str__(self) -> str:
        error = "" if self.validation_error is None else f"  one-shot error {self.validation_error:.1%}"
        rate = self.step / max(self.elapsed_seconds, 1e-9)
        return (
            f"step {self.step}  loss {self.loss:.4f}  active triplets {self.active_triplets}  {rate:.1f} steps/s{error}"
        )
