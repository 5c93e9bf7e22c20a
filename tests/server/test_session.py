"""Sessions on the device asked for, or none; on a GPU never quietly another one, nor other numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from oneglance_core.faces.finder import FaceFinder, canvas_sizes
from oneglance_core.folder import read_any_model_folder, read_model_folder
from oneglance_core.manifests import DetectorManifest, StylizerManifest, UprightnessManifest
from oneglance_core.sessions import onnx_runtime
from oneglance_index import DeviceLost
from oneglance_server.engines import cuda
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.faces import Detector, Uprightness, face_search
from oneglance_server.engines.session import Runtime
from oneglance_server.engines.stylizer import Stylizer, grid_of
from oneglance_server.errors import StartupError
from oneglance_server.settings import BUNDLED_MODEL, Settings
from tests.fake_cuda import LOST, NO_MEMORY, FakeCuda
from tests.models import pixels


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def encoder_on(device: str, folder: Path = BUNDLED_MODEL, **runtime: Any) -> Encoder:
    return Encoder(read_model_folder(folder), Runtime(device, 1, 1 << 20, **runtime))


def test_what_cuda_misses_is_told(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "driver_trouble", lambda *_: "the NVIDIA driver is for CUDA 12.4")
    with pytest.raises(StartupError, match=r"--device cuda:7: the NVIDIA driver is for CUDA 12\.4"):
        encoder_on("cuda:7")


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_cuda_is_never_replaced_by_the_cpu(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime falls back without an error when it can't have CUDA."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", fake.open)
    monkeypatch.setattr(onnx_runtime, "missing_for_cuda", lambda: ": libcudnn.so.9: cannot open")
    with pytest.raises(StartupError, match=r"(could not start CUDA|can't load).*: libcudnn\.so\.9: cannot open"):
        encoder_on("cuda")


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cpu:0", ""])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(StartupError, match="expected"):
        encoder_on(device)


def test_a_session_that_fell_back_is_refused(fake: FakeCuda) -> None:
    fake.without_cuda = True
    with pytest.raises(StartupError, match="would run on the CPU instead"):
        encoder_on("cuda")


def test_heavy_operations_left_to_the_cpu_are_refused(fake: FakeCuda) -> None:
    fake.left_to_cpu = {"Conv", "FusedConv"}
    with pytest.raises(StartupError, match=r"leaves .*Conv.* to the CPU"):
        encoder_on("cuda")


def test_light_operations_may_be_left_to_the_cpu(fake: FakeCuda) -> None:
    fake.left_to_cpu = {"Shape", "Cast", "Reshape"}
    assert encoder_on("cuda").execution_provider == "CUDAExecutionProvider"


def test_a_failed_run_is_not_tried_on_the_cpu(fake: FakeCuda, models: tuple[Path, Path], inputs: Any) -> None:
    encoder = encoder_on("cuda", models[0])
    fake.failures = ["[ONNXRuntimeError] : 11 : EP_FAIL : something"]
    with pytest.raises(RuntimeError, match="EP_FAIL"):
        encoder.encode(inputs(1))
    assert encoder.execution_provider == "CUDAExecutionProvider"
    np.testing.assert_allclose(encoder.encode(inputs(3)), pixels(inputs(3)), atol=1e-6)


@pytest.fixture
def inputs() -> Any:
    def inputs(rows: int) -> npt.NDArray[np.uint8]:
        return np.random.default_rng(rows).integers(0, 256, (rows, 8, 8, 1), dtype=np.uint8)

    return inputs


def test_batches_are_lengthened_to_prepared_ones(fake: FakeCuda, models: tuple[Path, Path], inputs: Any) -> None:
    """Each size has a session of its own, which never sees another shape: cuDNN's plans stay."""
    encoder = Encoder.load(read_model_folder(models[0]), Settings(device="cuda", max_batch=40))
    for rows in (1, 2, 8, 9, 31, 32, 33, 40, 1):
        np.testing.assert_allclose(encoder.encode(inputs(rows)), pixels(inputs(rows)), atol=1e-6)
    seen = [sorted({shape[0] for shape in session.shapes}) for session in fake.sessions]
    assert seen == [[3], [1], [8], [32], [40]]  # the first has run the parity vectors
    encoder.encode(inputs(41))
    assert fake.sessions[0].shapes[-1] == (41, 8, 8, 1)


@pytest.mark.parametrize("rows", [1, 8, 32, 64])
def test_every_prepared_size_is_compared_with_the_cpu(fake: FakeCuda, models: tuple[Path, Path], rows: int) -> None:
    """TF32 comes back where cuDNN has no other plan for a shape."""
    fake.off_by = {rows: 1e-3}
    with pytest.raises(StartupError, match=rf"not on cuda what it is on the CPU, for input \[{rows}, 8, 8, 1\]"):
        Encoder.load(read_model_folder(models[0]), Settings(device="cuda"))


def test_a_stylizer_on_a_card(fake: FakeCuda, tints: Path) -> None:
    stylizer = Stylizer.load(read_any_model_folder(tints).of(StylizerManifest), Settings(device="cuda"))
    assert stylizer.execution_provider == "CUDAExecutionProvider"
    picture = np.full((64, 64, 3), 9, np.uint8)
    stylizer.run(picture, np.eye(len(stylizer.manifest.styles), dtype=np.float32)[0])
    assert fake.sessions[1].shapes == [(1, 64, 64, 3)] * 2


def shapes_of(fake: FakeCuda, first: int) -> list[set[tuple[int, ...]]]:
    """What each session has run, of those opened from that one on."""
    return [set(session.shapes) for session in fake.sessions[first:]]


