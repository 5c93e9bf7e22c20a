"""Graphs run by ONNX Runtime on the CPU: to measure a model, and to check it before it is written."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import ModelManifest
from oneglance_core.sessions.checks import apart, check_graph, check_parity
from oneglance_core.sessions.onnx_runtime import OnnxSession, session_options
from oneglance_core.sessions.session import GraphError
from oneglance_exporter.errors import ExportError

Encode = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]

BATCHES = (1, 2, 7)
"""Batch sizes that a graph is tried at before it is written."""

_BLOCK = 64  # pictures per run: more gain nothing on a CPU and take memory


def session_of(graph: bytes, threads: int, *, as_written: bool = False) -> OnnxSession:
    """A session on the CPU; ``as_written``: node by node. Raises ExportError for an unusable graph."""
    try:
        return OnnxSession(graph, session_options(threads, optimize="none" if as_written else "all"))
    except GraphError as error:
        raise ExportError(str(error)) from error


def encoder_of(graph: bytes, threads: int) -> Encode:
    """A function from [N, ...] as the graph takes it to float32 [N, D]. Raises ExportError for an unusable graph."""
    session = session_of(graph, threads)
    (takes, *_), (returns, *_) = session.inputs, session.outputs

    def encode(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        blocks = [images[i : i + _BLOCK] for i in range(0, len(images), _BLOCK)]
        return np.concatenate([session.run([returns.name], {takes.name: block})[0] for block in blocks])

    return encode


def check_batches(encode: Encode, inputs: npt.NDArray[Any], tolerance: float) -> None:
    """Raise ExportError unless each of ``inputs`` gets the encoding that it gets alone at all of BATCHES."""
    tried = np.resize(inputs, (max(BATCHES), *inputs.shape[1:]))
    alone = np.concatenate([encode(tried[i : i + 1]) for i in range(len(tried))])
    for batch in BATCHES:
        if wrong := apart(encode(tried[:batch]), alone[:batch], tolerance):
            raise ExportError(f"an encoding depends on the others of its batch: at batch size {batch}, {wrong}")


def check_model(graph: bytes, manifest: ModelManifest) -> None:
    """Raise ExportError unless a server would take the model: graph as declared, parity vectors reproduced."""
    session = session_of(graph, threads=1)
    try:
        check_graph(session, manifest)
        check_parity(session, manifest)
    except GraphError as error:
        raise ExportError(f"{manifest.name}: {error}") from error
