"""Cut an aligned face (a "chip") out of a photo, as dlib does (get_face_chip_details, extract_image_chip).

A similarity transform maps the template's points to the landmarks; it gives the place, size and rotation of the chip.
If the face is much larger than the chip, the photo is first halved, once or several times (5 x 5 binomial filter, every
second pixel). Then the chip is sampled bilinearly. The arithmetic is dlib's, with its rounding, so that an encoder
trained on dlib's chips gets the same pixels.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
_MAX_COORDINATE = 1e9
_ROWS_AT_ONCE = 16  # rows of a halved picture computed together: their intermediate results fit the CPU cache


def similarity(points: npt.ArrayLike, template: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The rotation, scale and shift that map ``template`` to ``points`` with the least squared error (Umeyama 1991).

    Both [L, 2], (x, y), L >= 2, in the same order. Returns float64 [2, 3], M: (x, y) = M @ (template x, template y, 1).
    Never mirrors. Raises ValueError for other shapes, for values that are not finite or beyond 1e9, and if all
    template points are equal.
    """
    target, source = (np.asarray(given, np.float64) for given in (points, template))
    if target.shape != source.shape or target.ndim != 2 or target.shape[1] != 2:
        raise ValueError(f"points are [L, 2] and as many as the template's, got {target.shape} and {source.shape}")
    if not all((np.abs(given) < _MAX_COORDINATE).all() for given in (target, source)):
        raise ValueError("points must be finite, and within 1e9 of the photo's corner")
    # As complex numbers: target = factor * source + shift; factor holds rotation and scale.
    z, w = source @ (1, 1j), target @ (1, 1j)
    centred = z - z.mean()
    spread = np.vdot(centred, centred).real
    if not spread > 0:
        raise ValueError("the template is a single point")
    factor = complex(np.vdot(centred, w - w.mean()) / spread)
    shift = complex(w.mean() - factor * z.mean())
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def cut_chip(
    photo: Pixels, points: npt.ArrayLike, template: Sequence[tuple[float, float]], height: int, width: int
) -> Pixels:
    """The face at ``points``, upright: uint8 [height, width, 3]. Pixels outside the photo are black.

    photo: uint8 [H, W, 3]. points: [L, 2], (x, y) in the photo. template: their places in the chip; (0, 0) is the
    centre of its top left pixel (dlib's coordinates minus 0.5). height, width: at least 2.

    As in dlib, a chip of ``width`` pixels that covers w pixels of the photo samples every (w - 1) / (width - 1) pixels,
    not every w / width. One difference to dlib: a face that needs neither rotation nor scaling is sampled like any
    other; dlib copies its pixels. Raises ValueError as ``similarity``.
    """
    matrix = similarity(points, template)
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    turn = complex(matrix[0, 0], matrix[1, 0]) / scale if scale else complex(1)
    centre = complex(*(matrix @ ((width - 1) / 2, (height - 1) / 2, 1)))
    half = complex(width * scale - 1, height * scale - 1) / 2  # from the centre to the corner pixel of an upright chip
    low, high = centre - half, centre + half

    halvings = 0
    border = 2
    below = _halved(low), _halved(high)
    while _area(*below) > width * height:
        below = _halved(below[0]), _halved(below[1])
        halvings += 1
        border = 2 * border + 2
    corners = [centre + turn * complex(side * half.real, end * half.imag) for side in (-1, 1) for end in (-1, 1)]
    left = _round(max(min(c.real for c in corners) - border, 0))
    top = _round(max(min(c.imag for c in corners) - border, 0))
    right = _round(min(max(c.real for c in corners) + border, photo.shape[1] - 1))
    bottom = _round(min(max(c.imag for c in corners) + border, photo.shape[0] - 1))
    if right < left or bottom < top:
        return np.zeros((height, width, 3), np.uint8)

    region = _with_fourth(photo[top : bottom + 1, left : right + 1])
    low, high = low - complex(left, top), high - complex(left, top)
    for _ in range(halvings):
        region = _halve(region)
        low, high = _halved(low), _halved(high)
    centre, half = (low + high) / 2, (high - low) / 2
    first = centre - turn * half
    along = turn * 2 * half.real / max(width - 1, 1)
    down = turn * 2j * half.imag / max(height - 1, 1)
    x = along.real * np.arange(width) + (down.real * np.arange(height))[:, None] + first.real
    y = along.imag * np.arange(width) + (down.imag * np.arange(height))[:, None] + first.imag
    return _sample(region, x, y)


