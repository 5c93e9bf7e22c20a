"""Receptive fields against brute force, the patches of the strongest units, and the sheets of every kind of input."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image

from oneglance_core.folder import read_model_folder, write_model_folder
from oneglance_core.glyphs import alphabet
from oneglance_core.manifests import Array, EncoderManifest, InputSpec, OutputSpec, Parity
from oneglance_exporter.api import look
from oneglance_exporter.cli import main
from oneglance_exporter.errors import ExportError, SettingsError
from oneglance_exporter.imports.graph import Graph, value
from oneglance_exporter.look.activations import patch, peaks
from oneglance_exporter.look.look import spread
from oneglance_exporter.look.receptive_fields import Field, Layer, layers_of
from oneglance_exporter.runtime import session_of
from oneglance_server.settings import BUNDLED_MODEL

LENGTHS = {1: (40,), 2: (19, 23), 3: (11, 10, 12)}
Build = Callable[[Graph, str, int], str]


def weights(*shape: int) -> npt.NDArray[np.float32]:
    """Positive: so whatever a unit sees moves it."""
    return np.random.default_rng(len(shape)).uniform(0.5, 1, shape).astype(np.float32)


def conv(graph: Graph, x: str, dims: int, channels: int, k: int = 3, **attributes: object) -> str:
    return graph.add("Relu", graph.add("Conv", x, weights(2, channels, *[k] * dims), **attributes))


def plain(graph: Graph, x: str, dims: int) -> str:
    return conv(graph, conv(graph, x, dims, 1), dims, 2, pads=[1] * 2 * dims)


def strided(graph: Graph, x: str, dims: int) -> str:
    y = conv(graph, x, dims, 1, k=3, strides=[2] * dims, pads=[2] * dims + [0] * dims)
    return conv(graph, y, dims, 2, k=2, pads=[1] * dims + [0] * dims)


def dilated(graph: Graph, x: str, dims: int) -> str:
    return conv(graph, conv(graph, x, dims, 1, k=2, dilations=[3] * dims), dims, 2, k=2)


def pooled(graph: Graph, x: str, dims: int) -> str:
    y = graph.add("MaxPool", conv(graph, x, dims, 1), kernel_shape=[2] * dims, strides=[2] * dims)
    y = graph.add("AveragePool", y, kernel_shape=[2] * dims, strides=[1] * dims, pads=[1] * dims + [0] * dims)
    return conv(graph, y, dims, 2, k=1)


def same(graph: Graph, x: str, dims: int) -> str:
    y = conv(graph, x, dims, 1, k=4, auto_pad="SAME_UPPER", strides=[2] * dims)
    return conv(graph, y, dims, 2, k=2, auto_pad="SAME_LOWER")


def residual(graph: Graph, x: str, dims: int) -> str:
    """A branch of 3 + 3, and one that is padded at its end, as dlib's are."""
    first = conv(graph, x, dims, 1, strides=[2] * dims)
    there = conv(graph, first, dims, 2)
    pads = np.array([0, 0, *[0] * dims, 0, 0, *[1] * dims], np.int64)
    short = graph.add("Pad", conv(graph, first, dims, 2, k=4), pads)
    return graph.add("Relu", graph.add("Add", there, short))


def padded(graph: Graph, x: str, dims: int) -> str:
    before = graph.add("Pad", x, np.array([0, 0, *[2] * dims, 0, 0, *[1] * dims], np.int64))
    scaled = graph.add("Mul", before, np.array(0.5, np.float32))
    return conv(graph, graph.add("Concat", scaled, scaled, axis=1), dims, 2)


BUILDS: dict[str, Build] = {
    build.__name__: build for build in (plain, strided, dilated, pooled, same, residual, padded)
}


def graph_of(build: Build, dims: int, shape: tuple[int, ...]) -> bytes:
    graph = Graph()
    x = graph.add("Transpose", "input", perm=[0, dims + 1, *range(1, dims + 1)])
    last = build(graph, x, dims)
    mean = graph.add("ReduceMean", last, np.arange(2, dims + 2, dtype=np.int64), keepdims=0)
    graph.name(mean, "encoding")
    return graph.model("test", [value("input", np.float32, ["N", *shape])], [value("encoding", np.float32, ["N", 2])])


