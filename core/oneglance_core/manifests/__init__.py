"""Manifests: what a model takes, what it returns, its tau, where it came from, parity vectors. One kind a file.

Needs pydantic, which every extra but the bare client brings.
"""

from oneglance_core.manifests.arrays import MAX_ARRAY_BYTES, Array
from oneglance_core.manifests.calibration import AuthorThreshold, Calibration
from oneglance_core.manifests.detector import DetectorManifest
from oneglance_core.manifests.encoder import LEAST_CHIP, MAX_DIMENSION, EncoderManifest, InputSpec, OutputSpec
from oneglance_core.manifests.false_positives import Evidence, FalsePositives, Galleries
from oneglance_core.manifests.landmarks import LANDMARKS, Alignment, LandmarksManifest
from oneglance_core.manifests.made_for import FigureRange, MadeFor
from oneglance_core.manifests.mates import MateScores, MatesOfSize
from oneglance_core.manifests.model import FORMAT, NAME_PATTERN, ModelManifest
from oneglance_core.manifests.pair_head import PairHeadPart, Reliability, ReliabilityBin
from oneglance_core.manifests.parity import MAX_TOLERANCE, Arrays, NamedParity, Parity, Vectors
from oneglance_core.manifests.part import ModelFolderError
from oneglance_core.manifests.sound import SoundSpec, Windows
from oneglance_core.manifests.stylizer import MAX_STYLES, Style, StyleReaderManifest, StyleSpace, StylizerManifest
from oneglance_core.manifests.tensor import TensorSpec
from oneglance_core.manifests.uprightness import UprightnessEvidence, UprightnessManifest

# The registry: a model folder may hold any of these.
KINDS: tuple[type[ModelManifest], ...] = (
    EncoderManifest,
    DetectorManifest,
    LandmarksManifest,
    UprightnessManifest,
    StylizerManifest,
    StyleReaderManifest,
)

__all__ = [
    "FORMAT",
    "KINDS",
    "LANDMARKS",
    "LEAST_CHIP",
    "MAX_ARRAY_BYTES",
    "MAX_DIMENSION",
    "MAX_STYLES",
    "MAX_TOLERANCE",
    "NAME_PATTERN",
    "Alignment",
    "Array",
    "Arrays",
    "AuthorThreshold",
    "Calibration",
    "DetectorManifest",
    "EncoderManifest",
    "Evidence",
    "FalsePositives",
    "FigureRange",
    "Galleries",
    "InputSpec",
    "LandmarksManifest",
    "MadeFor",
    "MateScores",
    "MatesOfSize",
    "ModelFolderError",
    "ModelManifest",
    "NamedParity",
    "OutputSpec",
    "PairHeadPart",
    "Parity",
    "Reliability",
    "ReliabilityBin",
    "SoundSpec",
    "Style",
    "StyleReaderManifest",
    "StyleSpace",
    "StylizerManifest",
    "TensorSpec",
    "UprightnessEvidence",
    "UprightnessManifest",
    "Vectors",
    "Windows",
]
