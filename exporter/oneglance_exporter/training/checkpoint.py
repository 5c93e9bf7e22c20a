"""A checkpoint: the file from which a training goes on, whenever and however it was stopped.

It is ``checkpoint.pt`` in the run folder, replaced as a whole; ``best.pt`` beside it is one, too.

No random state is in it: every batch is a function of
(seed, step), so a resumed run takes the batches that an uninterrupted one would have taken.
"""

import copy
import dataclasses
import io
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import nn

from oneglance_core.files import replacing
from oneglance_exporter.errors import RunError, SettingsError
from oneglance_exporter.training.settings import TrainingSettings

CHECKPOINT_FILE = "checkpoint.pt"
BEST_FILE = "best.pt"
State = dict[str, Any]


@dataclass
class Checkpoint:
    """A training between two steps. Each kind of training has its own class, which adds fields.

    FORMAT: written into the file; a file of another format is refused. SETTINGS: the class of ``settings``.
    FREE: the settings that may be changed when a run is resumed.
    command: the command line that began the run. step: steps done. elapsed_seconds: time spent on them, over all
    resumptions. model, average, optimizer: state dicts; ``average`` has the moving average of the weights, which is
    what is exported. scaler: state of the loss's scale, in fp16; else empty.
    """

    FORMAT: ClassVar[str]
    SETTINGS: ClassVar[type[TrainingSettings]]
    FREE: ClassVar[frozenset[str]]

    settings: TrainingSettings
    command: str
    step: int
    elapsed_seconds: float
    model: State
    average: State
    optimizer: State
    scaler: State = field(default_factory=dict, kw_only=True)

    @classmethod
    def first(
        cls, settings: TrainingSettings, command: str, model: nn.Module, optimizer: torch.optim.Optimizer, **own: Any
    ) -> Self:
        """The checkpoint before the first step. own: the fields that this class adds."""
        return cls(
            settings=settings,
            command=command,
            step=0,
            elapsed_seconds=0.0,
            model=model.state_dict(),
            average=copy.deepcopy(model.state_dict()),
            optimizer=optimizer.state_dict(),
            **own,
        )

    def content(self) -> State:
        """The fields as ``torch.load(weights_only=True)`` accepts them: tensors, numbers, texts and collections."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**content, "settings": self.settings.model_dump()}

    @classmethod
    def of(cls, content: State) -> Self:
        """From what ``content`` returned. Raises TypeError, KeyError, ValueError or SettingsError for
        anything else."""
        return cls(**{**content, "settings": cls.SETTINGS(**content["settings"])})


C = TypeVar("C", bound=Checkpoint)


def save(run: Path, checkpoint: Checkpoint, name: str = CHECKPOINT_FILE) -> None:
    """Replace the run's checkpoint. A kill at any moment leaves the old one or the new one. Raises RunError."""
    write(run, checkpoint.FORMAT, checkpoint.content(), name)


def load(run: Path, kind: type[C], name: str = CHECKPOINT_FILE) -> C:
    """Read a run's checkpoint. Raises RunError when it is missing, damaged, or another kind of training's."""
    content = read(run, kind.FORMAT, name)
    try:
        return kind.of(content)
    except (KeyError, TypeError, ValueError, AttributeError, SettingsError) as error:
        raise RunError(f"{run / name}: damaged checkpoint: {error}") from error


def load_to_resume(run: Path, kind: type[C], changed: Mapping[str, object]) -> C:
    """Read a run's checkpoint, with the settings in ``changed`` replaced.

    Raises RunError as ``load``, and SettingsError, naming the setting, when one is changed that isn't free.
    """
    checkpoint = load(run, kind)
    checkpoint.settings = checkpoint.settings.resumed(changed, kind.FREE)
    return checkpoint


def check_new(run: Path) -> None:
    """Raise RunError when ``run`` has a checkpoint already."""
    if (run / CHECKPOINT_FILE).exists():
        raise RunError(f"{run}: holds a training already; go on with --resume, or choose another --out")


def check_writable(run: Path) -> None:
    """Make the run folder. Raises RunError when nothing can be written to it."""
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run):
            pass


def write(run: Path, format: str, content: State, name: str = CHECKPOINT_FILE) -> None:
    """Replace the run's checkpoint file as a whole. Raises RunError."""
    file = io.BytesIO()  # torch.save hides a file's OSError behind a RuntimeError of its own
    torch.save({**content, "format": format}, file)
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        with replacing(run / name) as fresh:
            fresh.write_bytes(file.getbuffer())


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise RunError when what is done inside can't write to ``folder``."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{folder}: can't be written: {error}") from error


def read(run: Path, format: str, name: str = CHECKPOINT_FILE) -> State:
    """What ``write`` wrote. Raises RunError when it is missing, damaged, or of another format."""
    path = run / name
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
