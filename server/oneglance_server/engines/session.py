"""Sessions of the server: by the engine and on the device asked for, or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from oneglance_core.folder import ModelFolder
from oneglance_core.sessions.onnx_runtime import OnnxSession, session_options
from oneglance_core.sessions.session import GraphError, Session
from oneglance_index import DeviceUnavailable, parse_device
from oneglance_server.engines.cuda import CudaSession
from oneglance_server.engines.failures import wants_memory
from oneglance_server.engines.openvino import OpenVinoSession
from oneglance_server.errors import StartupError
from oneglance_server.settings import Engine


@dataclass(frozen=True, slots=True)
class Runtime:
    """How models are run.

    device: ``cpu`` or ``cuda[:N]``; never replaced by another one.
    threads: inside one run.
    gpu_memory_bytes: the most that all models together take on a GPU. gpu_lost: as in IndexSettings.
    engine: never replaced by another one either. runs_at_once: what OpenVINO is prepared for.
    flag: the setting that chose the engine, for people.
    """

    device: str
    threads: int
    gpu_memory_bytes: int
    engine: Engine = "onnxruntime"
    runs_at_once: int = 1
    flag: str = "--encoder-engine"
    gpu_lost: str = "fail"


def open_session(folder: ModelFolder[Any], runtime: Runtime, *, keep_memory: bool = True) -> Session:
    """A session by the very engine and on the very device asked for.

    keep_memory: keep what the largest run has needed, for the next one; on the CPU. Raises StartupError.
    """
    if runtime.engine == "onnxruntime":
        return _open_onnx(folder, runtime, keep_memory)
    if runtime.device != "cpu":
        raise StartupError(f"{runtime.flag} {runtime.engine}: runs on the CPU only, not on --device {runtime.device}")
    return OpenVinoSession(
        folder,
        bf16=runtime.engine == "openvino-bf16",
        threads=runtime.threads,
        runs_at_once=runtime.runs_at_once,
        flag=runtime.flag,
    )


def _open_onnx(folder: ModelFolder[Any], runtime: Runtime, keep_memory: bool) -> Session:
    device = runtime.device
    try:
        ordinal = parse_device(device)
    except DeviceUnavailable as error:
        raise StartupError(str(error)) from error
    if ordinal is not None:
        return CudaSession(
            folder,
            device,
            ordinal,
            threads=runtime.threads,
            memory_bytes=runtime.gpu_memory_bytes,
        )
    options = session_options(runtime.threads)
    options.enable_cpu_mem_arena = keep_memory
    # Idle threads that spin would take the core that decodes pictures and answers calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return OnnxSession(folder.model, options)
    except GraphError as error:
        raise StartupError(f"{folder.path}: {error}") from error


def run_session(
    session: Session, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]
) -> list[npt.NDArray[Any]]:
    """As ``session.run``. Raises MemoryError when there isn't enough now; the engines have only words for that."""
    try:
        return session.run(outputs, inputs)
    except Exception as error:
        if wants_memory(error):
            raise MemoryError(str(error)) from error
        raise
