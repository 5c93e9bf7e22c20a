"""Begin with weights that were learned before: a run's, or a state dict's."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint, Learner
from oneglance_exporter.encoder.data import Tell
from oneglance_exporter.errors import WeightsError
from oneglance_exporter.training.checkpoint import load


def start_from(learner: Learner, source: Path, tell: Tell) -> None:
    """Take the weights of ``source`` over, where name and shape agree, and tell which stay new.

    source: a run folder, whose averaged weights are taken, or a state dict (.pt, .pth) of the network inside the
    encoder or of the whole encoder. Raises WeightsError when none agrees, RunError for an unusable run.
    """
    given = load(source, EncoderCheckpoint).average if source.is_dir() else _state_dict(source)
    own = learner.encoder.state_dict()
    taken: dict[str, Tensor] = {}
    for name, value in own.items():
        names = (f"encoder.{name}", name, name.removeprefix("backbone."))
        found = next((given[one] for one in names if one in given), None)
        if found is not None and found.shape == value.shape:
            taken[name] = found
    if not any(name.startswith("backbone.") for name in taken):
        raise WeightsError(f"--init {source}: none of its weights has the name and the shape of one of the network's")
    learner.encoder.load_state_dict(taken, strict=False)
    new = [name for name in own if name not in taken]
    stay = f"; new: {', '.join(new[:4])}{', ...' if len(new) > 4 else ''}" if new else ""
    tell(f"--init {source}: {len(taken)} of {len(own)} weights taken{stay}")


def _state_dict(file: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(f"--init {file}: no state dict of torch: {str(error).splitlines()[0]}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"--init {file}: no state dict of torch: names and tensors are needed")
    return content
