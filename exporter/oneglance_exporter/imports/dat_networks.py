"""Read dlib's networks, the face encoder and the mmod face detector, from their ``.dat`` files.

A network is written from the outside in: first the versions of all wrappers (2 for a layer, 1 for a tag or a skip, 3
for the last one, the layer at the input), then the input's record, then every layer's record from the input outwards.
So one pass reads it, popping versions. Raises WeightsError, and nothing else, for any bytes that aren't such a file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from oneglance_exporter.errors import WeightsError
from oneglance_exporter.imports.dat_format import Floats, Reader

_MAX_LAYERS = 1000
_MAX_CHIP = 1024  # rows or columns


@dataclass(frozen=True, slots=True)
class Convolution:
    """A correlation, as all deep learning has it. weight: float32 [out, in, height, width]; bias: float32 [out]."""

    weight: Floats
    bias: Floats
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """gamma * (x - mean) / sqrt(variance + eps) + beta, per channel. All float32 [channels]."""

    gamma: Floats
    beta: Floats
    mean: Floats
    variance: Floats
    eps: float


@dataclass(frozen=True, slots=True)
class Affine:
    """gamma * x + beta, per channel. Both float32 [channels]."""

    gamma: Floats
    beta: Floats


@dataclass(frozen=True, slots=True)
class Pool:
    """Largest or mean value of a window; ``size`` (0, 0) is the whole plane."""

    kind: Literal["max", "average"]
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True, slots=True)
class FullyConnected:
    """x @ weight, without bias. weight: float32 [in, out]."""

    weight: Floats


@dataclass(frozen=True, slots=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True, slots=True)
class AddPrevious:
    """Adds the tagged tensor; the smaller one is padded with zeros at the high end of every dimension."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag (marks the tensor here) or a skip (goes on from a mark). The file doesn't say which."""


Layer = Convolution | BatchNorm | Affine | Pool | FullyConnected | Relu | AddPrevious | Tag


@dataclass(frozen=True, slots=True)
class FaceNet:
    """dlib_face_recognition_resnet_model_v1: (rgb - means) / 256 of a ``rows`` x ``columns`` chip, through ``layers``.

    margin, distance_threshold: of the metric loss. layers: from the input outwards.
    """

    margin: float
    distance_threshold: float
    means: tuple[float, float, float]
    rows: int
    columns: int
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class MmodNet:
    """mmod_human_face_detector: (rgb - means) / 256 of a tiled pyramid, through ``layers``, gives one plane of scores.

    window_width, window_height: pixels that one score looks at. nms_iou, nms_covered: dlib's test_box_overlap.
    tile_padding, tile_outer_padding: pixels between and around the levels of dlib's tiled pyramid.
    """

    window_width: int
    window_height: int
    nms_iou: float
    nms_covered: float
    means: tuple[float, float, float]
    tile_padding: int
    tile_outer_padding: int
    layers: tuple[Layer, ...]


def read_face_net(data: bytes) -> FaceNet:
    """The face network of ``dlib_face_recognition_resnet_model_v1.dat``. Raises WeightsError."""
    reader = Reader(data)
    reader.expect_integer(1, "version")
    reader.expect_string("loss_metric_2")
    margin, distance_threshold = reader.number(), reader.number()

    def at_input() -> tuple[float, float, float, int, int]:
        reader.expect_string("input_rgb_image_sized")
        return reader.number(), reader.number(), reader.number(), reader.size(), reader.size()

    (red, green, blue, rows, columns), layers = _network(reader, at_input)
    if not (1 <= rows <= _MAX_CHIP and 1 <= columns <= _MAX_CHIP):
        raise WeightsError(f"damaged: a chip of {rows} x {columns}")
    return FaceNet(margin, distance_threshold, (red, green, blue), rows, columns, layers)


