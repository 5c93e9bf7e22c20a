"""Samples of more than 8 bits, brought to 8.

What counts as white is stated, never guessed from the samples: 65535 in a PNG, a PNM and a TIFF of 16 bits; in a TIFF
that states a MaxSampleValue of more than 8 bits, that; in one of 9 to 15 bits a sample, the largest that these hold.
Cameras of 12 bits write them into 16: without MaxSampleValue such a picture is as dark as its file says.
"""

import io
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from oneglance_core.picture_error import PictureError

STRIP_PIXELS = 1 << 19
_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE = 258, 281  # tags of TIFF
_FULL, _EIGHT_BITS = 65535, 255


def is_deep(picture: Image.Image) -> bool:
    """Whether a decoded picture has gray samples of more than 8 bits."""
    return picture.mode.startswith("I;16") or picture.mode in ("I", "F")


def to_8_bit(picture: Image.Image, white: int) -> Image.Image:
    """A picture that ``is_deep``. Raises PictureError."""
    samples = np.asarray(picture)
    if not np.isfinite(samples).all():
        raise PictureError("IMAGE_UNDECODABLE", "samples that are not finite")
    # Floating point pictures by convention have 0..1.
    unit = picture.mode == "F" and samples.max(initial=0.0) <= 1.0
    return Image.fromarray(_scaled(samples, 1.0 if unit else float(white)))


def white_of(picture: Image.Image) -> int:
    """The sample that is white, of a picture of more than 8 bits that is not decoded yet."""
    tags: Any = getattr(picture, "tag_v2", None)
    if tags is None:
        return _FULL
    bits, stated = _most(tags.get(_BITS_PER_SAMPLE)), _most(tags.get(_MAX_SAMPLE_VALUE))
    if _EIGHT_BITS < stated < _FULL:
        return stated
    return (1 << bits) - 1 if 8 < bits < 16 else _FULL


def deep_color(picture: Image.Image, white: int) -> Image.Image | None:
    """A TIFF of 16 bits a sample in colour, whose white isn't 65535, decoded to 8; None of all others.

    Pillow keeps only the higher byte of each sample, of which a picture of 12 bits has 4 bits. Told that the bytes come
    the other way round, it keeps the lower one.
    """
    if white == _FULL or not isinstance(picture, TiffImagePlugin.TiffImageFile) or picture.fp is None:
        return None
    order = {_order(tile) for tile in picture.tile}
    if len(order) != 1 or not (order <= {"L", "B"}):
        return None
    picture.fp.seek(0)
    with TiffImagePlugin.TiffImageFile(io.BytesIO(picture.fp.read())) as other:
        other.tile = [_swapped(tile) for tile in other.tile]
        low, high = np.asarray(other), np.asarray(picture)
    samples = high.astype(np.uint16) << 8 | low
    return Image.frombytes(picture.mode, picture.size, _scaled(samples, float(white)).tobytes())


def _most(value: Any) -> int:
    values = value if isinstance(value, tuple) else (value,)
    return max((int(one) for one in values if isinstance(one, int)), default=0)


def _scaled(samples: npt.NDArray[Any], white: float) -> npt.NDArray[np.uint8]:
    scaled = np.empty(samples.shape, np.uint8)
    rows = max(1, STRIP_PIXELS // samples.shape[1])
    for top in range(0, samples.shape[0], rows):  # in float64 the whole would take 8 times what it does in 8 bits
        part = slice(top, top + rows)
        scaled[part] = np.clip(samples[part].astype(np.float64) * (255.0 / white) + 0.5, 0, 255)
    return scaled


def _raw_mode(tile: Any) -> str:
    return tile.args if isinstance(tile.args, str) else tile.args[0]


def _order(tile: Any) -> str:
    """Of the bytes of a sample: L or B; empty where they are no two."""
    name, _, depth = _raw_mode(tile).partition(";16")
    if not depth or name not in ("RGB", "RGBA", "RGBX", "CMYK"):
        return ""
    return depth.replace("N", "L" if sys.byteorder == "little" else "B")


def _swapped(tile: Any) -> Any:
    name = _raw_mode(tile).partition(";16")[0]
    mode = f"{name};16{'B' if _order(tile) == 'L' else 'L'}"
    return tile._replace(args=mode if isinstance(tile.args, str) else (mode, *tile.args[1:]))
