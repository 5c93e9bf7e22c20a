"""ONNX Runtime sessions: on the device asked for or not at all, and checked against the manifest's parity vectors."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

# Before the import: ONNX Runtime would otherwise collect usage data for its maker, also on disk.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from oneglance_core.folder import ModelFolder
from oneglance_index import DeviceUnavailable, parse_device
from oneglance_server.engines.openvino import OpenVinoSession
from oneglance_server.errors import StartupError

Arrays = Mapping[str, npt.NDArray[Any]]
Engine = Literal["onnxruntime", "openvino", "openvino-bf16"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """How models are run.

    device: ``cpu`` or ``cuda[:N]``; never replaced by another one.
    threads: inside one run.
    gpu_memory_bytes: ceiling of ONNX Runtime's arena on a GPU.
    engine: never replaced by another one either. runs_at_once: what OpenVINO is prepared for.
    flag: the setting that chose the engine, for people.
    """

    device: str
    threads: int
    gpu_memory_bytes: int
    engine: Engine = "onnxruntime"
    runs_at_once: int = 1
    flag: str = "--encoder-engine"


def open_session(folder: ModelFolder[Any], runtime: Runtime, *, keep_memory: bool = True) -> Any:
    """An onnxruntime.InferenceSession, or an OpenVinoSession, on the very device asked for.

    keep_memory: keep what the largest run has needed, for the next one; on the CPU. Raises StartupError.
    """
    device = runtime.device
    if runtime.engine != "onnxruntime":
        if device != "cpu":
            raise StartupError(f"{runtime.flag} {runtime.engine}: runs on the CPU only, not on --device {device}")
        return OpenVinoSession(
            folder,
            bf16=runtime.engine == "openvino-bf16",
            threads=runtime.threads,
            runs_at_once=runtime.runs_at_once,
            flag=runtime.flag,
        )
    try:
        ordinal = parse_device(device)
    except DeviceUnavailable as error:
        raise StartupError(str(error)) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = keep_memory
    # Idle threads that spin would take the core that decodes pictures and answers calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted: list[Any] = ["CPUExecutionProvider"]
    if ordinal is not None:
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            raise StartupError(f"--device {device}: this ONNX Runtime has no CUDA; install oneglance[gpu]")
        ort.preload_dlls()
        cuda = {
            "device_id": ordinal,
            "gpu_mem_limit": runtime.gpu_memory_bytes,
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


def is_want_of_memory(error: Exception) -> bool:
    """Whether a run failed for that. The engines have no class for it, only words."""
    return any(words in str(error) for words in ("bad_alloc", "bad allocation", "Failed to allocate memory"))


def check_parity(where: Path, provider: str, run: Callable[[], Arrays], expected: Arrays, tolerance: float) -> None:
    """Compare what ``run`` gives with what the exporter's own framework gave; integers must be equal.

    Raises StartupError.
    """
    try:
        outputs = run()
    except Exception as error:  # ONNX Runtime's own classes have no common base but this
        raise StartupError(f"{where}: the model does not run on this host: {error}") from error
    for name, wanted in expected.items():
        got = outputs[name]
        if got.shape != wanted.shape:
            raise StartupError(f"{where}: parity output {name} is {got.shape}, expected {wanted.shape}")
        difference = float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max(initial=0.0))
        allowed = tolerance if wanted.dtype.kind == "f" else 0.0
        if not difference <= allowed:  # also when it is NaN
            raise StartupError(
                f"{where}: the model does not reproduce its parity vectors on this host with {provider}: "
                f"max |difference| {difference:.3g}, allowed {allowed:.3g}"
            )
