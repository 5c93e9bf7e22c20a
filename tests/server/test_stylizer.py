"""Stylizers as they are loaded: the contract of the graph, parity, engines."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from oneglance import Client, OneglanceError
from oneglance_core.folder import ModelFolder, read_any_model_folder
from oneglance_core.manifests import StylizerManifest
from oneglance_server.engines.session import Runtime
from oneglance_server.engines.stylizer import Stylizer, psnr
from oneglance_server.errors import StartupError
from oneglance_server.settings import Engine
from tests.models import pixels_model
from tests.pictures import picture
from tests.running import server_thread
from tests.server.test_lifecycle import serve_and_fail
from tests.style_models import STYLES, style_model, tinted
from tests.waiting import PATIENCE_SECONDS

PLAIN = Runtime("cpu", 1, 1, flag="--stylizer-engine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder[StylizerManifest]:
    return read_any_model_folder(style_model(tmp_path_factory.mktemp("tints")))


def engine(name: Engine) -> Runtime:
    return Runtime("cpu", 1, 1, engine=name, flag="--stylizer-engine")


def changed(
    folder: ModelFolder[StylizerManifest], model: onnx.ModelProto, **manifest: object
) -> ModelFolder[StylizerManifest]:
    graph = model.SerializeToString()
    update = {"model_sha256": hashlib.sha256(graph).hexdigest(), "model_bytes": len(graph), **manifest}
    return ModelFolder(folder.path, folder.manifest.model_copy(update=update), graph)


def test_it_paints_as_its_graph_says(folder: ModelFolder[StylizerManifest]) -> None:
    stylizer = Stylizer(folder, PLAIN)
    image = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    weights = np.array([0.25, 0, 0.75, 0], np.float32)
    stylized, used = stylizer.run(image, weights)
    expected, moments = tinted(image, weights)
    assert np.abs(stylized - expected).max() < 0.01
    assert np.abs(used - moments).max() < 0.01
    other = np.array([[100, 30], [90, 20], [80, 40]], np.float32)
    for own in (0.0, 0.4):
        stylized, used = stylizer.run(image, weights, other, own)
        expected, moments = tinted(image, weights, other, own)
        assert np.abs(stylized - expected).max() < 0.01
        assert np.abs(used - moments).max() < 0.01


def test_want_of_memory_in_a_run_is_told_as_such(folder: ModelFolder[StylizerManifest]) -> None:
    script = f"""
import resource
import numpy as np
from oneglance_core.folder import (read_any_model_folder)
from oneglance_server.engines.session import Runtime
from oneglance_server.engines.stylizer import Stylizer

