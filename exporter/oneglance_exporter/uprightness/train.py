"""Train the check that a face is upright and aligned, measure it on other photos, and write its model folder."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from oneglance_core.faces.chips import cut_chip
from oneglance_core.faces.finder import FaceFinder, Photo
from oneglance_core.folder import check_replaceable, write_model_folder
from oneglance_core.manifests import NamedParity, UprightnessEvidence, UprightnessManifest
from oneglance_exporter.data.photos import read_photos
from oneglance_exporter.errors import DataError, DivergedError, SettingsError
from oneglance_exporter.faces import read_finder
from oneglance_exporter.runtime import check_model
from oneglance_exporter.tracing import traced
from oneglance_exporter.uprightness.network import ALIGNMENT, SIDE, Uprightness
from oneglance_exporter.uprightness.samples import CANVAS, FILLS, Faces, Samples, canvases
from oneglance_exporter.uprightness.settings import UprightnessSettings

Pixels = npt.NDArray[np.uint8]
Report = Callable[[int, float], None]  # hears how many steps are done, and the loss of the last

_MOST_PHOTOS, _MOST_PIXELS = 20_000, 1_000_000
_WARMUP_STEPS = 50
_AVERAGE = 0.998  # decay of the weights' moving average, which is what is written
_WEIGHT_DECAY = 1e-2
_TOLERANCE = 1e-4
_CHECKED = 256  # chips of one run


def train(settings: UprightnessSettings, out: Path, command: str, report: Report) -> UprightnessManifest:
    """Train on ``settings.photos`` and write the model folder ``out``; one that is there is replaced.

    Raises SettingsError for missing settings, DataError for unusable photos or none with a face, DivergedError,
    ModelFolderError for what can't be read or replaced, ExportError when the graph answers otherwise than torch.
    """
    if not settings.photos or settings.finders is None:
        raise SettingsError("say what to learn from, --photos, and what finds faces in it, --finders")
    check_replaceable(out)
    finder = read_finder(Path(settings.finders), settings.threads)
    network = _trained(gather(finder, _photos(settings.photos)), settings, report)
    graph = traced(network, (_parity_chips()[1],), ("chips",), ("scores",), ({0: torch.export.Dim("N", min=1)},))
    chips, tensor = _parity_chips()
    with torch.no_grad():
        scores = network(tensor).numpy()
    manifest = UprightnessManifest(
        name="faces-uprightness",
        description="Whether what was found is an upright, aligned face.",
        license="Apache-2.0",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        training={
            "command": command,
            "settings": settings.model_dump(exclude={"photos", "heldout", "finders"}),
            "photos": [Path(path).name for path in settings.photos],
            "parameters": sum(p.numel() for p in network.parameters()),
            "torch": torch.__version__,
        },
        height=SIDE,
        width=SIDE,
        alignment=ALIGNMENT,
        threshold=settings.threshold,
        evidence=_evidence(network, finder, settings) if settings.heldout else None,
        parity=NamedParity.pack({"chips": chips}, {"scores": scores}, _TOLERANCE),
        model_sha256="0" * 64,  # write_model_folder sets both from the graph
        model_bytes=1,
    )
    check_model(graph, manifest)
    write_model_folder(out, manifest, graph)
    return manifest


def gather(finder: FaceFinder, photos: Sequence[Pixels]) -> Faces:
    """The largest face of each photo, and whatever is found in it turned. Raises DataError when no photo has a face."""
    good, junk = [], []
    for pixels in photos:
        found = _find(finder, pixels)
        if not found.faces:
            continue
        good.append(canvases(pixels, found.faces[0].points))
        for quarter in (1, 2, 3):
            turned = np.ascontiguousarray(np.rot90(pixels, quarter))
            junk += [canvases(turned, face.points) for face in _find(finder, turned).faces]
    if not good:
        raise DataError("no face in any of the photos")
    empty = np.empty((0, FILLS, CANVAS, CANVAS), np.uint8)
    return Faces(np.stack(good), np.stack(junk) if junk else empty)


def _find(finder: FaceFinder, pixels: Pixels) -> Photo:
    return finder.locate([pixels], finder.find([pixels], ["never"]))[0]


def _photos(paths: Sequence[str]) -> list[Pixels]:
    return read_photos(paths, _MOST_PHOTOS, _MOST_PIXELS)


def _trained(faces: Faces, settings: UprightnessSettings, report: Report) -> Uprightness:
    """The moving average of the weights, in eval mode. Raises DivergedError."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    network = Uprightness()
    average = copy.deepcopy(network).eval()
    samples = Samples(faces, settings.batch, settings.seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=_WEIGHT_DECAY)
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min((step + 1) / _WARMUP_STEPS, 1 - step / settings.steps)
        chips, labels = samples(step)
        loss = nn.functional.binary_cross_entropy_with_logits(network.logits(chips), labels)
        if not math.isfinite(loss.item()):
            raise DivergedError(f"the loss was not finite in step {step + 1}; try a lower --learning-rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _move(average, network, min(_AVERAGE, (1 + step) / (10 + step)))
        report(step + 1, loss.item())
    return average


@torch.no_grad()
def _move(average: nn.Module, network: nn.Module, decay: float) -> None:
    for held, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if held.is_floating_point():
            held.lerp_(now, 1 - decay)
        else:
            held.copy_(now)


def _evidence(network: Uprightness, finder: FaceFinder, settings: UprightnessSettings) -> UprightnessEvidence:
    """What the check does to photos that it was not trained on, at its threshold."""
    good, junk = [], []
    for pixels in _photos(settings.heldout):
        found = _find(finder, pixels)
        good += _chips(pixels, replace(found, faces=found.faces[:1]))
        for quarter in (1, 2, 3):
            turned = np.ascontiguousarray(np.rot90(pixels, quarter))
            junk += _chips(turned, _find(finder, turned))
    if not good:
        raise DataError("no face in any of the photos of --heldout")
    return UprightnessEvidence(
        faces=len(good),
        faces_refused=int((_scores(network, good) < settings.threshold).sum()),
        junk=len(junk),
        junk_accepted=int((_scores(network, junk) >= settings.threshold).sum()),
        data=", ".join(Path(path).name for path in settings.heldout),
    )


def _chips(pixels: Pixels, found: Photo) -> list[Pixels]:
    return [cut_chip(pixels, face.points, ALIGNMENT.template, SIDE, SIDE) for face in found.faces]


@torch.no_grad()
def _scores(network: Uprightness, chips: Sequence[Pixels]) -> npt.NDArray[np.float32]:
    blocks = [np.stack(chips[start : start + _CHECKED]) for start in range(0, len(chips), _CHECKED)]
    return np.concatenate([network(torch.from_numpy(block)).numpy() for block in blocks] or [np.empty(0, np.float32)])


def _parity_chips() -> tuple[Pixels, torch.Tensor]:
    """The inputs of the parity vectors, uint8 [5, SIDE, SIDE, 3]: shades and noise of several contrasts."""
    rng = np.random.default_rng(0)
    place = np.linspace(0, 1, SIDE)
    waves = [
        128 + contrast * np.sin(6 * (across * place + down * place[:, None]))[..., None] * np.ones(3)
        for contrast, across, down in ((120, 1, 0), (60, 0, 2), (20, 1, 1), (0, 0, 0))
    ]
    chips = np.stack([*waves, rng.integers(0, 256, (SIDE, SIDE, 3))]).astype(np.uint8)
    return chips, torch.from_numpy(chips)
