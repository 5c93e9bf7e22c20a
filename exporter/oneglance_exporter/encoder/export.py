"""Write a trained encoder as a model folder: one ONNX file, and a manifest with parity vectors.

A head on a base becomes one graph with it.

The graph takes the input as it is served ([N, *shape], as the manifest declares) and returns unit-norm encodings; N is
free. It is refused unless ONNX Runtime gives torch's answers, for invented inputs and for real ones, at batch sizes
other than the traced one.
"""

import copy
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch

from oneglance_core.folder import ModelFolder, check_replaceable, read_model_folder, write_model_folder
from oneglance_core.glyphs import TRAINING_SEEDS, alphabet
from oneglance_core.manifests import Array, EncoderManifest, InputSpec, MadeFor, OutputSpec, PairHeadPart, Parity
from oneglance_core.sessions.checks import apart
from oneglance_exporter.encoder import whitening
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.data import read_training_data
from oneglance_exporter.encoder.encoded import StrPath
from oneglance_exporter.encoder.merged import merged
from oneglance_exporter.encoder.network import INPUT, Encoder, encode
from oneglance_exporter.encoder.pair_fit import PairFit, scaled
from oneglance_exporter.encoder.pair_losses import PairHead, PairLoss
from oneglance_exporter.encoder.real_inputs import real_inputs
from oneglance_exporter.errors import DataError, ExportError, SettingsError
from oneglance_exporter.runtime import BATCHES, check_model, encoder_of
from oneglance_exporter.tracing import opset_of, traced
from oneglance_exporter.training.checkpoint import BEST_FILE, CHECKPOINT_FILE, load

# Between fp32 kernels of one CPU and another: sums of some thousand products in another order.
TOLERANCE = 1e-4
_TRACED_BATCH = 2  # at 1, the tracer would take the batch size for a constant
OPSETS = (13, onnx.defs.onnx_opset_version())
_LEAST_DRAWN = 28  # pixels: the invented characters' strokes need them
_LOSSES = {
    "triplet": "triplet, squared L2 of unit-norm encodings",
    "contrastive": "contrastive, L2 of unit-norm encodings",
    "arcface": "ArcFace",
    "difference": "binary cross-entropy of a logistic unit over |f(x) - f(y)|",
    "chi-square": "binary cross-entropy of a logistic unit over the chi-square terms of f(x) and f(y), both positive",
}

Which = Literal["best", "last"]


