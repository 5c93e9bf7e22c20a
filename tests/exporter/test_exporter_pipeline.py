"""train -> export -> calibrate -> evaluate by the command line, stops and resumptions, bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from oneglance_core.folder import model_folders, read_model_folder
from oneglance_core.trials import one_shot_error
from oneglance_exporter.cli import main
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.export import check_graph, parity_inputs
from oneglance_exporter.encoder.made_for import made_for
from oneglance_exporter.encoder.network import INPUT, ConvNet, Encoder, encode
from oneglance_exporter.encoder.trials import one_shot_trials
from oneglance_exporter.errors import DataError, ExportError
from oneglance_exporter.runtime import encoder_of
from oneglance_exporter.training.checkpoint import CHECKPOINT_FILE, Checkpoint, load, save
from oneglance_exporter.training.log import LOG_FILE
from tests.waiting import PATIENCE_SECONDS, until

PROJECT = Path(__file__).resolve().parents[2]
Cli = Callable[..., int]
PATH = ":".join(str(PROJECT / part) for part in ("core", "exporter"))


def train_arguments(data: Path, run: Path, steps: int) -> list[str]:
    small = "--classes-per-batch 8 --examples-per-class 2 --dimension 16 --checkpoint-seconds 0"
    return ["train", "encoder", "--data", str(data), "--out", str(run), "--steps", str(steps), *small.split()]


@pytest.fixture(scope="module")
def cli() -> Cli:
    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory, drawings_zip: Path, cli: Cli) -> Path:
    """A run folder after six steps of training."""
    run = tmp_path_factory.mktemp("runs") / "small"
    assert cli(*train_arguments(drawings_zip, run, steps=6)) == 0
    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, small_run: Path, cli: Cli) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    arguments = ["export", "--run", small_run, "--out", folder, "--name", "tiny", "--license", "MIT"]
    assert cli(*arguments, "--description", "a test's") == 0
    return folder


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
    model: Path, heldout_zip: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_model_folder(model)
    arguments = ["calibrate", "--model", model, "--data", heldout_zip, "--fpir", "0.2", "--splits", "30"]
    assert cli(*arguments) == 0
    after = read_model_folder(model)
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


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, small_run: Path, drawings_zip: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def save_and_die(run: Path, state: Checkpoint) -> None:
        save(run, state)
        if state.step == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("oneglance_exporter.training.driver.save", save_and_die)
        with pytest.raises(Killed):
            cli(*train_arguments(drawings_zip, tmp_path, steps=6))
    assert load(tmp_path, EncoderCheckpoint).step == 3
    assert cli("train", "encoder", "--out", tmp_path, "--resume") == 0
    resumed, whole = load(tmp_path, EncoderCheckpoint), load(small_run, EncoderCheckpoint)
    assert resumed.step == whole.step == 6
    for name in ("model", "average"):
        a, b = getattr(resumed, name), getattr(whole, name)
        assert all(torch.equal(a[key], b[key]) for key in b)
    moments = whole.optimizer["state"]
    assert all(torch.equal(resumed.optimizer["state"][i]["exp_avg"], moments[i]["exp_avg"]) for i in moments)
    assert "--classes-per-batch 8" in resumed.command


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_a_checkpoint_and_a_word_how_to_go_on(
    tmp_path: Path, drawings_zip: Path, stop: signal.Signals
) -> None:
    arguments = train_arguments(drawings_zip, tmp_path / "run", steps=100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "oneglance_exporter.cli", *arguments],
        env={**os.environ, "PYTHONPATH": PATH},
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoint = tmp_path / "run" / CHECKPOINT_FILE
    until(lambda: checkpoint.exists() or process.poll() is not None)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert load(tmp_path / "run", EncoderCheckpoint).step >= 1


def test_a_run_is_not_overwritten_and_not_resumed_as_another(
    small_run: Path, drawings_zip: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(*train_arguments(drawings_zip, small_run, steps=6)) == 1
    assert "--resume" in capsys.readouterr().err
    assert cli("train", "encoder", "--out", small_run, "--resume", "--margin", "0.5") == 1
    assert "--margin: the run has 0.2" in capsys.readouterr().err


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


@pytest.mark.parametrize("damage", ["truncate", "garbage", "foreign", "missing"])
def test_a_damaged_checkpoint_is_named(
    tmp_path: Path, small_run: Path, cli: Cli, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path = tmp_path / CHECKPOINT_FILE
    content = (small_run / CHECKPOINT_FILE).read_bytes()
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif damage == "foreign":
        torch.save({"format": "something else"}, path)
    assert cli("export", "--run", tmp_path, "--out", tmp_path / "m", "--name", "x") == 1
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "encoder", "--data", "DATA", "--out", "OUT"], "--steps or --seconds"),
        (["train", "encoder", "--data", "NOWHERE", "--out", "OUT", "--steps", "1"], "no such file"),
        (["train", "encoder", "--out", "OUT", "--steps", "1"], "--data"),
        (["train", "encoder", "--data", "DATA", "--out", "OUT", "--steps", "1"], "--classes-per-batch"),
        (["train", "encoder", "--data", "DATA", "--out", "OUT", "--steps", "0"], "--steps must be"),
        (["train", "encoder", "--data", "DATA", "--out", "OUT", "--seconds", "-1"], "--seconds must be"),
        (["train", "encoder", "--data", "DATA", "--out", "OUT", "--steps", "1", "--dimension", "65537"], "--dimension"),
        (["train", "encoder", "--data", "DATA", "--out", "OUT", "--steps", "1", "--learning-rate", "1e38"], "1000"),
        (["encode", "--model", "MODEL", "--data", "DATA", "--out", "OUT"], "must end in .npz"),
        (["encode", "--model", "MODEL", "--data", "DATA", "--out", "NOFOLDER.npz"], "can't be written"),
        (["encode", "--model", "MODEL", "--data", "NOWHERE", "--out", "OUT.npz"], "no such file"),
        (["quantize", "--model", "MODEL", "--data", "DATA", "--out", "INFILE"], "can't be written"),
        (["quantize", "--model", "MODEL", "--data", "DATA", "--out", "FILE"], "something else than a model folder"),
        (["import", "onnx", "NOWHERE", "--out", "FILE", "--name", "x", "--license", "x"], "something else"),
        (["calibrate", "--model", "NOWHERE", "--data", "DATA"], "not a model folder"),
        (["evaluate", "--model", "MODEL", "--data", "DATA"], "no group has 20"),
        (["evaluate", "--model", "MODEL", "--data", "DATA", "--trials", "0"], "trials"),
        (["calibrate", "--model", "MODEL", "--data", "DATA", "--gallery-size", "12"], "--gallery-size"),
        (["calibrate", "--model", "MODEL", "--data", "DATA", "--fpir", "0"], "--fpir"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_1(
    tmp_path: Path,
    model: Path,
    drawings_zip: Path,
    cli: Cli,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "file").write_text("x")
    names = {
        "DATA": drawings_zip, "MODEL": model, "NOWHERE": tmp_path / "nowhere", "OUT": tmp_path / "out",
        "OUT.npz": tmp_path / "out.npz", "NOFOLDER.npz": tmp_path / "nowhere" / "out.npz",
        "FILE": tmp_path / "file", "INFILE": tmp_path / "file" / "inside",
    }  # fmt: skip
    if message == "--classes-per-batch":
        arguments = [*arguments, "--classes-per-batch", "1000"]
    assert cli(*[names.get(argument, argument) for argument in arguments]) == 1
    errors = capsys.readouterr().err
    *told, error = errors.splitlines()
    assert error.startswith("oneglance-exporter: error: ")
    assert message in error
    assert all(line.startswith(("the encoder takes ", "--data: ")) for line in told)  # of the data, before a training
    assert not (tmp_path / "out.npz").exists()
    assert (tmp_path / "file").read_text() == "x"


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


@pytest.mark.parametrize("threads", ["0", "-3"])
def test_threads_below_1_are_a_usage_error(
    tmp_path: Path, model: Path, drawings_zip: Path, cli: Cli, capsys: pytest.CaptureFixture[str], threads: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli("encode", "--model", model, "--data", drawings_zip, "--out", tmp_path / "out.npz", "--threads", threads)
    assert stopped.value.code == 2
    assert f"argument --threads: must be at least 1 and at most 4096, got {threads}" in capsys.readouterr().err


def test_a_picture_that_can_not_be_read_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "a/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DataError, match=r"can't be read: .*Permission denied"):
        read_examples([tmp_path], INPUT)


def test_export_replaces_a_model_folder_and_nothing_else(
    tmp_path: Path, small_run: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years")
    assert cli("export", "--run", small_run, "--out", precious, "--name", "x") == 1
    assert "something else than a model folder" in capsys.readouterr().err
    assert (precious / "thesis.tex").read_text() == "years"


def test_a_bad_name_is_a_usage_error(tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli("export", "--run", tmp_path, "--out", tmp_path / "m", "--name", "Not A Name")
    assert stopped.value.code == 2
    assert "a-z 0-9" in capsys.readouterr().err


def test_help_teaches_without_loading_torch() -> None:
    code = "import sys, oneglance_exporter.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'onnx', 'onnxruntime', 'grpc'} & set(sys.modules), 'loaded'"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for word in ("train encoder", "export", "calibrate", "evaluate", "subject/*.png"):
        assert word in done.stdout


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_export_leaves_no_half_folder(
    tmp_path: Path, small_run: Path, model: Path, cli: Cli, stop: signal.Signals
) -> None:
    """Stopped while the graph is being written: one that was traced before. What a kill -9 leaves is hidden, and is in
    nobody's way."""
    models = tmp_path / "models"
    out = models / "tiny"
    shutil.copytree(model, models / "before")
    export = ["export", "--run", str(small_run), "--out", str(out), "--name", "tiny"]
    code = f"""
import sys, signal
from pathlib import Path
from oneglance_exporter.cli import main
from oneglance_exporter.encoder import export

traced = Path({str(model / "model.onnx")!r}).read_bytes()
export.to_onnx = lambda *_: traced
write = Path.write_bytes

def half(path, content):
    write(path, content[:100])
    print("here", flush=True)
    signal.pause()

Path.write_bytes = half
sys.exit(main({export!r}))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PATH}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    with process.stdout:
        assert process.stdout.readline() == "here\n"
        process.send_signal(stop)
    assert process.wait(PATIENCE_SECONDS) == (-stop if stop == signal.SIGKILL else 130)
    assert model_folders(models) == [models / "before"]
    if stop == signal.SIGKILL:
        cli(*export)
        assert read_model_folder(out).manifest.name == "tiny"
        assert model_folders(models) == [models / "before", out]
    else:
        assert list(models.iterdir()) == [models / "before"]


def test_a_full_disk_is_one_line_and_leaves_nothing_half(tmp_path: Path, small_run: Path, drawings_zip: Path) -> None:
    """In a process that may write no file above 30 kB: for the export, and for a training."""
    model, run = tmp_path / "model", tmp_path / "run"
    export = ["export", "--run", str(small_run), "--out", str(model), "--name", "tiny"]
    code = f"""
import resource, signal
from oneglance_exporter.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
for arguments in {[export, train_arguments(drawings_zip, run, steps=3)]!r}:
    print("status", main(arguments), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines().count("status 1") == 2, done.stderr
    assert done.stderr.count("can't be written") == 2
    assert "Traceback" not in done.stderr
    assert not model.exists()
    assert not [path.name for path in run.iterdir() if path.suffix in (".pt", ".part")]
