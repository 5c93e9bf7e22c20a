"""Graphs run by ONNX Runtime. The only module that opens its sessions."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy.typing as npt

# Before the import: ONNX Runtime would otherwise collect usage data for its maker, also on disk.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from oneglance_core.manifests import TensorSpec
from oneglance_core.sessions.session import GraphError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
_LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def session_options(threads: int, *, optimize: Literal["all", "basic", "none"] = "all") -> Any:
    """An onnxruntime.SessionOptions, for callers to add to.

    threads: inside one run. optimize: ``none`` runs the graph node by node as it is written.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = _LEVELS[optimize]
    options.log_severity_level = 4  # what goes wrong is raised; a trial that may fail need not be printed, too
    return options


class OnnxSession:
    """A Session. Raises GraphError for a graph that can't be loaded.

    Args:
        graph: ONNX bytes.
        options: from ``session_options``.
        providers: as onnxruntime.InferenceSession takes them. It falls back to the CPU without an error when it can't
            have the first one: look at ``provider``.
    """

    rounding = 0.0
    compiles_per_shape = False

    def __init__(self, graph: bytes, options: Any, providers: Sequence[Any] = (CPU,)) -> None:
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=list(providers))
        except Exception as error:  # ONNX Runtime's own classes have no common base but this
            raise GraphError(f"ONNX Runtime can't load the graph: {error}") from error
        self.inputs = [_spec(node) for node in self._session.get_inputs()]
        self.outputs = [_spec(node) for node in self._session.get_outputs()]
        self.provider: str = self._session.get_providers()[0]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        found: list[npt.NDArray[Any]] = self._session.run(list(outputs), dict(inputs))
        return found


def load_cuda() -> bool:
    """Load the libraries that CUDA sessions need. False when this ONNX Runtime is one without CUDA."""
    if CUDA not in onnxruntime.get_available_providers():
        return False
    onnxruntime.preload_dlls()
    return True


def _spec(node: Any) -> TensorSpec:
    """A size that isn't a number is free."""
    dtype = _DTYPES.get(node.type, node.type.removeprefix("tensor(").removesuffix(")"))
    return TensorSpec(node.name, dtype, tuple(size if isinstance(size, int) else None for size in node.shape))
