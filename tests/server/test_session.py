"""Sessions on the device asked for, or none."""

import pytest

from oneglance_core.folder import read_model_folder
from oneglance_server.engines import session
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.session import Runtime
from oneglance_server.errors import StartupError
from oneglance_server.settings import BUNDLED_MODEL


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_cuda_is_never_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime falls back without an error when it can't have CUDA."""
    monkeypatch.setattr(session, "load_cuda", lambda: True)
    with pytest.raises(StartupError, match=r"--device cuda:7: .*(could not start CUDA|can't load the graph)"):
        Encoder(read_model_folder(BUNDLED_MODEL), Runtime("cuda:7", 1, 1))


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cpu:0", ""])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(StartupError, match="expected"):
        Encoder(read_model_folder(BUNDLED_MODEL), Runtime(device, 1, 1))
