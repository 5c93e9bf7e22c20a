"""Read dlib's ``.dat`` files: the face network, the mmod face detector, the 5-point shape predictor.

The format is that of dlib's ``serialize``. An integer is a control byte (low 4 bits: how many bytes follow, little
endian; bit 7: negative) and those bytes. A float is two integers, mantissa and exponent of two. A bool is ``1`` or
``0``, a string its length and bytes, a tensor the integer 2, four sizes, and raw little-endian float32.

A network is written from the outside in: the versions of all wrappers first (2 a layer, 1 a tag or a skip, at last 3,
the layer at the input), then the input's record, then every layer's record from the input outwards. So one pass reads
it, popping versions. Memory and time are in proportion to the file: every size is held against the bytes that are left
before anything is allocated. Raises WeightsError, and nothing else, for any bytes that aren't such a file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from oneglance_exporter.errors import WeightsError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_MAX_LAYERS = 1000
_MAX_SIZE = 1 << 28  # of any dimension
_MAX_CHIP = 1024  # rows or columns
_MAX_MANTISSA = 1 << 53  # what a double holds exactly
_EXPONENTS = range(-1100, 961)  # such a mantissa times a power of two in it is a finite double
_FLOAT32_MAX = float(np.finfo(np.float32).max)


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


@dataclass(frozen=True, slots=True)
class ShapePredictor:
    """An ensemble of regression trees: C cascades of T trees with S splits and S + 1 leaves, L points, P pixels.

    initial_shape: float32 [L, 2], (x, y) in a face's box, (0, 0) its top left and (1, 1) its bottom right corner.
    first, second: int64 [C, T, S], pixels to compare: where first - second > threshold, the tree goes left.
    threshold: float32 [C, T, S]. leaves: float32 [C, T, S + 1, L, 2], steps to add to the shape.
    anchors: int64 [C, P], the point that each pixel belongs to; deltas: float32 [C, P, 2], its way from there.
    """

    initial_shape: Floats
    first: Integers
    second: Integers
    threshold: Floats
    leaves: Floats
    anchors: Integers
    deltas: Floats


def read_face_net(data: bytes) -> FaceNet:
    """The face network of ``dlib_face_recognition_resnet_model_v1.dat``. Raises WeightsError."""
    reader = _Reader(data)
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
    reader = _Reader(data)
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


def read_shape_predictor(data: bytes) -> ShapePredictor:
    """The landmark finder of ``shape_predictor_5_face_landmarks.dat``. Raises WeightsError."""
    values = _Integers(data)
    values.expect(1, "version")
    numbers = values.matrix()
    if len(numbers) % 2 or not len(numbers):
        raise WeightsError(f"damaged: a shape of {len(numbers)} numbers")
    initial = numbers.reshape(-1, 2)

    # All trees are alike, so the forest is one table: splits, then leaves, each led by its sizes.
    cascades, trees, splits = values.peek(0), values.peek(1), values.peek(2)
    if min(cascades, trees, splits) < 1:
        raise WeightsError("damaged: an empty forest")
    per_tree = 1 + 4 * splits + 1 + (splits + 1) * (2 + 2 * initial.size)
    values.expect(cascades, "cascades")
    table = values.take(cascades, 1 + trees * per_tree)
    if (table[:, 0] != trees).any():
        raise WeightsError("damaged: cascades of several lengths")
    table = table[:, 1:].reshape(cascades, trees, per_tree)
    branches, leaves = table[..., 1 : 1 + 4 * splits], table[..., 2 + 4 * splits :]
    branches = branches.reshape(cascades, trees, splits, 4)
    leaves = leaves.reshape(cascades, trees, splits + 1, 2 + 2 * initial.size)
    if (
        (table[..., 0] != splits).any()
        or (table[..., 1 + 4 * splits] != splits + 1).any()
        or (leaves[..., 0] != -initial.size).any()
        or (leaves[..., 1] != -1).any()
        or (splits & (splits + 1))
    ):
        raise WeightsError("damaged: trees of several shapes")

    values.expect(cascades, "cascades")
    pixels = values.peek(0)
    if pixels < 1:
        raise WeightsError("damaged: no pixels to look at")
    anchors = values.take(cascades, 1 + pixels)
    values.expect(cascades, "cascades")
    deltas = values.take(cascades, 1 + 4 * pixels)
    values.end()
    if (anchors[:, 0] != pixels).any() or (deltas[:, 0] != pixels).any():
        raise WeightsError("damaged: cascades of several pixel counts")
    anchors = anchors[:, 1:]
    compared = branches[..., :2]
    if compared.min() < 0 or compared.max() >= pixels or anchors.min() < 0 or anchors.max() >= len(initial):
        raise WeightsError("damaged: an index beyond its table")
    return ShapePredictor(
        initial_shape=initial,
        first=compared[..., 0].copy(),
        second=compared[..., 1].copy(),
        threshold=_floats(branches[..., 2:])[..., 0],
        leaves=_floats(leaves[..., 2:]).reshape(cascades, trees, splits + 1, len(initial), 2),
        anchors=anchors.copy(),
        deltas=_floats(deltas[:, 1:]).reshape(cascades, pixels, 2),
    )


def _network(reader: "_Reader", at_input: Callable[[], Any]) -> tuple[Any, tuple[Layer, ...]]:
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


def _layer(reader: "_Reader") -> Layer:
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


class _Reader:
    """Reads one thing after the other from the bytes of a file. Raises WeightsError at the end of them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise WeightsError(f"truncated: {count} bytes wanted at byte {self._at} of {len(self._data)}")
        self._at += count
        return self._data[self._at - count : self._at]

    def integer(self) -> int:
        control = self._bytes(1)[0]
        length = control & 0x0F
        if not 1 <= length <= 8 or control & 0x70:
            raise WeightsError(f"damaged: no integer at byte {self._at - 1}")
        magnitude = int.from_bytes(self._bytes(length), "little")
        return -magnitude if control & 0x80 else magnitude

    def size(self) -> int:
        value = self.integer()
        if not 0 <= value <= _MAX_SIZE:
            raise WeightsError(f"damaged: a size of {value} before byte {self._at}")
        return value

    def pair(self) -> tuple[int, int]:
        return self.size(), self.size()

    def expect_integer(self, expected: int, what: str) -> None:
        value = self.integer()
        if value != expected:
            raise WeightsError(f"{what}: {value}, only {expected} is known")

    def number(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if abs(mantissa) > _MAX_MANTISSA or exponent not in _EXPONENTS:
            raise WeightsError(f"damaged: no finite number before byte {self._at}")
        return float(np.ldexp(float(mantissa), exponent))

    def numbers(self, count: int) -> tuple[float, ...]:
        return tuple(self.number() for _ in range(count))

    def boolean(self) -> bool:
        value = self._bytes(1)
        if value not in (b"0", b"1"):
            raise WeightsError(f"damaged: neither yes nor no at byte {self._at - 1}")
        return value == b"1"

    def string(self) -> str:
        return self._bytes(self.size()).decode("ascii", errors="replace")

    def expect_string(self, expected: str) -> None:
        value = self.string()
        if value != expected:
            raise WeightsError(f"{value[:40]!r} stands where {expected!r} was expected: another kind of file")

    def shape(self) -> tuple[int, int, int, int]:
        return self.size(), self.size(), self.size(), self.size()

    def alias(self) -> tuple[int, int, int, int]:
        self.expect_integer(1, "version of an alias")
        return self.shape()

    def tensor(self) -> Floats:
        """A tensor's values in C order, float32 [n]."""
        self.expect_integer(2, "version of a tensor")
        shape = self.shape()
        count = shape[0] * shape[1] * shape[2] * shape[3]
        values = np.frombuffer(self._bytes(4 * count), "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise WeightsError(f"damaged: a weight before byte {self._at} isn't finite")
        return values

    def aliases(self, params: Floats) -> tuple[Floats, Floats]:
        """The two parts of ``params`` that the next two aliases describe."""
        one, two = self.alias(), self.alias()
        size = one[0] * one[1] * one[2] * one[3]
        rest = two[0] * two[1] * two[2] * two[3]
        if not size or not rest or size + rest != params.size:
            raise WeightsError(f"damaged: {params.size} weights for {one} and {two}")
        return params[:size].reshape(one), params[size:].reshape(two)

    def end(self) -> None:
        if self._at != len(self._data):
            raise WeightsError(f"damaged: {len(self._data) - self._at} bytes too many")


class _Integers:
    """A file that holds integers and nothing else, decoded as a whole: some millions of them in a second."""

    def __init__(self, data: bytes) -> None:
        # How far it is from each byte to the next integer, if an integer begins there; 0 where none can.
        steps = data.translate(bytes(1 + (c & 15) if 1 <= c & 15 <= 8 and not c & 0x70 else 0 for c in range(256)))
        starts = []
        at, end = 0, len(data)
        while at < end:
            starts.append(at)
            step = steps[at]
            if not step:
                raise WeightsError(f"damaged: no integer at byte {at}")
            at += step
        if at != end:
            raise WeightsError(f"truncated: the integer at byte {starts[-1]} goes beyond the end")
        padded = np.frombuffer(data + bytes(8), np.uint8)
        where = np.array(starts, np.int64)
        control = padded[where]
        lengths = control & 15
        values = np.zeros(len(where), np.uint64)
        for i in range(int(lengths.max(initial=0))):
            byte = np.where(lengths > i, padded[where + 1 + i], 0).astype(np.uint64)
            values |= byte << np.uint64(8 * i)
        if (values >> np.uint64(63)).any():
            raise WeightsError("damaged: an integer of more than 63 bits")
        signed = values.astype(np.int64)
        self._values: Integers = np.where(control & 0x80, -signed, signed)
        self._at = 0

    def peek(self, ahead: int) -> int:
        if self._at + ahead >= len(self._values):
            raise WeightsError("truncated")
        return int(self._values[self._at + ahead])

    def expect(self, expected: int, what: str) -> None:
        value = self.peek(0)
        if value != expected:
            raise WeightsError(f"{what}: {value} where {expected} was expected")
        self._at += 1

    def take(self, rows: int, columns: int) -> Integers:
        """The next ``rows * columns`` integers, int64 [rows, columns]."""
        count = rows * columns
        if count > len(self._values) - self._at:
            raise WeightsError(f"truncated: {count} integers wanted, {len(self._values) - self._at} are left")
        self._at += count
        return self._values[self._at - count : self._at].reshape(rows, columns)

    def matrix(self) -> Floats:
        """A matrix of floats: its sizes, negated, then its elements; flat."""
        rows, columns = -self.peek(0), -self.peek(1)
        self._at += 2
        if min(rows, columns) < 0:
            raise WeightsError("damaged: a matrix of negative size")
        return _floats(self.take(1, 2 * rows * columns)).reshape(-1)

    def end(self) -> None:
        if self._at != len(self._values):
            raise WeightsError(f"damaged: {len(self._values) - self._at} integers too many")


def _floats(pairs: Integers) -> Floats:
    """Mantissas and exponents, int64 [..., 2 * n], to float32 [..., n]."""
    mantissa, exponent = pairs[..., 0::2], pairs[..., 1::2]
    exact = np.abs(mantissa) <= _MAX_MANTISSA
    if not (exact & (exponent >= _EXPONENTS.start) & (exponent < _EXPONENTS.stop)).all():
        raise WeightsError("damaged: a number isn't finite")
    values = np.ldexp(mantissa.astype(np.float64), exponent.astype(np.int32))
    if not (np.abs(values) <= _FLOAT32_MAX).all():
        raise WeightsError("damaged: a number is beyond float32")
    return values.astype(np.float32)
