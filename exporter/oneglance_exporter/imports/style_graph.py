"""Magenta's networks for any style (Ghiasi et al. 2017), from their 8-bit ONNX graphs to graphs in float32.

The published graphs take pictures of one size and quantize every activation. Only the weights are taken of them: the
stylizer's graph is written anew, for any size, with its moments going in and out (StylizerManifest); of the reader's,
which is a MobileNetV2, the nodes stay and the quantization goes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from oneglance_exporter.imports.graph import Graph, value

Weights = Mapping[str, npt.NDArray[np.float32]]

RESIDUALS = 5
MULTIPLE, LEAST_SIDE = 4, 32
# At a fourth of the size 10 convolutions of 3 x 3, at half of it 2 more, and at full size 2 of 9 x 9 and 1 of 3 x 3;
# and what a pixel shares with the others of its block.
MARGIN = 4 * 10 + 2 * 2 + 2 * 4 + 1 + 3
EPSILON = 1e-5
_PADDING_AXES = np.array([2, 3], np.int64)


def dequantized(model: onnx.ModelProto) -> dict[str, npt.NDArray[np.float32]]:
    """The constants of a quantized graph by the names that its nodes take them by, as float32."""
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    weights = {name: values for name, values in stored.items() if values.dtype == np.float32}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            integers, scale, zero = (stored[name] for name in node.input)
            if scale.ndim == 1:
                axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
                shape = [-1 if i == axis else 1 for i in range(integers.ndim)]
                scale, zero = scale.reshape(shape), zero.reshape(shape)
            weights[node.output[0]] = ((integers.astype(np.float64) - zero) * scale).astype(np.float32)
    return weights


def stylizer_norms() -> list[str]:
    """Where the stylizer normalises, in order: their channels one after another are its moments."""
    residuals = [f"residual/residual{i}/conv{j}" for i in range(1, RESIDUALS + 1) for j in (1, 2)]
    return [*residuals, *(f"expand/conv{i}/conv" for i in (1, 2, 3))]


def channels(weights: Weights, place: str) -> int:
    return len(weights[f"transformer/{place}/weights_dequant"])


def stylizer_graph(weights: Weights, numbers: int) -> bytes:
    """As StylizerManifest says, for any style."""
    graph = Graph()
    moments = sum(channels(weights, place) for place in stylizer_norms())
    used: list[str] = []
    start = 0
    own = graph.add("Unsqueeze", "own", np.array([1, 2, 3], np.int64))  # [N, 1, 1, 1]
    rest = graph.add("Sub", np.array([1], np.float32), own)

    def convolved(x: str, place: str, stride: int = 1) -> str:
        kernel = weights[f"transformer/{place}/weights_dequant"]
        bias = weights.get(f"transformer/{place}/Conv2D_bias_dequant", np.zeros(len(kernel), np.float32))
        side = kernel.shape[2] // 2
        padded = graph.add("Pad", x, np.array([side] * 4, np.int64), "", _PADDING_AXES, mode="reflect")
        return graph.add("Conv", padded, kernel, bias, strides=[stride, stride])

    def styled(place: str, which: str) -> str:
        """[N, C, 1, 1], of the style's vector."""
        name = f"style_params/transformer/{place}/StyleNorm/{which}"
        kernel, bias = weights[f"{name}/weights_dequant"], weights[f"{name}/Conv2D_bias_dequant"]
        linear = graph.add("Gemm", "weights", np.ascontiguousarray(kernel[:, :, 0, 0]), bias, transB=1)
        return graph.add("Unsqueeze", linear, _PADDING_AXES)

    def normalised(x: str, place: str) -> str:
        nonlocal start
        count = channels(weights, place)
        bounds = [np.array([start, i], np.int64) for i in (0, 1)]
        ends = [np.array([start + count, i], np.int64) for i in (1, 2)]
        axes = np.array([1, 2], np.int64)
        given = [
            graph.add("Unsqueeze", graph.add("Slice", "moments", *limits, axes), np.array([3], np.int64))
            for limits in zip(bounds, ends, strict=True)
        ]
        start += count
        mean = graph.add("ReduceMean", x, _PADDING_AXES)
        apart = graph.add("Sub", x, mean)
        variance = graph.add("ReduceMean", graph.add("Mul", apart, apart), _PADDING_AXES)
        deviation = graph.add("Sqrt", graph.add("Add", variance, np.array([EPSILON], np.float32)))
        mine = (mean, deviation)
        both = [
            graph.add("Add", graph.add("Mul", one, own), graph.add("Mul", other, rest))
            for one, other in zip(mine, given, strict=True)
        ]
        used.append(graph.add("Squeeze", graph.add("Concat", *both, axis=2), np.array([3], np.int64)))
        normal = graph.add("Div", graph.add("Sub", x, both[0]), both[1])
        return graph.add("Add", graph.add("Mul", normal, styled(place, "Conv_1")), styled(place, "Conv"))

    def enlarged(x: str) -> str:
        return graph.add(
            "Resize",
            x,
            "",
            np.array([1, 1, 2, 2], np.float32),
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )

    scaled = graph.add("Div", graph.add("Cast", "image", to=TensorProto.FLOAT), np.array([255], np.float32))
    x = graph.add("Transpose", scaled, perm=[0, 3, 1, 2])
    for i, stride in ((1, 1), (2, 2), (3, 2)):
        x = graph.add("Relu", convolved(x, f"contract/conv{i}", stride))
    for i in range(1, RESIDUALS + 1):
        first, second = (f"residual/residual{i}/conv{j}" for j in (1, 2))
        inner = graph.add("Relu", normalised(convolved(x, first), first))
        x = graph.add("Add", x, normalised(convolved(inner, second), second))
    for i in (1, 2):
        x = graph.add("Relu", normalised(convolved(enlarged(x), f"expand/conv{i}/conv"), f"expand/conv{i}/conv"))
    x = graph.add("Sigmoid", normalised(convolved(x, "expand/conv3/conv"), "expand/conv3/conv"))
    levels = graph.add("Mul", x, np.array([255], np.float32))
    graph.name(graph.add("Transpose", levels, perm=[0, 2, 3, 1]), "stylized")
    graph.name(graph.add("Concat", *used, axis=1), "used")
    return graph.model(
        "any-style",
        [
            value("image", np.uint8, ["N", "H", "W", 3]),
            value("weights", np.float32, ["N", numbers]),
            value("moments", np.float32, ["N", moments, 2]),
            value("own", np.float32, ["N"]),
        ],
        [value("stylized", np.float32, ["N", "H", "W", 3]), value("used", np.float32, ["N", moments, 2])],
    )


def reader_graph(model: onnx.ModelProto, side: int, numbers: int) -> bytes:
    """As StyleReaderManifest says: the nodes of the published graph, without its quantization."""
    weights = dequantized(model)
    graph = Graph()
    stands_for: dict[str, str] = {}
    picture = graph.add("Div", graph.add("Cast", "picture", to=TensorProto.FLOAT), np.array([255], np.float32))
    stands_for[model.graph.input[0].name] = picture
    for node in model.graph.node:
        if node.output[0] in weights:
            continue
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Reshape"):
            stands_for[node.output[0]] = stands_for[node.input[0]]
            continue
        inputs: list[Any] = [weights[name] if name in weights else stands_for[name] for name in node.input]
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        stands_for[node.output[0]] = graph.add(node.op_type, *inputs, **attributes)
    last = stands_for[model.graph.output[0].name]
    graph.name(graph.add("Flatten", last), "style")
    return graph.model(
        "style-reader",
        [value("picture", np.uint8, ["N", side, side, 3])],
        [value("style", np.float32, ["N", numbers])],
    )
