"""The quality of a face, measured on its chip and its landmarks."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.landmarks import gray


@dataclass(frozen=True, slots=True)
class Quality:
    """The fields of FaceQuality in oneglance/v1/face.proto.

    sharpness: standard deviation of the Laplacian of the gray chip, in levels of 0 to 255.
    brightness: mean gray level, 0 to 1. contrast: standard deviation of the gray levels, 0 to 0.5.
    roll_degrees: -180 to 180; 0: upright, positive: rotated clockwise.
    """

    sharpness: float
    brightness: float
    contrast: float
    roll_degrees: float


def quality(chip: npt.NDArray[np.uint8], points: npt.ArrayLike) -> Quality:
    """Measure a chip uint8 [H, W, 3], H and W at least 3. points: the five ``dlib-5`` landmarks, [5, 2], (x, y)."""
    levels = gray(chip).astype(np.float32)
    inner = levels[1:-1, 1:-1]
    laplacian = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:] - 4 * inner
    right, left = np.asarray(points, np.float64)[:4].reshape(2, 2, 2).mean(axis=1)  # centres of the eyes, in the photo
    across, down = right - left
    return Quality(
        sharpness=float(laplacian.std()),
        brightness=float(levels.mean()) / 255,
        contrast=float(levels.std()) / 255,
        roll_degrees=math.degrees(math.atan2(down, across)),
    )
