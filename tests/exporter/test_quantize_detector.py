"""A face detector in 8 bits: it finds the same faces, and tells where it doesn't."""

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image

from oneglance_core.faces.detection import Detection, find_windows, suppress
from oneglance_core.faces.finder import FaceSearch
from oneglance_core.folder import read_any_model_folder, write_model_folder
from oneglance_core.manifests import DetectorManifest, ModelFolderError
from oneglance_exporter.cli import main
from oneglance_exporter.data.photos import read_photos
from oneglance_exporter.errors import DataError, ExportError, SettingsError
from oneglance_exporter.imports.graph import Graph, value
from oneglance_exporter.quantize.detector import MOST_PHOTOS, Comparison, quantize_detector
from oneglance_server.engines.faces import Detector
from oneglance_server.engines.session import Runtime
from tests.exporter.conftest import png
from tests.face_models import encoded, face_models, photo

Pixels = npt.NDArray[np.uint8]

ON_CPU = Runtime(device="cpu", threads=1, gpu_memory_bytes=1)


def people(count: int) -> list[Pixels]:
    """Photos of several sizes with two faces each, in places of the detector's grid."""
    rng = np.random.default_rng(7)
    return [
        photo(
            {(4 * int(rng.integers(1, 5)), 4 * int(rng.integers(1, 14))): 2 * i, (72, 4 * int(rng.integers(1, 14))): i},
            size=(96, 128 + 8 * (i % 3)),
        )
        for i in range(count)
    ]