def seen(
    session_run: Callable[..., list[npt.NDArray[np.float32]]], shape: tuple[int, ...], name: str
) -> npt.NDArray[np.bool_]:
    """[positions of the input, places of the layer]: whether the input there moves the unit."""
    positions = int(np.prod(shape))
    pushed = np.eye(positions, dtype=np.float32).reshape(positions, *shape)
    base = session_run([name], {"input": np.zeros((1, *shape), np.float32)})[0]
    moved = session_run([name], {"input": pushed})[0] != base
    return np.asarray(moved[:, 0].reshape(positions, -1))


@pytest.mark.parametrize("dims", LENGTHS)
@pytest.mark.parametrize("name", BUILDS)
def test_receptive_fields_are_what_perturbation_finds(name: str, dims: int) -> None:
    shape = (*LENGTHS[dims], 1)
    graph = graph_of(BUILDS[name], dims, shape)
    layers = layers_of(onnx.load_from_string(graph), dims)
    assert layers
    shown = onnx.load_from_string(graph)
    shown.graph.output.extend(onnx.ValueInfoProto(name=layer.name) for layer in layers)
    session = session_of(shown.SerializeToString(), 1)
    for layer in layers:
        exact = 0
        moved = seen(session.run, shape, layer.name)
        assert moved.shape[1] == np.prod(layer.places)
        for place, index in enumerate(np.ndindex(*layer.places)):
            at = np.argwhere(moved[:, place].reshape(shape[:-1]))
            fields = [field.seen_from(i) for field, i in zip(layer.fields, index, strict=True)]
            hulls = [(int(column.min()), int(column.max()) + 1) for column in at.T] if len(at) else []
            inside = all(a >= 0 and b <= length for (a, b), length in zip(fields, shape, strict=False))
            if inside:
                assert hulls == fields
                exact += 1
            assert all(a <= c and d <= b for (a, b), (c, d) in zip(fields, hulls, strict=False))
        assert exact


def test_broadcast_and_global_branches_see_everything() -> None:
    graph = Graph()
    x = conv(graph, graph.add("Transpose", "input", perm=[0, 2, 1]), 1, 1)
    gate = graph.add("Sigmoid", graph.add("GlobalAveragePool", x))
    gated = graph.add("Relu", graph.add("Mul", x, gate))
    graph.name(graph.add("ReduceMean", gated, np.array([2]), keepdims=0), "encoding")
    model = graph.model("t", [value("input", np.float32, ["N", 12, 1])], [value("encoding", np.float32, ["N", 2])])
    (first,) = layers_of(onnx.load_from_string(model), 1)  # what sees everything has no places
    assert first.fields == (Field(2, 1, 0, 3),)


def test_a_graph_without_places_is_refused() -> None:
    graph = Graph()
    graph.name(graph.add("Relu", graph.add("Flatten", "input")), "encoding")
    model = graph.model("t", [value("input", np.float32, ["N", 4, 1])], [value("encoding", np.float32, ["N", 4])])
    with pytest.raises(ExportError, match="no layer whose units lie at places"):
        layers_of(onnx.load_from_string(model), 1)


def test_the_best_patch_is_the_one_that_a_search_finds() -> None:
    shape = (12, 14, 1)
    graph = graph_of(plain, 2, shape)
    model = onnx.load_from_string(graph)
    layer = layers_of(model, 2)[0]
    inputs = np.random.default_rng(0).uniform(0, 1, (40, *shape)).astype(np.float32)
    (found,) = peaks(model, [layer], inputs, 1)
    kernel = weights(2, 1, 3, 3)[1, 0]
    answers = {
        (n, y, x): float((inputs[n, y : y + 3, x : x + 3, 0] * kernel).sum())
        for n in range(40) for y in range(10) for x in range(12)
    }  # fmt: skip
    n, y, x = max(answers, key=lambda key: answers[key])
    assert found.best(1, 9)[0] == n
    assert found.values[n, 1] == pytest.approx(answers[n, y, x], rel=1e-5)
    cut = patch(layer, int(found.places[n, 1]), inputs[n].astype(np.float64))
    np.testing.assert_array_equal(cut[..., 0], inputs[n, y : y + 3, x : x + 3, 0])


