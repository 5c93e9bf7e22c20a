"""Figures that tell how good a face is to compare, measured on its aligned face (the chip) and its landmarks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.chips import gray, similarity
from oneglance_core.limits import Limit

QualityPolicy = Literal["off", "standard", "strict"]
POLICIES: tuple[QualityPolicy, ...] = get_args(QualityPolicy)
DEFAULT_POLICY: QualityPolicy = "standard"  # of a new gallery

# Chosen by ``python -m benchmarks.quality``, which draws docs/quality.svg: on half of the people, told of the others.
LIMITS: dict[QualityPolicy, tuple[Limit, ...]] = {
    "off": (),
    "standard": (
        Limit("eye_distance", least=8.8),
        Limit("sharpness", least=1.9),
        Limit("brightness", least=0.05, most=0.94),
        Limit("contrast", least=0.011),
        Limit("roll_degrees", least=-65, most=65),
        Limit("alignment_error", most=0.14),
    ),
    "strict": (
        Limit("eye_distance", least=15),
        Limit("sharpness", least=5.6),
        Limit("brightness", least=0.08, most=0.84),
        Limit("contrast", least=0.023),
        Limit("roll_degrees", least=-60, most=60),
        Limit("alignment_error", most=0.08),
    ),
}


@dataclass(frozen=True, slots=True)
class Quality:
    """The fields of FaceQuality in oneglance/v1/face.proto.

    eye_distance: between the centres of the eyes, in pixels of the photo.
    sharpness, brightness, contrast: of the middle of the chip, half its height and width: the face, without what is
        around it or beyond the photo's edge. sharpness: standard deviation of the Laplacian of the gray levels, which
        are 0 to 255. brightness: mean gray level, 0 to 1. contrast: standard deviation of the gray levels, 0 to 0.5.
    roll_degrees: -180 to 180; 0: upright, positive: rotated clockwise.
    alignment_error: root mean square distance of the landmarks from the places that the alignment gives them, as a
        share of ``eye_distance``; about 0.04 for a face that looks at the camera. Infinite if the eyes coincide.
    """

    eye_distance: float
    sharpness: float
    brightness: float
    contrast: float
    roll_degrees: float
    alignment_error: float


def quality(
    chip: npt.NDArray[np.uint8], points: npt.ArrayLike, template: Sequence[tuple[float, float]] | npt.ArrayLike
) -> Quality:
    """Measure a chip uint8 [H, W, 3], H and W at least 8.

    points: the five ``dlib-5`` landmarks, [5, 2], (x, y) in the photo. template: their places in the chip.
    """
    top, left = (side // 4 for side in chip.shape[:2])
    levels = gray(chip[top : chip.shape[0] - top, left : chip.shape[1] - left]).astype(np.float32)
    inner = levels[1:-1, 1:-1]
    laplacian = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:] - 4 * inner
    found, places = np.asarray(points, np.float64), np.asarray(template, np.float64)
    right, left = found[:4].reshape(2, 2, 2).mean(axis=1)  # centres of the eyes
    across, down = right - left
    eye_distance = math.hypot(across, down)
    matrix = similarity(found, places)
    away = found - (places @ matrix[:, :2].T + matrix[:, 2])
    error = math.sqrt((away**2).sum(axis=1).mean())
    return Quality(
        eye_distance=eye_distance,
        sharpness=float(laplacian.std()),
        brightness=float(levels.mean()) / 255,
        contrast=float(levels.std()) / 255,
        roll_degrees=math.degrees(math.atan2(down, across)),
        alignment_error=error / eye_distance if eye_distance > 0 else math.inf,
    )
