"""The exporter's command line, and a training of some steps."""

from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
Cli = Callable[..., int]
PATH = ":".join(str(PROJECT / part) for part in ("core", "exporter"))


def train_arguments(data: Path, run: Path, steps: int) -> list[str]:
    small = "--classes-per-batch 8 --examples-per-class 2 --dimension 16 --checkpoint-seconds 0"
    return ["train", "encoder", "--data", str(data), "--out", str(run), "--steps", str(steps), *small.split()]
