"""A graph in 16 bits: half the bytes; twice as fast, or more, where the processor multiplies float16 (cards do).

All from the first product (of matrices, a convolution, a recurrence) to the last one is float16. What stands before,
which scales the input, and after, which brings an encoding to unit norm, stays float32: squares of larger numbers leave
float16's range, of +-65,504. Inputs and outputs keep their types.

A processor without float16 computes all of it in float32, so what it answers doesn't tell what a card will.
``rounded_graph`` does: it is for measuring only.
"""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import EncoderManifest
from oneglance_exporter.errors import ExportError, SettingsError

_PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN")
_MOST = float(np.finfo(np.float16).max)
_FLOAT_INPUTS = {"Resize": (1, 2)}  # that ONNX has in float32 only


def fp16_graph(folder: ModelFolder[EncoderManifest]) -> bytes:
    """The folder's graph in 16 bits, as ONNX bytes; equal graphs make equal bytes.

    Raises SettingsError for a graph that isn't all float32, ExportError for one that can't be converted.
    """
    return _converted(folder, _Conversion)


def rounded_graph(folder: ModelFolder[EncoderManifest]) -> bytes:
    """As ``fp16_graph``, but in float32, each weight and each result rounded to 16 bits: what cards answer, which sum
    in float32 and keep results in float16. Raises as that."""
    return _converted(folder, _Rounding)


def _converted(folder: ModelFolder[EncoderManifest], kind: "type[_Conversion]") -> bytes:
    model = onnx.load_model_from_string(folder.model)
    nodes = list(model.graph.node)
    if any(node.op_type.endswith("QuantizeLinear") for node in nodes) or any(
        tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer
    ):
        raise SettingsError(f"{folder.path}: is quantised already")
    products = [number for number, node in enumerate(nodes) if node.op_type in _PRODUCTS]
    if not products:
        raise ExportError(f"{folder.path}: there is no product in the graph to compute in 16 bits")
    if any(attribute.HasField("g") or attribute.graphs for node in nodes for attribute in node.attribute):
        raise ExportError(f"{folder.path}: a graph with branches or loops isn't converted to 16 bits")
    try:
        kind(model, folder.path.name).convert(products[0], products[-1])
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{folder.path}: can't be converted to 16 bits: {error}") from error
    return model.SerializeToString(deterministic=True)


class _Conversion:
    """Casts on the way into the 16 bits and out, one for each tensor; weights and constants are converted.

    half: by the name of a float32 tensor, that of its float16 one. computed: those that are there in 16 bits only.
    """

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self._graph, self._name = model.graph, name
        inferred = shape_inference.infer_shapes(model).graph
        values = (*inferred.input, *inferred.value_info, *inferred.output)
        self._floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._weights = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
        self._half: dict[str, str] = {}
        self._computed: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []

    def convert(self, first: int, last: int) -> None:
        """The nodes from ``first`` to ``last``."""
        for number, node in enumerate(self._graph.node):
            if first <= number <= last:
                self._inside(node)
            else:
                self._wanted(node.input)
                self._nodes.append(node)
        self._wanted([output.name for output in self._graph.output])
        nodes = list(self._nodes)
        used = {name for node in nodes for name in node.input}
        weights = [tensor for tensor in self._graph.initializer if tensor.name in used]
        for field, values in (("node", nodes), ("initializer", weights), ("value_info", [])):
            self._graph.ClearField(field)
            getattr(self._graph, field).extend(values)

    def _inside(self, node: onnx.NodeProto) -> None:
        kept = _FLOAT_INPUTS.get(node.op_type, ())
        self._wanted([name for number, name in enumerate(node.input) if number in kept])
        node.input[:] = [name if number in kept else self._halved(name) for number, name in enumerate(node.input)]
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(self._rounded(attribute.t, attribute.t.name))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
        for number, name in enumerate(node.output):
            if name in self._floats:
                node.output[number] = self._half[name] = f"{name}/16"
                self._computed.add(name)
        self._nodes.append(node)

    def _cast(self, name: str, to: str, kind: int) -> None:
        self._nodes.append(helper.make_node("Cast", [name], [to], to=kind))

    def _wanted(self, names: Iterable[str]) -> None:
        """In float32."""
        for name in self._computed.intersection(names):
            self._cast(self._half[name], name, TensorProto.FLOAT)
            self._computed.discard(name)

    def _halved(self, name: str) -> str:
        """The name of it in 16 bits; of what isn't float32, its own."""
        if name not in self._half and name in self._weights:
            self._half[name] = f"{name}/16"
            self._graph.initializer.append(self._rounded(self._weights[name], self._half[name]))
        elif name not in self._half and name in self._floats:
            self._half[name] = f"{name}/16"
            self._cast(name, self._half[name], TensorProto.FLOAT16)
        return self._half.get(name, name)

    def _rounded(self, tensor: TensorProto, name: str) -> TensorProto:
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0.0) > _MOST:
            raise ExportError(f"{self._name}: weights of {tensor.name} pass {_MOST:,.0f}, the largest in 16 bits")
        return numpy_helper.from_array(values.astype(np.float16), name)


class _Rounding(_Conversion):
    """The same, in float32: a tensor's ``half`` is it after rounding. ONNX Runtime leaves out casts that it adds
    itself, never those of a graph."""

    def _inside(self, node: onnx.NodeProto) -> None:
        kept = _FLOAT_INPUTS.get(node.op_type, ())
        node.input[:] = [name if number in kept else self._halved(name) for number, name in enumerate(node.input)]
        rounded = [(number, name) for number, name in enumerate(node.output) if name in self._floats]
        for number, name in rounded:
            node.output[number] = f"{name}/exact"
        self._nodes.append(node)
        for _, name in rounded:
            self._round(f"{name}/exact", name)
            self._half[name] = name

    def _halved(self, name: str) -> str:
        if name not in self._half and name in self._weights:
            self._half[name] = f"{name}/16"
            half = numpy_helper.to_array(self._rounded(self._weights[name], name))
            self._graph.initializer.append(numpy_helper.from_array(half.astype(np.float32), self._half[name]))
        elif name not in self._half and name in self._floats:
            self._half[name] = f"{name}/rounded"
            self._round(name, self._half[name])
        return self._half.get(name, name)

    def _round(self, name: str, to: str) -> None:
        self._cast(name, f"{name}/16", TensorProto.FLOAT16)
        self._cast(f"{name}/16", to, TensorProto.FLOAT)
