"""dlib's files are read: the numbers, the graphs made of them, and any damage."""

import contextlib
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneglance_exporter.errors import ExporterError, WeightsError
from oneglance_exporter.imports import dat_networks as nets
from oneglance_exporter.imports.dat_predictor import read_shape_predictor
from oneglance_exporter.imports.dlib_encoder import encode_exactly, encoder_graph
from oneglance_exporter.imports.dlib_landmarks import find_landmarks, landmarks_graph
from oneglance_exporter.runtime import encoder_of, session_of
from tests.exporter.dlib_files import (
    CASCADES,
    COLUMNS,
    PIXELS,
    POINTS,
    READERS,
    ROWS,
    SPLITS,
    TREES,
    WIDTH,
    Writer,
    damaged,
    face_file,
    landmarks_file,
    mmod_file,
)


def test_numbers_come_back_as_written() -> None:
    net = nets.read_face_net(face_file())
    assert (net.margin, net.distance_threshold, net.means) == (0.04, 0.6, (122.782, 117.001, 104.298))
    assert (net.rows, net.columns) == (ROWS, COLUMNS)
    kinds = [type(layer) for layer in net.layers]
    assert kinds[:5] == [
        nets.Convolution,
        nets.Affine,
        nets.Relu,
        nets.Pool,
        nets.Tag,
    ]
    assert kinds[-1] is nets.FullyConnected
    first = net.layers[0]
    assert isinstance(first, nets.Convolution)
    assert (first.weight.shape, first.stride, first.padding) == ((WIDTH, 3, 7, 7), (2, 2), (0, 0))
    expected = np.random.default_rng(5).standard_normal(WIDTH * 3 * 49).astype(np.float32) / 7
    assert np.array_equal(first.weight.ravel(), expected)

    mmod = nets.read_mmod_net(mmod_file())
    assert (mmod.window_width, mmod.window_height, mmod.nms_iou, mmod.nms_covered) == (20, 20, 0.33, 1)
    norm = mmod.layers[1]
    assert isinstance(norm, nets.BatchNorm)
    assert norm.eps == 1e-4
    assert not np.array_equal(norm.mean, norm.variance)

    predictor = read_shape_predictor(landmarks_file())
    assert predictor.initial_shape.shape == (POINTS, 2)
    assert predictor.first.shape == predictor.threshold.shape == (CASCADES, TREES, SPLITS)
    assert predictor.leaves.shape == (CASCADES, TREES, SPLITS + 1, POINTS, 2)
    assert predictor.deltas.shape == (CASCADES, PIXELS, 2)
    rng = np.random.default_rng(7)
    assert np.array_equal(predictor.initial_shape.ravel(), rng.uniform(0.2, 0.8, 2 * POINTS).astype(np.float32))
    assert [predictor.first[0, 0, 0], predictor.second[0, 0, 0]] == rng.integers(0, PIXELS, 2).tolist()
    assert predictor.threshold[0, 0, 0] == np.float32(rng.normal(0, 30))


