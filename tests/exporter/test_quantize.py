"""An encoder in 8 bits: another model, near the first, and served like any other."""

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from oneglance_core.folder import read_model_folder, write_model_folder
from oneglance_core.glyphs import alphabet
from oneglance_core.manifests import AuthorThreshold
from oneglance_exporter.cli import main
from oneglance_exporter.errors import DataError, ExportError, SettingsError
from oneglance_exporter.quantize.encoder import MOST_EXAMPLES, quantize
from oneglance_exporter.quantize.int8 import rounding_tolerance
from oneglance_exporter.runtime import encoder_of
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.session import Runtime
from oneglance_server.settings import BUNDLED_MODEL

Pictures = npt.NDArray[np.uint8]


def drawings(seed: int) -> Pictures:
    """24 invented characters, uint8 [24, 105, 105, 1]."""
    return np.stack([s.drawings[0] for s in alphabet(seed, 24, 1, 105)])[..., None]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled encoder, with an author's tau."""
    folder = read_model_folder(BUNDLED_MODEL)
    manifest = folder.manifest.model_copy(update={"author_threshold": AuthorThreshold(tau=0.5, source="the author")})
    return write_model_folder(tmp_path_factory.mktemp("models") / "bundled", manifest, folder.model)


@pytest.fixture(scope="module")
def int8(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "int8"
    quantize(bundled, out, drawings(300), "invented characters")
    return out


def test_it_is_another_encoder_without_a_threshold(bundled: Path, int8: Path) -> None:
    before, after = read_model_folder(bundled), read_model_folder(int8)
    assert after.manifest.name == f"{before.manifest.name}-int8"
    assert after.digest != before.digest
    weights = (onnx.numpy_helper.to_array(w) for w in onnx.load_model_from_string(before.model).graph.initializer)
    stays = next(weight.nbytes for weight in weights if weight.ndim == 2)  # the last product
    assert len(after.model) - stays < 0.35 * (len(before.model) - stays)
    assert before.manifest.threshold is not None
    assert after.manifest.threshold is None
    assert after.manifest.author_threshold == AuthorThreshold(
        tau=0.5, source="the author; for the encoder before quantisation"
    )
    told = after.manifest.training["quantized"]
    assert told["from_digest"] == before.digest
    assert told["ranges_from"] == "24 pictures of invented characters"
    assert 0 < told["squared_l2_to_original_mean"] <= told["squared_l2_to_original_max"] < 0.1
    assert (after.manifest.input, after.manifest.output) == (before.manifest.input, before.manifest.output)


def test_convolutions_run_in_8_bits_and_the_last_product_does_not(int8: Path) -> None:
    graph = onnx.load_model_from_string(read_model_folder(int8).model).graph
    gives = {output: node for node in graph.node for output in node.output}
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 3
    for node in convolutions:
        source, weight = gives[node.input[0]], gives[node.input[1]]
        assert (source.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        assert kinds[weight.input[0]] == onnx.TensorProto.INT8
    last = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")][-1]
    assert kinds[last.input[1]] == onnx.TensorProto.FLOAT


def test_weights_keep_7_bits(int8: Path) -> None:
    """So that no processor's 16-bit sums of two products can overflow."""
    graph = onnx.load_model_from_string(read_model_folder(int8).model).graph
    weights = [onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8]
    largest = max(np.abs(w.astype(int)).max() for w in weights if w.ndim == 4)
    assert 32 < largest <= 64


def test_new_pictures_stay_near_and_find_the_same_neighbour(bundled: Path, int8: Path) -> None:
    pictures = drawings(301)
    before, after = (encoder_of(read_model_folder(path).model, threads=1)(pictures) for path in (bundled, int8))
    across = ((after[:, None] - before[None]) ** 2).sum(axis=2)
    assert (across.argmin(axis=1) == np.arange(len(pictures))).all()
    apart = np.median(((before[:, None] - before[None]) ** 2).sum(axis=2))
    assert across.diagonal().max() < 0.1 * apart


def test_the_server_takes_it_and_it_says_the_same_twice(bundled: Path, int8: Path, tmp_path: Path) -> None:
    Encoder(read_model_folder(int8), Runtime(device="cpu", threads=1, gpu_memory_bytes=1))
    quantize(bundled, tmp_path / "again", drawings(300), "invented characters")
    assert read_model_folder(tmp_path / "again").digest == read_model_folder(int8).digest


def test_what_cannot_be_quantised_is_refused_in_words(bundled: Path, int8: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"15 picture\(s\) are too few"):
        quantize(bundled, out, drawings(300)[:15], "")
    with pytest.raises(SettingsError, match=r"takes pictures of \(105, 105, 1\)"):
        quantize(bundled, out, drawings(300)[:, 1:], "")
    with pytest.raises(SettingsError, match="is quantised already"):
        quantize(int8, out, drawings(300), "")
    assert not out.exists()


def test_of_many_pictures_an_even_choice_sets_the_ranges(bundled: Path, tmp_path: Path) -> None:
    many = np.tile(drawings(300), (MOST_EXAMPLES // 8, 1, 1, 1))  # three times too many
    manifest = quantize(bundled, tmp_path / "q", many, "tiles")
    assert manifest.training["quantized"]["ranges_from"] == f"{MOST_EXAMPLES} pictures of tiles"


def test_the_command_line(bundled: Path, heldout_zip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "q"
    assert (
        main(["quantize", "--model", str(bundled), "--data", str(heldout_zip), "--out", str(out), "--name", "q8"]) == 0
    )
    assert read_model_folder(out).manifest.name == "q8"
    assert "ranges from 60 pictures of heldout.zip" in capsys.readouterr().out
    assert main(["quantize", "--model", str(out), "--data", str(heldout_zip), "--out", str(tmp_path / "r")]) == 1
    assert "is quantised already" in capsys.readouterr().err


def test_a_face_encoder_gets_its_ranges_from_aligned_faces(
    tmp_path: Path, face_folder: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = data_folder / "faces" / "orl.zip"
    if not data.is_file():
        pytest.skip(f"no {data}; set ONEGLANCE_DATA to the folder that holds faces/")
    photos = tmp_path / "photos.zip"
    with zipfile.ZipFile(data) as archive, zipfile.ZipFile(photos, "w") as some:
        for person in range(1, 5):
            for number in range(1, 6):
                some.writestr(f"s{person}/{number}.pgm", archive.read(f"s{person}/{number}.pgm"))
    encoder, out = face_folder / "encoder", tmp_path / "int8"
    assert main(["quantize", "--model", str(encoder), "--data", str(photos), "--out", str(out)]) == 0
    before, after = read_model_folder(encoder), read_model_folder(out)
    assert "ranges from 20 pictures of photos.zip" in capsys.readouterr().out
    assert after.manifest.alignment == before.manifest.alignment
    assert len(after.model) < 0.3 * len(before.model)
    # Far below dlib's tau of 0.36.
    assert after.manifest.training["quantized"]["squared_l2_to_original_max"] < 0.02
    Encoder(after, Runtime(device="cpu", threads=1, gpu_memory_bytes=1))


def test_an_encoder_that_hangs_on_rounding_is_refused_sooner_than_a_detector() -> None:
    exact = np.ones((2, 3), np.float32)
    assert rounding_tolerance([exact], [exact + 0.04]) == pytest.approx(0.0801, abs=1e-6)
    with pytest.raises(ExportError, match=r"rounding by up to 0\.06"):
        rounding_tolerance([exact], [exact + 0.06])
    assert rounding_tolerance([exact], [exact + 0.06], capped=True) == 0.1
    with pytest.raises(ExportError, match="rounding"):
        rounding_tolerance([exact], [exact + 0.11], capped=True)
