"""The mmod detector's graph, for networks of that kind with made-up weights: no file of dlib's is needed."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from oneglance_exporter.errors import WeightsError
from oneglance_exporter.imports.dat_networks import BatchNorm, Convolution, Layer, MmodNet, Relu
from oneglance_exporter.imports.dlib_detector import detector_model, detector_scores
from oneglance_exporter.runtime import session_of

MEANS = (122.782, 117.001, 104.298)


def made_up(seed: int = 0, channels: tuple[int, ...] = (5, 6, 7, 17, 9)) -> MmodNet:
    """Like the detector's, and narrower: two convolutions of stride 2, some of stride 1, and one to a single plane."""
    random = np.random.default_rng(seed)

    def floats(*shape: int) -> npt.NDArray[np.float32]:
        return random.normal(0, 1, shape).astype(np.float32)

    layers: list[Layer] = []
    for i, (before, after) in enumerate(zip((3, *channels), (*channels, 1), strict=False)):
        last = i == len(channels)
        side, step = (9, 1) if last else (5, 2 if i < 2 else 1)
        padding = side // 2 if step == 1 else 0
        weight = floats(after, before, side, side) / np.float32(np.sqrt(before) * side)
        layers.append(Convolution(weight, floats(after), (step, step), (padding, padding)))
        if not last:
            layers.append(BatchNorm(floats(after), floats(after), floats(after), floats(after) ** 2 + 1, 1e-4))
            layers.append(Relu())
    return MmodNet(40, 40, 0.33, 1.0, MEANS, 10, 11, tuple(layers))


def run(graph: bytes, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    (scores,) = session_of(graph, threads=1).run(["scores"], {"image": image})
    return scores


@pytest.mark.parametrize("shape", [(1, 13, 13), (1, 13, 40), (3, 37, 52), (2, 64, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_the_graph_gives_what_the_layers_give(shape: tuple[int, int, int], seed: int) -> None:
    net = made_up(seed)
    graph, _ = detector_model(net)
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 4), dtype=np.uint8)
    image[..., 3] = 255
    image[:, : shape[1] // 3] = 0
    expected = detector_scores(net, image)
    scores = run(graph, image)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_nothing_around_a_picture_is_dlibs_zero_whatever_the_mean() -> None:
    """Where the canvas is empty dlib has 0 after subtracting the mean: the means must not change those scores."""
    net = made_up()
    image = np.zeros((1, 80, 80, 4), np.uint8)
    graph, _ = detector_model(net)
    without, _ = detector_model(dataclasses.replace(net, means=(0.0, 0.0, 0.0)))
    np.testing.assert_allclose(run(graph, image), run(without, image), atol=1e-6)
    image[..., 3] = 255  # a black picture isn't nothing
    assert np.abs(run(graph, image) - run(without, image)).max() > 0.01


def test_the_manifest_says_where_a_window_is_centred() -> None:
    """A score depends on the pixels around its centre, as far to the left as to the right."""
    net = made_up()
    graph, manifest = detector_model(net)
    assert (manifest.window, manifest.margin, manifest.gap, manifest.shrink) == (40, 11, 10, 5 / 6)
    assert (manifest.nms_iou, manifest.nms_covered, manifest.threshold) == (0.33, 1.0, 0.0)
    image = np.zeros((1, 141, 181, 4), np.uint8)
    scores = run(graph, image)[0]
    assert run(graph, image[:, : manifest.smallest_side, : manifest.smallest_side]).size == 1
    row, column = np.array(scores.shape) // 2
    x, y = (manifest.offset + manifest.stride * i for i in (column, row))
    reach = []
    for axis, centre in ((2, x), (1, y)):
        changed = []
        for at in range(image.shape[axis]):
            line = image.copy()
            np.moveaxis(line, axis, 0)[at] = 255
            changed.append(run(graph, line)[0, row, column] != scores[row, column])
        seen = np.flatnonzero(changed)
        reach.append((centre - seen.min(), seen.max() - centre))
    assert reach[0][0] == reach[0][1] == reach[1][0] == reach[1][1] > manifest.stride


def test_parity_vectors_are_small_and_held() -> None:
    graph, manifest = detector_model(made_up())
    image = manifest.parity.inputs["image"].unpack()
    assert image.shape[1] <= 96
    assert len(manifest.model_dump_json()) < 20_000
    expected = manifest.parity.outputs["scores"].unpack()
    assert np.abs(run(graph, image) - expected).max() <= manifest.parity.tolerance
    assert expected.std() > 0.01


def test_the_same_weights_make_the_same_bytes() -> None:
    assert detector_model(made_up()) == detector_model(made_up())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda layers: layers[1:], "order"),
        (lambda layers: (*layers, Relu()), "order"),
        (lambda layers: layers[:-1], "order"),
        (lambda layers: layers[-1:], "order"),
        (lambda layers: (), "order"),
        (lambda layers: layers[:3] + layers[6:], "after one of"),
        (lambda layers: (layers[0], made_up(channels=(4,)).layers[1], *layers[2:]), "after one of"),
        (lambda layers: (*layers[:-1], dataclasses.replace(layers[-1], padding=(0, 0))), "keep the size"),
        (lambda layers: (*layers[:-1], dataclasses.replace(layers[-1], stride=(2, 1))), "square"),
        (lambda layers: (dataclasses.replace(layers[0], padding=(2, 2)), *layers[1:]), "padding"),
    ],
)
def test_other_networks_are_refused(change: object, words: str) -> None:
    net = made_up()
    assert callable(change)
    with pytest.raises(WeightsError, match=words):
        detector_model(dataclasses.replace(net, layers=change(net.layers)))


def test_windows_that_are_no_squares_are_refused() -> None:
    with pytest.raises(WeightsError, match="only squares"):
        detector_model(dataclasses.replace(made_up(), window_width=30))
