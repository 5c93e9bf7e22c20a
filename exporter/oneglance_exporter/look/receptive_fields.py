"""Receptive fields, exactly: which part of the input a unit of a layer sees, computed along the ONNX graph.

Along one axis of the input, the unit at index i of a layer sees the inputs from ``start + i * stride`` on, ``size`` of
them (some may lie in the padding, outside of the input). From one layer to the next (k filter width, d dilation, s
stride, p padding before):

    size' = size + stride * d * (k - 1)      stride' = stride * s      start' = start - stride * p

Where branches meet, the field is the hull of theirs. With dilation, it is the hull of what is seen. Where several views
of an example are put one behind the other in the batch, the field is that of the first view.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import helper, numpy_helper

from oneglance_exporter.errors import ExportError

_ALIKE = frozenset(
    [
        "Identity",
        "Cast",
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "Celu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Softplus",
        "Softsign",
        "Gelu",
        "Mish",
        "Erf",
        "Clip",
        "Abs",
        "Neg",
        "Sqrt",
        "Exp",
        "Log",
        "Reciprocal",
        "Dropout",
        "BatchNormalization",
        "QuantizeLinear",
        "DequantizeLinear",
        "ThresholdedRelu",
        "Not",
        "Floor",
        "Ceil",
        "Round",
        "Sign",
    ]
)
_TOGETHER = frozenset(
    ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Sum", "Mean", "Where", "Less", "Greater", "Equal", "And", "Or"]
)
_FILTERS = frozenset(["Conv", "ConvInteger", "MaxPool", "AveragePool", "LpPool"])
_NONLINEAR = frozenset(
    [
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "Celu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Softplus",
        "Gelu",
        "Mish",
        "Clip",
    ]
)


@dataclass(frozen=True, slots=True)
class Field:
    """Along one axis of the input. axis: of the tensor, whose index moves the field; None: all units see the same."""

    axis: int | None
    stride: int
    start: int
    size: int

    def seen_from(self, index: int) -> tuple[int, int]:
        """(first, end) of what the unit at ``index`` sees; the end isn't seen. Either may lie outside of the input."""
        first = self.start + self.stride * index
        return first, first + self.size


Fields = tuple[Field, ...]
"""One for each axis of the input that isn't batch or channels."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer whose units lie at places of the input: its output is [N, channels, *places].

    name: of its output in the graph. kind: of the operation that made it, behind which convolution.
    """

    name: str
    kind: str
    channels: int
    places: tuple[int, ...]
    fields: Fields

    @property
    def size(self) -> tuple[int, ...]:
        """Of the receptive field, along each axis of the input."""
        return tuple(field.size for field in self.fields)

    @property
    def stride(self) -> tuple[int, ...]:
        return tuple(field.stride for field in self.fields)


