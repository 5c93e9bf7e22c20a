"""A graph in 8 bits: static quantisation by ONNX Runtime, for processors with int8 instructions.

Weights are signed, one scale per output channel; activations are unsigned, one scale per tensor, from the least and
greatest value over some inputs. Weights keep 7 bits: two products of 8-bit numbers overflow the 16 bits in which
processors without VNNI add them, and such a host would answer differently. The last product, of matrices or a
convolution, stays float32: it costs little, and 256 levels are coarse for an encoding or a score. So does what a
logarithm is taken of: 256 levels hold 48 dB.
"""

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from oneglance_core.folder import ModelFolder
from oneglance_core.manifests import MAX_TOLERANCE
from oneglance_core.sessions.onnx_runtime import OnnxSession, session_options
from oneglance_exporter.errors import ExportError, SettingsError
from oneglance_exporter.runtime import session_of

# After onnx_runtime, which keeps it from collecting usage data.
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static  # isort: skip

Feed = Mapping[str, npt.NDArray[Any]]  # one run's inputs, by name
Outputs = Sequence[npt.NDArray[np.float32]]

_PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")


def int8_graph(folder: ModelFolder[Any], feeds: Iterable[Feed]) -> bytes:
    """The folder's graph in 8 bits, as ONNX bytes; equal feeds make equal bytes. ``feeds`` set the activations' ranges.

    Raises SettingsError for a graph that is quantised already, ExportError for one that can't be.
    """
    with tempfile.TemporaryDirectory() as scratch:
        fused, result = Path(scratch) / "fused.onnx", Path(scratch) / "int8.onnx"
        options = session_options(threads=1, optimize="basic")
        options.optimized_model_filepath = str(fused)  # normalisation layers folded into convolutions
        try:
            OnnxSession(folder.model, options)
            model = onnx.load(fused)
            if any(node.op_type.endswith("QuantizeLinear") for node in model.graph.node):
                raise SettingsError(f"{folder.path}: is quantised already")
            for i, node in enumerate(model.graph.node):
                node.name = f"{node.op_type}{i}"
            products = [node.name for node in model.graph.node if node.op_type in _PRODUCTS]
            root, level = logging.getLogger(), logging.getLogger().level
            root.setLevel(logging.ERROR)  # advice on preparing the graph, which was taken
            try:
                quantize_static(
                    model,
                    result,
                    _Reader(feeds),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    nodes_to_exclude=[*products[-1:], *_before_logarithms(model)],
                )
            finally:
                root.setLevel(level)
            model = onnx.load(result)
        except SettingsError:
            raise
        except Exception as error:  # ONNX Runtime's own classes have no common base but this
            raise ExportError(f"{folder.path}: ONNX Runtime can't quantise the graph: {error}") from error
    if not any(tensor.data_type == onnx.TensorProto.INT8 for tensor in model.graph.initializer):
        raise ExportError(f"{folder.path}: nothing in the graph can be quantised")
    del model.metadata_props[:]
    domains = {node.domain or "ai.onnx" for node in model.graph.node}
    used = [opset for opset in model.opset_import if (opset.domain or "ai.onnx") in domains]
    del model.opset_import[:]
    model.opset_import.extend(used)
    return model.SerializeToString(deterministic=True)


def _before_logarithms(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that a logarithm depends on."""
    wanted: set[str] = set()
    found = []
    for node in reversed(model.graph.node):  # in topological order
        if node.op_type == "Log" or wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node.name)
    return found


def in_float(graph: bytes, output: str, feeds: Iterable[Feed]) -> list[npt.NDArray[np.float32]]:
    """What the quantised graph says for each feed when every node is computed as written, in float."""
    session = session_of(graph, threads=1, as_written=True)
    return [session.run([output], dict(feed))[0] for feed in feeds]


def rounding_tolerance(exact: Outputs, rounded: Outputs, *, capped: bool = False) -> float:
    """For parity vectors: twice what this processor's rounding moves outputs by, since others move others.

    Raises ExportError when that is more than a manifest may allow, MAX_TOLERANCE; ``capped``: allow that much then, and
    refuse only when they move by more than that here (a detector's scores lie far apart, an encoding's numbers don't).
    """
    moved = max(float(np.abs(a - b).max()) for a, b in zip(exact, rounded, strict=True))
    tolerance = 2 * moved + 1e-4 * max(float(np.abs(a).max()) for a in exact)
    if not (moved if capped else tolerance) <= MAX_TOLERANCE:
        raise ExportError(f"in fewer bits the outputs depend on rounding by up to {moved:.2g}: not usable")
    return min(tolerance, MAX_TOLERANCE)


def described_origin(folder: ModelFolder[Any], ranges_from: str) -> dict[str, object]:
    """For ``training``: what was quantised, and how."""
    return {
        "from": folder.manifest.name,
        "from_digest": folder.digest,
        "ranges_from": ranges_from,
        "weights": "int8 in 7 bits, per channel",
        "activations": "uint8 per tensor, least to greatest value",
    }


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        feed = next(self._feeds, None)
        return None if feed is None else dict(feed)
