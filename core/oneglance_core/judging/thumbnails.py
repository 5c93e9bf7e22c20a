"""What an encoder was given, small, to be looked at: pictures as they are, signals as curves, volumes as their middle
slice."""

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_GRAYS = 16  # enough for pen strokes with soft edges
_JPEG_FROM = 200  # colours or grays of a picture that make it a photo
_CURVE = 64, 128  # height and width, pixels


def thumbnail(example: npt.NDArray[Any], side: int) -> str:
    """An encoder's input, uint8 or float [H, W, C], [L, C] or [D, H, W, C], as a ``data:`` URI of at most ``side``
    pixels a side."""
    picture = _picture(np.asarray(example))
    if picture.shape[2] == 1:
        picture = picture[:, :, 0]
    small = Image.fromarray(picture)
    small.thumbnail((side, side), Image.Resampling.BOX)
    photo = small.mode == "RGB" or len(small.getcolors(1 << 16) or ()) >= _JPEG_FROM
    file = io.BytesIO()
    if photo:
        small.save(file, "JPEG", quality=80)
    else:
        small.quantize(_GRAYS).save(file, "PNG", optimize=True)
    kind = "jpeg" if photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _picture(example: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 1 or 3]."""
    if example.ndim == 4:
        example = example[len(example) // 2]
    if example.ndim == 2:
        return _curves(example)
    if example.ndim != 3:
        return np.full((8, 8, 1), 255, np.uint8)
    channels = example if example.shape[2] in (1, 3) else example.mean(axis=2, keepdims=True)
    return channels if channels.dtype == np.uint8 else (255 * _scaled(channels)).astype(np.uint8)


def _curves(signal: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Each channel of [L, C] as a dark line on white, all over each other."""
    height, width = _CURVE
    picture = np.full((height, width, 1), 255, np.uint8)
    at = np.linspace(0, len(signal) - 1, width).round().astype(int)
    rows = ((1 - _scaled(signal)) * (height - 1)).round().astype(int)[at]
    for column in range(width):
        for channel in range(signal.shape[1]):
            ends = sorted((rows[max(column - 1, 0), channel], rows[column, channel]))
            picture[ends[0] : ends[1] + 1, column] = 40
    return picture


def _scaled(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """To [0, 1]."""
    found = values.astype(np.float64)
    low, high = found.min(), found.max()
    scaled: npt.NDArray[np.float64] = (found - low) / (high - low) if high > low else np.zeros_like(found)
    return scaled