stylizer = Stylizer(read_any_model_folder({str(folder.path)!r}), Runtime("cpu", 1, 1))
with open("/proc/self/statm") as statm:
    room = int(statm.read().split()[0]) * resource.getpagesize() + (40 << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    stylizer.run(np.zeros((1024, 1024, 3), np.uint8), np.eye(4, dtype=np.float32)[0])
except MemoryError:
    print("no memory")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.stdout == "no memory\n", done.stderr


def test_a_graph_of_another_contract_is_refused(folder: ModelFolder[StylizerManifest]) -> None:
    model = onnx.load_from_string(folder.model)
    model.graph.input[0].name = "picture"
    for node in model.graph.node:
        node.input[:] = ["picture" if name == "image" else name for name in node.input]
    with pytest.raises(StartupError, match=r"the graph takes \['moments', 'own', 'picture', 'weights'\]"):
        Stylizer(changed(folder, model), PLAIN)
    model = onnx.load_from_string(folder.model)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64
    with pytest.raises(StartupError, match=r"takes image as uint8 \[free, 64, free, 3\]"):
        Stylizer(changed(folder, model), PLAIN)
    with pytest.raises(StartupError, match="takes weights"):
        Stylizer(changed(folder, onnx.load_from_string(folder.model), styles=folder.manifest.styles[:3]), PLAIN)
    with pytest.raises(StartupError, match="takes moments"):
        Stylizer(changed(folder, onnx.load_from_string(folder.model), moments=4), PLAIN)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_stylizer_that_misses_its_parity_vectors_is_refused(name: Engine, tmp_path: Path) -> None:
    if name != "onnxruntime":
        pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    flawed = read_any_model_folder(style_model(tmp_path, flaw=0.05))
    with pytest.raises(StartupError, match="does not reproduce its parity vectors"):
        Stylizer(flawed, engine(name))


def test_openvino_paints_as_onnx_runtime_does(folder: ModelFolder[StylizerManifest]) -> None:
    pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    stylizer, plain = Stylizer(folder, engine("openvino")), Stylizer(folder, PLAIN)
    assert stylizer.execution_provider == "OpenVINO"
    weights = np.full(4, 0.25, np.float32)
    for height, width in ((8, 8), (64, 32), (8, 8)):  # sizes that come back
        image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert np.abs(stylizer.run(image, weights)[0] - plain.run(image, weights)[0]).max() < 0.01
    stylizer.warm_up([(16, 16)])


def test_bf16_may_differ_by_40_db_and_no_more(folder: ModelFolder[StylizerManifest], tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(StartupError, match="--stylizer-engine openvino-bf16: this processor has no bf16"):
            Stylizer(folder, engine("openvino-bf16"))
        return
    stylizer = Stylizer(folder, engine("openvino-bf16"))
    assert stylizer.execution_provider == "OpenVINO bf16"
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    reached = psnr(stylizer.run(image, np.eye(4, dtype=np.float32)[0])[0], tinted(image, [1, 0, 0, 0])[0])
    assert 40 < reached < 100  # float32 would reach more
    Stylizer(read_any_model_folder(style_model(tmp_path / "a", flaw=1.5)), engine("openvino-bf16"))
    with pytest.raises(StartupError, match="PSNR"):
        Stylizer(read_any_model_folder(style_model(tmp_path / "b", flaw=5)), engine("openvino-bf16"))


def test_off_the_cpu_openvino_does_not_start(folder: ModelFolder[StylizerManifest]) -> None:
    with pytest.raises(StartupError, match="--stylizer-engine openvino: runs on the CPU only"):
        Stylizer(folder, Runtime("cuda", 1, 1, engine="openvino", flag="--stylizer-engine"))


def test_a_server_that_cant_load_a_stylizer_says_why(folder: ModelFolder[StylizerManifest], tmp_path: Path) -> None:
    data = ["--data-dir", str(tmp_path / "data")]
    flawed = style_model(tmp_path / "flawed", flaw=1)
    assert "does not reproduce its parity vectors" in serve_and_fail("--models", str(flawed), *data)
    twin = style_model(tmp_path / "twin", name="twin")
    said = serve_and_fail("--models", f"{folder.path}:{twin}", *data)
    assert f"{twin} is the same stylizer as 'tints'" in said
    said = serve_and_fail("--models", str(folder.path), "--stylize-tile", "64", "--stylize-bucket", "100", *data)
    assert "--stylize-tile 64: tints needs tiles of at least 100 pixels" in said


def test_a_stylizer_alone_serves_and_is_listed(folder: ModelFolder[StylizerManifest], tmp_path: Path) -> None:
    with server_thread(data_dir=tmp_path, models=(folder.path,)) as server, Client(server.address) as client:
        (model,) = client.list_models()
        assert (model.name, model.kind, model.digest) == ("tints", "stylizer", folder.digest)
        assert model.execution_provider == "CPUExecutionProvider"
        described = client.describe_model(model.digest)
        assert described.model == model
        assert StylizerManifest.model_validate_json(described.manifest_json) == folder.manifest
        assert list(client.list_galleries()) == []
        with pytest.raises(OneglanceError) as caught:
            client.create_gallery("g")
        assert caught.value.reason == "MODEL_REQUIRED"
        with pytest.raises(OneglanceError) as caught:
            client.create_gallery("g", encoder="tints")
        assert caught.value.reason == "MODEL_NOT_FOUND"


def test_several_stylizers_stand_beside_the_only_encoder(folder: ModelFolder[StylizerManifest], tmp_path: Path) -> None:
    other = style_model(tmp_path / "m" / "other", name="other", styles=2)
    models = (folder.path, other, pixels_model(tmp_path / "m" / "pixels"))
    with server_thread(data_dir=tmp_path / "d", models=models) as server, Client(server.address) as client:
        assert {m.name: m.kind for m in client.list_models()} == {
            "other": "stylizer",
            "pixels": "encoder",
            "tints": "stylizer",
        }
        client.create_gallery("g")  # the only encoder needs no name
        client.enroll("g", "it", picture(1))
        styles = client.list_styles()
        assert [(style.stylizer, style.name) for style in styles] == [
            *(("other", name) for name in STYLES[:2]),
            *(("tints", name) for name in STYLES),
        ]
        assert styles[-1].stylizer_digest == folder.digest
        assert (styles[0].title, styles[0].source, styles[0].license) == ("Ember", "invented", "CC0-1.0")
