"""Encoders in fewer bits, from the command line: calibrated anew, their cost in the manifest, or refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from oneglance_core.folder import ModelFolder, read_model_folder
from oneglance_core.glyphs import alphabet
from oneglance_core.manifests import EncoderManifest
from oneglance_core.measures import equal_error_rate
from oneglance_core.trials import pair_distances
from oneglance_exporter import api
from oneglance_exporter.cli import main
from oneglance_exporter.encoder import calibrated as calibrating
from oneglance_exporter.encoder.calibrate import calibrate
from oneglance_exporter.encoder.encoded import Reading
from oneglance_exporter.encoder.settings import CalibrateSettings
from oneglance_exporter.errors import ExportError, PrecisionError, SettingsError
from oneglance_exporter.quantize import encoder as quantizing
from oneglance_exporter.quantize.fp16 import fp16_graph
from oneglance_exporter.quantize.int8 import int8_graph
from oneglance_exporter.runtime import encoder_of
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.session import Runtime
from oneglance_server.settings import BUNDLED_MODEL
from tests.models import SOUND, sound_model


def silent(told: object) -> None:
    pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the curves by size of gallery, which take seconds."""
    monkeypatch.setattr(calibrating, "false_positives", lambda *given: None)
    monkeypatch.setattr(calibrating, "mate_scores", lambda *given: None)


@pytest.fixture(scope="module")
def fp16(heldout_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder[EncoderManifest]:
    out = tmp_path_factory.mktemp("models") / "fp16"
    arguments = ["quantize", "--model", BUNDLED_MODEL, "--data", heldout_zip, "--out", out, "--precision", "fp16"]
    assert main(list(map(str, arguments))) == 0
    return read_model_folder(out)


def test_16_bits_halve_the_file_and_are_served(fp16: ModelFolder[EncoderManifest]) -> None:
    before = read_model_folder(BUNDLED_MODEL)
    assert len(fp16.model) < 0.51 * len(before.model)
    assert fp16.manifest.name == f"{BUNDLED_MODEL.name}-fp16"
    assert fp16.digest != before.digest
    kinds = {tensor.data_type for tensor in onnx.load_model_from_string(fp16.model).graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    Encoder(fp16, Runtime(device="cpu", threads=1, gpu_memory_bytes=1))
    pictures = np.stack([s.drawings[0] for s in alphabet(301, 8, 1, 105)])[..., None]
    moved = encoder_of(fp16.model, 1)(pictures) - encoder_of(before.model, 1)(pictures)
    assert 0 < np.abs(moved).max() < 0.002


def test_it_is_calibrated_anew_on_the_data_for_the_same_target(
    fp16: ModelFolder[EncoderManifest], heldout_zip: Path
) -> None:
    before, told = read_model_folder(BUNDLED_MODEL).manifest.threshold, fp16.manifest.threshold
    assert before is not None
    assert told is not None
    assert (told.target_fpir, told.data) == (before.target_fpir, "heldout.zip")
    assert fp16.manifest.false_positives is not None
    assert fp16.manifest.false_positives.data == "heldout.zip"
    assert "calibration_command" not in fp16.manifest.training
    _, examples, encodings = Reading(fp16.path, [heldout_zip]).encoded(silent)
    found, _ = calibrate(encodings, examples, "heldout.zip", CalibrateSettings(fpir=told.target_fpir))
    assert found.tau == pytest.approx(told.tau, abs=1e-3)  # told: as cards answer
    assert (found.gallery_size, found.method) == (told.gallery_size, told.method)


def test_its_cost_is_that_of_both_on_the_same_examples(fp16: ModelFolder[EncoderManifest], heldout_zip: Path) -> None:
    done = fp16.manifest.training["quantized"]
    assert done["measured_on"] == "heldout.zip"
    assert (done["bytes"], done["bytes_before"]) == (len(fp16.model), len(read_model_folder(BUNDLED_MODEL).model))
    cost = {one["name"]: one for one in done["cost"]["differences"]}
    assert any(name.startswith("FNIR at FPIR 1 %") for name in cost)
    for model, which in ((BUNDLED_MODEL, "first"), (fp16.path, "second")):
        _, examples, encodings = Reading(model, [heldout_zip]).encoded(silent)
        eer, _ = equal_error_rate(*pair_distances(encodings, examples.subject_of))
        assert cost["EER"][which]["value"] == pytest.approx(eer, abs=1e-9)
    for one in cost.values():
        less = one["difference"]
        assert less["low"] <= less["value"] <= less["high"]
        assert less["value"] == pytest.approx(one["second"]["value"] - one["first"]["value"])
    assert "What the fewer bits cost" in (fp16.path / "MODEL_CARD.md").read_text()


def test_what_costs_too_much_is_refused_and_nothing_is_written(
    heldout_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = quantizing.lowered

    def ruined(*given: object, **more: object) -> ModelFolder[EncoderManifest]:
        """With another first layer: the encodings mean nothing."""
        made = kept(*given, **more)  # type: ignore[arg-type]
        model = onnx.load_model_from_string(made.model)
        weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
        noise = np.random.default_rng(0).integers(-64, 65, weight.dims).astype(np.int8)
        weight.CopyFrom(numpy_helper.from_array(noise, weight.name))
        return ModelFolder(made.path, made.manifest, model.SerializeToString())

    monkeypatch.setattr(quantizing, "lowered", ruined)
    out = tmp_path / "out"
    with pytest.raises(PrecisionError, match=r"int8 costs too much: EER .* becomes .* allowed are 1 points"):
        api.quantize(BUNDLED_MODEL, heldout_zip, out)
    assert not out.exists()


def folder_of(
    path: Path, nodes: Callable[[onnx.GraphProto], None], spread: float = 1.0
) -> ModelFolder[EncoderManifest]:
    """The tests' encoder of sounds, its graph changed; its waves ``spread`` times as large."""
    folder = read_model_folder(sound_model(path))
    model = onnx.load_model_from_string(folder.model)
    for tensor in model.graph.initializer:
        if tensor.name == "waves":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(spread), "waves"))
    nodes(model.graph)
    return ModelFolder(path, folder.manifest, model.SerializeToString())


def inputs() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((16, *SOUND.shape)).astype(np.float32)


def test_numbers_beyond_16_bits_are_refused_in_words(tmp_path: Path) -> None:
    huge = folder_of(tmp_path / "a", lambda graph: None, spread=2e4)
    with pytest.raises(ExportError, match="in fp16 the encodings aren't finite"):
        quantizing.lowered(huge, "fp16", inputs(), "noise")
    with pytest.raises(ExportError, match=r"weights of waves pass 65,504"):
        fp16_graph(folder_of(tmp_path / "b", lambda graph: None, spread=1e9))


def test_what_a_logarithm_is_taken_of_stays_float(tmp_path: Path) -> None:
    def with_logarithm(graph: onnx.GraphProto) -> None:
        power = next(node for node in graph.node if node.op_type == "Mul")
        graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "one"))
        for node in graph.node:
            node.input[:] = ["heard_log" if name == power.output[0] else name for name in node.input]
        at = list(graph.node).index(power) + 1
        graph.node.insert(at, onnx.helper.make_node("Log", ["shifted"], ["heard_log"]))
        graph.node.insert(at, onnx.helper.make_node("Add", [power.output[0], "one"], ["shifted"]))

    folder = folder_of(tmp_path / "log", with_logarithm)
    with pytest.raises(ExportError, match="nothing in the graph can be quantised"):  # its product is before the Log
        int8_graph(folder, [{"input": inputs()}])