def read_mmod_net(data: bytes) -> MmodNet:
    """The face detector of ``mmod_human_face_detector.dat``. Raises WeightsError."""
    reader = Reader(data)
    reader.expect_integer(1, "version")
    reader.expect_string("loss_mmod_")
    reader.expect_integer(1, "version of the options")
    width, height = reader.size(), reader.size()
    for _ in range(3):  # losses and an overlap: they were for training
        reader.number()
    nms_iou, nms_covered = reader.number(), reader.number()
    for _ in range(2):  # which boxes training ignored
        reader.number()

    def at_input() -> tuple[float, float, float]:
        reader.expect_string("input_rgb_image_pyramid")
        return reader.number(), reader.number(), reader.number()

    means, layers = _network(reader, at_input)
    # This version of the input's record leaves the paddings out; dlib then takes 10 and 11.
    return MmodNet(width, height, nms_iou, nms_covered, means, 10, 11, layers)


def _network(reader: Reader, at_input: Callable[[], Any]) -> tuple[Any, tuple[Layer, ...]]:
    """The input's record and all layers from the input outwards, up to the end of the file."""
    wrappers: list[int] = []
    while True:
        wrapper = reader.integer()
        if wrapper not in (1, 2, 3) or len(wrappers) == _MAX_LAYERS:
            raise WeightsError(f"damaged: layer {len(wrappers)} has version {wrapper}")
        wrappers.append(wrapper)
        if wrapper == 3:
            break
    given = at_input()
    layers: list[Layer] = []
    for wrapper in reversed(wrappers):
        if wrapper == 1:
            layers.append(Tag())
            continue
        layers.append(_layer(reader))
        for _ in range(3):
            reader.boolean()
        for _ in range(3):  # gradients and a cached output: empty in a file that was cleaned
            if reader.tensor().size:
                raise WeightsError("damaged: a layer carries more than its weights")
        if wrapper == 3:
            reader.expect_integer(1, "sample expansion")
    reader.end()
    return given, tuple(layers)


def _layer(reader: Reader) -> Layer:
    kind = reader.string()
    match kind:
        case "con_4":
            params = reader.tensor()
            reader.size()  # the number of filters: the weights' shape says it again
            sides = reader.pair()
            stride, padding = reader.pair(), reader.pair()
            weight, bias = reader.aliases(params)
            reader.numbers(4)
            if weight.shape[2:] != sides or bias.size != len(weight) or 0 in stride:
                raise WeightsError(f"damaged: a convolution of {weight.shape}")
            return Convolution(weight, bias.reshape(-1), stride, padding)
        case "bn_con2":
            params = reader.tensor()
            gamma, beta = reader.aliases(params)
            reader.tensor(), reader.tensor()  # of the last batch seen in training
            mean, variance = reader.tensor(), reader.tensor()
            reader.integer(), reader.integer()
            reader.numbers(4)
            eps = reader.number()
            if len({gamma.size, beta.size, mean.size, variance.size}) > 1:
                raise WeightsError("damaged: a batch normalisation of several widths")
            if not (variance >= 0).all() or not eps > 0:
                raise WeightsError("damaged: a negative variance")
            return BatchNorm(gamma.reshape(-1), beta.reshape(-1), mean, variance, eps)
        case "affine_":
            params = reader.tensor()
            gamma, beta = reader.aliases(params)
            reader.integer()
            if gamma.size != beta.size:
                raise WeightsError("damaged: an affine layer of two widths")
            return Affine(gamma.reshape(-1), beta.reshape(-1))
        case "max_pool_2" | "avg_pool_2":
            size, stride, padding = reader.pair(), reader.pair(), reader.pair()
            if 0 in stride or (0 in size and size != (0, 0)):
                raise WeightsError(f"damaged: a pool of {size} by {stride}")
            return Pool("max" if kind == "max_pool_2" else "average", size, stride, padding)
        case "fc_2":
            outputs, inputs = reader.size(), reader.size()
            weight = reader.tensor()
            reader.alias(), reader.alias()
            reader.expect_integer(1, "bias of a fully connected layer")
            reader.numbers(4)
            if weight.size != inputs * outputs:
                raise WeightsError(f"damaged: {weight.size} weights from {inputs} to {outputs}")
            return FullyConnected(weight.reshape(inputs, outputs))
        case "relu_":
            return Relu()
        case "add_prev_":
            return AddPrevious()
    raise WeightsError(f"damaged: no layer is called {kind!r}")
