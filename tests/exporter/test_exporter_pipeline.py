"""train -> export -> calibrate -> evaluate by the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from oneglance_core.folder import read_model_folder
from oneglance_core.trials import one_shot_error
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.export import check_graph, parity_inputs
from oneglance_exporter.encoder.made_for import made_for
from oneglance_exporter.encoder.network import INPUT, ConvNet, Encoder, encode
from oneglance_exporter.encoder.trials import one_shot_trials
from oneglance_exporter.errors import ExportError
from oneglance_exporter.runtime import encoder_of
from oneglance_exporter.training.checkpoint import load
from oneglance_exporter.training.log import LOG_FILE
from tests.exporter.small_runs import PROJECT, Cli, train_arguments


def test_the_exported_folder_keeps_the_contract(model: Path, drawings_zip: Path) -> None:
    folder = read_model_folder(model)
    manifest = folder.manifest
    assert (manifest.name, manifest.description, manifest.license) == ("tiny", "a test's", "MIT")
    assert (manifest.input.shape, manifest.input.dtype, manifest.input.color) == (
        (105, 105, 1),
        "uint8",
        "gray",
    )
    assert (manifest.output.dimension, manifest.output.unit_norm) == (16, True)
    assert str(drawings_zip) in manifest.training["command"]
    assert manifest.training["steps"] == 6
    graph = onnx.load_model_from_string(folder.model)
    assert not any(t.external_data for t in graph.graph.initializer)
    assert str(PROJECT).encode() not in folder.model


def test_the_exported_folder_tells_what_it_was_checked_on(model: Path) -> None:
    """Real inputs: of the training, which is still there."""
    checked = read_model_folder(model).manifest.training["checked"]
    assert checked["batches"] == [1, 2, 7]
    assert (checked["real_inputs"], checked["invented_inputs"]) == (7, 7)
    assert 0 <= checked["largest_difference_from_torch"] <= 1e-4


def test_the_exported_folder_tells_what_the_drawings_of_the_training_look_like(model: Path, drawings_zip: Path) -> None:
    found = read_model_folder(model).manifest.made_for
    assert found == made_for(read_examples([drawings_zip], INPUT).inputs, drawings_zip.name)


def test_measure_input_writes_the_ranges_and_keeps_the_digest(
    model: Path, heldout_zip: Path, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    assert cli("measure-input", "--model", folder, "--data", heldout_zip, "--described", "others") == 0
    after = read_model_folder(folder).manifest
    assert after.made_for == made_for(read_examples([heldout_zip], INPUT).inputs, "others")
    assert after.digest == read_model_folder(model).digest
    told = capsys.readouterr().out
    for one in after.made_for.figures if after.made_for else ():
        assert f"{one.low:.4f} to {one.high:.4f}; limits {one.least:.4f} to {one.most:.4f}" in told


def test_limits_are_the_range_widened_and_stay_shares() -> None:
    paper = np.full((2, 10, 10, 1), 255, np.uint8)
    paper[0, :3] = 0  # three of ten rows are ink
    paper[1, :1] = 0
    found = {one.figure: one for one in made_for(paper, "two").figures}
    light, dark, detail = found["light"], found["dark"], found["detail"]
    assert (light.low, light.high, light.least, light.most) == (0.7, 0.9, 0.5, 1.0)
    assert (dark.low, dark.high, dark.least, dark.most) == (0.1, 0.3, 0.0, 0.5)
    assert (detail.low, detail.least, detail.most) == (0.0556, 0.0278, 0.1112)  # 10 steps of 180, twice the same


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_parity_vectors_come_back_from_onnx_runtime(model: Path, batch: int) -> None:
    folder = read_model_folder(model)
    inputs, outputs = folder.manifest.parity.inputs.unpack(), folder.manifest.parity.outputs.unpack()
    found = encoder_of(folder.model, threads=1)(inputs[:batch])
    assert np.abs(found - outputs[:batch]).max() <= folder.manifest.parity.tolerance
    np.testing.assert_allclose(np.linalg.norm(outputs, axis=1), 1, atol=1e-5)


def network(dimension: int) -> Encoder:
    return Encoder(INPUT, ConvNet(1, (105, 105), dimension, shrink=7)).eval()


def test_an_encoding_of_zeros_stays_finite() -> None:
    silent = network(4)
    for parameter in silent.backbone.parameters():
        torch.nn.init.zeros_(parameter)
    assert np.isfinite(encode(silent, parity_inputs())).all()


def test_a_graph_that_answers_otherwise_is_refused(model: Path) -> None:
    torch.manual_seed(1)
    with pytest.raises(ExportError, match="differs from torch"):
        check_graph(read_model_folder(model).model, network(16), parity_inputs())
    with pytest.raises(ExportError, match="can't load"):
        check_graph(b"not a graph", network(16), parity_inputs())


def test_calibrate_fills_the_threshold_and_keeps_the_digest(
    model: Path, heldout_zip: Path, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_model_folder(model)
    folder = shutil.copytree(model, tmp_path / "model")
    arguments = ["calibrate", "--model", folder, "--data", heldout_zip, "--fpir", "0.2", "--splits", "30"]
    assert cli(*arguments) == 0
    after = read_model_folder(folder)
    assert after.digest == before.digest
    threshold = after.manifest.threshold
    assert threshold is not None
    assert (threshold.target_fpir, threshold.gallery_size, threshold.data) == (0.2, 6, "heldout.zip")
    assert threshold.fpir <= 0.2
    assert threshold.fmr(4.0) == 1.0
    assert f"tau {threshold.tau:.4f} at 6 enrolled" in capsys.readouterr().out
    assert "heldout.zip" in after.manifest.training["calibration_command"]


def test_evaluate_prints_what_the_functions_give(
    model: Path, heldout_zip: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "--model", model, "--data", heldout_zip, "--ways", "5", "--trials", "400"]
    assert cli(*arguments, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    pictures = read_examples([heldout_zip], INPUT)
    f = encoder_of(read_model_folder(model).model, threads=1)(pictures.inputs)
    assert result["one_shot_error"] == one_shot_error(f, one_shot_trials(pictures, 400, 5, 0))
    assert result["one_shot_error"] < 0.7  # six steps already beat chance, 0.8
    assert cli(*arguments) == 0
    assert "5-way one-shot error" in capsys.readouterr().out


def test_the_log_has_a_line_for_the_last_step(small_run: Path) -> None:
    last = json.loads((small_run / LOG_FILE).read_text().splitlines()[-1])
    assert last["step"] == 6
    assert last["done"] == 1
    assert last["active_triplets"] > 0


def test_validation_error_is_reported(tmp_path: Path, drawings_zip: Path, heldout_zip: Path, cli: Cli) -> None:
    arguments = [*train_arguments(drawings_zip, tmp_path, steps=2), "--validation", str(heldout_zip)]
    assert cli(*arguments) == 0
    error = load(tmp_path, EncoderCheckpoint).validation_error
    assert error is not None
    assert 0 < error < 1


def test_encode_replaces_its_file_as_a_whole(
    tmp_path: Path, model: Path, drawings_zip: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.npz"
    arguments = "encode", "--model", model, "--data", drawings_zip, "--out", out
    assert cli(*arguments) == 0
    with np.load(out) as written:
        assert written["encodings"].shape == (60, 16)
        assert len(written["subjects"]) == len(written["files"]) == 60
        assert str(written["digest"]) == read_model_folder(model).digest
    before = out.read_bytes()

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert cli(*arguments) == 1
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]
