"""Alignment templates: where the landmarks of a face must lie in an encoder's chip."""

import numpy as np

from oneglance_core.manifests import Alignment

# dlib's mean face in a unit square: get_face_chip_details in dlib/image_transforms/interpolation.h.
_MEAN_FACE = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ]
)
# The two eyes of ArcFace's template (Deng et al. 2019) in its chip of 112 x 112 pixels, left of the photo first.
_ARCFACE_EYES = (complex(38.2946, 51.6963), complex(73.5318, 51.5014))
_ARCFACE_SIZE = 112


def dlib_alignment(size: int, padding: float) -> Alignment:
    """dlib's own: its mean face with a border of ``padding`` times the face on every side, in ``size`` x ``size``.

    dlib counts from the edge of the first pixel, Alignment from its centre.
    """
    return _alignment((_MEAN_FACE + padding) / (2 * padding + 1) * size - 0.5)


def arcface_alignment(size: int) -> Alignment:
    """dlib's mean face brought into ArcFace's chip by the similarity that makes the centres of the eyes meet.

    Derived, not the author's: ArcFace's own template also has the tip of the nose and the corners of the mouth, which
    dlib's five points lack. Scaled from 112 to ``size`` pixels.
    """
    points = _MEAN_FACE @ np.array([1, 1j])
    right, left = points[:2].mean(), points[2:4].mean()
    to_left, to_right = _ARCFACE_EYES
    turn = (to_right - to_left) / (right - left)
    placed = (to_left + (points - left) * turn) * (size / _ARCFACE_SIZE)
    return _alignment(np.stack([placed.real, placed.imag], axis=1))


def _alignment(points: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Alignment:
    # Coarser rounding would change a chip's pixels here and there by one.
    return Alignment(landmarks="dlib-5", template=tuple((round(float(x), 12), round(float(y), 12)) for x, y in points))
