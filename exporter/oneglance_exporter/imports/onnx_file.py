"""Import an encoder that others trained, from its ONNX file and a description of the input it wants.

The graph is wrapped: it takes the picture itself, uint8 [N, H, W, C], and makes the network's input from it
(channel order, layout, (x - mean) * scale) inside. Nothing is believed: the wrapped graph is run at several batch
sizes and must answer as the author's file does on input prepared in numpy, one picture at a time.

Conventions found in the authors' own code, for PRESETS: InsightFace ``python-package/insightface/model_zoo/
arcface_onnx.py``, AdaFace ``inference.py``, SFace OpenCV ``modules/objdetect/src/face_recognize.cpp``, torchvision's
ImageNet weights.
"""

import hashlib
import math
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model, uses_external_data
from pydantic import ValidationError

from oneglance_core.folder import write_model_folder
from oneglance_core.manifests import (
    LEAST_CHIP,
    MAX_DIMENSION,
    MAX_TOLERANCE,
    Alignment,
    AuthorThreshold,
    EncoderManifest,
    InputSpec,
    OutputSpec,
    Parity,
)
from oneglance_core.sessions.checks import apart
from oneglance_exporter.errors import DataError, ExportError, SettingsError
from oneglance_exporter.imports.onnx_settings import Contract
from oneglance_exporter.runtime import check_model, encoder_of

MAX_BYTES = 2**31 - 1  # what one protobuf message can hold
TOLERANCE = 1e-4  # of the largest output: sums in another order
_TOLERANCE_HALF = 5e-3  # float16 rounds at 2**-11, layer after layer
_FLOATS: dict[int, type[np.floating]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
}
_KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
_LEAST_OPSET = 7  # before, arithmetic did not broadcast; ONNX Runtime starts here too
_CONVERTED_OPSET = 13
_MAX_SIDE = 1024  # the manifest holds some pictures
_PREFIX = "net/"
_CHECKED_BATCHES = (1, 2, 5)

Floats = npt.NDArray[np.floating]
Encodings = npt.NDArray[np.float32]


def import_onnx(
    file: Path,
    out: Path,
    name: str,
    license: str,
    contract: Contract,
    *,
    unit_norm: bool = False,
    output: str | None = None,
    alignment: Callable[[int], Alignment] | None = None,
    author_tau: float | None = None,
    description: str = "",
    command: str = "",
) -> EncoderManifest:
    """Write the encoder in ``file`` as the model folder ``out``.

    license: of the weights; must be said. unit_norm: divide the encodings by their length. output: the graph's output
    to take, when it has several. alignment: from the chip's side in pixels to the template, for face encoders.
    author_tau: squared L2, 0 or more.

    Raises DataError for a file that can't be used, SettingsError for a contract that does not fit the graph,
    ExportError when the wrapped graph doesn't answer as the original does, ModelFolderError when something else stands
    at ``out``.
    """
    if not license.strip():
        raise SettingsError("say the licence of the weights: --license; many face encoders are for research only")
    source, digest = _load(file)
    graph_input = _single_input(source, file)
    kind = graph_input.type.tensor_type.elem_type
    height, width = _size(graph_input, contract, file)
    chip = None if alignment is None else _aligned(alignment, height, width, contract, file)
    if any(contract.mean) and _subtracts(source, graph_input.name):
        raise SettingsError(f"{file}: the graph subtracts a mean from its input itself; give it the pixels: --mean 0")
    _keep_output(source, output, file)
    images = parity_inputs(height, width, contract.channels)
    prepared = contract.prepare(images).astype(_FLOATS[kind])
    expected = _reference(source, prepared)
    if unit_norm:
        with np.errstate(invalid="ignore"):  # found below
            expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    _check_answers(expected, file)

    largest = float(np.abs(expected).max())
    tolerance = (_TOLERANCE_HALF if kind == TensorProto.FLOAT16 else TOLERANCE) * largest
    if tolerance > MAX_TOLERANCE:
        raise SettingsError(f"{file}: its encodings reach {largest:.3g}, too large to compare well: take --unit-norm")
    graph = _free_batch(source, contract, (height, width), unit_norm, images, expected, tolerance)
    manifest = EncoderManifest(
        name=name,
        description=description,
        license=license,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        input=InputSpec(
            kind="image",
            shape=(height, width, contract.channels),
            dtype="uint8",
            color="gray" if contract.color == "gray" else "rgb",
            resize="bilinear",
        ),
        output=OutputSpec(dimension=expected.shape[1], unit_norm=_unit_norm(expected)),
        alignment=chip,
        author_threshold=None
        if author_tau is None
        else AuthorThreshold(tau=author_tau, source="given with --author-tau at the import"),
        training={
            "imported_from": file.name,
            "imported_sha256": digest,
            "producer": f"{source.producer_name} {source.producer_version}".strip(),
            "preprocessing": {**contract.model_dump(include=set(Contract.model_fields)), "size": [height, width]},
            "length_divided_out": unit_norm,
            "command": command,
        },
        parity=Parity.pack(images, expected, tolerance),
        model_sha256="0" * 64,  # write_model_folder sets both from the graph
        model_bytes=1,
    )
    check_model(graph, manifest)
    write_model_folder(out, manifest, graph)
    return manifest


