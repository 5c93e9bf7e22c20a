"""f: the Siamese encoder, run by ONNX Runtime."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Before the import: ONNX Runtime would otherwise collect usage data for its maker, also on disk.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from oneglance.model_folder import Manifest, ModelFolder
from oneglance_index import DeviceUnavailable, parse_device
from oneglance_server.errors import StartupError

Encodings = npt.NDArray[np.float32]


class Encoder:
    """A loaded and checked encoder. Thread-safe.

    Args:
        folder: the model.
        device: ``cpu`` or ``cuda[:N]``; never replaced by another one.
        threads: ONNX Runtime's threads inside one run.
        gpu_memory_bytes: ceiling of ONNX Runtime's arena on a GPU.

    Raises StartupError when the device can't run it, when the graph does not fit its manifest, or when it does not
    reproduce the manifest's parity vectors on this host.
    """

    def __init__(self, folder: ModelFolder, *, device: str, threads: int, gpu_memory_bytes: int) -> None:
        self.manifest: Manifest = folder.manifest
        self.digest: str = folder.digest
        self._folder = folder
        self._session = _open_session(folder, device, threads, gpu_memory_bytes)
        self.execution_provider: str = self._session.get_providers()[0]
        self._check_contract()
        self._check_parity()

    @property
    def dimension(self) -> int:
        return self.manifest.output.dimension

    def encode(self, inputs: npt.NDArray[Any]) -> Encodings:
        """``inputs``: dtype [N, *shape] as the manifest declares, N >= 1. Returns float32 [N, D]."""
        outputs: Encodings = self._session.run([self.manifest.output.name], {self.manifest.input.name: inputs})[0]
        return outputs

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Run once per batch size, so that no caller pays for the first."""
        sample = self.manifest.parity.inputs.unpack()[:1]
        for size in batch_sizes:
            self.encode(np.repeat(sample, size, axis=0))

    def _check_contract(self) -> None:
        spec, where = self.manifest.input, self._folder.path
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [node.name for node in inputs] != [spec.name]:
            raise StartupError(f"{where}: the graph takes {[n.name for n in inputs]}, the manifest says {spec.name!r}")
        if self.manifest.output.name not in [node.name for node in outputs]:
            raise StartupError(f"{where}: the graph has no output {self.manifest.output.name!r}")
        declared = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[spec.dtype]
        if inputs[0].type != declared:
            raise StartupError(f"{where}: the graph takes {inputs[0].type}, the manifest says {declared}")
        if list(inputs[0].shape[1:]) != list(spec.shape) or isinstance(inputs[0].shape[0], int):
            raise StartupError(
                f"{where}: the graph takes {inputs[0].shape}, the manifest says [N, {', '.join(map(str, spec.shape))}]"
            )

    def _check_parity(self) -> None:
        parity, where = self.manifest.parity, self._folder.path
        inputs, expected = parity.inputs.unpack(), parity.outputs.unpack()
        if inputs.ndim == 0 or inputs.shape[1:] != self.manifest.input.shape or not len(inputs):
            raise StartupError(f"{where}: parity inputs of shape {inputs.shape} don't fit the model")
        try:
            outputs = self.encode(inputs)
        except Exception as error:  # ONNX Runtime's own classes have no common base but this
            raise StartupError(f"{where}: the model does not run on this host: {error}") from error
        if outputs.shape != expected.shape or outputs.shape[1] != self.dimension:
            raise StartupError(f"{where}: parity outputs are {outputs.shape}, expected {expected.shape}")
        difference = float(np.abs(outputs - expected).max())
        if not difference <= parity.tolerance:  # also when it is NaN
            raise StartupError(
                f"{where}: the model does not reproduce its parity vectors on this host with "
                f"{self.execution_provider}: max |difference| {difference:.3g}, allowed {parity.tolerance:.3g}"
            )


def _open_session(folder: ModelFolder, device: str, threads: int, gpu_memory_bytes: int) -> Any:
    try:
        ordinal = parse_device(device)
    except DeviceUnavailable as error:
        raise StartupError(str(error)) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads that spin would take the core that decodes pictures and answers calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted: list[Any] = ["CPUExecutionProvider"]
    if ordinal is not None:
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            raise StartupError(f"--device {device}: this ONNX Runtime has no CUDA; install oneglance[gpu]")
        ort.preload_dlls()
        cuda = {
            "device_id": ordinal,
            "gpu_mem_limit": gpu_memory_bytes,
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": 0,
        }
        wanted = [("CUDAExecutionProvider", cuda)]
    try:
        session = ort.InferenceSession(folder.model, sess_options=options, providers=wanted)
    except Exception as error:
        raise StartupError(f"{folder.path}: ONNX Runtime can't load the model on {device}: {error}") from error
    if ordinal is not None and session.get_providers()[0] != "CUDAExecutionProvider":
        # ONNX Runtime lists CUDA and falls back without an error when it can't run.
        raise StartupError(f"--device {device}: ONNX Runtime could not start CUDA and would run on the CPU instead")
    return session
