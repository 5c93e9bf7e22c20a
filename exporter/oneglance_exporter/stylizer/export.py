"""Write a trained stylizer as a model folder: one ONNX file, and a manifest with parity vectors.

The graph takes the pictures themselves (uint8 [N, H, W, 3]); N, H and W are free. It is refused unless ONNX Runtime
gives torch's answers at other sizes than the traced one.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from oneglance_core.folder import check_replaceable, write_model_folder
from oneglance_core.manifests import NamedParity, StylizerManifest
from oneglance_core.sessions.checks import apart
from oneglance_exporter.errors import ExportError
from oneglance_exporter.runtime import check_model, session_of
from oneglance_exporter.stylizer.checkpoint import StylizerCheckpoint
from oneglance_exporter.stylizer.network import LEAST_SIDE, MARGIN, MULTIPLE, Moments, Stylizer
from oneglance_exporter.tracing import traced
from oneglance_exporter.training.checkpoint import load

# Of 0..255. Between fp32 kernels of one CPU and another: sums of some thousand products in another order.
TOLERANCE = 0.05
_CHECKED = ((1, 16, 16), (3, 32, 100), (1, 256, 192))  # N, H, W
INPUTS = ("image", "weights", "moments", "own")
OUTPUTS = ("stylized", "used")
Arrays = dict[str, npt.NDArray[np.generic]]


class Served(nn.Module):
    """The stylizer as the manifest declares it: bytes in, 0..255 out, moments in and out."""

    def __init__(self, stylizer: Stylizer) -> None:
        super().__init__()
        self.stylizer = stylizer

    def forward(self, image: Tensor, weights: Tensor, moments: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """``image`` uint8 [N, H, W, 3], ``weights`` [N, S], ``moments`` [N, M, 2], ``own`` [N]: (stylized, used)."""
        kept = Moments(moments, own)
        stylized = self.stylizer(image.permute(0, 3, 1, 2).float() / 255, weights, kept)
        return stylized.permute(0, 2, 3, 1) * 255, kept.used


def export(run: Path, out: Path, name: str, description: str = "", license: str = "") -> StylizerManifest:
    """Export the averaged weights of the training in ``run`` to the model folder ``out``.

    A model folder of that name is replaced. Raises RunError for an unusable run; ModelFolderError when ``out`` holds
    something else or can't be written; ExportError when the graph doesn't reproduce torch's output.
    """
    check_replaceable(out)
    state = load(run, StylizerCheckpoint)
    stylizer = state.stylizer()
    served = Served(stylizer).eval()
    inputs = sample(stylizer, 2, 64, 48)
    manifest = StylizerManifest(
        name=name,
        description=description,
        license=license,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        styles=state.styles,
        multiple=MULTIPLE,
        least_side=LEAST_SIDE,
        margin=MARGIN,
        moments=stylizer.moments,
        training=provenance(state, stylizer),
        parity=NamedParity.pack(inputs, run_torch(served, inputs), TOLERANCE),
        model_sha256="0" * 64,  # write_model_folder sets both from the graph
        model_bytes=1,
    )
    graph = to_onnx(served)
    check_graph(graph, served)
    check_model(graph, manifest)
    write_model_folder(out, manifest, graph)
    return manifest


def sample(stylizer: Stylizer, count: int, height: int, width: int) -> Arrays:
    """Inputs for the graph: pictures with gradients, edges and noise, in mixed styles.

    The first picture is normalised by its own moments alone, the last by given ones alone.
    """
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    pictures = np.stack([255 * x / width, 255 * y / height, 128 + 127 * np.sin(x / 3) * np.cos(y / 5)], -1)
    pictures = pictures + 60 * ((x + y) // 8 % 2)[..., None] + random.normal(0, 8, (count, height, width, 3))
    images = pictures.clip(0, 255).astype(np.uint8)
    weights = random.dirichlet(np.ones(stylizer.styles), count).astype(np.float32)
    # Moments near the picture's own, as those of tiles and frames are. With others, the small differences between two
    # implementations of a kernel would grow large.
    measured = Moments()
    with torch.no_grad():
        stylizer(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(weights), measured)
    moments = measured.used.numpy() * random.uniform(0.9, 1.1, measured.used.shape)
    return {
        "image": images,
        "weights": weights,
        "moments": moments.astype(np.float32),
        "own": np.linspace(1, 0, count).astype(np.float32),
    }


def run_torch(served: Served, inputs: Arrays) -> Arrays:
    """The outputs torch gives for the graph's inputs."""
    with torch.no_grad():
        outputs = served(*(torch.from_numpy(inputs[key]) for key in INPUTS))
    return {key: value.numpy() for key, value in zip(OUTPUTS, outputs, strict=True)}


def to_onnx(served: Served) -> bytes:
    """The graph with its weights inside and batch, height and width free, as ONNX bytes."""
    example = sample(served.stylizer, 2, 64, 48)  # at 1, the tracer would take the batch size for a constant
    batch = torch.export.Dim("batch", min=1)
    height, width = (MULTIPLE * torch.export.Dim(side, min=LEAST_SIDE // MULTIPLE) for side in ("height", "width"))
    return traced(
        served,
        tuple(torch.from_numpy(example[key]) for key in INPUTS),
        INPUTS,
        OUTPUTS,
        ({0: batch, 1: height, 2: width}, {0: batch}, {0: batch}, {0: batch}),
    )


def check_graph(graph: bytes, served: Served) -> None:
    """Raise ExportError unless the graph answers as torch at sizes that weren't traced."""
    session = session_of(graph, threads=1)
    for count, height, width in _CHECKED:
        inputs = sample(served.stylizer, count, height, width)
        for key, expected in run_torch(served, inputs).items():
            wrong = apart(session.run([key], inputs)[0], expected, TOLERANCE)
            if wrong:
                raise ExportError(f"the graph's {key} differs from torch's at {count} x {height} x {width}: {wrong}")


def provenance(state: StylizerCheckpoint, stylizer: Stylizer) -> dict[str, object]:
    """The manifest's ``training``: the command, all settings, and figures about the run."""
    return {
        "command": state.command,
        "settings": state.settings.model_dump(),
        "steps": state.step,
        "steps_before": state.before,
        "seconds": round(state.elapsed_seconds, 1),
        "parameters": sum(p.numel() for p in stylizer.parameters()),
        "photos": state.photos,
        "betas": {style.name: beta for style, beta in zip(state.styles, state.betas, strict=True)},
        "loss": "alpha * J_content + beta * J_style (Gatys et al. 2016), J of each style by its moving mean",
        "loss_network": {"name": state.network[0], "sha256": state.network[1]},
        "torch": torch.__version__,
    }
