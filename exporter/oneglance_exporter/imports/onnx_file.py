"""Import an encoder that others trained, from its ONNX file and a description of the input it wants.

The graph is wrapped: it takes the picture itself, uint8 [N, H, W, C], and makes the network's input from it
(channel order, layout, (x - mean) * scale) inside. Nothing is believed: the wrapped graph is run at several batch
sizes and must answer as the author's file does on input prepared in numpy, one picture at a time.

Conventions found in the authors' own code, for PRESETS: InsightFace ``python-package/insightface/model_zoo/
arcface_onnx.py``, AdaFace ``inference.py``, SFace OpenCV ``modules/objdetect/src/face_recognize.cpp``, torchvision's
ImageNet weights.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto
from pydantic import ValidationError

from oneglance_core.folder import check_replaceable, write_model_folder
from oneglance_core.manifests import (
    LEAST_CHIP,
    MAX_TOLERANCE,
    Alignment,
    AuthorThreshold,
    EncoderManifest,
    InputSpec,
    OutputSpec,
    Parity,
)
from oneglance_exporter.errors import DataError, ExportError, SettingsError
from oneglance_exporter.imports.onnx_settings import Contract
from oneglance_exporter.imports.onnx_source import FLOATS, keep_output, load, single_input, subtracts
from oneglance_exporter.imports.onnx_wrap import Encodings, answer, free_batch
from oneglance_exporter.runtime import check_model, encoder_of

TOLERANCE = 1e-4  # of the largest output: sums in another order
_TOLERANCE_HALF = 5e-3  # float16 rounds at 2**-11, layer after layer
_MAX_SIDE = 1024  # the manifest holds some pictures

Floats = npt.NDArray[np.floating]


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
    check_replaceable(out)
    source, digest = load(file)
    graph_input = single_input(source, file)
    kind = graph_input.type.tensor_type.elem_type
    height, width = _size(graph_input, contract, file)
    chip = None if alignment is None else _aligned(alignment, height, width, contract, file)
    if any(contract.mean) and subtracts(source, graph_input.name):
        raise SettingsError(f"{file}: the graph subtracts a mean from its input itself; give it the pixels: --mean 0")
    keep_output(source, output, file)
    images = parity_inputs(height, width, contract.channels)
    prepared = contract.prepare(images).astype(FLOATS[kind])
    expected = _reference(source, prepared)
    if unit_norm:
        with np.errstate(invalid="ignore"):  # found below
            expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    try:
        _check_answers(expected, file)
    except DataError as error:
        if _differ_together(source, prepared):
            raise DataError(
                f"{file}: an encoding depends on the others of its batch: alone, each is useless"
            ) from error
        raise

    largest = float(np.abs(expected).max())
    tolerance = (_TOLERANCE_HALF if kind == TensorProto.FLOAT16 else TOLERANCE) * largest
    if tolerance > MAX_TOLERANCE:
        raise SettingsError(f"{file}: its encodings reach {largest:.3g}, too large to compare well: take --unit-norm")
    graph = free_batch(source, contract, (height, width), unit_norm, images, expected, tolerance)
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


def _reference(model: onnx.ModelProto, prepared: Floats) -> Encodings:
    """What the author's graph, as it is, returns for one picture at a time. Raises ExportError when it can't be run."""
    run = encoder_of(model.SerializeToString(), threads=1)
    copies = max(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value, 1)
    return np.concatenate([answer(run, np.repeat(row[None], copies, axis=0))[:1] for row in prepared])


def _check_answers(encodings: Encodings, file: Path) -> None:
    if not np.isfinite(encodings).all():
        raise DataError(f"{file}: the network returns NaN or infinite numbers")
    apart = np.abs(encodings - encodings[:1]).max(axis=1)
    if not apart[1:].max() > 1e-6 * np.abs(encodings).max():
        raise DataError(f"{file}: the network returns the same encoding for every picture")


def _differ_together(model: onnx.ModelProto, prepared: Floats) -> bool:
    """Whether the graph tells pictures of one batch apart, though not one at a time."""
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    together = np.resize(prepared, (fixed or len(prepared), *prepared.shape[1:]))
    try:
        found = answer(encoder_of(model.SerializeToString(), threads=1), together)
    except ExportError:
        return False
    return bool(np.isfinite(found).all() and np.abs(found - found[:1]).max() > 0)


def _unit_norm(encodings: Encodings) -> bool:
    return bool(np.abs(np.linalg.norm(encodings, axis=1) - 1).max() < 1e-3)
