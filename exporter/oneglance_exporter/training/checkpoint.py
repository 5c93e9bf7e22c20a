"""The run folder: where a training keeps what it needs to go on, whenever it was stopped.

    checkpoint.pt   settings, step, weights, their moving average, the optimizer; replaced as a whole
    log.jsonl       one line per report: step, loss, active triplets, validation error

No random state is kept: every batch is a function of (seed, step).
"""

import dataclasses
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from oneglance_core.files import replacing
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import RunError, SettingsError

CHECKPOINT_FILE = "checkpoint.pt"
LOG_FILE = "log.jsonl"
_FORMAT = "oneglance-run/1"
State = dict[str, Any]


@dataclass
class Checkpoint:
    """A training between two steps. ``average`` is the encoder to export."""

    settings: TrainSettings
    command: str
    step: int
    elapsed_seconds: float
    model: State
    average: State
    optimizer: State
    validation_error: float | None = None


def save(run: Path, checkpoint: Checkpoint) -> None:
    """Replace the run's checkpoint so that a kill at any moment leaves the old or the new one."""
    content = {field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}
    content["settings"] = checkpoint.settings.model_dump()
    write(run, _FORMAT, content)


def load(run: Path) -> Checkpoint:
    """Read a run's checkpoint. Raises RunError when it is missing or damaged."""
    content = read(run, _FORMAT)
    try:
        return Checkpoint(settings=TrainSettings(**content.pop("settings")), **content)
    except (KeyError, TypeError, ValueError, SettingsError) as error:
        raise RunError(f"{run / CHECKPOINT_FILE}: damaged checkpoint: {error}") from error


def write(run: Path, format: str, content: State) -> None:
    """Replace the run's checkpoint file as a whole. Raises RunError."""
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        with replacing(run / CHECKPOINT_FILE) as fresh, fresh.open("wb") as file:
            torch.save({**content, "format": format}, file)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise RunError when what is done inside can't write to ``folder``."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{folder}: can't be written: {error}") from error


def read(run: Path, format: str) -> State:
    """What ``write`` wrote. Raises RunError when it is missing, damaged, or of another format."""
    path = run / CHECKPOINT_FILE
    if not path.is_file():
        raise RunError(f"{path}: no such file; is {run} the --out of a training?")
    try:
        content: State = torch.load(path, map_location="cpu", weights_only=True)
        found = content.pop("format")
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: damaged checkpoint: {error}") from error
    except pickle.UnpicklingError as error:
        raise RunError(f"{path}: damaged checkpoint: not written by torch.save") from error
    if found != format:
        raise RunError(f"{path}: a checkpoint of {found}, not of {format}: another kind of training, or version")
    return content