def parity_inputs(height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """uint8 [6, H, W, C]: noise, coarse noise, a ramp down, waves across that differ by channel, gray, a soft spot."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    phase = np.arange(channels) / 3
    coarse = rng.integers(0, 256, ((height + 7) // 8, (width + 7) // 8, channels))
    spot = np.exp(-(((y - 0.5) ** 2 + (x - 0.5) ** 2)[..., None]) * (8 + 8 * phase))
    pictures = [
        rng.integers(0, 256, (height, width, channels)),
        coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width],
        255 * np.broadcast_to(y[..., None], (height, width, channels)),
        127.5 + 127.5 * np.sin(6 * x[..., None] + 2 * np.pi * phase),
        np.full((height, width, channels), 128),
        255 * spot,
    ]
    return np.stack(pictures).astype(np.uint8)


def _load(file: Path) -> tuple[onnx.ModelProto, str]:
    """The model with its weights inside, checked, its initialisers no inputs; and the SHA-256 of ``file``."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: larger than 2 GB, which one ONNX message can't be")
        content = file.read_bytes()
        model = onnx.load_model_from_string(content)
    except OSError as error:
        raise DataError(f"{file}: can't be read: {error.strerror}") from error
    except Exception as error:  # protobuf's DecodeError, by whichever implementation is installed
        raise DataError(f"{file}: not an ONNX file, or cut off") from error
    if not model.graph.node or not model.opset_import:
        raise DataError(f"{file}: not an ONNX file, or cut off: no network in it")
    strange = sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in _KNOWN_DOMAINS})
    if strange and not model.functions:
        raise DataError(f"{file}: needs operators that ONNX Runtime doesn't have: {', '.join(strange[:5])}")
    _bring_weights_inside(model, file)
    try:
        onnx.checker.check_model(model)
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), _LEAST_OPSET)
        if opset < _LEAST_OPSET:
            model = onnx.version_converter.convert_version(model, _CONVERTED_OPSET)
    except Exception as error:  # the checker's and the converter's classes have no common base but this
        raise DataError(f"{file}: not valid ONNX: {str(error).strip().splitlines()[0]}") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]  # older files list weights too
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 8)
    del model.graph.value_info[:]  # shapes with the author's batch size
    return model, hashlib.sha256(content).hexdigest()


def _bring_weights_inside(model: onnx.ModelProto, file: Path) -> None:
    outside = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    if not outside:
        return
    try:
        size = sum(_bytes(tensor) for tensor in outside)
        if size + model.ByteSize() > MAX_BYTES:
            raise DataError(f"{file}: larger than 2 GB with its weights, which one ONNX message can't be")
        load_external_data_for_model(model, os.fspath(file.parent))
    except DataError:
        raise
    except Exception as error:  # a missing or short side file, or a path out of the folder
        raise DataError(f"{file}: its weights lie in another file that can't be used: {error}") from error


def _bytes(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _single_input(model: onnx.ModelProto, file: Path) -> onnx.ValueInfoProto:
    inputs = list(model.graph.input)
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise DataError(f"{file}: an encoder takes one input, and this graph takes {len(inputs)}: {names}")
    kind = inputs[0].type.tensor_type.elem_type
    if kind not in _FLOATS:
        name = {number: word for word, number in TensorProto.DataType.items()}.get(kind, "of no known type").lower()
        raise DataError(f"{file}: the input {inputs[0].name!r} is {name}; only float networks can be wrapped")
    return inputs[0]


def _size(graph_input: onnx.ValueInfoProto, contract: Contract, file: Path) -> tuple[int, int]:
    """(H, W), from the graph and the contract, which must agree."""
    shape = graph_input.type.tensor_type.shape.dim
    if len(shape) != 4:
        raise DataError(f"{file}: the input has {len(shape)} dimensions; pictures have 4, as {contract.layout.upper()}")
    known = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in shape]
    channels, height, width = known[1:] if contract.layout == "nchw" else (known[3], known[1], known[2])
    if channels not in (None, contract.channels):
        raise SettingsError(
            f"{file}: takes {channels} channels as {contract.layout}, and {contract.color} has {contract.channels}; "
            "see --color and --layout"
        )
    if contract.size is not None:
        if height not in (None, contract.size[0]) or width not in (None, contract.size[1]):
            raise SettingsError(f"{file}: takes {height} x {width} pictures, not {contract.size}: see --size")
        height, width = contract.size
    if height is None or width is None:
        raise SettingsError(f"{file}: takes pictures of any size; say which one: --size H W")
    if not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE):
        raise SettingsError(f"{file}: pictures of {height} x {width}; a side is 1 to {_MAX_SIDE} pixels")
    if len(contract.mean) not in (1, contract.channels) or len(contract.scale) not in (1, contract.channels):
        raise SettingsError(f"--mean and --scale take 1 or {contract.channels} numbers for {contract.color}")
    return height, width


