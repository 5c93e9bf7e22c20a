"""dlib's mmod face detector as a graph, and the same network in numpy to check it by.

The graph takes the canvas itself: rgb, and a fourth channel that is 255 where there is a picture. dlib subtracts the
mean and divides by 256 inside a picture and has 0 outside; both fold into the first convolution, exactly, the mean as
the fourth channel's weights. Every batch normalisation folds into its convolution, in float64.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from oneglance_core.manifests import DetectorManifest, NamedParity
from oneglance_exporter.errors import WeightsError
from oneglance_exporter.imports.dat_networks import BatchNorm, Convolution, MmodNet, Relu
from oneglance_exporter.imports.graph import Graph, value

Weights = npt.NDArray[np.float64]

# dlib divides by 256, not 255.
_SCALE = 256.0
_SHRINK = 5 / 6  # pyramid_down<6>
# ONNX Runtime's fast convolutions take channels in blocks of this many.
_BLOCK = 16
_PARITY_SIDE = 93
_DECIMALS = 5  # of the parity outputs: what differs between two machines' float64 sums is far behind them
_TOLERANCE = 1e-4


def detector_model(net: MmodNet) -> tuple[bytes, DetectorManifest]:
    """The graph as ONNX bytes and its manifest, in which the caller fills in the name and what else all kinds hold.

    Raises WeightsError for layers that don't make such a network.
    """
    layers = list(_folded(net))
    if net.window_width != net.window_height:
        raise WeightsError(f"a window of {net.window_width} x {net.window_height}: only squares are known")
    stride, offset, smallest = _geometry([layer for layer, _ in layers])
    graph = _graph(layers)
    image = _parity_image()
    scores = detector_scores(net, image).round(_DECIMALS)
    manifest = DetectorManifest(
        name="detector",
        created="",
        model_sha256="0" * 64,
        model_bytes=1,
        window=net.window_width,
        stride=stride,
        offset=offset,
        shrink=_SHRINK,
        margin=net.tile_outer_padding,
        gap=net.tile_padding,
        smallest_side=smallest,
        threshold=0.0,
        nms_iou=net.nms_iou,
        nms_covered=net.nms_covered,
        parity=NamedParity.pack({"image": image}, {"scores": scores}, _TOLERANCE),
    )
    return graph, manifest


def detector_scores(net: MmodNet, image: npt.NDArray[np.uint8]) -> Weights:
    """As the graph, layer by layer in float64; nothing is folded: uint8 [N, H, W, 4] -> float64 [N, h, w]."""
    inside = image[..., 3:] / 255
    x = (image[..., :3] - np.array(net.means) * inside).transpose(0, 3, 1, 2) / _SCALE
    for layer in net.layers:
        match layer:
            case Convolution():
                x = _convolved(x, layer)
            case BatchNorm():
                columns = [part.astype(np.float64)[:, None, None] for part in (layer.mean, layer.variance)]
                x = (x - columns[0]) / np.sqrt(columns[1] + layer.eps)
                x = x * layer.gamma[:, None, None] + layer.beta[:, None, None]
            case Relu():
                x = np.maximum(x, 0)
    return x[:, 0]


def _convolved(x: Weights, layer: Convolution) -> Weights:
    down, across = layer.padding
    x = np.pad(x, ((0, 0), (0, 0), (down, down), (across, across)))
    patches = np.lib.stride_tricks.sliding_window_view(x, layer.weight.shape[2:], axis=(2, 3))
    patches = patches[:, :, :: layer.stride[0], :: layer.stride[1]]
    sums = np.tensordot(patches, layer.weight.astype(np.float64), axes=([1, 4, 5], [1, 2, 3]))
    return np.moveaxis(sums, -1, 1) + layer.bias[:, None, None]


def _folded(net: MmodNet) -> Iterator[tuple[Convolution, tuple[Weights, Weights]]]:
    """The convolutions with the weights and biases that do the whole work: float64 [out, in, h, w], [out]."""
    kinds = [type(layer) for layer in net.layers]
    depth = (len(kinds) - 1) // 3
    if kinds != [Convolution, BatchNorm, Relu] * depth + [Convolution] or not depth:
        raise WeightsError("layers in an order that isn't the mmod detector's")
    channels = 3
    for i in range(0, len(net.layers), 3):
        layer = net.layers[i]
        assert isinstance(layer, Convolution)
        weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
        if weight.shape[1] != channels:
            raise WeightsError(f"a convolution of {weight.shape[1]} channels after one of {channels}")
        channels = len(weight)
        norm = net.layers[i + 1] if i + 1 < len(net.layers) else None
        if isinstance(norm, BatchNorm):
            if norm.gamma.size != channels:
                raise WeightsError(f"a batch normalisation of {norm.gamma.size} channels after one of {channels}")
            factor = norm.gamma / np.sqrt(norm.variance.astype(np.float64) + norm.eps)
            weight, bias = weight * factor[:, None, None, None], (bias - norm.mean) * factor + norm.beta
        if i == 0:
            weight /= _SCALE
            mean = -np.tensordot(weight, np.array(net.means), axes=([1], [0]))[:, None] / 255
            weight = np.concatenate([weight, mean], axis=1)
        yield layer, (weight, bias)
    if channels != 1:
        raise WeightsError(f"{channels} planes of scores where one was expected")


def _geometry(layers: Sequence[Convolution]) -> tuple[int, float, int]:
    """Pixels from one score to the next, the first one's centre, and the smallest side that gives a score."""
    stride, offset, smallest = 1, 0.0, 1
    for layer in reversed(layers):
        (step, other_step), (padding, other_padding), sides = layer.stride, layer.padding, layer.weight.shape[2:]
        if step != other_step or padding != other_padding or sides[0] != sides[1]:
            raise WeightsError("a convolution that isn't square")
        stride *= step
        offset = offset * step - padding + sides[0] // 2
        smallest = max((smallest - 1) * step + sides[0] - 2 * padding, 1)
    return stride, offset, smallest