def test_the_encoder_graph_answers_as_the_network_layer_by_layer() -> None:
    net = nets.read_face_net(face_file())
    chips = np.random.default_rng(0).integers(0, 256, (5, ROWS, COLUMNS, 3), dtype=np.uint8)
    graph = encoder_graph(net)
    assert graph == encoder_graph(net)
    expected = encode_exactly(net, chips)
    assert np.abs(expected).max() > 0.1
    assert np.abs(encoder_of(graph, threads=1)(chips) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(encoder_of(graph, threads=1)(chips[:1]) - expected[:1]).max() <= 1e-5 * np.abs(expected).max()


def test_layers_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(WeightsError, match=f"{WIDTH + 1} channels after {WIDTH}"):
        encoder_graph(nets.read_face_net(face_file(WIDTH + 1)))
    net = nets.read_face_net(face_file())
    for layers in (net.layers[:-1], net.layers[4:], net.layers[1:], (*net.layers, net.layers[-1]), ()):
        with pytest.raises(ExporterError):
            encoder_graph(nets.FaceNet(0.04, 0.6, net.means, ROWS, COLUMNS, layers))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=3),
    boxes=st.lists(st.tuples(*[st.integers(-60, 90)] * 4), min_size=0, max_size=5),
)
def test_the_landmarks_graph_answers_as_the_trees_one_by_one(
    seed: int, sizes: list[tuple[int, int]], boxes: list[tuple[int, int, int, int]]
) -> None:
    predictor = read_shape_predictor(landmarks_file())
    rng = np.random.default_rng(seed)
    pictures = [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    begins = np.cumsum([0, *(picture.size for picture in pictures)])
    which = [i % len(pictures) for i in range(len(boxes))]
    inputs = {
        "pixels": np.concatenate([picture.ravel() for picture in pictures]),
        "pictures": np.array([[begins[i], *sizes[i]] for i in which], np.int64).reshape(-1, 3),
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
    }
    (points,) = session_of(landmarks_graph(predictor), threads=1).run(["points"], inputs)
    assert points.shape == (len(boxes), POINTS, 2)
    assert points.dtype == np.float32
    for i, found, box in zip(which, points, inputs["boxes"], strict=True):
        assert np.array_equal(found, find_landmarks(predictor, pictures[i], box))


def test_boxes_that_are_no_numbers_do_not_read_beyond_the_pixels() -> None:
    graph = landmarks_graph(read_shape_predictor(landmarks_file()))
    boxes = np.array([[np.nan] * 4, [np.inf] * 4, [-3e38, -3e38, 3e38, 3e38], [0, 0, 9, 9]], np.float32)
    inputs: dict[str, npt.NDArray[Any]] = {
        "pixels": np.zeros(100, np.uint8),
        "pictures": np.array([[0, 10, 10]] * 4, np.int64),
        "boxes": boxes,
    }
    (points,) = session_of(graph, threads=1).run(["points"], inputs)
    assert np.isfinite(points[3]).all()


@pytest.mark.parametrize("kind", READERS)
def test_any_damage_is_one_error(kind: str) -> None:
    read, write = READERS[kind]
    whole = write()

    @settings(max_examples=300)
    @given(data=st.one_of(damaged(whole), st.binary(max_size=400)))
    def check(data: bytes) -> None:
        with contextlib.suppress(ExporterError):
            net = read(data)
            if kind == "face":  # what still reads has other weights: its graph is made or refused
                encoder_graph(net)

    check()


@pytest.mark.parametrize("kind", READERS)
def test_every_shorter_file_is_refused(kind: str) -> None:
    read, write = READERS[kind]
    whole = write()
    read(whole)
    for length in range(0, len(whole), 41):
        with pytest.raises(WeightsError):
            read(whole[:length])
    with pytest.raises(WeightsError):
        read(whole + b"\x01\x01")


@pytest.mark.parametrize(
    "data",
    [
        bytes(Writer().integers(1).string("loss_metric_2").numbers(0.04, 0.6).integers(*[2] * 100_000).data),
        bytes(
            Writer().integers(1).string("loss_metric_2").numbers(0.04, 0.6).integers(3)
            .string("input_rgb_image_sized").numbers(1, 1, 1).integers(150, 150)
            .string("con_4").integers(2, 60_000, 60_000, 60_000, 1).data
        ),
        bytes(Writer().integers(1, 1 << 30, 1 << 30).data),
        bytes(Writer().integers(1, -(1 << 30), -(1 << 30)).data),
        bytes(Writer().integers(1, 0, 0, 1 << 40, 1 << 40, 1 << 40).data),
    ],
)  # fmt: skip
def test_sizes_in_a_file_allocate_nothing(data: bytes) -> None:
    tracemalloc.start()
    try:
        for read, _ in READERS.values():
            with pytest.raises(WeightsError):
                read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (64 << 10) + 40 * len(data)
