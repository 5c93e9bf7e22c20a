"""Find faces of all sizes with a detector for one size: it slides over ever smaller copies of a photo (a pyramid).

As dlib's loss_mmod and input_rgb_image_pyramid. All levels of the pyramid are placed on one canvas, and the detector
runs once on the canvas. The places are dlib's, because near the border of a level the detector sees its neighbours.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneglance_core.manifests import DetectorManifest

Pixels = npt.NDArray[np.uint8]
# One run of the detector: canvases uint8 [N, H, W, 4] -> scores float32 [N, h, w]; see DetectorManifest.
Score = Callable[[Pixels], npt.NDArray[np.float32]]

_MIN_LEVEL_ROWS = 5  # the smallest level, as in dlib
# Canvases of one run of the detector have at most so many pixels together; a run needs about 50 bytes for each.
_MAX_RUN_PIXELS = 1 << 21
_PIXELS_IN_CACHE = 1 << 15
_MAX_WINDOWS = 1 << 14  # of one photo; without a limit, a detector that reports everything would need gigabytes


@dataclass(frozen=True, slots=True)
class Detection:
    """A face, or a window that looks like one. ``box``: left, top, right, bottom; whole pixels, all included."""

    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True, slots=True)
class _Layout:
    """Places of the pyramid's levels on the canvas: (top, left, height, width) of each, the largest first."""

    places: tuple[tuple[int, int, int, int], ...]
    height: int
    width: int


def search(
    photos: Sequence[Pixels], score: Score, spec: DetectorManifest, *, scale: float = 1.0, levels: int | None = None
) -> list[list[Detection]]:
    """The windows of photos that look like a face; overlapping ones are not removed yet (see ``suppress``).

    photos: uint8 [H, W, 3], RGB, all of one size. scale: the photos are first resized by this factor; boxes are in
    pixels of the photos as given. Finds faces from about ``spec.window`` / ``scale`` pixels width.
    levels: search only so many levels of the pyramid, the largest ones; None: all. After a search at scale 1, only the
    first ceil(log(scale) / -log(spec.shrink)) levels of a larger scale are new. Raises ValueError for photos of several
    sizes.
    """
    if not photos:
        return []
    height, width = photos[0].shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return find_windows(photos, score, spec, levels=levels)
    layout = _layout(size[1], size[0], spec, levels)
    if min(layout.height, layout.width) < spec.smallest_side:
        return [[] for _ in photos]
    resized = [np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR)) for photo in photos]
    x, y = size[0] / width, size[1] / height

    def back(found: Detection) -> Detection:
        left, top, right, bottom = found.box
        edges = left / x, top / y, (right + 1) / x - 1, (bottom + 1) / y - 1
        return Detection((_round(edges[0]), _round(edges[1]), _round(edges[2]), _round(edges[3])), found.score)

    return [[back(window) for window in windows] for windows in find_windows(resized, score, spec, levels=levels)]


def canvas_size(height: int, width: int, spec: DetectorManifest, levels: int | None = None) -> tuple[int, int]:
    """(height, width) of the canvas of one photo of height x width. Memory and time are proportional to its pixels."""
    layout = _layout(max(1, height), max(1, width), spec, levels)
    return layout.height, layout.width


