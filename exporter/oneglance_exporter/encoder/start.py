"""Begin with weights that were learned before: a run's, a state dict's, or those of an ONNX graph."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint, Learner
from oneglance_exporter.encoder.data import Tell
from oneglance_exporter.encoder.graph_weights import check_same, is_graph, read_graph, take_folded
from oneglance_exporter.encoder.pair_losses import PairLoss
from oneglance_exporter.errors import WeightsError
from oneglance_exporter.training.checkpoint import load

_Find = Callable[[str], Tensor | None]  # a weight of an Encoder, by its name


def start_from(learner: Learner, source: Path, inputs: npt.NDArray[Any], tell: Tell) -> None:
    """Take the weights of ``source`` over, where name and shape agree, and tell which stay new.

    source: a run folder, whose averaged weights are taken; a state dict (.pt, .pth) of the network inside the encoder
    or of the whole encoder; or an ONNX file (.onnx), or the model folder of one, that ``export`` wrote. A run's or a
    model folder's pair head is taken, too, for the same loss. inputs: examples of the training, [N, *shape].
    Raises WeightsError when none agrees, RunError for an unusable run, ModelFolderError for an unusable model folder.
    """
    if is_graph(source):
        _from_graph(learner, source, inputs, tell)
    elif source.is_dir():
        run = load(source, EncoderCheckpoint)
        _told(learner, source, _taken(learner, source, _found_in(run.average)), tell)
        if isinstance(learner.loss, PairLoss) and run.settings.loss == learner.loss.head.form:
            _take_head(learner.loss, run.average["loss.head.weight"], run.average["loss.head.bias"])
    else:
        _told(learner, source, _taken(learner, source, _found_in(_state_dict(source))), tell)


def _from_graph(learner: Learner, source: Path, inputs: npt.NDArray[Any], tell: Tell) -> None:
    given, encoder = read_graph(source), learner.encoder
    folded = take_folded(encoder, given, inputs)
    taken = folded | _taken(learner, source, given.find, besides=folded)
    _told(learner, source, taken, tell)
    if folded:
        tell(f"--init {source}: batch norms, which its graph has no more, have statistics of this training's examples")
    head = given.pair_head
    if head is not None and isinstance(learner.loss, PairLoss) and learner.loss.head.form == head.form:
        _take_head(learner.loss, torch.from_numpy(head.weights.unpack()), torch.tensor(head.bias))
    if _learned(learner) <= taken:
        check_same(encoder, given, inputs[:4])
    encoder.train()


def _learned(learner: Learner) -> set[str]:
    """Names of the weights and statistics that a start can give; how many batches were seen is no weight."""
    return {name for name in learner.encoder.state_dict() if not name.endswith("num_batches_tracked")}


def _taken(learner: Learner, source: Path, find: _Find, besides: set[str] | frozenset[str] = frozenset()) -> set[str]:
    """The names of those that ``find`` gives, and that have the shape of the network's; the network has them then."""
    taken: dict[str, Tensor] = {}
    for name, value in learner.encoder.state_dict().items():
        found = None if name in besides else find(name)
        if found is not None and found.shape == value.shape:
            taken[name] = found
    if not any(name.startswith("backbone.") for name in (*taken, *besides)):
        raise WeightsError(f"--init {source}: none of its weights has the name and the shape of one of the network's")
    learner.encoder.load_state_dict(taken, strict=False)
    return set(taken)


def _found_in(given: dict[str, Tensor]) -> _Find:
    def find(name: str) -> Tensor | None:
        names = (f"encoder.{name}", name, name.removeprefix("backbone."))
        return next((given[one] for one in names if one in given), None)

    return find


def _take_head(loss: PairLoss, weight: Tensor, bias: Tensor) -> None:
    if weight.shape == loss.head.weight.shape:
        with torch.no_grad():
            loss.head.weight.copy_(weight)
            loss.head.bias.copy_(bias)


def _told(learner: Learner, source: Path, taken: set[str], tell: Tell) -> None:
    own = learner.encoder.state_dict()
    new = [name for name in own if name not in taken]
    stay = f"; new: {', '.join(new[:4])}{', ...' if len(new) > 4 else ''}" if new else ""
    tell(f"--init {source}: {len(own) - len(new)} of {len(own)} weights taken{stay}")


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