def _aligned(
    alignment: Callable[[int], Alignment], height: int, width: int, contract: Contract, file: Path
) -> Alignment:
    if height != width or contract.channels != 3:
        raise SettingsError(f"faces are aligned to square colour chips, and {file} takes {height} x {width}")
    try:
        aligned = alignment(height)
    except ValidationError as error:
        raise SettingsError(f"{file}: chips of {height} x {width} are too small for this alignment") from error
    if height < LEAST_CHIP:
        raise SettingsError(f"{file}: takes {height} x {width}; face chips are at least {LEAST_CHIP} x {LEAST_CHIP}")
    return aligned


def _subtracts(model: onnx.ModelProto, name: str) -> bool:
    """Whether the first thing done to the input is a subtraction, as in InsightFace's networks made by MXNet."""
    return any(node.op_type == "Sub" and node.input[0] == name for node in model.graph.node)


def _keep_output(model: onnx.ModelProto, wanted: str | None, file: Path) -> None:
    outputs = {value.name: value for value in model.graph.output}
    names = ", ".join(outputs)
    if wanted is None and len(outputs) != 1:
        raise SettingsError(f"{file}: has {len(outputs)} outputs; say which is the encoding: --output, one of {names}")
    if wanted is not None and wanted not in outputs:
        raise SettingsError(f"{file}: has no output {wanted!r}, only {names}")
    kept = outputs[wanted] if wanted is not None else model.graph.output[0]
    chosen = onnx.ValueInfoProto()
    chosen.CopyFrom(kept)
    del model.graph.output[:]
    model.graph.output.append(chosen)


def _reference(model: onnx.ModelProto, prepared: Floats) -> Encodings:
    """What the author's graph, as it is, returns for one picture at a time. Raises ExportError when it can't be run."""
    run = encoder_of(model.SerializeToString(), threads=1)
    copies = max(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value, 1)
    return np.concatenate([_answer(run, np.repeat(row[None], copies, axis=0))[:1] for row in prepared])


def _answer(run: Callable[[Any], Any], inputs: npt.NDArray[Any]) -> Encodings:
    """float32 [N, D] of one run. Raises ExportError when the graph fails or returns something else."""
    try:
        found = np.asarray(run(inputs))
    except Exception as error:  # ONNX Runtime's own classes have no common base but this
        raise ExportError(f"the graph doesn't run at batch size {len(inputs)}: {error}") from error
    if found.dtype.kind != "f" or found.ndim < 2 or found.size != len(inputs) * max(found.shape[1:]):
        shape = f"{found.dtype} {list(found.shape)}"
        raise ExportError(f"the graph returns {shape} for {len(inputs)} pictures; an encoding is float [N, D]")
    if found.shape[0] != len(inputs):
        raise ExportError(f"the graph returns {found.shape[0]} rows for {len(inputs)} pictures")
    if not 1 <= max(found.shape[1:]) <= MAX_DIMENSION:
        raise ExportError(f"the graph returns {max(found.shape[1:]):,} numbers; an encoding has 1 to {MAX_DIMENSION:,}")
    return found.reshape(len(inputs), -1).astype(np.float32)


def _check_answers(encodings: Encodings, file: Path) -> None:
    if not np.isfinite(encodings).all():
        raise DataError(f"{file}: the network returns NaN or infinite numbers")
    apart = np.abs(encodings - encodings[:1]).max(axis=1)
    if not apart[1:].max() > 1e-6 * np.abs(encodings).max():
        raise DataError(f"{file}: the network returns the same encoding for every picture")