@pytest.mark.usefixtures("quick")
def test_an_encoder_of_windows_is_measured_by_whole_signals(tmp_path: Path) -> None:
    rng, at = np.random.default_rng(1), np.arange(2400) / 8000
    for subject in range(5):
        (tmp_path / "data" / str(subject)).mkdir(parents=True)
        for number in range(4):
            tone = np.sin(2 * np.pi * (300 + 500 * subject) * at) + 0.2 * rng.standard_normal(len(at))
            np.save(tmp_path / "data" / str(subject) / f"{number}.npy", (tone / 3).astype(np.float32))
    model = sound_model(tmp_path / "sounds")
    made = api.quantize(model, tmp_path / "data", tmp_path / "out", precision="fp16", most_lost=0.2)
    assert made.training["quantized"]["cost"]["examples"] == 20
    assert made.input == read_model_folder(model).manifest.input


@pytest.mark.usefixtures("quick")
def test_export_chooses_opset_and_bits(
    drawings_zip: Path, heldout_zip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    api.train(drawings_zip, run, steps=1, dimension=8, classes_per_batch=4, examples_per_class=2, widths=(4, 4, 4, 4))
    with pytest.raises(SettingsError, match="--opset must be 13 to"):
        api.export(run, out, "none", opset=9)
    given = ["export", "--run", str(run), "--out", str(out), "--name", "small", "--precision", "fp16", "--opset", "17"]
    assert main(given) == 1
    assert "--precision fp16 needs --data" in capsys.readouterr().err
    assert not out.exists()
    assert main([*given, "--data", str(heldout_zip)]) == 0
    folder = read_model_folder(out)
    graph = onnx.load_model_from_string(folder.model)
    assert [one.version for one in graph.opset_import if one.domain in ("", "ai.onnx")] == [17]
    told = folder.manifest
    assert (told.name, told.training["quantized"]["precision"]) == ("small", "fp16")
    assert (told.training["checked"]["opset"], told.training["checked"]["real_inputs"]) == (17, 7)
    assert told.threshold is not None
