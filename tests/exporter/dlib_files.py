"""Files as dlib writes them: tiny networks and trees with every kind of layer, whole and damaged."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from oneglance_exporter.imports import dat_networks as nets
from oneglance_exporter.imports.dat_predictor import read_shape_predictor

ROWS, COLUMNS, WIDTH, DIMENSION = 31, 31, 4, 6  # of the invented face network
CASCADES, TREES, SPLITS, POINTS, PIXELS = 2, 9, 7, 3, 11  # of the invented landmarks


class Writer:
    """dlib's serialize()."""

    def __init__(self) -> None:
        self.data = bytearray()

    def integers(self, *values: int) -> "Writer":
        for number in values:
            magnitude = abs(number).to_bytes(max(1, (abs(number).bit_length() + 7) // 8), "little")
            self.data += bytes([len(magnitude) | (0x80 if number < 0 else 0)]) + magnitude
        return self

    def numbers(self, *values: float) -> "Writer":
        for number in values:
            mantissa, exponent = np.frexp(number)
            self.integers(int(mantissa * 2**53), int(exponent) - 53)
        return self

    def string(self, text: str) -> "Writer":
        self.integers(len(text))
        self.data += text.encode()
        return self

    def tensor(self, values: npt.NDArray[np.float32] | None = None) -> "Writer":
        shape = (0, 0, 0, 0) if values is None else (*values.shape, *(1,) * (4 - values.ndim))
        self.integers(2, *shape)
        self.data += b"" if values is None else values.astype("<f4").tobytes()
        return self

    def aliases(self, *shapes: Sequence[int]) -> "Writer":
        for shape in shapes:
            self.integers(1, *shape)
        return self


Layers = list[Callable[[Writer], Any] | None]  # None is a tag or a skip


def network(writer: Writer, at_input: Callable[[Writer], Any], layers: Layers) -> bytes:
    """What an add_loss_layer writes after its loss: ``layers`` from the input outwards."""
    assert layers[0] is not None
    writer.integers(*(1 if layer is None else 2 for layer in reversed(layers[1:])), 3)
    at_input(writer)
    for i, layer in enumerate(layers):
        if layer is not None:
            layer(writer)
            writer.data += b"110"
            writer.tensor().tensor().tensor()
        if i == 0:
            writer.integers(1)
    return bytes(writer.data)


def convolution(rng: np.random.Generator, out: int, channels: int, side: int, stride: int) -> Callable[[Writer], Any]:
    def write(to: Writer) -> None:
        weights = rng.standard_normal(out * channels * side * side).astype(np.float32) / side
        biases = rng.standard_normal(out).astype(np.float32) / 4
        padding = side // 2 if stride == 1 else 0
        to.string("con_4").tensor(np.concatenate([weights, biases]))
        to.integers(out, side, side, stride, stride, padding, padding)
        to.aliases((out, channels, side, side), (1, out, 1, 1)).numbers(1, 1, 1, 0)

    return write


def affine(rng: np.random.Generator, channels: int) -> Callable[[Writer], Any]:
    def write(to: Writer) -> None:
        params = rng.uniform(0.5, 1.5, 2 * channels).astype(np.float32)
        to.string("affine_").tensor(params).aliases((1, channels, 1, 1), (1, channels, 1, 1)).integers(0)

    return write


def batch_norm(rng: np.random.Generator, channels: int) -> Callable[[Writer], Any]:
    def write(to: Writer) -> None:
        one = (1, channels, 1, 1)
        to.string("bn_con2").tensor(rng.uniform(0.5, 1.5, 2 * channels).astype(np.float32)).aliases(one, one)
        for _ in range(4):
            to.tensor(rng.uniform(0.5, 1.5, one).astype(np.float32))
        to.integers(500, 1000).numbers(1, 1, 1, 1, 1e-4)

    return write


def pool(kind: str, side: int, stride: int) -> Callable[[Writer], Any]:
    return lambda to: to.string(f"{kind}_pool_2").integers(side, side, stride, stride, 0, 0)


def fully_connected(rng: np.random.Generator, inputs: int, outputs: int) -> Callable[[Writer], Any]:
    def write(to: Writer) -> None:
        to.string("fc_2").integers(outputs, inputs).tensor(rng.standard_normal((inputs, outputs)).astype(np.float32))
        to.aliases((inputs, outputs, 1, 1), (0, 0, 0, 0)).integers(1).numbers(1, 1, 1, 0)

    return write


def relu(to: Writer) -> None:
    to.string("relu_")


def add_previous(to: Writer) -> None:
    to.string("add_prev_")


def face_file(channels_of_second: int = WIDTH) -> bytes:
    """A face network with a plain block and two that halve: the second one's two branches differ in size."""
    rng = np.random.default_rng(5)
    block: Layers = [
        None,
        convolution(rng, WIDTH, channels_of_second, 3, 1),
        affine(rng, WIDTH),
        relu,
        convolution(rng, WIDTH, WIDTH, 3, 1),
        affine(rng, WIDTH),
        add_previous,
        relu,
    ]

    def halving(channels: int, out: int) -> Layers:
        return [
            None,
            convolution(rng, out, channels, 3, 2),
            affine(rng, out),
            relu,
            convolution(rng, out, out, 3, 1),
            affine(rng, out),
            None,
            None,
            pool("avg", 2, 2),
            add_previous,
            relu,
        ]

    layers: Layers = [
        convolution(rng, WIDTH, 3, 7, 2),
        affine(rng, WIDTH),
        relu,
        pool("max", 3, 2),
        *block,
        *halving(WIDTH, 2 * WIDTH),
        *halving(2 * WIDTH, 3 * WIDTH),
        pool("avg", 0, 1),
        fully_connected(rng, 3 * WIDTH, DIMENSION),
    ]
    writer = Writer().integers(1).string("loss_metric_2").numbers(0.04, 0.6)
    return network(
        writer,
        lambda to: to.string("input_rgb_image_sized").numbers(122.782, 117.001, 104.298).integers(ROWS, COLUMNS),
        layers,
    )


def mmod_file() -> bytes:
    rng = np.random.default_rng(6)
    writer = Writer().integers(1).string("loss_mmod_").integers(1, 20, 20).numbers(1, 1, 0.5, 0.33, 1, 0.5, 1)
    return network(
        writer,
        lambda to: to.string("input_rgb_image_pyramid").numbers(122.782, 117.001, 104.298),
        [convolution(rng, 4, 3, 5, 2), batch_norm(rng, 4), relu, convolution(rng, 1, 4, 5, 1)],
    )


def landmarks_file() -> bytes:
    rng = np.random.default_rng(7)
    writer = Writer().integers(1, -2 * POINTS, -1).numbers(*rng.uniform(0.2, 0.8, 2 * POINTS).astype(np.float32))
    writer.integers(CASCADES)
    for _ in range(CASCADES):
        writer.integers(TREES)
        for _ in range(TREES):
            writer.integers(SPLITS)
            for _ in range(SPLITS):
                writer.integers(*rng.integers(0, PIXELS, 2).tolist()).numbers(float(np.float32(rng.normal(0, 30))))
            writer.integers(SPLITS + 1)
            for _ in range(SPLITS + 1):
                writer.integers(-2 * POINTS, -1).numbers(*rng.normal(0, 0.02, 2 * POINTS).astype(np.float32))
    writer.integers(CASCADES)
    for _ in range(CASCADES):
        writer.integers(PIXELS, *rng.integers(0, POINTS, PIXELS).tolist())
    writer.integers(CASCADES)
    for _ in range(CASCADES):
        writer.integers(PIXELS).numbers(*rng.normal(0, 0.2, 2 * PIXELS).astype(np.float32))
    return bytes(writer.data)


READERS: dict[str, tuple[Callable[[bytes], Any], Callable[[], bytes]]] = {
    "face": (nets.read_face_net, face_file),
    "mmod": (nets.read_mmod_net, mmod_file),
    "landmarks": (read_shape_predictor, landmarks_file),
}


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` cut short, with bits flipped, with bytes put in, taken out or replaced."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "delete", "replace"]))
    at = draw(st.integers(0, len(data) - 1))
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(draw(st.integers(1, 4))):
            changed[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
        return bytes(changed)
    extra = draw(st.binary(min_size=1, max_size=12))
    return (
        data[:at]
        + {"insert": extra, "delete": b"", "replace": extra}[kind]
        + (data[at:] if kind == "insert" else data[at + len(extra) :])
    )