def _unit_norm(encodings: Encodings) -> bool:
    return bool(np.abs(np.linalg.norm(encodings, axis=1) - 1).max() < 1e-3)


def _free_batch(
    source: onnx.ModelProto,
    contract: Contract,
    size: tuple[int, int],
    unit_norm: bool,
    images: npt.NDArray[np.uint8],
    expected: Encodings,
    tolerance: float,
) -> bytes:
    """The wrapped graph, which takes any batch size and was seen to return ``expected``.

    First as the graph is, then without the batch size that many exporters write into Reshape nodes.
    """
    failure: ExportError | None = None
    for model in (source, _reshape_any_batch(source)):
        wrapped = _wrap(model, contract, size, expected.shape[1], unit_norm)
        try:
            _check_wrapped(wrapped, images, expected, tolerance)
        except ExportError as error:
            failure = failure or error
        else:
            return wrapped
    raise ExportError(f"the graph can't take several pictures at once: {failure}") from failure


def _reshape_any_batch(source: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each Reshape to the fixed batch size keeps its input's first dimension instead."""
    model = onnx.ModelProto()
    model.CopyFrom(source)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for i, node in enumerate(model.graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        target = numpy_helper.to_array(constants[node.input[1]]).copy()
        if target.ndim == 1 and len(target) and target[0] == batch:
            target[0] = 0  # as in the input
            name = f"oneglance/reshape{i}"
            model.graph.initializer.append(numpy_helper.from_array(target, name))
            node.input[1] = name
    return model


def _wrap(model: onnx.ModelProto, contract: Contract, size: tuple[int, int], dimension: int, unit_norm: bool) -> bytes:
    """The graph from uint8 [N, H, W, C] to float32 [N, D], N free."""
    try:
        graph = onnx.compose.add_prefix_graph(model.graph, _PREFIX)
    except (TypeError, ValueError) as error:
        raise DataError("a name in the graph is no text") from error
    inner, last = graph.input[0], graph.output[0].name
    weights: list[onnx.TensorProto] = []

    def node(op: str, takes: str, gives: str, constant: npt.NDArray[Any] | None = None, **attributes: Any) -> None:
        names = [takes]
        if constant is not None:
            names.append(f"{gives}/constant")
            weights.append(numpy_helper.from_array(constant, names[1]))
        nodes.append(helper.make_node(op, names, [gives], name=f"oneglance/{gives}", **attributes))

    nodes: list[onnx.NodeProto] = []
    channel_axis = 1 if contract.layout == "nchw" else 3
    broadcast = (-1, 1, 1) if contract.layout == "nchw" else (-1,)
    node("Transpose", "input", "pixels", perm=[0, 3, 1, 2] if contract.layout == "nchw" else [0, 1, 2, 3])
    order = np.arange(contract.channels)[:: -1 if contract.color == "bgr" else 1]
    node("Gather", "pixels", "channels", np.ascontiguousarray(order), axis=channel_axis)
    node("Cast", "channels", "float", to=TensorProto.FLOAT)
    node("Sub", "float", "centred", np.array(contract.mean, np.float32).reshape(broadcast))
    node("Mul", "centred", "scaled", np.array(contract.scale, np.float32).reshape(broadcast))
    node("Cast", "scaled", inner.name, to=inner.type.tensor_type.elem_type)
    before, nodes = nodes, []
    node("Flatten", last, "flat", axis=1)
    node("Cast", "flat", "raw" if unit_norm else "encoding", to=TensorProto.FLOAT)
    if unit_norm:
        node("LpNormalization", "raw", "encoding", axis=1, p=2)

    wrapped = helper.make_graph(
        [*before, *graph.node, *nodes],
        "encoder",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["N", *size, contract.channels])],
        [helper.make_tensor_value_info("encoding", TensorProto.FLOAT, ["N", dimension])],
        [*graph.initializer, *weights],
    )
    wrapped.sparse_initializer.extend(graph.sparse_initializer)
    whole = helper.make_model(
        wrapped, opset_imports=model.opset_import, ir_version=model.ir_version, functions=model.functions
    )
    return whole.SerializeToString(deterministic=True)


def _check_wrapped(graph: bytes, images: npt.NDArray[np.uint8], expected: Encodings, tolerance: float) -> None:
    """Raise ExportError unless ``graph`` gives each picture its own encoding, at every batch size."""
    run = encoder_of(graph, threads=1)
    for batch in _CHECKED_BATCHES:
        wrong = apart(_answer(run, images[:batch]), expected[:batch], tolerance)
        if wrong:
            raise ExportError(f"at batch size {batch} its answers differ from those one by one: {wrong}")
