"""From the bytes of a picture to an array, within limits that hold before decoding."""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from oneglance_server.errors import Overloaded

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# The limit below is ours, checked before decoding; Pillow's own would warn at another number.
Image.MAX_IMAGE_PIXELS = None

_FILTERS = {"box": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR}
_BACKGROUND = (255, 255, 255, 255)


class PictureError(ValueError):
    """A picture that can't be used. ``reason`` is stable (docs/errors.md)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """Checked before decoding: the size of the file, and width x height as its header states them."""

    max_image_bytes: int
    max_image_pixels: int


def decode_picture(
    data: bytes, *, height: int, width: int, color: str, resize: str, limits: PictureLimits
) -> npt.NDArray[np.uint8]:
    """Decode to ``uint8 [height, width, C]``, C = 1 for ``gray`` and 3 for ``rgb``, 0 = black.

    EXIF orientation is honoured, transparency is laid on white, 16-bit samples are scaled to 8, CMYK becomes rgb, of
    animations the first frame counts. ``resize`` is ``box`` or ``bilinear`` (Pillow's, antialiased). Raises
    PictureError: IMAGE_EMPTY, IMAGE_TOO_LARGE, IMAGE_UNDECODABLE.
    """
    return _decode(data, "L" if color == "gray" else "RGB", limits, (width, height), _FILTERS[resize])


def decode_photo(data: bytes, limits: PictureLimits) -> npt.NDArray[np.uint8]:
    """Decode to ``uint8 [H, W, 3]``, rgb, at its own size, upright. Otherwise as decode_picture."""
    return _decode(data, "RGB", limits)


def _decode(
    data: bytes,
    mode: str,
    limits: PictureLimits,
    size: tuple[int, int] | None = None,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> npt.NDArray[np.uint8]:
    if not data:
        raise PictureError("IMAGE_EMPTY", "no bytes")
    if len(data) > limits.max_image_bytes:
        raise PictureError("IMAGE_TOO_LARGE", f"{len(data)} bytes, at most {limits.max_image_bytes}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken EXIF and the like: the picture decides, not its metadata
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                pixels = picture.width * picture.height
                if pixels > limits.max_image_pixels:
                    raise PictureError(
                        "IMAGE_TOO_LARGE",
                        f"{picture.width} x {picture.height} pixels, at most {limits.max_image_pixels} in all",
                    )
                if picture.format == "JPEG" and size:  # decodes at the smallest scale that still covers the target
                    picture.draft(mode, size)
                return _to_array(picture, mode, size, resample)
    except PictureError:
        raise
    except MemoryError as error:  # not the picture's fault
        raise Overloaded("not enough memory for this picture now", metadata={"queue": "pictures"}) from error
    except UnidentifiedImageError as error:
        raise PictureError("IMAGE_UNDECODABLE", f"not a picture of a known format ({', '.join(FORMATS)})") from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        struct.error,
        zlib.error,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        RuntimeError,
        NotImplementedError,
        ZeroDivisionError,
        AttributeError,
    ) as error:
        # Pillow's plugins raise all of these on damaged files.
        raise PictureError("IMAGE_UNDECODABLE", f"damaged picture: {error}") from error


def _to_array(
    picture: Image.Image, mode: str, size: tuple[int, int] | None, resample: Image.Resampling
) -> npt.NDArray[np.uint8]:
    picture.load()
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I;16") or upright.mode in ("I", "F"):
        upright = _to_8_bit(upright)
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, _BACKGROUND), layer)
    flat = upright.convert(mode)
    if size and flat.size != size:
        flat = flat.resize(size, resample)
    array = np.asarray(flat, dtype=np.uint8)
    return array[..., np.newaxis] if array.ndim == 2 else array


def _to_8_bit(picture: Image.Image) -> Image.Image:
    samples = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(samples).all():
        raise PictureError("IMAGE_UNDECODABLE", "samples that are not finite")
    # PNG, TIFF and PNM integers are 0..65535; floating point pictures by convention 0..1.
    scale = 255.0 if picture.mode == "F" and samples.max(initial=0.0) <= 1.0 else 255.0 / 65535.0
    return Image.fromarray(np.clip(samples * scale + 0.5, 0, 255).astype(np.uint8))