def export(
    run: Path,
    out: Path,
    name: str,
    description: str = "",
    license: str = "",
    which: Which | None = None,
    *,
    opset: int | None = None,
    whiten: float | None = None,
    data: Sequence[StrPath] = (),
    finders: StrPath | None = None,
    aligned: bool = False,
) -> EncoderManifest:
    """Export the averaged weights of the training in ``run`` to the model folder ``out``.

    which: the checkpoint: the last one, or the one with the lowest error on --validation. None: the best, where there
    is one. opset: the version of ONNX's operators, within OPSETS; None: the tracer's own choice. whiten: shrinkage, in
    (0, 1], of within-class whitening by what the run was trained on; None: no whitening. data: real examples to
    try the graph on; none: those that the run was trained on, where they are still there. finders, aligned: as in
    ``Reading``. A model folder of that name is replaced; the new one has no threshold before ``calibrate``.
    Raises RunError for an unusable run, and when whitening finds other data than were trained on; ModelFolderError when
    ``out`` holds something else or can't be written; ExportError when the graph doesn't reproduce torch's output;
    SettingsError for an opset that there isn't and for what can't be whitened; DataError for ``data`` that can't be
    used; pydantic's ValidationError (a ValueError) for a name outside [a-z0-9._-].
    """
    if opset is not None and not OPSETS[0] <= opset <= OPSETS[1]:
        raise SettingsError(f"--opset must be {OPSETS[0]} to {OPSETS[1]}, got {opset}")
    if whiten is not None and not 0 < whiten <= 1:
        raise SettingsError(f"--whiten must be above 0 and at most 1, got {whiten:g}")
    check_replaceable(out)
    which = which or ("best" if (run / BEST_FILE).exists() else "last")
    state = load(run, EncoderCheckpoint, {"best": BEST_FILE, "last": CHECKPOINT_FILE}[which])
    learned = state.averaged()
    model = learned.encoder
    if whiten is not None:
        if isinstance(learned.loss, PairLoss):
            raise SettingsError("--whiten would change the numbers that the run's pair head weighs")
        trained_on = read_training_data(state.settings, run, lambda _: None, state.spec)
        trained_on.identity.check(run, state.data_digest)
        whitening.whiten(model, trained_on.examples, whiten)
    base = None if state.settings.base is None else read_model_folder(state.settings.base)
    if base is None:
        inputs = given = parity_inputs(state.spec, model)
    else:
        inputs = base.manifest.parity.inputs.unpack()
        given = encoder_of(base.model, threads=1)(inputs)[..., None]
    outputs = encode(model, given)
    manifest = EncoderManifest(
        name=name,
        description=description,
        license=license,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        input=state.spec if base is None else base.manifest.input,
        alignment=None if base is None else base.manifest.alignment,
        output=OutputSpec(dimension=state.settings.dimension, unit_norm=True),
        training=provenance(state, model, which, base, whiten),
        made_for=MadeFor.model_validate(state.made_for) if state.made_for else None,
        pair_head=pair_head_of(learned.loss.head, fit_of(state), outputs)
        if isinstance(learned.loss, PairLoss)
        else None,
        parity=Parity.pack(inputs, outputs, TOLERANCE),
        model_sha256="0" * 64,  # write_model_folder sets both from the graph
        model_bytes=1,
    )
    graph = to_onnx(model, given, manifest.input.name, manifest.output.name, opset)
    differs = check_graph(graph, model, given)
    folder = ModelFolder(out if base is None else base.path, manifest, b"")
    settings = state.settings
    real = _real(folder, data, settings.data, finders or settings.finders, aligned=aligned or settings.aligned)
    if len(real):
        shown = real if base is None else encoder_of(base.model, threads=1)(real)[..., None]
        differs = max(differs, check_graph(graph, model, shown))
    checked = {
        "opset": opset_of(onnx.load_model_from_string(graph)),
        "batches": list(BATCHES),
        "invented_inputs": len(inputs),
        "real_inputs": len(real),
        "largest_difference_from_torch": float(f"{differs:.2g}"),
    }
    manifest = manifest.model_copy(update={"training": {**manifest.training, "checked": checked}})
    if base is not None:
        graph = merged(base.model, base.manifest.output.name, graph, manifest.input.name, manifest.output.name)
    check_model(graph, manifest)
    write_model_folder(out, manifest, graph)
    return manifest


def _real(
    folder: ModelFolder[EncoderManifest],
    given: Sequence[StrPath],
    trained_on: Sequence[str],
    finders: StrPath | None,
    *,
    aligned: bool,
) -> npt.NDArray[Any]:
    """Real inputs, ``dtype [n, *shape]``; n = 0 where none were given and those of the training aren't there."""
    if given:
        return real_inputs(folder, given, finders, aligned=aligned)
    try:
        return real_inputs(folder, trained_on, finders, aligned=aligned)
    except (DataError, SettingsError):  # moved, or changed since
        return np.empty((0, *folder.manifest.input.shape))


def fit_of(state: EncoderCheckpoint) -> PairFit | None:
    """What makes a probability of the pair head's y, if that was found out on --validation."""
    if state.pair_fit is None:
        return None
    fit = PairFit(**{name: value for name, value in state.pair_fit.items() if name != "step"})
    return fit if fit.usable else None


@torch.no_grad()
def pair_head_of(head: PairHead, fit: PairFit | None, encodings: npt.NDArray[np.float32]) -> PairHeadPart:
    """The head as a manifest holds it, with what torch makes of the parity vectors' encodings float32 [n, D].

    With ``fit``, its weights and its bias are scaled so that y is a probability. Raises ExportError where numpy, which
    the server runs it with, gives other probabilities than torch.
    """
    slope, offset = (1.0, 0.0) if fit is None else (fit.slope, fit.offset)
    rows = torch.from_numpy(encodings).double()
    logits = slope * copy.deepcopy(head).double()(rows[:1], rows) + offset
    served = scaled(head.served(), slope, offset)
    try:
        part = PairHeadPart(
            form=served.form,
            weights=Array.pack(served.weights),
            bias=served.bias,
            probabilities=tuple(torch.sigmoid(logits).tolist()),
        )
        part.check(encodings)
    except ValueError as error:
        raise ExportError(f"the pair head can't be served: {error}") from error
    return part


