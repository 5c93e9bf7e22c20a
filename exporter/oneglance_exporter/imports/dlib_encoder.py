"""dlib's face network as an encoder: a graph made layer by layer, and the same network in numpy to check it by.

The graph takes the chip itself, uint8 [N, 150, 150, 3]. The mean, the division by 256, and every affine layer are
folded into the convolutions in float64, which changes nothing: the first convolution has no padding.
"""

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from oneglance_exporter.errors import WeightsError
from oneglance_exporter.imports.dat_networks import (
    AddPrevious,
    Affine,
    Convolution,
    FaceNet,
    FullyConnected,
    Pool,
    Relu,
    Tag,
)
from oneglance_exporter.imports.graph import Graph, value

Shape = tuple[int, int, int]  # channels, height, width
Planes = npt.NDArray[np.float64]  # [N, channels, height, width]

# dlib divides by 256, not 255.
_SCALE = 256.0


def encoder_graph(net: FaceNet) -> bytes:
    """``input`` uint8 [N, rows, columns, 3] rgb -> ``encoding`` float32 [N, D], as ONNX bytes.

    Raises WeightsError for layers that don't make such a network.
    """
    g = Graph()
    x = g.add("Cast", g.add("Transpose", "input", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    shape: Shape = (3, net.rows, net.columns)
    start: tuple[str, Shape] | None = None  # of the block we are in
    branch: tuple[str, Shape] | None = None  # its convolutions' result, where the shortcut isn't the start itself
    for i, layer in enumerate(net.layers):
        match layer:
            case Convolution():
                if layer.weight.shape[1] != shape[0]:
                    raise WeightsError(f"a convolution of {layer.weight.shape[1]} channels after {shape[0]}")
                following = net.layers[i + 1 : i + 2]
                weight, bias = _folded(net, layer, following[0] if following else None, first=i == 0)
                shape = (len(weight), *_window(shape, weight.shape[2:], layer.stride, layer.padding))
                pads = [*layer.padding, *layer.padding]
                x = g.add("Conv", x, weight, bias, strides=layer.stride, pads=pads)
            case Affine():
                if i == 0 or not isinstance(net.layers[i - 1], Convolution):
                    raise WeightsError("an affine layer without a convolution before it")
            case Relu():
                x = g.add("Relu", x)
            case Pool(kind, (0, 0)):
                if kind != "average":
                    raise WeightsError("the largest value of a whole plane isn't known here")
                x, shape = g.add("GlobalAveragePool", x), (shape[0], 1, 1)
            case Pool(kind, size, stride, padding):
                if padding != (0, 0):
                    raise WeightsError("a padded pool isn't known here")
                shape = (shape[0], *_window(shape, size, stride, padding))
                operator = "MaxPool" if kind == "max" else "AveragePool"
                x = g.add(operator, x, kernel_shape=size, strides=stride)
            case Tag():
                if start is None:
                    start = x, shape
                elif branch is None:
                    branch = x, shape
                else:
                    x, shape = start
            case AddPrevious():
                other = branch or start
                if other is None:
                    raise WeightsError("a sum without a tagged tensor")
                total: Shape = (max(shape[0], other[1][0]), max(shape[1], other[1][1]), max(shape[2], other[1][2]))
                x, shape = g.add("Add", _padded(g, x, shape, total), _padded(g, *other, total)), total
                start = branch = None
            case FullyConnected(weight):
                if shape != (len(weight), 1, 1) or i != len(net.layers) - 1:
                    raise WeightsError(f"a fully connected layer of {weight.shape} at {shape}")
                g.name(g.add("MatMul", g.add("Flatten", x, axis=1), weight), "encoding")
            case _:
                raise WeightsError(f"no layer of this network: {type(layer).__name__}")
    if not net.layers or not isinstance(net.layers[-1], FullyConnected):
        raise WeightsError("the network doesn't end in a fully connected layer")
    return g.model(
        "dlib_face_recognition_resnet_model_v1",
        [value("input", np.uint8, ["N", net.rows, net.columns, 3])],
        [value("encoding", np.float32, ["N", net.layers[-1].weight.shape[1]])],
    )


def encode_exactly(net: FaceNet, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The encodings float64 [N, D] of ``chips`` uint8 [N, rows, columns, 3], layer by layer as dlib has them.

    Nothing is folded and nothing is shared with the graph: parity vectors come from here.
    """
    x: Planes = (chips.astype(np.float64) - np.array(net.means)).transpose(0, 3, 1, 2) / _SCALE
    start: list[Planes] = []  # tensors tagged in the present block
    for layer in net.layers:
        match layer:
            case Convolution(weight, bias, stride, padding):
                windows = _windows(x, weight.shape[2:], stride, padding)
                x = np.tensordot(windows, weight.astype(np.float64), ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
                x = x + bias[:, None, None]
            case Affine(gamma, beta):
                x = x * gamma.astype(np.float64)[:, None, None] + beta[:, None, None]
            case Relu():
                x = np.maximum(x, 0)
            case Pool(kind, size, stride, padding):
                windows = _windows(x, x.shape[2:] if size == (0, 0) else size, stride, padding)
                x = windows.max((4, 5)) if kind == "max" else windows.mean((4, 5))
            case Tag():
                if len(start) == 2:
                    x = start[0]
                else:
                    start.append(x)
            case AddPrevious():
                other = start[-1]
                total = np.zeros(np.maximum(x.shape, other.shape))
                for part in (x, other):
                    total[:, : part.shape[1], : part.shape[2], : part.shape[3]] += part
                x, start = total, []
            case FullyConnected(weight):
                x = x.reshape(len(x), -1) @ weight.astype(np.float64)
    return x


def parity_chips(rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Three chips that are no face, uint8 [3, rows, columns, 3]: a colour gradient, noise, smooth blobs."""
    y, x = np.mgrid[:rows, :columns]
    gradient = np.stack([255 * x // (columns - 1), 255 * y // (rows - 1), 255 - 255 * x // (columns - 1)], axis=-1)
    noise = np.random.default_rng(0).integers(0, 256, (rows, columns, 3))
    blobs = np.zeros((rows, columns, 3), np.int64)
    for channel, (row, column, radius) in enumerate(((40, 50, 45), (75, 100, 60), (110, 60, 50))):
        square = (y - row) ** 2 + (x - column) ** 2
        blobs[..., channel] = np.maximum(0, 240 - 240 * square // radius**2)
    return np.stack([gradient, noise, blobs]).astype(np.uint8)


def _padded(g: Graph, x: str, shape: Shape, to: Shape) -> str:
    """Zeros at the high end of every dimension, as dlib's sum of tensors of two sizes has it."""
    if shape == to:
        return x
    return g.add("Pad", x, np.array([0, 0, 0, 0, 0, *(b - a for a, b in zip(shape, to, strict=True))]))


def _folded(
    net: FaceNet, layer: Convolution, following: object, first: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Weight and bias of ``layer`` with the affine layer after it, and for the first one the input's scaling."""
    weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
    if first:
        if layer.padding != (0, 0):
            raise WeightsError("the first convolution is padded: the mean can't be folded into it")
        weight = weight / _SCALE
        bias = bias - (weight * np.array(net.means)[:, None, None]).sum((1, 2, 3))
    if isinstance(following, Affine):
        if following.gamma.size != len(weight):
            raise WeightsError(f"an affine layer of {following.gamma.size} channels after {len(weight)}")
        gamma = following.gamma.astype(np.float64)
        weight, bias = weight * gamma[:, None, None, None], bias * gamma + following.beta
    if max(np.abs(weight).max(), np.abs(bias).max()) > np.finfo(np.float32).max:
        raise WeightsError("a weight beyond float32")
    return weight.astype(np.float32), bias.astype(np.float32)


def _window(shape: Shape, size: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]) -> tuple[int, int]:
    """Height and width of what a sliding window gives."""
    height, width = (
        1 + (side + 2 * pad - window) // step
        for side, pad, window, step in zip(shape[1:], padding, size, stride, strict=True)
    )
    if height < 1 or width < 1:
        raise WeightsError(f"a window of {size} on {shape[1:]}")
    return height, width


def _windows(x: Planes, size: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]) -> Planes:
    """[N, C, rows, columns, *size]: all windows of ``x``."""
    (down, right), (above, left) = stride, padding
    x = np.pad(x, ((0, 0), (0, 0), (above, above), (left, left)))
    return np.lib.stride_tricks.sliding_window_view(x, size, (2, 3))[:, :, ::down, ::right]
