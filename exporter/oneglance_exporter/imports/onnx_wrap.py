"""Wrap an encoder's graph: from the picture itself, uint8 [N, H, W, C], to encodings, float32 [N, D], for any N."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
from onnx import TensorProto, helper, numpy_helper

from oneglance_core.manifests import MAX_DIMENSION
from oneglance_core.sessions.checks import apart
from oneglance_exporter.errors import DataError, ExportError
from oneglance_exporter.imports.onnx_settings import Contract
from oneglance_exporter.runtime import encoder_of

_PREFIX = "net/"
_CHECKED_BATCHES = (1, 2, 5)

Encodings = npt.NDArray[np.float32]


class DependentError(ExportError):
    """Raised when a graph's encoding of a picture depends on the other pictures of its batch."""


def free_batch(
    source: onnx.ModelProto,
    contract: Contract,
    size: tuple[int, int],
    unit_norm: bool,
    images: npt.NDArray[np.uint8],
    expected: Encodings,
    tolerance: float,
) -> bytes:
    """The wrapped graph, which takes any batch size and was seen to return ``expected``.

    First as the graph is, then without the batch size that many exporters write into Reshape nodes.
    """
    failure: ExportError | None = None
    for model in (source, _reshape_any_batch(source)):
        wrapped = _wrap(model, contract, size, expected.shape[1], unit_norm)
        try:
            _check_wrapped(wrapped, images, expected, tolerance)
        except ExportError as error:
            failure = failure or error
        else:
            return wrapped
    if isinstance(failure, DependentError):
        raise failure
    raise ExportError(f"the graph can't take several pictures at once: {failure}") from failure


def _reshape_any_batch(source: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each Reshape to the fixed batch size keeps its input's first dimension instead."""
    model = onnx.ModelProto()
    model.CopyFrom(source)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for i, node in enumerate(model.graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        target = numpy_helper.to_array(constants[node.input[1]]).copy()
        if target.ndim == 1 and len(target) and target[0] == batch:
            target[0] = 0  # as in the input
            name = f"oneglance/reshape{i}"
            model.graph.initializer.append(numpy_helper.from_array(target, name))
            node.input[1] = name
    return model


def _wrap(model: onnx.ModelProto, contract: Contract, size: tuple[int, int], dimension: int, unit_norm: bool) -> bytes:
    """The graph from uint8 [N, H, W, C] to float32 [N, D], N free."""
    try:
        graph = onnx.compose.add_prefix_graph(model.graph, _PREFIX)
    except (TypeError, ValueError) as error:
        raise DataError("a name in the graph is no text") from error
    inner, last = graph.input[0], graph.output[0].name
    weights: list[onnx.TensorProto] = []

    def node(op: str, takes: str, gives: str, constant: npt.NDArray[Any] | None = None, **attributes: Any) -> None:
        names = [takes]
        if constant is not None:
            names.append(f"{gives}/constant")
            weights.append(numpy_helper.from_array(constant, names[1]))
        nodes.append(helper.make_node(op, names, [gives], name=f"oneglance/{gives}", **attributes))

    nodes: list[onnx.NodeProto] = []
    channel_axis = 1 if contract.layout == "nchw" else 3
    broadcast = (-1, 1, 1) if contract.layout == "nchw" else (-1,)
    node("Transpose", "input", "pixels", perm=[0, 3, 1, 2] if contract.layout == "nchw" else [0, 1, 2, 3])
    order = np.arange(contract.channels)[:: -1 if contract.color == "bgr" else 1]
    node("Gather", "pixels", "channels", np.ascontiguousarray(order), axis=channel_axis)
    node("Cast", "channels", "float", to=TensorProto.FLOAT)
    node("Sub", "float", "centred", np.array(contract.mean, np.float32).reshape(broadcast))
    node("Mul", "centred", "scaled", np.array(contract.scale, np.float32).reshape(broadcast))
    node("Cast", "scaled", inner.name, to=inner.type.tensor_type.elem_type)
    before, nodes = nodes, []
    node("Flatten", last, "flat", axis=1)
    node("Cast", "flat", "raw" if unit_norm else "encoding", to=TensorProto.FLOAT)
    if unit_norm:
        node("LpNormalization", "raw", "encoding", axis=1, p=2)

    wrapped = helper.make_graph(
        [*before, *graph.node, *nodes],
        "encoder",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["N", *size, contract.channels])],
        [helper.make_tensor_value_info("encoding", TensorProto.FLOAT, ["N", dimension])],
        [*graph.initializer, *weights],
    )
    wrapped.sparse_initializer.extend(graph.sparse_initializer)
    whole = helper.make_model(
        wrapped, opset_imports=model.opset_import, ir_version=model.ir_version, functions=model.functions
    )
    return whole.SerializeToString(deterministic=True)


def _check_wrapped(graph: bytes, images: npt.NDArray[np.uint8], expected: Encodings, tolerance: float) -> None:
    """Raise ExportError unless ``graph`` gives each picture its own encoding, at every batch size."""
    run = encoder_of(graph, threads=1)
    for batch in _CHECKED_BATCHES:
        wrong = apart(answer(run, images[:batch]), expected[:batch], tolerance)
        if wrong and batch > 1:
            raise DependentError(f"an encoding depends on the others of its batch: at batch size {batch}, {wrong}")
        if wrong:
            raise ExportError(f"its answers differ from those of the original graph: {wrong}")


def answer(run: Callable[[Any], Any], inputs: npt.NDArray[Any]) -> Encodings:
    """float32 [N, D] of one run. Raises ExportError when the graph fails or returns something else."""
    try:
        found = np.asarray(run(inputs))
    except Exception as error:  # ONNX Runtime's own classes have no common base but this
        raise ExportError(f"the graph doesn't run at batch size {len(inputs)}: {error}") from error
    if found.dtype.kind != "f" or found.ndim < 2 or found.size != len(inputs) * max(found.shape[1:]):
        shape = f"{found.dtype} {list(found.shape)}"
        raise ExportError(f"the graph returns {shape} for {len(inputs)} pictures; an encoding is float [N, D]")
    if found.shape[0] != len(inputs):
        raise ExportError(f"the graph returns {found.shape[0]} rows for {len(inputs)} pictures")
    if not 1 <= max(found.shape[1:]) <= MAX_DIMENSION:
        raise ExportError(f"the graph returns {max(found.shape[1:]):,} numbers; an encoding has 1 to {MAX_DIMENSION:,}")
    return found.reshape(len(inputs), -1).astype(np.float32)