def find_windows(
    photos: Sequence[Pixels], score: Score, spec: DetectorManifest, *, levels: int | None = None
) -> list[list[Detection]]:
    """``search`` at scale 1: every window of the pyramid whose score is above ``spec.threshold``."""
    if len({photo.shape for photo in photos}) > 1:
        raise ValueError("photos of one search have one size")
    found: list[list[Detection]] = []
    if not photos:
        return found
    layout = _layout(photos[0].shape[0], photos[0].shape[1], spec, levels)
    if min(layout.height, layout.width) < spec.smallest_side:
        return [[] for _ in photos]
    at_once = max(1, _MAX_RUN_PIXELS // (layout.height * layout.width))
    for start in range(0, len(photos), at_once):
        scores = score(_canvas(photos[start : start + at_once], layout))
        found.extend(_windows(of_photo, layout, spec) for of_photo in scores)
    return found


def suppress(detections: Sequence[Detection], spec: DetectorManifest) -> list[Detection]:
    """Keep of windows that overlap too much the one with the best score. Best first.

    As dlib's test_box_overlap: two windows overlap too much if their intersection is more than ``spec.nms_iou`` of the
    smallest rectangle around both, or more than ``spec.nms_covered`` of one of them.
    """
    ordered = sorted(detections, key=lambda found: -found.score)
    boxes = np.array([found.box for found in ordered], np.float64).reshape(-1, 4)
    low, high = boxes[:, :2], boxes[:, 2:] + 1
    area = np.prod(high - low, axis=1)
    left = np.arange(len(ordered))
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(ordered[best])
        inner = np.prod(np.maximum(np.minimum(high[best], high[left]) - np.maximum(low[best], low[left]), 0), axis=1)
        hull = np.prod(np.maximum(high[best], high[left]) - np.minimum(low[best], low[left]), axis=1)
        covered = inner / np.minimum(area[best], area[left])
        left = left[(inner / hull <= spec.nms_iou) & (covered <= spec.nms_covered)]
    return kept


def _layout(height: int, width: int, spec: DetectorManifest, levels: int | None) -> _Layout:
    """dlib's create_tiled_pyramid: the first levels below each other at the left, the others upwards at the right."""
    sizes = [(height, width)]
    while levels is None or len(sizes) < levels:
        rows, columns = (math.floor(spec.shrink * side) for side in sizes[-1])
        if rows < _MIN_LEVEL_ROWS or not columns:
            break
        sizes.append((rows, columns))
    total = sum(rows + spec.gap for rows, _ in sizes) - 2 * spec.gap
    deep, above = 0, 0
    for rows, columns in sizes:
        if columns <= width - above - spec.gap and (deep - height) * 2 >= total - height:
            break
        deep += rows + spec.gap
        above = columns
    deep -= spec.gap

    places: list[tuple[int, int, int, int]] = []
    top = spec.margin
    rest = iter(sizes)
    while top < deep + spec.margin:
        rows, columns = next(rest)
        places.append((top, spec.margin, rows, columns))
        top += rows + spec.gap
    bottom = top - spec.gap
    for rows, columns in rest:
        if bottom - rows < spec.margin + height:
            break  # would overlap the largest level
        places.append((bottom - rows, spec.margin + width - columns, rows, columns))
        bottom -= rows + spec.gap
    return _Layout(tuple(places), deep + 2 * spec.margin, width + 2 * spec.margin)


def _canvas(photos: Sequence[Pixels], layout: _Layout) -> Pixels:
    """The canvases of photos uint8 [H, W, 3]: uint8 [N, layout.height, layout.width, 4]."""
    canvases = np.zeros((len(photos), layout.height, layout.width, 4), np.uint8)
    for canvas, photo in zip(canvases, photos, strict=True):
        top, left, rows, columns = layout.places[0]
        level = canvas[top : top + rows, left : left + columns]
        for channel in range(3):  # channel by channel is several times faster than all at once
            level[..., channel] = photo[..., channel]
        level[..., 3] = 255
        for top, left, rows, columns in layout.places[1:]:
            level = _shrunk(level, rows, columns)
            canvas[top : top + rows, left : left + columns] = level
    return canvases


def _shrunk(picture: Pixels, height: int, width: int) -> Pixels:
    """Resize bilinearly, with corner pixels kept, as dlib's resize_image; uint8 [H, W, 4] -> uint8 [height, width, 4].

    In fixed point with 8 bits: differs by at most 2 of 255 from dlib, which uses float.
    """
    row, below = _taps(picture.shape[0], height)
    column, right = _taps(picture.shape[1], width)
    next_row, next_column = np.minimum(row + 1, len(picture) - 1), np.minimum(column + 1, picture.shape[1] - 1)
    right = right.repeat(4)
    pixels = picture.view(np.uint32)[..., 0]
    result = np.empty((height, 4 * width), np.uint8)
    # Some rows at a time: their intermediate results fit the CPU cache.
    at_once = max(1, _PIXELS_IN_CACHE // picture.shape[1])
    for start in range(0, height, at_once):
        rows = slice(start, start + at_once)
        above, under = (pixels.take(at, axis=0).view(np.uint8) for at in (row[rows], next_row[rows]))
        upright = _mix(above, under, below[rows, None]).view(np.uint32)
        here, beside = (upright.take(at, axis=1).view(np.uint8) for at in (column, next_column))
        result[rows] = _mix(here, beside, right)
    return result.reshape(height, width, 4)


def _taps(larger: int, smaller: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint16]]:
    """For each of ``smaller`` samples: the index of the pixel before it, and the weight of the next pixel in 256ths."""
    place = np.arange(smaller) * ((larger - 1) / max(smaller - 1, 1))
    before = np.minimum(place.astype(np.intp), larger - 1)
    return before, np.round((place - before) * 256).astype(np.uint16)


def _mix(one: Pixels, other: Pixels, share: npt.NDArray[np.uint16]) -> Pixels:
    """(share * other + (256 - share) * one) / 256, rounded."""
    mixed = np.multiply(one, 256 - share, dtype=np.uint16)
    mixed += np.multiply(other, share, dtype=np.uint16)
    mixed += 128
    mixed >>= 8
    return mixed.astype(np.uint8)


def _windows(scores: npt.NDArray[np.float32], layout: _Layout, spec: DetectorManifest) -> list[Detection]:
    """The windows above the threshold, from scores [h, w] of a canvas to pixels of the photo."""
    rows, columns = np.nonzero(scores > spec.threshold)
    if len(rows) > _MAX_WINDOWS:
        best = np.sort(np.argpartition(scores[rows, columns], -_MAX_WINDOWS)[-_MAX_WINDOWS:])
        rows, columns = rows[best], columns[best]
    centre = np.stack([columns, rows], axis=1) * spec.stride + spec.offset
    first = np.array([(left, top) for top, left, _, _ in layout.places])
    last = first + np.array([(width - 1, height - 1) for _, _, height, width in layout.places])
    away = np.maximum(np.maximum(first - centre[:, None], centre[:, None] - last), 0)
    level = (away**2).sum(axis=2).argmin(axis=1)  # the level that contains the centre, or the nearest
    half = (spec.window - 1) / 2
    corners = (centre - first[level])[:, None] + np.array([[-half], [half]])
    for step in range(len(layout.places) - 1):
        deeper = level > step
        corners[deeper] = corners[deeper] * (1 / spec.shrink) + 0.3  # dlib's pyramid_down<6>::point_up
    boxes = np.copysign(np.floor(np.abs(corners) + 0.5), corners).reshape(-1, 4).tolist()
    values = scores[rows, columns].tolist()
    return [Detection((b[0], b[1], b[2], b[3]), s) for b, s in zip(boxes, values, strict=True)]


def _round(value: float) -> float:
    return float(math.floor(value + 0.5))