def _graph(layers: Sequence[tuple[Convolution, tuple[Weights, Weights]]]) -> bytes:
    g = Graph()
    # The first convolution takes the image as it lies in memory, one channel of rows of W x 4 numbers: no transposing.
    rows = g.add("Reshape", g.add("Cast", "image", to=TensorProto.FLOAT), np.array([0, 0, -1]))
    x = g.add("Unsqueeze", rows, np.array([1]))
    for i, (layer, (weight, bias)) in enumerate(layers):
        step, padding = layer.stride[0], layer.padding[0]
        out, channels, height, width = weight.shape
        if i == 0:
            if padding:
                raise WeightsError("a first convolution with padding")
            flat = weight.transpose(0, 2, 3, 1).reshape(out, 1, height, width * channels).astype(np.float32)
            x = g.add("Conv", x, flat, bias.astype(np.float32), strides=[step, step * channels])
            channels_here = out
        elif i < len(layers) - 1:
            wide = -(-out // _BLOCK) * _BLOCK
            full = np.zeros((wide, channels_here, height, width), np.float32)
            full[:out, :channels] = weight
            biases = np.zeros(wide, np.float32)
            biases[:out] = bias
            x = g.add("Conv", x, full, biases, strides=[step, step], pads=[padding] * 4)
            channels_here = wide
        else:
            # One plane from many: the same as a transposed convolution with the turned kernel, which is much faster.
            if step != 1 or 2 * padding != height - 1:
                raise WeightsError("a last convolution that doesn't keep the size")
            turned = np.zeros((channels_here, 1, height, width), np.float32)
            turned[:channels, 0] = weight[0, :, ::-1, ::-1]
            planes = g.add("ConvTranspose", x, turned, bias.astype(np.float32), pads=[padding] * 4)
            g.name(g.add("Squeeze", planes, np.array([1])), "scores")
            break
        x = g.add("Relu", x)
    return g.model(
        "dlib_mmod_human_face_detector",
        [value("image", np.uint8, ["N", "H", "W", 4])],
        [value("scores", np.float32, ["N", "h", "w"])],
    )


def _parity_image() -> npt.NDArray[np.uint8]:
    """A canvas with a blob that has eyes, and nothing around it: uint8 [1, H, W, 4]."""
    side = _PARITY_SIDE
    y, x = np.mgrid[:side, :side]
    light = 225 - ((x - 46) ** 2 + (y - 46) ** 2) // 14
    for eye in (33, 59):
        light[(x - eye) ** 2 + (y - 38) ** 2 < 30] = 20
    light[(abs(x - 46) < 12) & (abs(y - 66) < 3)] = 60
    image = np.zeros((1, side, side, 4), np.uint8)
    tinted = light[..., None] * np.array([1.0, 0.8, 0.7])
    image[0, 6:-6, 8:-8, :3] = np.clip(tinted, 0, 255)[6:-6, 8:-8]
    image[0, 6:-6, 8:-8, 3] = 255
    return image
