"""Run an exported encoder by ONNX Runtime on the CPU: what ``calibrate`` and ``evaluate`` measure."""

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

# Before the import: ONNX Runtime would otherwise collect usage data for its maker, also on disk.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from oneglance_exporter.errors import ExportError

Images = npt.NDArray[np.uint8]
Encode = Callable[[Images], npt.NDArray[np.float32]]

_BLOCK = 64  # pictures per run: more gain nothing on a CPU and take memory


def session_of(graph: bytes, threads: int, *, as_written: bool = False) -> onnxruntime.InferenceSession:
    """A session on the CPU; ``as_written``: node by node. Raises ExportError for an unusable graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised; a trial that may fail need not shout
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes have no common base but this
        raise ExportError(f"ONNX Runtime can't load the graph: {error}") from error


def encoder_of(graph: bytes, threads: int) -> Encode:
    """A function from uint8 [N, H, W, C] to float32 [N, D]. Raises ExportError for an unusable graph."""
    session = session_of(graph, threads)
    name = session.get_inputs()[0].name

    def encode(images: Images) -> npt.NDArray[np.float32]:
        blocks = [images[i : i + _BLOCK] for i in range(0, len(images), _BLOCK)]
        return np.concatenate([session.run(None, {name: block})[0] for block in blocks])

    return encode
