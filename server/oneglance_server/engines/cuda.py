"""CudaSession: a graph on a GPU, which is never quietly another one.

cuDNN plans every convolution for one shape, and ONNX Runtime keeps the plan of the last shape only: to plan anew takes
longer than many runs. So each shape that is prepared has a session of its own, and smaller batches are lengthened to
the next prepared one. How exact a plan is can depend on the shape: what is prepared is compared with the CPU.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from oneglance_core.cuda_driver import driver_trouble
from oneglance_core.folder import ModelFolder
from oneglance_core.sessions import onnx_runtime
from oneglance_core.sessions.checks import apart
from oneglance_core.sessions.onnx_runtime import CUDA, OnnxSession, session_options
from oneglance_core.sessions.session import GraphError
from oneglance_index import DeviceLost
from oneglance_server.engines.failures import loses_card, wants_memory
from oneglance_server.errors import StartupError

log = structlog.get_logger()

Arrays = Mapping[str, npt.NDArray[Any]]

# Sizes that batches are lengthened to: one caller, and three more of few enough steps.
BATCH_SIZES = (1, 8, 32, 64)
# On the CPU these would take most of the time, unseen.
_HEAVY = {"Conv", "ConvTranspose", "FusedConv", "MatMul", "Gemm", "FusedMatMul", "ConvInteger", "MatMulInteger"}
_LEAST_CUDA = 13000  # of the driver, for the CUDA 13 that onnxruntime-gpu is built with


class _Prepared(NamedTuple):
    """A session that has run one shape: a batch of so many rows, and the rest of each input's shape."""

    rows: int
    rest: Mapping[str, tuple[int, ...]]
    session: OnnxSession

    def takes(self, inputs: Arrays) -> bool:
        return 0 < _rows(inputs) <= self.rows and self.rest == _rest(inputs)


class CudaSession:
    """A Session of oneglance_core.sessions. Thread-safe.

    Args:
        memory_bytes: the most that all sessions on the card take together; the first one in a process decides.

    Raises StartupError, with the cause. ``run`` raises DeviceLost when the card fails for good.
    """

    rounding = 0.0
    compiles_per_shape = True
    batch_sizes = BATCH_SIZES
    provider = CUDA

    def __init__(self, folder: ModelFolder[Any], device: str, ordinal: int, *, threads: int, memory_bytes: int) -> None:
        self._folder, self._device, self._ordinal, self._threads = folder, device, ordinal, threads
        self._vectors = folder.manifest.vectors()
        self._prepared: list[_Prepared] = []
        self._preparing = threading.Lock()
        self.trouble: str | None = None
        if not onnx_runtime.load_cuda():
            raise StartupError(f"--device {device}: this ONNX Runtime has no CUDA; install oneglance[gpu]")
        if missing := driver_trouble(ordinal, _LEAST_CUDA):
            raise StartupError(f"--device {device}: {missing}")
        try:
            onnx_runtime.share_cuda_memory(ordinal, memory_bytes)
            self._any = self._open()
            self._reference = OnnxSession(folder.model, session_options(threads))
        except (GraphError, RuntimeError) as error:
            raise StartupError(f"{folder.path}: on {device}: {error}{onnx_runtime.missing_for_cuda()}") from error
        if self._any.provider != CUDA:
            # ONNX Runtime lists CUDA and falls back without an error when it can't run.
            raise StartupError(
                f"--device {device}: ONNX Runtime could not start CUDA and would run on the CPU instead"
                f"{onnx_runtime.missing_for_cuda()}"
            )
        self.inputs, self.outputs = self._any.inputs, self._any.outputs
        self._check_placement()

    def prepare(self, outputs: Sequence[str], inputs: Arrays) -> None:
        """Opens a session for these shapes, runs it, and compares its answers with the CPU's. Raises GraphError."""
        with self._preparing:
            session = self._open()
            answers, expected = self._run(session, outputs, inputs), self._reference.run(outputs, inputs)
            for name, got, wanted in zip(outputs, answers, expected, strict=True):
                if wrong := apart(got, wanted, self._vectors.tolerance):
                    shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in inputs.items())
                    raise GraphError(f"not on {self._device} what it is on the CPU, for {shapes}: {name}: {wrong}")
            prepared = _Prepared(_rows(inputs), _rest(inputs), session)
            self._prepared = sorted([*self._prepared, prepared], key=lambda one: one.rows)

    def run(self, outputs: Sequence[str], inputs: Arrays) -> list[npt.NDArray[Any]]:
        fitting = next((one for one in self._prepared if one.takes(inputs)), None)
        if fitting is None:
            return self._run(self._any, outputs, inputs)
        longer = {name: _lengthened(array, fitting.rows) for name, array in inputs.items()}
        return [answer[: _rows(inputs)] for answer in self._run(fitting.session, outputs, longer)]

    def _run(self, session: OnnxSession, outputs: Sequence[str], inputs: Arrays) -> list[npt.NDArray[Any]]:
        if self.trouble is not None:
            raise DeviceLost(self._device, self.trouble)
        try:
            try:
                return session.run(outputs, inputs)
            except Exception as error:  # ONNX Runtime's own classes have no common base but this
                if not wants_memory(error):
                    raise
            # What runs of other shapes have left behind may be in the way. It is given back at the end of a run.
            self._any.run(list(self._vectors.outputs), self._vectors.inputs, onnx_runtime.giving_back(self._ordinal))
            return session.run(outputs, inputs)
        except Exception as error:
            if not loses_card(error):
                raise
            self.trouble = str(error)
            log.error("the card fails for good", device=self._device, exc_info=error)
            raise DeviceLost(self._device, self.trouble) from error

    def _open(self) -> OnnxSession:
        options = session_options(self._threads)
        options.log_severity_level = 3  # why CUDA can't start is only printed
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(*onnx_runtime.RECORD_PLACEMENT)
        options.add_session_config_entry(*onnx_runtime.SHARE_MEMORY)
        cuda = {"device_id": self._ordinal, "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": 0}
        return OnnxSession(self._folder.model, options, [(CUDA, cuda)])

    def _check_placement(self) -> None:
        placed = self._any.placement()
        on_cpu = sum((placed[provider] for provider in placed if provider != CUDA), Counter[str]())
        if heavy := sorted(_HEAVY.intersection(on_cpu)):
            raise StartupError(
                f"{self._folder.path}: on {self._device} ONNX Runtime leaves {', '.join(heavy)} to the CPU"
            )
        if on_cpu:
            name = self._folder.manifest.name
            log.info("operations left to the CPU", model=name, device=self._device, operations=dict(on_cpu))


def _rows(inputs: Arrays) -> int:
    """Of the batch: the first size of every input; 0 where they differ, so that there is no batch."""
    rows = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    return rows.pop() if len(rows) == 1 else 0


def _rest(inputs: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in inputs.items()}


def _lengthened(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """So many rows: the last one is repeated."""
    return np.concatenate([array, np.repeat(array[-1:], rows - len(array), axis=0)]) if len(array) < rows else array