def _halved(corner: complex) -> complex:
    """A point's coordinates after the picture is halved: dlib's pyramid_down<2>."""
    return corner / 2 - complex(1.25, 0.75)


def _area(low: complex, high: complex) -> float:
    """Number of pixels of the rectangle from ``low`` to ``high``, both included."""
    extent = high - low
    return (extent.real + 1) * (extent.imag + 1) if min(extent.real, extent.imag) >= 0 else 0.0


def _round(value: float) -> int:
    """Round half away from zero, as C does."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def _with_fourth(picture: Pixels) -> Pixels:
    """[H, W, 3] -> [H, W, 4]: numpy copies a pixel of 32 bits as one number, which is faster."""
    wide = np.empty((*picture.shape[:2], 4), np.uint8)
    for channel in range(3):  # channel by channel is several times faster than all at once
        wide[..., channel] = picture[..., channel]
    return wide


def _halve(picture: Pixels) -> Pixels:
    """dlib's pyramid_down<2> of uint8 [H, W, 4]: binomial weights 1 4 6 4 1 both ways, every second pixel."""
    height, width = ((side - 3) // 2 for side in picture.shape[:2])
    if min(picture.shape[:2]) <= 8:
        return np.empty((0, 0, 4), np.uint8)
    result = np.empty((height, width, 4), np.uint8)
    for start in range(0, height, _ROWS_AT_ONCE):
        rows = min(_ROWS_AT_ONCE, height - start)
        block = picture[2 * start : 2 * (start + rows) + 3]
        filtered = _binomial([block[i : i + 2 * rows : 2] for i in range(5)])
        whole = filtered.view(np.uint64)[..., 0]  # four channels of 16 bits
        even, odd = (whole[:, i::2].copy().view(np.uint16).reshape(rows, -1, 4) for i in range(2))
        taps = [(even, odd)[i % 2][:, i // 2 : i // 2 + width] for i in range(5)]
        np.right_shift(_binomial(taps), 8, out=result[start : start + rows], casting="unsafe")
    return result


def _binomial(taps: Sequence[npt.NDArray[np.uint8 | np.uint16]]) -> npt.NDArray[np.uint16]:
    """The sum weighted by 1 4 6 4 1. Applied twice to bytes it stays below 2^16."""
    a, b, c, d, e = taps
    total = np.add(b, d, dtype=np.uint16)
    total += c
    total *= 4
    total += a
    total += e
    total += c
    total += c
    return total


def _sample(picture: Pixels, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Pixels:
    """Bilinear samples, rounded down, of uint8 [H, W, 4] at x, y float64 [h, w]: uint8 [h, w, 3]; black outside."""
    height, width = picture.shape[:2]
    column, row = np.floor(x), np.floor(y)
    inside = (column >= 0) & (row >= 0) & (column < width - 1) & (row < height - 1)
    chip = np.zeros((*x.shape, 3), np.uint8)
    if not inside.any():
        return chip
    right, below = x - column, y - row
    place = np.where(inside, row * width + column, 0).astype(np.intp)
    pixels = picture.view(np.uint32).reshape(-1)
    left_share, upper_share = 1 - right, 1 - below

    found = [pixels.take(place + step).view(np.uint8).reshape(*x.shape, 4) for step in (0, 1, width, width + 1)]
    for channel in range(3):
        a, b, c, d = (corner[..., channel].astype(np.float64) for corner in found)
        a *= left_share
        b *= right
        a += b
        a *= upper_share
        c *= left_share
        d *= right
        c += d
        c *= below
        a += c
        chip[..., channel] = a  # the cast rounds down
    chip[~inside] = 0
    return chip


def gray(photo: Pixels) -> Pixels:
    """(r + g + b) // 3, as in dlib: uint8 [H, W, 3] -> uint8 [H, W]."""
    total = np.add(photo[..., 0], photo[..., 1], dtype=np.uint16)
    total += photo[..., 2]
    total //= 3
    return total.astype(np.uint8)
