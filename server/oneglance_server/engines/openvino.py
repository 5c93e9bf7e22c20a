"""Encoders and stylizers run by OpenVINO instead of ONNX Runtime, on the CPU: ``--encoder-engine openvino`` or
``openvino-bf16``, and ``--stylizer-engine``.

bf16 halves the cost of a convolution on processors with AVX512-BF16 or AMX and keeps 8 bits of every number. Nothing is
replaced silently: without the package, off the CPU, or where the processor has no bf16, the server does not start.

The package ``openvino`` itself, not ONNX Runtime's execution provider for it: the plug-in ``onnxruntime-ep-openvino``
1.8 offers itself on Intel processors only, and ``onnxruntime-openvino`` is another build of the module ``onnxruntime``.
All three are the same engine.
"""

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import TensorSpec
from oneglance_core.sessions.onnx_runtime import OnnxSession, session_options
from oneglance_core.sessions.session import GraphError
from oneglance_server.errors import StartupError

# Of the largest number in an output. bf16 rounds by 1/256 at every layer; dlib's face encoder moved by 0.0065.
BF16_TOLERANCE = 0.02
_DTYPES = {"u8": "uint8", "i64": "int64", "f16": "float16", "f32": "float32", "f64": "float64"}


class OpenVinoSession:
    """A Session of oneglance_core.sessions. Thread-safe.

    Args:
        folder: the model.
        bf16: compute in bfloat16; else in float32 (8-bit models in 8 bits either way).
        threads: inside one run.
        runs_at_once: callers that are served at the same time; more wait.
        flag: the setting that asked for it, for people.

    Raises StartupError.
    """

    compiles_per_shape = True
    batch_sizes = ()
    trouble = None

    def __init__(
        self, folder: ModelFolder[Any], *, bf16: bool, threads: int, runs_at_once: int,
        flag: str = "--encoder-engine",
    ) -> None:  # fmt: skip
        # OpenVINO would otherwise collect usage data for its maker, also on disk; without this module it doesn't.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        try:
            import openvino
        except ImportError as error:
            raise StartupError(f"{flag} openvino: not installed; pip install 'oneglance[openvino]'") from error
        core = openvino.Core()
        if bf16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise StartupError(f"{flag} openvino-bf16: this processor has no bf16; take openvino or onnxruntime")
        precision = openvino.Type.bf16 if bf16 else openvino.Type.f32
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads * runs_at_once,
            "NUM_STREAMS": runs_at_once,
            "ENABLE_CPU_PINNING": False,  # the index and the decoders want the cores too
        }
        try:
            OnnxSession(folder.model, session_options(threads, optimize="none"))  # OpenVINO would read external data
        except GraphError as error:
            raise StartupError(f"{folder.path}: {error}") from error
        try:
            self._compiled = core.compile_model(core.read_model(folder.model, b""), "CPU", settings)
        except Exception as error:  # OpenVINO's own classes have no common base but this
            raise StartupError(f"{folder.path}: OpenVINO can't load the model: {error}") from error
        if self._compiled.get_property("INFERENCE_PRECISION_HINT") != precision:
            raise StartupError(f"{folder.path}: OpenVINO would not compute in {precision.get_type_name()}")
        self.inputs = _specs(self._compiled.inputs, folder.manifest.graph_inputs)
        self.outputs = _specs(self._compiled.outputs, folder.manifest.graph_outputs)
        self.provider = "OpenVINO bf16" if bf16 else "OpenVINO"
        self.rounding = BF16_TOLERANCE if bf16 else 0.0
        self._numbers = {name: i for i, port in enumerate(self._compiled.outputs) for name in port.get_names()}
        self._requests = threading.local()

    def prepare(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        self.run(outputs, inputs)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        request.infer(dict(inputs), share_inputs=True)
        return [request.get_output_tensor(self._numbers[name]).data.copy() for name in outputs]


def _specs(ports: Sequence[Any], declared: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Each port under the declared names that it has, else under any.

    It can have several: a tensor that passes through operations that do nothing has the names of all of them.
    """
    wanted = {spec.name for spec in declared}
    specs = []
    for port in ports:
        dtype, shape = port.get_element_type().get_type_name(), port.get_partial_shape()
        sizes = () if shape.rank.is_dynamic else tuple(None if s.is_dynamic else s.get_length() for s in shape)
        names = sorted(port.get_names())
        specs += [
            TensorSpec(name, _DTYPES.get(dtype, dtype), sizes) for name in wanted.intersection(names) or names[:1]
        ]
    return specs
