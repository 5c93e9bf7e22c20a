"""Manifests: what a model takes, what it returns, its tau, where it came from, parity vectors. One kind a file.

Needs pydantic, which every extra but the bare client brings.
"""

from typing import Annotated

from pydantic import Field

from oneglance_core.manifests.arrays import MAX_ARRAY_BYTES, Array, NamedParity, Parity
from oneglance_core.manifests.calibration import AuthorThreshold, Calibration
from oneglance_core.manifests.encoder import LEAST_CHIP, MAX_DIMENSION, EncoderManifest, InputSpec, OutputSpec
from oneglance_core.manifests.faces import LANDMARKS, Alignment, DetectorManifest, LandmarksManifest
from oneglance_core.manifests.model import FORMAT, NAME_PATTERN, ModelManifest
from oneglance_core.manifests.part import ModelFolderError
from oneglance_core.manifests.stylizer import MAX_STYLES, Style, StylizerManifest

AnyManifest = Annotated[
    EncoderManifest | DetectorManifest | LandmarksManifest | StylizerManifest, Field(discriminator="kind")
]

__all__ = [
    "FORMAT",
    "LANDMARKS",
    "LEAST_CHIP",
    "MAX_ARRAY_BYTES",
    "MAX_DIMENSION",
    "MAX_STYLES",
    "NAME_PATTERN",
    "Alignment",
    "AnyManifest",
    "Array",
    "AuthorThreshold",
    "Calibration",
    "DetectorManifest",
    "EncoderManifest",
    "InputSpec",
    "LandmarksManifest",
    "ModelFolderError",
    "ModelManifest",
    "NamedParity",
    "OutputSpec",
    "Parity",
    "Style",
    "StylizerManifest",
]
