"""Read labelled photos of faces as the server would see them: the largest face of each, aligned."""

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.crops import CropRequest, FaceChoice, crop_faces
from oneglance_core.faces.finder import ChipSpec, FaceFinder
from oneglance_core.faces.uprightness import UprightnessCheck
from oneglance_core.folder import ModelFolder, model_folders, read_any_model_folder
from oneglance_core.manifests import DetectorManifest, EncoderManifest, UprightnessManifest
from oneglance_exporter.data.files import Content
from oneglance_exporter.data.photos import LIMITS
from oneglance_exporter.data.reading import Bring
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.runtime import session_of


def bringing_faces(
    encoder: ModelFolder[EncoderManifest], finders: str | os.PathLike[str] | None, threads: int
) -> Bring:
    """From photos to their largest faces, aligned as ``encoder`` wants them.

    finders: a folder with the detector's and the landmarks' model folders; None: those beside the encoder's. An
    uprightness check among them is applied. Raises SettingsError when it hasn't both.
    """
    alignment = encoder.manifest.alignment
    if alignment is None:
        raise SettingsError(f"{encoder.path}: not an encoder of faces")
    chip = ChipSpec(alignment, *encoder.manifest.input.shape[:2])
    folder = Path(finders) if finders else encoder.path.resolve().parent
    finder, check = read_finder(folder, threads), read_check(folder, threads)

    def bring(content: Content) -> npt.NDArray[np.uint8] | None:
        if not isinstance(content, bytes):
            raise ValueError("an array; faces are found in photos")
        request = CropRequest(content, FaceChoice("largest"), chip, face_required=False)
        (outcome,) = crop_faces(finder, check, [request], LIMITS, lambda stage: nullcontext())
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.chips[0] if len(outcome.chips) else None

    return bring


def read_check(folder: Path, threads: int) -> UprightnessCheck | None:
    """The uprightness check in ``folder``; None without one. Raises SettingsError for several."""
    models = [read_any_model_folder(path) for path in model_folders(folder)]
    checks = [model.of(UprightnessManifest) for model in models if model.manifest.kind == "uprightness"]
    if len(checks) > 1:
        raise SettingsError(f"{folder}: more than one uprightness check")
    if not checks:
        return None
    session = session_of(checks[0].model, threads)

    def score(chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return session.run(["scores"], {"chips": chips})[0]

    return UprightnessCheck(score, checks[0].manifest)


def read_finder(folder: Path, threads: int) -> FaceFinder:
    """The detector and the landmark finder in ``folder``. Raises SettingsError unless there is one of each."""
    models = [read_any_model_folder(path) for path in model_folders(folder)]
    detectors = [model for model in models if model.manifest.kind == "detector"]
    landmarks = [model for model in models if model.manifest.kind == "landmarks"]
    if len(detectors) != 1 or len(landmarks) != 1:
        raise SettingsError(f"{folder}: needs one face detector and one landmark finder; say where with --finders")
    detector = detectors[0].of(DetectorManifest)
    detect = session_of(detector.model, threads)
    locate = session_of(landmarks[0].model, threads)

    def score(canvases: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return detect.run(["scores"], {"image": canvases})[0]

    def points(inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        return locate.run(["points"], inputs)[0]

    return FaceFinder(score, detector.manifest, points)
