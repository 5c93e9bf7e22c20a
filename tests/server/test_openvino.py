"""Encoders by OpenVINO: the answers of ONNX Runtime, many callers at once, and no start where it can't."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from oneglance_core.folder import ModelFolder, read_model_folder
from oneglance_core.manifests import EncoderManifest, TensorSpec
from oneglance_core.sessions.checks import allowed
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.openvino import BF16_TOLERANCE, OpenVinoSession
from oneglance_server.engines.session import Runtime
from oneglance_server.errors import StartupError
from oneglance_server.settings import BUNDLED_MODEL
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def folder() -> ModelFolder[EncoderManifest]:
    return read_model_folder(BUNDLED_MODEL)


def test_without_the_package_the_server_does_not_start(
    folder: ModelFolder[EncoderManifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(StartupError, match=r"pip install 'oneglance\[openvino\]'"):
        OpenVinoSession(folder, bf16=False, threads=1, runs_at_once=1)


def test_off_the_cpu_it_does_not_start(folder: ModelFolder[EncoderManifest]) -> None:
    with pytest.raises(StartupError, match="runs on the CPU only, not on --device cuda"):
        Encoder(folder, Runtime("cuda", 1, 1, engine="openvino"))


def test_the_encoder_says_what_really_runs_it(folder: ModelFolder[EncoderManifest]) -> None:
    pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    encoder = Encoder(folder, Runtime("cpu", 1, 1, engine="openvino"))
    assert encoder.execution_provider == "OpenVINO"
    plain = Encoder(folder, Runtime("cpu", 1, 1))
    assert encoder.digest == plain.digest
    inputs = folder.manifest.parity.inputs.unpack()
    assert np.abs(encoder.encode(inputs) - plain.encode(inputs)).max() < 1e-5


def test_a_damaged_graph_is_refused(folder: ModelFolder[EncoderManifest]) -> None:
    pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    broken = ModelFolder(folder.path, folder.manifest, folder.model[:1000])
    with pytest.raises(StartupError, match="can't load the graph"):
        OpenVinoSession(broken, bf16=False, threads=1, runs_at_once=1)


def test_it_describes_the_graph_and_answers_as_onnx_runtime_does() -> None:
    pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    bundled = read_model_folder(BUNDLED_MODEL)
    session = OpenVinoSession(bundled, bf16=False, threads=1, runs_at_once=2)
    assert session.inputs == [TensorSpec("input", "uint8", (None, 105, 105, 1))]
    assert session.outputs == [TensorSpec("encoding", "float32", (None, 512))]
    assert session.provider == "OpenVINO"
    assert session.rounding == 0
    parity = bundled.manifest.parity
    inputs, expected = parity.inputs.unpack(), parity.outputs.unpack()
    for batch in (1, 3, len(inputs)):  # of sizes that change from run to run
        found = session.run(["encoding"], {"input": inputs[:batch]})[0]
        assert found.dtype == np.float32
        assert np.abs(found - expected[:batch]).max() <= parity.tolerance


def test_answers_belong_to_their_callers() -> None:
    """Many threads at once, each with a picture of its own: no one gets, or later loses, another's encoding."""
    pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    bundled = read_model_folder(BUNDLED_MODEL)
    session = OpenVinoSession(bundled, bf16=False, threads=1, runs_at_once=2)
    inputs, expected = bundled.manifest.parity.inputs.unpack(), bundled.manifest.parity.outputs.unpack()
    which = [i % len(inputs) for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: session.run(["encoding"], {"input": inputs[i : i + 1]})[0], which))
    assert np.abs(np.concatenate(found) - expected[which]).max() <= bundled.manifest.parity.tolerance


def test_bf16_is_looser_by_what_is_stated_and_is_really_used() -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    bundled = read_model_folder(BUNDLED_MODEL)
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(StartupError, match="no bf16"):
            OpenVinoSession(bundled, bf16=True, threads=1, runs_at_once=1)
        return
    session = OpenVinoSession(bundled, bf16=True, threads=1, runs_at_once=1)
    inputs, expected = bundled.manifest.parity.inputs.unpack(), bundled.manifest.parity.outputs.unpack()
    difference = float(np.abs(session.run(["encoding"], {"input": inputs})[0] - expected).max())
    assert session.provider == "OpenVINO bf16"
    assert session.rounding == BF16_TOLERANCE
    most = allowed(1e-4, session.rounding, expected)
    assert most == pytest.approx(BF16_TOLERANCE * np.abs(expected).max())
    # float32 would be a thousand times nearer
    assert 1e-4 < difference <= most


def test_the_tolerance_of_bf16_still_tells_pictures_apart() -> None:
    outputs = read_model_folder(BUNDLED_MODEL).manifest.parity.outputs.unpack()
    apart = np.abs(outputs[:, None] - outputs[None]).max(axis=2)[~np.eye(len(outputs), dtype=bool)]
    assert apart.min() > 5 * BF16_TOLERANCE * np.abs(outputs).max()


def test_nothing_is_collected_for_anybody(models: tuple[Path, Path], tmp_path: Path) -> None:
    """OpenVINO's telemetry leaves an id in the home folder, unless it is kept out."""
    pytest.importorskip("openvino")
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import sys; from oneglance_core.folder import read_model_folder;"
        "from oneglance_server.engines.openvino import OpenVinoSession;"
        "OpenVinoSession(read_model_folder(sys.argv[1]), bf16=False, threads=1, runs_at_once=1)"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    subprocess.run([sys.executable, "-c", code, str(models[0])], env=env, check=True, timeout=PATIENCE_SECONDS)
    assert list(home.rglob("*")) == []