def parity_inputs(spec: InputSpec = INPUT, model: Encoder | None = None) -> npt.NDArray[Any]:
    """The inputs of the parity vectors, which a server runs before it serves the graph: ``dtype [N, *shape]``.

    Of square gray pictures four invented characters, of others four noises of several contrasts; then all white, all
    black, and noise. Of arrays noise about the mean of the training's, as wide as those and wider, and zeros.
    """
    rng = np.random.default_rng(0)
    if spec.kind != "image":
        centre, spread = (np.zeros(1), np.ones(1)) if model is None else (model.centre.numpy(), model.spread.numpy())
        noises = [centre + size * spread * rng.standard_normal(spec.shape) for size in (1, 1, 3)]
        values = np.stack([*noises, np.zeros(spec.shape)])
        return values.clip(0, 255).astype(np.uint8) if spec.dtype == "uint8" else values.astype(np.float32)
    height, width, channels = spec.shape
    if channels == 1 and height == width and height >= _LEAST_DRAWN:
        pictures = [c.drawings[0][..., None] for c in alphabet(TRAINING_SEEDS.start, 4, 1, height)]
    else:
        pictures = [128 + size * rng.standard_normal(spec.shape).clip(-1.2, 1.2) for size in (5, 20, 50, 100)]
    noise = np.random.default_rng(0).integers(0, 256, spec.shape, dtype=np.uint8)
    return np.stack([*pictures, np.full(spec.shape, 255), np.zeros(spec.shape), noise]).astype(np.uint8)


def provenance(
    state: EncoderCheckpoint,
    model: torch.nn.Module,
    which: Which,
    base: ModelFolder[EncoderManifest] | None,
    whiten: float | None = None,
) -> dict[str, object]:
    """The manifest's ``training``: the command, all settings, and figures about the run."""
    mined = f", {state.settings.mining} triplets" if state.settings.loss == "triplet" else ""
    fit = fit_of(state)
    scaled_by = {} if fit is None else {"pair_head_fit": state.pair_fit}
    learned_on = {} if base is None else {"base": {"digest": base.digest, **base.manifest.training}}
    measured: dict[str, object] = {}
    if whiten is not None:  # what was measured on --validation is not this encoder's
        measured = {"whitened": whiten}
    elif state.validation_error is not None:
        measured = {"validation_error": state.validation_error}
    return {
        "command": state.command,
        "settings": json.loads(state.settings.model_dump_json()),  # in which infinity is null: JSON has none
        "data_digest": state.data_digest,
        "checkpoint": which,
        "steps": state.step,
        "seconds": round(state.elapsed_seconds, 1),
        **measured,
        **scaled_by,
        **learned_on,
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": _LOSSES[state.settings.loss] + mined,
        "torch": torch.__version__,
    }


def to_onnx(
    model: Encoder, inputs: npt.NDArray[Any], input_name: str, output_name: str, opset: int | None = None
) -> bytes:
    """The graph of ``model`` with its weights inside and the batch size free, as ONNX bytes. inputs: examples."""
    example = torch.from_numpy(inputs[:_TRACED_BATCH])
    return traced(model, (example,), (input_name,), (output_name,), ({0: torch.export.Dim("N", min=1)},), opset)


def check_graph(graph: bytes, model: Encoder, inputs: npt.NDArray[Any]) -> float:
    """The largest difference between the graph's encodings of ``inputs`` and torch's, at all of BATCHES.

    Raises ExportError where that is more than TOLERANCE, and when ``model`` doesn't encode each input by itself.
    """
    run = encoder_of(graph, threads=1)
    expected = encode(model, inputs)
    if wrong := apart(encode(model, inputs[:1]), expected[:1], TOLERANCE):
        raise ExportError(f"the network's encoding of an input depends on the others of its batch: {wrong}")
    largest = 0.0
    for batch in (*BATCHES, len(inputs)):
        rows = np.arange(batch) % len(inputs)
        got = run(inputs[rows])
        if wrong := apart(got, expected[rows], TOLERANCE):
            raise ExportError(f"the graph differs from torch at batch size {batch}: {wrong}")
        largest = max(largest, float(np.abs(got - expected[rows]).max()))
    return largest
