"""What is kept of a picture so that an encoder that comes later can be run on it: the picture itself, or the face in it
with what is around, small enough to keep one for each encoding.

A crop is the bytes of a picture, after four little-endian float32: the box of the face in it (x, y, width, height), all
0 where the whole picture is meant. Pixels are those that encoders get: upright, without transparency, 8 bits, sRGB.
"""

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneglance_core.faces.turns import Box, turn_box

Pixels = npt.NDArray[np.uint8]

LONGEST_SIDE = 512
"""Of a crop, in pixels: what is larger is shrunk."""
FACE_MARGIN = 2.5
"""Sides of the region around a face, in sides of its box."""
_NO_BOX: Box = (0.0, 0.0, 0.0, 0.0)
_BOX = struct.Struct("<4f")
# Drawings, and pictures that are small, are kept as they are: as PNG where that has so many bytes at most. It isn't
# tried of photos, whose PNG has three times as many as their JPEG, and takes long: of those without one brightness that
# this share of the pixels has, as paper has.
_LOSSLESS_BYTES = 64 << 10
_PAPER_SHARE = 0.5
_QUALITIES = (95, 85, 70, 50)
_PNG_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Crop:
    """The bytes of a picture, and the box of the face in it, None where the whole picture is meant."""

    picture: bytes = field(repr=False)
    box: Box | None


def crop_of(pixels: Pixels, max_bytes: int) -> bytes:
    """Of a whole picture, uint8 [H, W, 3]; b"" where it can't be written in so many bytes."""
    return _written(pixels, _NO_BOX, max_bytes)


def face_crop_of(pixels: Pixels, box: Box, turn_degrees: int, max_bytes: int) -> bytes:
    """Of the face at ``box`` of a photo, uint8 [H, W, 3], which is upright once the photo is turned clockwise so far.
    As crop_of."""
    height, width = pixels.shape[:2]
    x, y, wide, high = turn_box(box, width, height, turn_degrees)
    upright = np.rot90(pixels, -turn_degrees // 90)
    rows, columns = upright.shape[:2]
    centre_x, centre_y, half = x + wide / 2, y + high / 2, FACE_MARGIN * max(wide, high) / 2
    left, top = (max(0, math.floor(at - half)) for at in (centre_x, centre_y))
    right, bottom = min(columns, math.ceil(centre_x + half)), min(rows, math.ceil(centre_y + half))
    region = upright[top:bottom, left:right]
    return _written(region, (x - left, y - top, wide, high), max_bytes)


def read_crop(kept: bytes) -> Crop:
    box = _BOX.unpack_from(kept)
    return Crop(kept[_BOX.size :], None if box == _NO_BOX else box)


def _written(pixels: Pixels, box: Box, max_bytes: int) -> bytes:
    height, width = pixels.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if size != (width, height):
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    small = np.asarray(picture)
    if (small == small[..., :1]).all():
        picture = picture.convert("L")
    head = _BOX.pack(*(one * scale for one in box))
    for data in _encoded(picture):
        if len(head) + len(data) <= max_bytes:
            return head + data
    return b""


def _encoded(picture: Image.Image) -> Iterator[bytes]:
    """The best first."""
    finest, *others = _QUALITIES
    fine = _saved(picture, "JPEG", quality=finest, subsampling=0)
    count = picture.width * picture.height
    if (
        len(fine) <= _LOSSLESS_BYTES // 3
        or count * len(picture.getbands()) <= _LOSSLESS_BYTES
        or max(picture.convert("L").histogram()) >= _PAPER_SHARE * count
    ):
        lossless = _saved(picture, "PNG", compress_level=_PNG_LEVEL)
        if len(lossless) <= _LOSSLESS_BYTES:
            yield lossless
    yield fine
    for quality in others:
        yield _saved(picture, "JPEG", quality=quality, subsampling=0)


def _saved(picture: Image.Image, format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()