def layers_of(model: onnx.ModelProto, axes: int) -> list[Layer]:
    """The layers of an encoder of inputs [N, *sizes, C] with ``axes`` sizes, from the input on: the outputs of
    non-linearities, or of convolutions where there are none. Raises ExportError for a graph without any."""
    graph = _with_shapes(model).graph
    shapes = _shapes(graph)
    found: dict[str, Fields] = {}
    (taken, *_) = [one.name for one in graph.input if one.name not in {init.name for init in graph.initializer}]
    found[taken] = tuple(Field(axis, 1, 0, 1) for axis in range(1, axes + 1))
    whole = tuple(Field(None, 0, 0, size) for size in shapes[taken][1 : axes + 1])
    constants = {init.name: init for init in graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    layers: list[Layer] = []
    convolutions = 0
    for node in graph.node:
        given = [name for name in node.input if name in found]
        if not given:
            continue
        fields = _after(node, found, shapes, constants, whole)
        for name in node.output:
            found[name] = fields
        convolutions += node.op_type == "Conv"
        shape = shapes.get(node.output[0], ())
        moving = [field.axis for field in fields]
        if len(shape) == axes + 2 and moving == list(range(2, axes + 2)) and node.op_type in _NONLINEAR | {"Conv"}:
            kind = f"{node.op_type} behind convolution {convolutions}"
            layers.append(Layer(node.output[0], kind, shape[1], tuple(shape[2:]), fields))
    bent = [layer for layer in layers if not layer.kind.startswith("Conv ")]
    if not layers:
        raise ExportError("this graph has no layer whose units lie at places of the input")
    return bent or layers


def _after(
    node: onnx.NodeProto,
    found: dict[str, Fields],
    shapes: dict[str, tuple[int, ...]],
    constants: dict[str, onnx.TensorProto],
    whole: Fields,
) -> Fields:
    """Of the node's outputs. Whatever isn't known is taken to see everything."""
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    (first, *_) = given = [name for name in node.input if name in found]
    kind = node.op_type
    if kind in _ALIKE:
        return found[first]
    if kind in _TOGETHER:
        rank = len(shapes.get(node.output[0], ()))
        return _hull([_aligned(found[name], shapes.get(name, ()), rank) for name in given], whole)
    if kind in _FILTERS and given == [node.input[0]] and first in shapes:
        return _filtered(node, attributes, found[first], shapes, whole)
    if kind == "Transpose":
        order = list(attributes.get("perm", reversed(range(len(shapes[first])))))
        return _moved(found[first], order.index)
    if kind == "Concat":
        axis = int(attributes["axis"]) % max(1, len(shapes.get(first, ())))
        if axis == 0:  # several views of each example, one batch behind the other
            return found[first]
        met = _hull([found[name] for name in given], whole)
        return whole if any(field.axis == axis for field in met) else met
    if kind == "Pad" and len(node.input) > 1 and (added := _numbers(constants, node.input[1])) is not None:
        before = added[: len(added) // 2]
        if len(node.input) > 3 and (axes := _numbers(constants, node.input[3])) is not None:
            rank = len(shapes[first])
            before = [before[axes.index(axis)] if axis in axes else 0 for axis in range(rank)]
        return tuple(_padded(field, before) for field in found[first])
    if kind in ("Unsqueeze", "Squeeze") and len(node.input) > 1:
        axes = _numbers(constants, node.input[1])
        if axes is not None:
            rank = len(shapes[first]) + (len(axes) if kind == "Unsqueeze" else 0)
            changed = {axis % rank for axis in axes}
            left = [axis for axis in range(rank) if axis not in changed]
            return _moved(found[first], left.__getitem__ if kind == "Unsqueeze" else left.index)
    return whole


def _filtered(
    node: onnx.NodeProto,
    attributes: dict[str, list[int]],
    fields: Fields,
    shapes: dict[str, tuple[int, ...]],
    whole: Fields,
) -> Fields:
    taken = shapes[node.input[0]]
    dims = len(taken) - 2
    sizes = list(attributes.get("kernel_shape") or shapes[node.input[1]][2:])
    strides = list(attributes.get("strides") or [1] * dims)
    dilations = list(attributes.get("dilations") or [1] * dims)
    before = list(attributes.get("pads") or [0] * 2 * dims)[:dims]
    auto: object = attributes.get("auto_pad", b"NOTSET")
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        for i in range(dims):
            size = taken[i + 2]
            missing = max(0, (-(-size // strides[i]) - 1) * strides[i] + dilations[i] * (sizes[i] - 1) + 1 - size)
            before[i] = missing // 2 if auto == b"SAME_UPPER" else -(-missing // 2)
    result = []
    for field, all_of_it in zip(fields, whole, strict=True):
        if field.axis is None:
            result.append(field)
        elif field.axis < 2:  # it sums over what the input's places are in here
            result.append(all_of_it)
        else:
            i = field.axis - 2
            size = field.size + field.stride * dilations[i] * (sizes[i] - 1)
            start = field.start - field.stride * before[i]
            result.append(Field(field.axis, field.stride * strides[i], start, size))
    return tuple(result)


def _padded(field: Field, before: Sequence[int]) -> Field:
    return field if field.axis is None else replace(field, start=field.start - field.stride * before[field.axis])


def _moved(fields: Fields, to: Callable[[int], int]) -> Fields:
    return tuple(field if field.axis is None else replace(field, axis=to(field.axis)) for field in fields)


def _aligned(fields: Fields, shape: Sequence[int], rank: int) -> Fields:
    """As ONNX broadcasts: axes count from the last one; one of size 1 is the same everywhere."""

    def one(field: Field) -> Field:
        if field.axis is None:
            return field
        if shape[field.axis] == 1:
            return replace(field, axis=None, stride=0)
        return replace(field, axis=field.axis + rank - len(shape))

    return tuple(map(one, fields))


def _hull(branches: Sequence[Fields], whole: Fields) -> Fields:
    def one(fields: Sequence[Field], all_of_it: Field) -> Field:
        first = fields[0]
        if any((field.axis, field.stride) != (first.axis, first.stride) for field in fields):
            return all_of_it
        start = min(field.start for field in fields)
        return replace(first, start=start, size=max(field.start + field.size for field in fields) - start)

    return tuple(one(fields, all_of_it) for fields, all_of_it in zip(zip(*branches, strict=True), whole, strict=True))


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the shapes of all tensors, for a batch of one."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]  # those are for a free batch
    for one in (*fixed.graph.input, *fixed.graph.output):
        if one.type.tensor_type.shape.dim:
            one.type.tensor_type.shape.dim[0].dim_value = 1
    return onnx.shape_inference.infer_shapes(fixed, data_prop=True)


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {
        one.name: tuple(dim.dim_value for dim in one.type.tensor_type.shape.dim)
        for one in (*graph.input, *graph.output, *graph.value_info)
    }
    return shapes | {init.name: tuple(init.dims) for init in graph.initializer}


def _numbers(constants: dict[str, onnx.TensorProto], name: str) -> list[int] | None:
    if name not in constants:
        return None
    numbers: list[int] = numpy_helper.to_array(constants[name]).ravel().tolist()
    return numbers
