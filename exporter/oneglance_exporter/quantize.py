"""An encoder's model folder in 8 bits: static quantisation by ONNX Runtime, for processors with int8 instructions.

Weights are signed, one scale per output channel; activations are unsigned, one scale per tensor, from the least and
greatest value over some pictures. Weights keep 7 bits: two products of 8-bit numbers overflow the 16 bits in which
processors without VNNI add them, and such a host would answer differently. The last matrix product stays float32: it
costs nothing, and 256 levels are coarse for an encoding.
"""

import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from oneglance.model_folder import (
    Array,
    AuthorThreshold,
    EncoderManifest,
    ModelFolder,
    Parity,
    read_model_folder,
    write_model_folder,
)
from oneglance_exporter.errors import DataError, ExportError, SettingsError
from oneglance_exporter.runtime import encoder_of

import onnxruntime  # isort: skip  # after runtime, which keeps it from collecting usage data
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static  # isort: skip

Pictures = npt.NDArray[np.uint8]

LEAST_PICTURES = 16
MOST_PICTURES = 200  # more hardly change the ranges, and cost time
_BLOCK = 8
_MATRIX_PRODUCTS = ("MatMul", "Gemm")


def quantize(model: Path, out: Path, pictures: Pictures, described: str, name: str | None = None) -> EncoderManifest:
    """Write the encoder ``model`` in 8 bits as the model folder ``out``.

    pictures: uint8 [N, H, W, C] as the encoder takes them, N >= 16: they set the ranges of the activations; of more
    than MOST_PICTURES an even choice is taken. described: what they are. name: that of the new encoder (the old one's
    and ``-int8``).

    It is another encoder, with a digest of its own: galleries don't carry over, and it has no threshold before
    ``calibrate``. Its parity vectors are those of the quantised graph computed in float; the integer kernels of one
    processor and another round a few values differently, so the tolerance is twice what that moves here.
    Raises DataError, SettingsError, ExportError, ModelFolderError.
    """
    folder = read_model_folder(model)
    old = folder.manifest
    if pictures.shape[1:] != old.input.shape or pictures.dtype != np.uint8:
        raise SettingsError(f"{model}: takes pictures of {old.input.shape}, got {pictures.dtype} {pictures.shape[1:]}")
    if len(pictures) < LEAST_PICTURES:
        raise DataError(f"{len(pictures)} picture(s) are too few to set ranges by: at least {LEAST_PICTURES}")
    pictures = pictures[:: -(-len(pictures) // MOST_PICTURES)]
    graph = _quantized(folder, pictures)

    before, after = encoder_of(folder.model, threads=1)(pictures), encoder_of(graph, threads=1)(pictures)
    moved = ((before - after).astype(np.float64) ** 2).sum(axis=1)
    exact = _in_float(graph, old, pictures)
    tolerance = 2 * float(np.abs(exact - after).max()) + 1e-4 * float(np.abs(exact).max())
    if not tolerance <= 0.1:
        raise ExportError(f"in 8 bits the encodings depend on rounding by up to {tolerance / 2:.2g}: not usable")
    inputs = old.parity.inputs.unpack()
    author = old.author_threshold
    manifest = old.model_copy(
        update={
            "name": name or f"{old.name}-int8",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "threshold": None,
            "author_threshold": author
            and AuthorThreshold(tau=author.tau, source=f"{author.source}; for the encoder before quantisation"),
            "training": {
                **old.training,
                "quantized": {
                    "from": old.name,
                    "from_digest": old.digest,
                    "ranges_from": f"{len(pictures)} pictures of {described}",
                    "weights": "int8 in 7 bits, per channel",
                    "activations": "uint8 per tensor, least to greatest value",
                    "squared_l2_to_original_mean": round(float(moved.mean()), 6),
                    "squared_l2_to_original_max": round(float(moved.max()), 6),
                },
            },
            "parity": Parity(
                inputs=Array.pack(inputs), outputs=Array.pack(_in_float(graph, old, inputs)), tolerance=tolerance
            ),
        }
    )
    # model_copy checks nothing
    manifest = EncoderManifest.model_validate(manifest.model_dump())
    write_model_folder(out, manifest, graph)
    return manifest


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, name: str, pictures: Pictures) -> None:
        self._blocks = iter([{name: pictures[i : i + _BLOCK]} for i in range(0, len(pictures), _BLOCK)])

    def get_next(self) -> dict[str, Pictures] | None:
        return next(self._blocks, None)


def _quantized(folder: ModelFolder[EncoderManifest], pictures: Pictures) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        fused, result = Path(scratch) / "fused.onnx", Path(scratch) / "int8.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(fused)  # normalisation layers folded into convolutions
        try:
            onnxruntime.InferenceSession(folder.model, options, providers=["CPUExecutionProvider"])
            model = onnx.load(fused)
            if any(node.op_type.endswith("QuantizeLinear") for node in model.graph.node):
                raise SettingsError(f"{folder.path}: is quantised already")
            for i, node in enumerate(model.graph.node):
                node.name = f"{node.op_type}{i}"
            products = [node.name for node in model.graph.node if node.op_type in _MATRIX_PRODUCTS]
            root, level = logging.getLogger(), logging.getLogger().level
            root.setLevel(logging.ERROR)  # advice on preparing the graph, which was taken
            try:
                quantize_static(
                    model,
                    result,
                    _Reader(folder.manifest.input.name, pictures),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    nodes_to_exclude=products[-1:],
                )
            finally:
                root.setLevel(level)
            model = onnx.load(result)
        except SettingsError:
            raise
        except Exception as error:  # ONNX Runtime's own classes have no common base but this
            raise ExportError(f"{folder.path}: ONNX Runtime can't quantise the graph: {error}") from error
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ExportError(f"{folder.path}: nothing in the graph can be quantised")
    del model.metadata_props[:]
    domains = {node.domain or "ai.onnx" for node in model.graph.node}
    used = [opset for opset in model.opset_import if (opset.domain or "ai.onnx") in domains]
    del model.opset_import[:]
    model.opset_import.extend(used)
    return model.SerializeToString(deterministic=True)


def _in_float(graph: bytes, manifest: EncoderManifest, pictures: Pictures) -> npt.NDArray[np.float32]:
    """What the quantised graph says when every node is computed as written, in float: float32 [N, D]."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    blocks = [pictures[i : i + _BLOCK] for i in range(0, len(pictures), _BLOCK)]
    return np.concatenate([session.run([manifest.output.name], {manifest.input.name: block})[0] for block in blocks])