def test_what_lies_outside_of_the_input_is_told_apart() -> None:
    layer = Layer("relu", "Relu", 1, (4,), (Field(2, 2, -3, 5),))
    example = np.arange(7.0)[:, np.newaxis]
    np.testing.assert_array_equal(patch(layer, 0, example)[:, 0], [np.nan, np.nan, np.nan, 0, 1])
    np.testing.assert_array_equal(patch(layer, 3, example)[:, 0], [3, 4, 5, 6, np.nan])


def test_a_unit_that_could_see_more_than_there_is_is_shown_the_whole() -> None:
    layer = Layer("relu", "Relu", 1, (4,), (Field(2, 2, -3, 5),))
    example = np.arange(4.0)[:, np.newaxis]
    np.testing.assert_array_equal(patch(layer, 0, example)[:, 0], [0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(patch(layer, 2, example)[:, 0], [np.nan, 1, 2, 3])


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings")
    for character in alphabet(5, 10, 1):
        (folder / character.name).mkdir()
        Image.fromarray(character.drawings[0]).save(folder / character.name / "0.png")
    return folder


def test_the_bundled_encoder_is_looked_at_from_the_command_line(
    drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["look", "--model", str(BUNDLED_MODEL), "--data", str(drawings)]
    assert main([*options, "--list"]) == 0
    assert "see 15 x 15 every 3 x 3" in capsys.readouterr().out
    for name in ("sheet.png", "sheet.html"):
        assert main([*options, "--out", str(tmp_path / name), "--layers", "1", "relu_3", "--units", "0", "5"]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 300
    assert (tmp_path / "sheet.html").read_text().count("<img ") == 4
    capsys.readouterr()
    assert main([*options, "--out", str(tmp_path / "sheet.gif")]) == 1
    assert main([*options, "--out", str(tmp_path / "a.png"), "--layers", "9"]) == 1
    assert "there are 1 to 6" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="units 0 to 23"):
        look(BUNDLED_MODEL, drawings, tmp_path / "a.png", layers=("1",), units=(32,))


@pytest.mark.parametrize(("kind", "channels"), [("signal", 1), ("signal", 12), ("plane", 1), ("volume", 1)])
def test_every_kind_of_array_has_a_sheet(kind: str, channels: int, tmp_path: Path) -> None:
    dims = {"signal": 1, "plane": 2, "volume": 3}[kind]
    shape = (*LENGTHS[dims], channels)

    def build(graph: Graph, x: str, dims: int) -> str:
        return conv(graph, conv(graph, x, dims, channels, pads=[1] * 2 * dims), dims, 2)

    folder = model_folder(tmp_path / "model", graph_of(build, dims, shape), kind, shape)
    for subject in range(3):
        (tmp_path / "data" / str(subject)).mkdir(parents=True)
        for number in range(4):
            values = np.random.default_rng((subject, number)).standard_normal(shape)
            np.save(tmp_path / "data" / str(subject) / f"{number}.npy", values.astype(np.float32))
    titles = look(folder, tmp_path / "data", tmp_path / "sheet.png", count=2)
    assert len(titles) == 2
    assert titles[0].endswith(f"2 units that see {'x'.join('3' * dims)} every {'x'.join('1' * dims)}")
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = sheet.getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 10


def model_folder(path: Path, graph: bytes, kind: str, shape: tuple[int, ...]) -> Path:
    inputs = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    outputs = session_of(graph, 1).run(["encoding"], {"input": inputs})[0]
    manifest = EncoderManifest(
        name="test",
        created="2026-01-01T00:00:00Z",
        input=InputSpec(kind=kind, shape=shape, dtype="float32"),
        output=OutputSpec(dimension=2, unit_norm=False),
        parity=Parity(inputs=Array.pack(inputs), outputs=Array.pack(outputs), tolerance=1e-4),
        model_sha256="0" * 64,
        model_bytes=1,
    )
    return write_model_folder(path, manifest, graph)


def test_units_and_layers_are_chosen_evenly() -> None:
    assert spread(range(3), 8) == [0, 1, 2]
    assert spread(range(10), 4) == [0, 3, 6, 9]


def test_the_layers_of_the_bundled_encoder() -> None:
    folder = read_model_folder(BUNDLED_MODEL)
    sizes = [layer.size for layer in layers_of(onnx.load_from_string(folder.model), 2)]
    assert sizes == [(side, side) for side in (15, 30, 42, 72, 96, 156)]
