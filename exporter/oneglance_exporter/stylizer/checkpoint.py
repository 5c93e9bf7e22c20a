"""The run folder of a stylizer's training.

    checkpoint.pt           settings, styles, step, weights, their moving average, the optimizer; replaced as a whole
    log.jsonl               one line per 20 steps: J of the batch, its parts, and the moving mean of J by style
    sheets/step-N.png       photos by styles, one sheet per checkpoint

No random state is kept: every batch is a function of (seed, step).
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneglance_core.manifests import Style
from oneglance_exporter.errors import RunError, SettingsError
from oneglance_exporter.stylizer.network import Stylizer
from oneglance_exporter.stylizer.settings import StylizerSettings
from oneglance_exporter.training import checkpoint as files

_FORMAT = "oneglance-stylizer-run/1"
State = dict[str, Any]


@dataclass
class Checkpoint:
    """A training between two steps. ``average`` is the stylizer to export.

    fixed: how many of the styles, the first, are another run's and aren't trained. network: the loss network and its
    SHA-256. scale: of each style that is trained, the moving mean of J that the loss is divided by. betas: of all
    styles. before: steps of the runs it began with.
    """

    settings: StylizerSettings
    command: str
    styles: tuple[Style, ...]
    fixed: int
    network: tuple[str, str]
    step: int
    elapsed_seconds: float
    model: State
    average: State
    optimizer: State
    scale: list[float]
    betas: list[float]
    before: int = 0
    photos: int = 0

    def stylizer(self) -> Stylizer:
        """The averaged network, in eval mode."""
        model = Stylizer(len(self.styles))
        model.load_state_dict(self.average)
        return model.eval()


def save(run: Path, checkpoint: Checkpoint) -> None:
    """Replace the run's checkpoint so that a kill at any moment leaves the old or the new one. Raises RunError."""
    content = {field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}
    content["settings"] = checkpoint.settings.model_dump()
    content["styles"] = [style.model_dump() for style in checkpoint.styles]
    files.write(run, _FORMAT, content)


def load(run: Path) -> Checkpoint:
    """Read a run's checkpoint. Raises RunError when it is missing or damaged."""
    content = files.read(run, _FORMAT)
    try:
        settings = StylizerSettings(**content.pop("settings"))
        styles = tuple(Style(**style) for style in content.pop("styles"))
        content["network"] = tuple(content["network"])
        return Checkpoint(settings=settings, styles=styles, **content)
    except (KeyError, TypeError, ValueError, SettingsError) as error:
        raise RunError(f"{run / files.CHECKPOINT_FILE}: damaged checkpoint: {error}") from error
