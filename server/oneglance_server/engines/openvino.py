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
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.folder import ModelFolder
from oneglance_server.errors import StartupError

# Of the largest number in an encoding. bf16 rounds by 1/256 at every layer; dlib's face encoder moved by 0.0065.
BF16_TOLERANCE = 0.02
_TYPES = {"u8": "tensor(uint8)", "f32": "tensor(float)"}


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output, as ONNX Runtime describes one; a free size is None."""

    name: str
    type: str
    shape: list[int | None]


class OpenVinoSession:
    """As much of onnxruntime.InferenceSession as an encoder or a stylizer needs. Thread-safe.

    Args:
        folder: the model.
        bf16: compute in bfloat16; else in float32 (8-bit models in 8 bits either way).
        threads: inside one run.
        runs_at_once: callers that are served at the same time; more wait.
        flag: the setting that asked for it, for people.

    Raises StartupError.
    """

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
            self._compiled = core.compile_model(core.read_model(folder.model, b""), "CPU", settings)
        except Exception as error:  # OpenVINO's own classes have no common base but this
            raise StartupError(f"{folder.path}: OpenVINO can't load the model: {error}") from error
        if self._compiled.get_property("INFERENCE_PRECISION_HINT") != precision:
            raise StartupError(f"{folder.path}: OpenVINO would not compute in {precision.get_type_name()}")
        self.bf16 = bf16
        # A tensor that passes through operations that do nothing has the names of all of them.
        self._outputs = {name: i for i, output in enumerate(self._compiled.outputs) for name in output.get_names()}
        self._requests = threading.local()

    def get_providers(self) -> list[str]:
        return ["OpenVINO bf16" if self.bf16 else "OpenVINO"]

    def get_inputs(self) -> list[Value]:
        return [_value(port, name) for port in self._compiled.inputs for name in port.get_names()]

    def get_outputs(self) -> list[Value]:
        """By every name that they have."""
        return [_value(self._compiled.outputs[i], name) for name, i in self._outputs.items()]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The named ``outputs``, as arrays of the caller's own."""
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        request.infer(dict(inputs), share_inputs=True)
        return [request.get_output_tensor(self._outputs[name]).data.copy() for name in outputs]

    def tolerance(self, declared: float, expected: npt.NDArray[np.float32]) -> float:
        """How far from ``expected`` (parity vectors) the outputs may lie, absolute; ``declared``: by the manifest."""
        return max(declared, BF16_TOLERANCE * float(np.abs(expected).max())) if self.bf16 else declared


def _value(port: Any, name: str) -> Value:
    kind = port.get_element_type().get_type_name()
    sizes: list[int | None] = [None if size.is_dynamic else size.get_length() for size in port.get_partial_shape()]
    return Value(name, _TYPES.get(kind, kind), sizes)