def test_sizes_of_pictures_that_are_named_have_plans_of_their_own(fake: FakeCuda, tints: Path) -> None:
    sizes = Settings(device="cuda", stylize_tile=128, prepared_sizes=("100x60", "300x200"))
    stylizer = Stylizer.load(read_any_model_folder(tints).of(StylizerManifest), sizes)
    weights = np.eye(len(stylizer.manifest.styles), dtype=np.float32)[0]
    grid = grid_of(stylizer.manifest, sizes)
    wanted = {shape for size in ((60, 100), (200, 300)) for shape in grid.shapes(*size)}
    assert len(wanted) >= 2
    prepared = shapes_of(fake, 1)
    assert {(1, *shape, 3) for shape in wanted} <= set().union(*prepared)
    before = list(fake.sessions[0].shapes)
    for height, width in wanted:
        stylizer.run(np.full((height, width, 3), 9, np.uint8), weights)
    assert shapes_of(fake, 1) == prepared  # no session ever sees another shape
    assert fake.sessions[0].shapes == before


def no_points(inputs: object) -> npt.NDArray[np.float32]:
    return np.empty((0, 5, 2), np.float32)


def test_a_detector_is_prepared_for_the_photos_that_are_named(fake: FakeCuda, face_folder: Path) -> None:
    """Each canvas, of photos as they are and turned, is compared with the CPU before the server serves."""
    folder = read_any_model_folder(face_folder / "detector").of(DetectorManifest)
    chosen = Settings(device="cuda", prepared_sizes=("120x90",), search_pixels=10_000)
    detector = Detector.load(folder, chosen)
    canvases = {
        canvas
        for size in ((90, 120), (120, 90))
        for canvas in canvas_sizes(*size, detector.manifest, face_search(chosen))
    }
    assert len(canvases) == 4
    prepared = shapes_of(fake, 1)
    assert set().union(*prepared) == {(1, *canvas, 4) for canvas in canvases}
    before = list(fake.sessions[0].shapes)
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    for turned in (photo, np.rot90(photo)):
        finder = FaceFinder(detector.score, detector.manifest, no_points, face_search(chosen))
        finder.find([turned], ["always"])
    assert shapes_of(fake, 1) == prepared
    assert fake.sessions[0].shapes == before
    fake.off_by = {1: 1e-3}
    with pytest.raises(StartupError, match="not on cuda what it is on the CPU, for image"):
        detector.prepare(90, 120, face_search(chosen), 1)


@pytest.mark.parametrize("sizes", ["12", "0x3", "3x", "1x1,a", "1x1 2x2", "-1x3"])
def test_other_sizes_are_refused(sizes: str) -> None:
    with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
        Settings.model_validate({"prepared_sizes": sizes})


def test_a_check_of_faces_has_a_plan_for_every_size_of_a_batch(fake: FakeCuda, face_folder: Path) -> None:
    folder = read_any_model_folder(face_folder / "uprightness").of(UprightnessManifest)
    check = Uprightness.load(folder, Settings(device="cuda"))
    height, width = folder.manifest.height, folder.manifest.width
    for rows in (1, 3, 30, 64):
        check.score(np.zeros((rows, height, width, 3), np.uint8))
    assert [{shape[0] for shape in shapes} for shapes in shapes_of(fake, 1)] == [{1}, {8}, {32}, {64}]


def test_want_of_memory_gives_back_what_is_unused(fake: FakeCuda, models: tuple[Path, Path], inputs: Any) -> None:
    encoder = encoder_on("cuda", models[0])
    fake.failures = [NO_MEMORY]
    np.testing.assert_allclose(encoder.encode(inputs(2)), pixels(inputs(2)), atol=1e-6)
    assert fake.sessions[0].gave_back == 1
    for words in (NO_MEMORY, "CUDA failure 2: out of memory ; GPU=0", "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED"):
        fake.failures = [words] * 3
        with pytest.raises(MemoryError):
            encoder.encode(inputs(2))
        assert encoder.trouble is None
        fake.failures = []


def test_a_lost_card_stays_lost(fake: FakeCuda, models: tuple[Path, Path], inputs: Any) -> None:
    encoder = encoder_on("cuda", models[0])
    fake.failures = [LOST]
    for _ in range(2):
        with pytest.raises(DeviceLost, match="CUDNN"):
            encoder.encode(inputs(2))
    assert encoder.trouble is not None


def test_a_lost_card_may_be_replaced_by_the_cpu(fake: FakeCuda, models: tuple[Path, Path], inputs: Any) -> None:
    encoder = encoder_on("cuda", models[0], gpu_lost="cpu")
    fake.lost = True
    np.testing.assert_allclose(encoder.encode(inputs(2)), pixels(inputs(2)), atol=1e-6)
    assert (encoder.execution_provider, encoder.trouble) == ("CPUExecutionProvider", None)


def test_all_models_share_their_memory_on_a_card(fake: FakeCuda, models: tuple[Path, Path]) -> None:
    for folder in models:
        encoder_on("cuda:1", folder)
    assert fake.memory == {"1": {"max_mem": 1 << 20, "arena_extend_strategy": 1}}


def test_placement_is_reported() -> None:
    options = onnx_runtime.session_options(1)
    options.add_session_config_entry(*onnx_runtime.RECORD_PLACEMENT)
    session = onnx_runtime.OnnxSession((BUNDLED_MODEL / "model.onnx").read_bytes(), options)
    (provider,) = session.placement()
    assert provider == onnxruntime.get_available_providers()[-1] == "CPUExecutionProvider"
    assert sum(session.placement()[provider].values()) > 5
