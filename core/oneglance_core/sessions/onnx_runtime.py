"""Graphs run by ONNX Runtime. The only module that opens its sessions."""

import ctypes
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

# Before the import: ONNX Runtime would otherwise collect usage data for its maker, also on disk.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from oneglance_core.manifests import TensorSpec
from oneglance_core.sessions.operators import check_operators
from oneglance_core.sessions.session import GraphError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

# What a session's options may have: SessionOptions.add_session_config_entry(*RECORD_PLACEMENT).
RECORD_PLACEMENT = ("session.record_ep_graph_assignment_info", "1")
SHARE_MEMORY = ("session.use_env_allocators", "1")

# Where a graph's external data would be looked for, else the working folder, which may hold anything: there is no such
# folder, nor can there be.
_NO_EXTERNAL_DATA = ("session.model_external_initializers_file_folder_path", f"{os.devnull}/none")
# What loads or runs for longer is ended: some graphs never come to an end.
_MOST_SECONDS = 120.0
_LOOKED_AFTER_SECONDS = 0.25

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
    options.add_session_config_entry(*_NO_EXTERNAL_DATA)
    return options


class _Watch:
    """Ends what takes longer than it may. Its thread starts with the first that it watches."""

    def __init__(self) -> None:
        self._watched: dict[object, tuple[float, Callable[[], None]]] = {}
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, end: Callable[[], None]) -> Iterator[None]:
        """``end`` ends what is done meanwhile, from another thread."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._look_after, name="oneglance-watch", daemon=True)
                    self._thread.start()
        key = object()
        self._watched[key] = (time.monotonic() + _MOST_SECONDS, end)
        try:
            yield
        finally:
            del self._watched[key]

    def _look_after(self) -> None:
        while True:
            time.sleep(_LOOKED_AFTER_SECONDS)
            for until, end in tuple(self._watched.values()):
                if time.monotonic() > until:
                    end()


_watch = _Watch()


class OnnxSession:
    """A Session. Raises GraphError for a graph that can't be loaded. Data outside of the graph's bytes and operators
    that do more than compute (operators.py) are refused, and what takes longer than two minutes is ended.

    Args:
        graph: ONNX bytes.
        options: from ``session_options``.
        providers: as onnxruntime.InferenceSession takes them. It falls back to the CPU without an error when it can't
            have the first one: look at ``provider``. A run that fails is never tried again on another one.
    """

    rounding = 0.0
    compiles_per_shape = False
    batch_sizes = ()
    trouble = None

    def __init__(self, graph: bytes, options: Any, providers: Sequence[Any] = (CPU,)) -> None:
        check_operators(graph)
        try:
            with _watch.over(lambda: options.set_load_cancellation_flag(True)):
                self._session = onnxruntime.InferenceSession(
                    graph, options, providers=list(providers), enable_fallback=0
                )
            self.inputs = [_spec(node) for node in self._session.get_inputs()]
            self.outputs = [_spec(node) for node in self._session.get_outputs()]
        except Exception as error:  # ONNX Runtime's own classes have no common base but this
            if "External data" in str(error):
                raise GraphError("the graph's data must all be in its file: it has external data") from error
            raise GraphError(f"ONNX Runtime can't load the graph: {error}") from error
        self.provider: str = self._session.get_providers()[0]

    def prepare(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        self.run(outputs, inputs)

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]], options: Any = None
    ) -> list[npt.NDArray[Any]]:
        """``options``: an onnxruntime.RunOptions."""
        own = onnxruntime.RunOptions() if options is None else options
        with _watch.over(lambda: setattr(own, "terminate", True)):
            found: list[npt.NDArray[Any]] = self._session.run(list(outputs), dict(inputs), own)
        return found

    def placement(self) -> dict[str, Counter[str]]:
        """How many operations of each type run on each provider, after optimization; its options must have
        RECORD_PLACEMENT."""
        placed: dict[str, Counter[str]] = {}
        for part in self._session.get_provider_graph_assignment_info():
            placed.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
        return placed


def load_cuda() -> bool:
    """Load the libraries that CUDA sessions need. False when this ONNX Runtime is one without CUDA."""
    if CUDA not in onnxruntime.get_available_providers():
        return False
    onnxruntime.preload_dlls()
    onnxruntime.set_default_logger_severity(3)  # it warns of every session that it has no other way to CUDA
    return True


_arenas: set[int] = set()  # cards whose memory the sessions of this process share


def share_cuda_memory(ordinal: int, most_bytes: int) -> None:
    """All sessions of this process with SHARE_MEMORY take their memory on that card from one pool, of ``most_bytes`` at
    most. The first call decides. Raises what ONNX Runtime raises where the card can't be used."""
    if ordinal in _arenas:
        return
    info = onnxruntime.OrtMemoryInfo(
        "Cuda", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ordinal, onnxruntime.OrtMemType.DEFAULT
    )
    arena = onnxruntime.OrtArenaCfg({"max_mem": most_bytes, "arena_extend_strategy": 1})  # as much as is asked for
    onnxruntime.create_and_register_allocator_v2(CUDA, info, {"device_id": str(ordinal)}, arena)
    _arenas.add(ordinal)


def giving_back(ordinal: int) -> Any:
    """An onnxruntime.RunOptions: after the run, memory of the card that is not in use is given back."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", f"gpu:{ordinal}")
    return options


def missing_for_cuda() -> str:
    """Which library ONNX Runtime can't load for CUDA, as the end of a sentence; empty when all can be. It only prints
    that itself."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        for name in ("shared", "cuda"):
            ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"), ctypes.RTLD_GLOBAL)
    except OSError as error:
        return f": {error}"
    return ""


def _spec(node: Any) -> TensorSpec:
    """A size that isn't a number is free."""
    dtype = _DTYPES.get(node.type, node.type.removeprefix("tensor(").removesuffix(")"))
    return TensorSpec(node.name, dtype, tuple(size if isinstance(size, int) else None for size in node.shape))
