"""Write a trained encoder as a model folder: one ONNX file, and a manifest with parity vectors.

The graph takes the served picture itself (uint8 [N, 105, 105, 1]) and returns unit-norm encodings; N is
free. It is refused unless ONNX Runtime gives torch's answers at batch sizes other than the traced one.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from oneglance_core.folder import check_replaceable, write_model_folder
from oneglance_core.glyphs import TRAINING_SEEDS, alphabet
from oneglance_core.manifests import EncoderManifest, MadeFor, OutputSpec, Parity
from oneglance_core.sessions.checks import apart
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.network import INPUT, INPUT_SIZE, Encoder, encode
from oneglance_exporter.errors import ExportError
from oneglance_exporter.runtime import check_model, encoder_of
from oneglance_exporter.tracing import traced
from oneglance_exporter.training.checkpoint import load

# Between fp32 kernels of one CPU and another: sums of some thousand products in another order.
TOLERANCE = 1e-4
_TRACED_BATCH = 2  # at 1, the tracer would take the batch size for a constant
_CHECKED_BATCHES = (1, 7)


def export(run: Path, out: Path, name: str, description: str = "", license: str = "") -> EncoderManifest:
    """Export the averaged weights of the training in ``run`` to the model folder ``out``.

    A model folder of that name is replaced; the new one has no threshold before ``calibrate``.
    Raises RunError for an unusable run; ModelFolderError when ``out`` holds something else or can't be written;
    ExportError when the graph doesn't reproduce torch's output; pydantic's ValidationError (a ValueError) for a name
    outside [a-z0-9._-].
    """
    check_replaceable(out)
    state = load(run, EncoderCheckpoint)
    model = state.encoder()
    inputs = parity_inputs()
    manifest = EncoderManifest(
        name=name,
        description=description,
        license=license,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        input=INPUT,
        output=OutputSpec(dimension=state.settings.dimension, unit_norm=True),
        training=provenance(state, model),
        made_for=MadeFor.model_validate(state.made_for) if state.made_for else None,
        parity=Parity.pack(inputs, encode(model, inputs), TOLERANCE),
        model_sha256="0" * 64,  # write_model_folder sets both from the graph
        model_bytes=1,
    )
    graph = to_onnx(model, manifest.input.name, manifest.output.name)
    check_graph(graph, model)
    check_model(graph, manifest)
    write_model_folder(out, manifest, graph)
    return manifest


def parity_inputs() -> npt.NDArray[np.uint8]:
    """The inputs of the parity vectors, which a server runs before it serves the graph: uint8 [7, 105, 105, 1].

    Four invented characters, then a blank paper, a black one, and noise.
    """
    drawings = [s.drawings[0] for s in alphabet(TRAINING_SEEDS.start, 4, 1, INPUT_SIZE)]
    blank = np.full((INPUT_SIZE, INPUT_SIZE), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, blank.shape, dtype=np.uint8)
    return np.stack([*drawings, blank, np.zeros_like(blank), noise])[..., None]


def provenance(state: EncoderCheckpoint, model: torch.nn.Module) -> dict[str, object]:
    """The manifest's ``training``: the command, all settings, and figures about the run."""
    return {
        "command": state.command,
        "settings": state.settings.model_dump(),
        "steps": state.step,
        "seconds": round(state.elapsed_seconds, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": "triplet, squared L2 of unit-norm encodings, hardest semi-hard negative of each pair",
        "torch": torch.__version__,
    }


def to_onnx(model: Encoder, input_name: str, output_name: str) -> bytes:
    """The graph of ``model`` with its weights inside and the batch size free, as ONNX bytes."""
    example = torch.from_numpy(parity_inputs()[:_TRACED_BATCH])
    return traced(model, (example,), (input_name,), (output_name,), ({0: torch.export.Dim("N", min=1)},))


def check_graph(graph: bytes, model: Encoder) -> None:
    """Raise ExportError unless the graph answers as ``model`` at batch sizes that weren't traced."""
    run = encoder_of(graph, threads=1)
    inputs = parity_inputs()
    expected = encode(model, inputs)
    for batch in _CHECKED_BATCHES:
        wrong = apart(run(inputs[:batch]), expected[:batch], TOLERANCE)
        if wrong:
            raise ExportError(f"the graph differs from torch at batch size {batch}: {wrong}")
