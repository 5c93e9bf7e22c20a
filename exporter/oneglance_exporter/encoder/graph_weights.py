"""Weights out of an ONNX graph that ``export`` wrote, for a network that is trained on.

The graph keeps the names of the network's weights. Batch norms are not in it: the tracer folds each into the
convolution before it, so their scales and statistics are lost. They are made anew: statistics of the training's own
examples, and scales and shifts that then give the convolution's answer. So the network encodes as the graph does, and
trains on as if it had those statistics from before.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from oneglance_core.folder import read_model_folder
from oneglance_core.manifests import PairHeadPart
from oneglance_core.sessions.checks import apart
from oneglance_exporter.encoder.network import Encoder, encode
from oneglance_exporter.errors import WeightsError
from oneglance_exporter.runtime import encoder_of

SUFFIX = ".onnx"
_FOLDED = "_bias"  # what the tracer calls the bias that it makes of a batch norm, after the convolution's weight
_PREFIXES = ("", "head/", "base/")  # of a graph that is a head on a base, too
_EXAMPLES = 512
_TOLERANCE = 1e-3
_Norm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True, slots=True)
class GraphWeights:
    """What an ONNX file holds: ``weights`` by name, and its bytes. ``pair_head``: of its model folder, if it is in
    one. takes: sizes of an input, 0 where they are free. positive: no number of an encoding is below 0, it seems."""

    path: Path
    graph: bytes
    weights: Mapping[str, Tensor]
    pair_head: PairHeadPart | None
    takes: tuple[int, ...]
    positive: bool

    def find(self, name: str) -> Tensor | None:
        """Of a weight of an Encoder; None where the graph has none of that name."""
        short = name.removeprefix("backbone.")
        names = (prefix + one for one in (name, short) for prefix in _PREFIXES)
        return next((self.weights[one] for one in names if one in self.weights), None)


def is_graph(source: Path) -> bool:
    """Whether it is an ONNX file or a model folder."""
    return source.suffix == SUFFIX or (source / "manifest.json").is_file()


def read_graph(source: Path) -> GraphWeights:
    """Of an ONNX file, or an encoder's model folder. Raises WeightsError, ModelFolderError."""
    pair_head = None
    if source.is_dir():
        folder = read_model_folder(source)
        graph, pair_head = folder.model, folder.manifest.pair_head
    else:
        try:
            graph = source.read_bytes()
        except OSError as error:
            raise WeightsError(f"--init {source}: can't be read: {error}") from error
    try:
        model = onnx.load_model_from_string(graph)
        held = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in model.graph.initializer}
        takes = tuple(one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim)[1:]
    except Exception as error:  # onnx's own classes, numpy's and protobuf's
        raise WeightsError(f"--init {source}: no ONNX with its weights inside: {_line(error)}") from error
    return GraphWeights(source, graph, held, pair_head, takes, any(n.op_type == "Softplus" for n in model.graph.node))


def take_folded(encoder: Encoder, given: GraphWeights, inputs: npt.NDArray[Any]) -> set[str]:
    """Make anew the batch norms that the graph has folded away. inputs: examples [N, *shape] of the training.

    Returns the names of the weights that were set, the convolutions' included.
    """
    taken: set[str] = set()
    norms: list[tuple[_Norm, Tensor]] = []
    for conv_name, conv, norm_name, norm in _folded(encoder, given):
        weight, bias = given.find(f"{conv_name}.weight"), given.find(f"{conv_name}.weight{_FOLDED}")
        assert weight is not None
        assert bias is not None
        with torch.no_grad():
            conv.weight.copy_(weight)
        _set(norm, torch.zeros_like(bias), torch.ones_like(bias), bias)
        norms.append((norm, bias))
        taken |= {f"{conv_name}.weight"} | {f"{norm_name}.{name}" for name in norm.state_dict()}
    for (norm, bias), statistics in zip(norms, _statistics(encoder, norms, inputs) if norms else (), strict=True):
        _set(norm, *statistics, bias)
    return taken


def check_same(encoder: Encoder, given: GraphWeights, inputs: npt.NDArray[Any]) -> None:
    """Raise WeightsError unless ``encoder``, all of whose weights were taken, encodes ``inputs`` as the graph does.

    A graph that takes other inputs, as with its base, or makes positive encodings where this doesn't, isn't compared.
    """
    if given.takes != encoder.spec.shape or given.positive != encoder.positive:
        return
    if wrong := apart(encode(encoder.eval(), inputs), encoder_of(given.graph, threads=1)(inputs), _TOLERANCE):
        raise WeightsError(
            f"--init {given.path}: the network with its weights gives other encodings ({wrong}): it is another "
            "network, or its batch norms, which the graph has folded into convolutions, can't be told apart again; "
            "begin with the run or a state dict"
        )


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _folded(encoder: Encoder, given: GraphWeights) -> Iterator[tuple[str, Any, str, _Norm]]:
    """Convolutions with the batch norms that were folded into them: a convolution's is the next one."""
    before: tuple[str, Any] | None = None
    for name, module in encoder.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            before = (name, module)
        elif isinstance(module, _Norm) and before is not None:
            conv_name, conv = before
            weight, bias = given.find(f"{conv_name}.weight"), given.find(f"{conv_name}.weight{_FOLDED}")
            same = weight is not None and weight.shape == conv.weight.shape and conv.bias is None
            if (
                same
                and bias is not None
                and bias.shape == (module.num_features,)
                and given.find(f"{name}.weight") is None
            ):
                yield conv_name, conv, name, module
            before = None


@torch.no_grad()
def _set(norm: _Norm, mean: Tensor, variance: Tensor, bias: Tensor) -> None:
    """These statistics, and the scale and the shift with which x becomes x + bias."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(bias + mean)


@torch.no_grad()
def _statistics(
    encoder: Encoder, norms: list[tuple[_Norm, Tensor]], inputs: npt.NDArray[Any]
) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance of what comes into each norm, by channel, over some of the inputs."""
    some = inputs[:: -(-len(inputs) // _EXAMPLES)]
    seen: dict[int, list[Tensor]] = {id(norm): [] for norm, _ in norms}

    def see(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        values = given[0].double()
        axes = [0, *range(2, values.ndim)]
        count = torch.tensor(float(values.numel() / values.shape[1]))
        seen[id(norm)].append(torch.stack([values.sum(axes), (values**2).sum(axes), count.expand(values.shape[1])]))

    hooks = [norm.register_forward_pre_hook(see) for norm, _ in norms]
    encode(encoder.eval(), np.ascontiguousarray(some))
    for hook in hooks:
        hook.remove()
    found = []
    for norm, _ in norms:
        total, squares, count = torch.stack(seen[id(norm)]).sum(0)
        mean = total / count
        found.append((mean.float(), (squares / count - mean**2).clamp_min(0).float()))
    return found
