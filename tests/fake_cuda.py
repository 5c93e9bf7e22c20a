"""ONNX Runtime's CUDA provider without a card: its sessions compute on the CPU, and go wrong when they are told to."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from oneglance_core.sessions import onnx_runtime
from oneglance_core.sessions.onnx_runtime import CPU, CUDA
from oneglance_server.engines import cuda

LOST = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. CUDNN failure 5000: "
    "CUDNN_STATUS_EXECUTION_FAILED ; GPU=0"
)
NO_MEMORY = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bfc_arena.cc:376 Available memory of 1048576 is smaller than "
    "requested bytes of 2097152"
)


class FakeCuda:
    """Stands for CUDA in every session that is opened from now on.

    Attributes:
        sessions: of graphs on the card, in the order they were opened.
        failures: what the next runs raise, one each.
        lost: every run fails from here on.
        off_by: added to the answers of batches of so many rows, where float.
        without_cuda: new sessions fall back to the CPU, without a word.
        left_to_cpu: types of operations.
        memory: bytes that were registered, by card.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sessions: list[_Session] = []
        self.failures: list[str] = []
        self.lost = False
        self.off_by: dict[int, float] = {}
        self.without_cuda = False
        self.left_to_cpu: set[str] = set()
        self.memory: dict[str, dict[str, int]] = {}
        self.open = onnxruntime.InferenceSession
        monkeypatch.setattr(onnx_runtime, "_arenas", set())
        monkeypatch.setattr(cuda, "driver_trouble", lambda *_: None)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
        monkeypatch.setattr(onnxruntime, "OrtArenaCfg", dict)
        monkeypatch.setattr(onnxruntime, "create_and_register_allocator_v2", self._register)
        monkeypatch.setattr(onnxruntime, "InferenceSession", self._session)

    def _register(self, provider: str, info: Any, options: dict[str, str], arena: dict[str, int]) -> None:
        assert provider == CUDA
        self.memory[options["device_id"]] = arena

    def _session(self, graph: bytes, options: Any, providers: Sequence[Any], enable_fallback: int = 1) -> Any:
        assert not enable_fallback, "a failed run would be tried again on the CPU, without a word"
        if providers[0] == CPU:
            return self.open(graph, options, providers=providers)
        assert [provider for provider, _ in providers] == [CUDA]
        assert providers[0][1]["use_tf32"] == 0
        assert options.get_session_config_entry("session.use_env_allocators") == "1"
        session = _Session(self, graph)
        self.sessions.append(session)
        return session


class _Session:
    def __init__(self, cuda: FakeCuda, graph: bytes) -> None:
        self._cuda = cuda
        options = onnx_runtime.session_options(1)
        options.add_session_config_entry(*onnx_runtime.RECORD_PLACEMENT)
        self._session = cuda.open(graph, options, providers=[CPU])
        self.shapes: list[tuple[int, ...]] = []
        self.gave_back = 0
        self.get_inputs, self.get_outputs = self._session.get_inputs, self._session.get_outputs

    def get_providers(self) -> list[str]:
        return [CPU] if self._cuda.without_cuda else [CUDA, CPU]

    def get_provider_graph_assignment_info(self) -> list["_Part"]:
        operations = [node for part in self._session.get_provider_graph_assignment_info() for node in part.get_nodes()]
        left = [node for node in operations if node.op_type in self._cuda.left_to_cpu]
        return [_Part(CUDA, [node for node in operations if node not in left]), _Part(CPU, left)]

    def run(
        self, outputs: list[str], inputs: Mapping[str, npt.NDArray[Any]], options: Any = None
    ) -> list[npt.NDArray[Any]]:
        if self._cuda.lost:
            raise RuntimeError(LOST)
        if self._cuda.failures:
            raise RuntimeError(self._cuda.failures.pop(0))
        first = next(iter(inputs.values()))
        self.shapes.append(first.shape)
        with contextlib.suppress(RuntimeError):  # it has no such entry
            options.get_run_config_entry("memory.enable_memory_arena_shrinkage")
            self.gave_back += 1
        off_by = np.float32(self._cuda.off_by.get(len(first), 0.0))
        answers = self._session.run(outputs, inputs)
        return [answer + off_by if answer.dtype == np.float32 else answer for answer in answers]


class _Part:
    def __init__(self, ep_name: str, nodes: list[Any]) -> None:
        self.ep_name = ep_name
        self._nodes = nodes

    def get_nodes(self) -> list[Any]:
        return self._nodes
