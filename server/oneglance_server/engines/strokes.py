"""Strokes of another size: a network paints strokes of so many pixels, whatever the picture's size.

Strokes k times as large are those of a copy of 1/k of the sides, brought back to the picture's size. To enlarge it
alone would blur the edges of the photo, too. So the detail that the photo lost in its copy is added again, times what
the painting made of such differences around there: the slope of each colour over the photo's luma in a window of the
copy, as a guided filter fits it (He and Sun 2015). Where the painting is flat nothing of the photo comes through.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneglance_core.pictures import Layers

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Size = tuple[int, int]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of BT.601
_WINDOW = 5  # pixels of the copy, on a side
_LEAST_VARIANCE = 65.0  # of luma in it, levels squared: below, it is noise rather than an edge
_MOST_SLOPE = 1.5
_REACH = 8  # pixels of the copy around a strip that it is made of: 3 of the filter, 2 of the window, and some
_STRIP_PIXELS = 1 << 19


def copy_size(height: int, width: int, stroke_size: float) -> Size:
    """(height, width) of the copy that is painted; no side below 1."""
    return max(1, round(height / stroke_size)), max(1, round(width / stroke_size))


def copied(layers: Layers, size: Size, filter: Image.Resampling) -> Layers:
    """A copy of ``size`` (height, width)."""
    # With its alpha, Pillow weighs each colour by how much of it is seen.
    whole = layers.pixels if layers.alpha is None else np.dstack([layers.pixels, layers.alpha])
    copy = np.asarray(Image.fromarray(whole).resize(size[::-1], filter))
    return Layers(copy[..., :3], None if layers.alpha is None else copy[..., 3])


def strips(height: int, width: int) -> list[slice]:
    """The rows of a picture, some at a time."""
    rows = max(1, _STRIP_PIXELS // width)
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


class BroughtBack:
    """A painted copy, brought back to the size of its picture.

    seen: the copy as the network saw it, painted: what it made of it; uint8 [h, w, 3]. height, width: of the picture.
    """

    def __init__(self, seen: Pixels, painted: Pixels, height: int, width: int) -> None:
        self._seen = seen
        self._painted = painted
        self._height = height
        self._width = width

    def rows(self, rows: slice, original: Pixels) -> Floats:
        """float32 [n, width, 3]: the painting at these rows, of which ``original``, uint8, is the picture."""
        scale = self._seen.shape[0] / self._height
        first, last = rows.start * scale, rows.stop * scale
        reach = _REACH * max(1, math.ceil(scale))
        top = max(0, int(first) - reach)
        seen, painted = (copy[top : int(last) + reach] for copy in (self._seen, self._painted))

        def resized(values: npt.NDArray[Any], filter: Image.Resampling) -> Floats:
            # One direction after the other: Pillow's order, and so its rounding, goes by the number of rows.
            wide = Image.fromarray(values).resize((self._width, len(values)), filter)
            box = 0.0, first - top, float(self._width), last - top
            return np.asarray(wide.resize((self._width, rows.stop - rows.start), filter, box), np.float32)

        back = resized(painted, Image.Resampling.LANCZOS)
        if scale < 1:
            luma = seen @ LUMA
            detail = original @ LUMA - resized(luma, Image.Resampling.LANCZOS)
            for channel, slope in enumerate(_slopes(luma, painted)):
                back[..., channel] += resized(slope, Image.Resampling.BILINEAR) * detail
        return back


def _slopes(luma: Floats, painted: Pixels) -> Iterator[Floats]:
    """Of each colour over ``luma``, float32 [h, w], in [0, _MOST_SLOPE]."""
    centre = luma - luma.mean()  # small numbers lose less
    mean = _window_mean(centre)
    variance = _window_mean(centre * centre) - mean * mean
    for channel in range(3):
        color = painted[..., channel].astype(np.float32)
        together = _window_mean(centre * color) - mean * _window_mean(color)
        yield np.clip(together / (variance + _LEAST_VARIANCE), 0, _MOST_SLOPE)


def _window_mean(values: Floats) -> Floats:
    """Of the square of _WINDOW x _WINDOW pixels around each; at an edge its pixels count several times."""
    for axis, length in enumerate(values.shape):
        places = np.clip(np.arange(length)[:, np.newaxis] + np.arange(_WINDOW) - _WINDOW // 2, 0, length - 1)
        total = np.zeros_like(values)
        for step in range(_WINDOW):
            total += values.take(places[:, step], axis=axis)
        values = total / np.float32(_WINDOW)
    return values
