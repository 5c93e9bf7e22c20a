"""From an array to the bytes of a picture."""

import io
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from oneglance_core.color_profile import SRGB_PROFILE
from oneglance_core.pictures import Layers, PictureError

OutputFormat = Literal["PNG", "JPEG", "WEBP"]
HAS_ALPHA: dict[OutputFormat, bool] = {"PNG": True, "JPEG": False, "WEBP": True}
# Pixels on a side that the formats can state; PNG's is beyond all limits.
_LONGEST_SIDE: dict[OutputFormat, int] = {"PNG": 2**31 - 1, "JPEG": 65_500, "WEBP": 16_383}
# Level 6, the default of zlib, takes twice the time for a painted picture and makes it a tenth smaller.
_PNG_LEVEL = 3
_SRGB_CHUNK = PngImagePlugin.PngInfo()
_SRGB_CHUNK.add(b"sRGB", b"\0")  # perceptual, which says little where nothing is converted


def check_sides(width: int, height: int, format: OutputFormat) -> None:
    """Raises PictureError, IMAGE_TOO_LARGE, when ``format`` can't hold such a picture."""
    limit = _LONGEST_SIDE[format]
    if max(width, height) > limit:
        raise PictureError("IMAGE_TOO_LARGE", f"{width} x {height} pixels, and {format} holds at most {limit} a side")


def encode_picture(layers: Layers, format: OutputFormat, quality: int) -> bytes:
    """A picture that says it is sRGB, without other metadata.

    ``quality``: 1 to 100, of JPEG and WebP. JPEG drops the alpha channel.
    """
    array: npt.NDArray[np.uint8] = layers.pixels
    if layers.alpha is not None and HAS_ALPHA[format]:
        array = np.dstack([layers.pixels, layers.alpha])
    buffer = io.BytesIO()
    picture = Image.fromarray(array)
    if format == "PNG":
        picture.save(buffer, format, compress_level=_PNG_LEVEL, pnginfo=_SRGB_CHUNK)
    else:
        picture.save(buffer, format, quality=quality, icc_profile=SRGB_PROFILE)
    return buffer.getvalue()