def by_convolutions() -> bytes:
    """The tiny detector's scores, to rounding, by three convolutions: means of cells, nothing, their sums."""
    cell = np.zeros((8, 4, 4, 4), np.float32)
    cell[0, 2] = 1 / 255 / 16
    same = np.eye(8, dtype=np.float32)[..., None, None]
    window = np.zeros((1, 8, 8, 8), np.float32)
    window[0, 0] = -1 / 64
    window[0, 0, 2:6, 2:6] += 1 / 16
    g = Graph()
    x = g.add("Transpose", g.add("Cast", "image", to=onnx.TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = g.add("Relu", g.add("Conv", x, cell, strides=[4, 4]))
    x = g.add("Relu", g.add("Conv", x, same))
    x = g.add("Conv", x, window, np.array([-0.6], np.float32), pads=[2] * 4)
    g.name(g.add("Squeeze", x, np.array([1])), "scores")
    return g.model(
        "test",
        [value("image", np.uint8, ["N", "H", "W", 4])],
        [value("scores", np.float32, ["N", "h", "w"])],
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny face models; ``detector`` works by convolutions, ``pooling`` by average pooling."""
    folder = face_models(tmp_path_factory.mktemp("models"))
    tiny = read_any_model_folder(folder / "detector")
    write_model_folder(folder / "pooling", tiny.manifest, tiny.model)
    write_model_folder(folder / "detector", tiny.manifest, by_convolutions())
    return folder


@pytest.fixture(scope="module")
def int8(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "detector"
    quantize_detector(models / "detector", out, people(20), "squares")
    return out


def faces(folder: Path, photos: list[Pixels]) -> list[list[Detection]]:
    """As the server finds them, parity checked."""
    detector = Detector(read_any_model_folder(folder), ON_CPU)
    return [suppress(find_windows([p], detector.score, detector.manifest)[0], detector.manifest) for p in photos]


def test_it_is_another_detector_with_the_same_threshold(models: Path, int8: Path) -> None:
    before, after = (read_any_model_folder(path).manifest for path in (models / "detector", int8))
    assert after.name == "tiny-detector-int8"
    assert after.digest != before.digest
    changed = {"name", "created", "training", "parity", "model_sha256", "model_bytes"}
    assert after.model_dump(exclude=changed) == before.model_dump(exclude=changed)
    assert after.parity.inputs == before.parity.inputs
    told = after.training["quantized"]
    assert told["from"] == "tiny-detector"
    assert told["from_digest"] == before.digest
    assert told["ranges_from"] == "20 photos of squares"
    assert told["faces_found"] == told["faces_found_in_8_bits_too"] == 40
    assert told["faces_found_in_8_bits_only"] == 0
    assert told["boxes_identical"] == 40
    assert 0 <= told["score_moved_max"] < 0.01


def test_new_photos_give_the_same_boxes(models: Path, int8: Path) -> None:
    photos = [np.ascontiguousarray(p[:, ::-1]) for p in people(30)]
    before, after = faces(models / "detector", photos), faces(int8, photos)
    assert sum(map(len, before)) == 60
    assert [[f.box for f in found] for found in after] == [[f.box for f in found] for found in before]


def test_all_but_the_last_convolution_run_in_8_bits(int8: Path) -> None:
    graph = onnx.load_model_from_string(read_any_model_folder(int8).model).graph
    gives = {output: node.op_type for node in graph.node for output in node.output}
    *first, last = [node for node in graph.node if node.op_type == "Conv"]
    assert [[gives[name] for name in node.input[:2]] for node in first] == [["DequantizeLinear"] * 2] * 2
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert kinds[last.input[1]] == onnx.TensorProto.FLOAT


def test_equal_photos_make_equal_models(models: Path, int8: Path, tmp_path: Path) -> None:
    quantize_detector(models / "detector", tmp_path / "again", people(20), "squares")
    assert read_any_model_folder(tmp_path / "again").digest == read_any_model_folder(int8).digest


def test_what_cannot_be_quantised_is_refused_in_words(models: Path, int8: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"15 photo\(s\) are too few"):
        quantize_detector(models / "detector", out, people(15), "")
    with pytest.raises(DataError, match="finds no face in the photos"):
        quantize_detector(models / "detector", out, [photo({})] * 16, "")
    with pytest.raises(ExportError, match="nothing in the graph can be quantised"):
        quantize_detector(models / "pooling", out, people(16), "")
    with pytest.raises(SettingsError, match="is quantised already"):
        quantize_detector(int8, out, people(16), "")
    with pytest.raises(ModelFolderError, match="holds a model of kind 'encoder', not 'detector'"):
        quantize_detector(models / "encoder", out, people(16), "")
    assert not out.exists()


def test_of_many_photos_an_even_choice_sets_the_ranges(models: Path, tmp_path: Path) -> None:
    manifest = quantize_detector(models / "detector", tmp_path / "q", people(4) * (MOST_PHOTOS // 2), "squares")
    assert manifest.training["quantized"]["ranges_from"] == f"{MOST_PHOTOS} photos of squares"


def test_comparing_what_two_detectors_find(models: Path) -> None:
    spec = read_any_model_folder(models / "detector").manifest
    left, moved, right = (0.0, 0.0, 39.0, 39.0), (4.0, 0.0, 43.0, 39.0), (100.0, 0.0, 139.0, 39.0)
    before = [[Detection(left, 0.9), Detection(right, 0.5)], [Detection(left, 0.4)], []]
    after = [[Detection(right, 0.2), Detection(moved, 1.0)], [], [Detection(left, 0.1)]]
    found = Comparison.of(before, after, spec)
    assert (found.found, found.both, found.identical, found.new) == (3, 2, 1, 1)
    assert found.score_moved == pytest.approx(0.3)
    aside = Detection((30.0, 0.0, 69.0, 39.0), 0.9)
    assert Comparison.of([[Detection(left, 0.9)]], [[aside]], spec) == Comparison(1, 0, 0, 0.0, 1)


def test_photos_are_read_from_any_folder_and_brought_to_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(png(rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)))
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("a/b/large.png", png(rng.integers(0, 256, (300, 400), dtype=np.uint8)))
    read = read_photos([tmp_path, tmp_path / "more.zip"], 4, 3000)
    assert [p.shape for p in read] == [(30, 40, 3), (32, 40, 3), (34, 40, 3), (47, 63, 3)]
    assert (read_photos([tmp_path], 6, 3000)[5] == np.asarray(Image.open(tmp_path / "5.png"))).all()


def test_the_command_line(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "fast"
    photos.mkdir()
    for i, pixels in enumerate(people(16)):
        (photos / f"{i}.png").write_bytes(encoded(pixels))
    given = ["--data", str(photos), "--out", str(out)]
    assert main(["quantize", "--model", str(models / "detector"), *given, "--name", "fast"]) == 0
    assert read_any_model_folder(out).manifest.name == "fast"
    assert (
        "fast, ranges from 16 photos of photos; of their 32 faces it finds 32, 32 in the same box"
        in capsys.readouterr().out
    )
    assert main(["quantize", "--model", str(models / "landmarks"), *given]) == 1
    assert "holds landmarks; encoders and face detectors can be quantised" in capsys.readouterr().err


def test_dlibs_detector_finds_the_same_people(face_folder: Path, lfw: dict[str, list[bytes]], tmp_path: Path) -> None:
    photos, out = tmp_path / "photos.zip", tmp_path / "int8"
    with zipfile.ZipFile(photos, "w") as archive:
        for name, data in lfw.items():
            archive.writestr(f"{name}/0.jpg", data[0])
            archive.writestr(f"{name}/1.jpg", data[1])
    assert main(["quantize", "--model", str(face_folder / "detector"), "--data", str(photos), "--out", str(out)]) == 0
    before, after = (read_any_model_folder(path) for path in (face_folder / "detector", out))
    assert isinstance(after.manifest, DetectorManifest)
    assert after.manifest.threshold == before.manifest.threshold == 0
    told = after.manifest.training["quantized"]
    assert told["faces_found_in_8_bits_too"] == told["faces_found"] >= 20
    assert len(after.model) < 0.5 * len(before.model)

    others = tmp_path / "others.zip"
    with zipfile.ZipFile(others, "w") as archive:
        for name, data in lfw.items():
            archive.writestr(f"{name}/2.jpg", data[2])
    pixels = read_photos([others], 10, FaceSearch().search_pixels)
    found = Comparison.of(faces(face_folder / "detector", pixels), faces(out, pixels), before.manifest)
    assert found.both == found.found >= 10
    assert found.new == 0
    assert found.score_moved < 0.1
