"""From the bytes of a picture to arrays: the one way, of the exporter and of the server alike.

What an exporter measures is what a server serves only if both decode and prepare a picture alike, so nobody else opens
one. Limits hold before decoding. Errors::

    PictureError        a picture that can't be used; ``reason`` says why
    MemoryError         not enough memory for it now
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from oneglance_core.manifests import InputSpec
from oneglance_core.picture_structure import flaw

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# The limit below is ours, checked before decoding; Pillow's own would warn at another number.
Image.MAX_IMAGE_PIXELS = None

_FILTERS = {"box": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR}
# What turns a picture of that EXIF orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
_MAX_SLOW_PIXELS = 1_000_000  # of a picture that Pillow decodes in Python: seconds
_BACKGROUND = (255, 255, 255, 255)
_STRIP_PIXELS = 1 << 19
_DECODING_BYTES_A_PIXEL = 18  # at most
Made = TypeVar("Made")


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


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a picture says of itself. ``format``: PNG, JPEG, ...; ``width`` and ``height`` before EXIF turns it.

    ``color``: whether it has room for colour; its pixels may be gray even so.
    """

    format: str
    width: int
    height: int
    color: bool = True


@dataclass(frozen=True, slots=True)
class Layers:
    """A decoded picture: ``pixels`` uint8 [H, W, 3], rgb; ``alpha`` uint8 [H, W], or None when nothing shines through.

    With ``alpha`` the colours are not laid on anything.
    """

    pixels: npt.NDArray[np.uint8]
    alpha: npt.NDArray[np.uint8] | None = None


def encoder_input(data: bytes, spec: InputSpec, limits: PictureLimits) -> npt.NDArray[np.uint8]:
    """What an encoder that takes ``spec``, of kind ``image``, is given for a picture: uint8 [H, W, C], 0 black.

    EXIF orientation is honoured, transparency is laid on white, 16-bit samples are scaled to 8, CMYK becomes rgb, of
    animations the first frame counts. The picture is brought to (H, W) by Pillow's ``spec.resize`` filter, as
    ``spec.fit`` says. Raises PictureError: IMAGE_EMPTY, IMAGE_TOO_LARGE, IMAGE_UNDECODABLE.
    """
    height, width, _ = spec.shape
    mode, size = "L" if spec.color == "gray" else "RGB", (width, height)

    def to_array(picture: Image.Image) -> npt.NDArray[np.uint8]:
        if spec.fit is None:
            _draft(picture, mode, size)
            return _array(_flat(_upright(picture), mode), size, _FILTERS[spec.resize])
        flat = _flat(_upright(picture), mode)
        if spec.fit == "crop":
            return _array(flat.resize(size, _FILTERS[spec.resize], box=_covering(flat.size, size)))
        inside = _inside(flat.size, size)
        paper = Image.new(mode, size, _BACKGROUND[0] if mode == "L" else _BACKGROUND[:3])
        corner = ((width - inside[0]) // 2, (height - inside[1]) // 2)
        paper.paste(flat.resize(inside, _FILTERS[spec.resize]), corner)
        return _array(paper)

    return _read(data, limits, to_array)


def decode_photo(data: bytes, limits: PictureLimits) -> npt.NDArray[np.uint8]:
    """Decode to ``uint8 [H, W, 3]``, rgb, at its own size, upright. Otherwise as encoder_input."""
    return _read(data, limits, lambda picture: _array(_flat(_upright(picture), "RGB")))


def read_header(data: bytes, limits: PictureLimits) -> PictureHeader:
    """Format and size, without decoding. Raises PictureError as encoder_input does."""

    def header(picture: Image.Image) -> PictureHeader:
        # Many a phone's JPEG holds a second picture behind the first.
        kind = "JPEG" if picture.format == "MPO" else picture.format or ""
        return PictureHeader(kind, picture.width, picture.height, picture.mode not in _GRAY_MODES)

    return _read(data, limits, header)


def decode_layers(data: bytes, limits: PictureLimits, *, max_side: int = 0, keep_alpha: bool = False) -> Layers:
    """As decode_photo, but shrunk to at most ``max_side`` pixels on the longer side (0: not at all), and with the alpha
    channel apart if ``keep_alpha``; else it is laid on white."""

    def layers(picture: Image.Image) -> Layers:
        size = shrunk(picture.width, picture.height, max_side)
        if size != picture.size:
            _draft(picture, "RGB", size)
        upright = _upright(picture)
        size = shrunk(upright.width, upright.height, max_side)
        if not (keep_alpha and _see_through(upright)):
            return Layers(_array(_flat(upright, "RGB"), size, Image.Resampling.LANCZOS))
        array = _array(upright.convert("RGBA"), size, Image.Resampling.LANCZOS)
        return Layers(np.ascontiguousarray(array[..., :3]), np.ascontiguousarray(array[..., 3]))

    return _read(data, limits, layers)


def shrunk(width: int, height: int, max_side: int) -> tuple[int, int]:
    """(width, height) with the longer side at most ``max_side``; 0 leaves them. Never enlarged, no side below 1."""
    longer = max(width, height)
    if not 0 < max_side < longer:
        return width, height
    return max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))


def _read(data: bytes, limits: PictureLimits, make: Callable[[Image.Image], Made]) -> Made:
    """What ``make`` makes of the opened, undecoded picture. Raises PictureError, MemoryError."""
    if not data:
        raise PictureError("IMAGE_EMPTY", "no bytes")
    if len(data) > limits.max_image_bytes:
        raise PictureError("IMAGE_TOO_LARGE", f"{len(data)} bytes, at most {limits.max_image_bytes}")
    excess = flaw(data)
    if excess is not None:
        raise PictureError("IMAGE_UNDECODABLE", f"not decoded: {excess}")
    pixels = _webp_pixels(data)  # its plugin may fail before it says them
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
                if pixels > _MAX_SLOW_PIXELS and any(
                    tile[0] in Image.DECODERS for tile in getattr(picture, "tile", ())
                ):
                    raise PictureError(
                        "IMAGE_TOO_LARGE",
                        f"{pixels} pixels in an encoding that is slow to read, at most {_MAX_SLOW_PIXELS}",
                    )
                return make(picture)
    except PictureError:
        raise
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
        # Pillow's plugins raise all of these on damaged files; those of WebP and JPEG for want of memory, too.
        if pixels <= limits.max_image_pixels:
            np.empty(_DECODING_BYTES_A_PIXEL * pixels, np.uint8)
        raise PictureError("IMAGE_UNDECODABLE", f"damaged picture: {error}") from error


def _webp_pixels(data: bytes) -> int:
    """Width x height as the header of a WebP states them; 0 where it is none."""
    kind, header = data[12:16], data[20:30]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(header) < 10:
        return 0
    if kind == b"VP8X":
        return (int.from_bytes(header[4:7], "little") + 1) * (int.from_bytes(header[7:10], "little") + 1)
    if kind == b"VP8L":
        sides = int.from_bytes(header[1:5], "little")
        return ((sides & 0x3FFF) + 1) * ((sides >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        return (int.from_bytes(header[6:8], "little") & 0x3FFF) * (int.from_bytes(header[8:10], "little") & 0x3FFF)
    return 0


def _draft(picture: Image.Image, mode: str, size: tuple[int, int]) -> None:
    """Let a JPEG be decoded at the smallest scale that still covers ``size``, (width, height) once it is upright."""
    if picture.format == "JPEG":
        on_its_side = picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        picture.draft(mode, size[::-1] if on_its_side else size)


def _covering(given: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box in the middle of a picture of ``given`` (width, height) that has the aspect of ``size``."""
    scale = min(given[0] / size[0], given[1] / size[1])
    wide, tall = size[0] * scale, size[1] * scale
    left, top = (given[0] - wide) / 2, (given[1] - tall) / 2
    return left, top, min(left + wide, given[0]), min(top + tall, given[1])


def _inside(given: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) with the aspect of ``given`` that ``size`` has room for."""
    scale = min(size[0] / given[0], size[1] / given[1])
    return max(1, min(size[0], round(given[0] * scale))), max(1, min(size[1], round(given[1] * scale)))


def _upright(picture: Image.Image) -> Image.Image:
    """Decoded, turned as EXIF says, with 8 bits a sample. No copy is made that isn't needed: it may be large."""
    picture.load()
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    if turn is not None:  # in place, and without what ImageOps.exif_transpose does: to write all of EXIF anew
        turned = picture.transpose(turn)
        picture.im, picture._size = turned.im, turned.size
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        return _to_8_bit(picture)
    return picture


def _see_through(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info


def _flat(picture: Image.Image, mode: str) -> Image.Image:
    """Without transparency: laid on white."""
    if not _see_through(picture):
        return picture if picture.mode == mode else picture.convert(mode)
    layer = picture.convert("RGBA")
    flat = Image.new(mode, layer.size)
    rows = _strip(layer)
    for top in range(0, layer.height, rows):  # Pillow lets no other thread run while it lays one picture on another
        strip = layer.crop((0, top, layer.width, min(top + rows, layer.height)))
        flat.paste(Image.alpha_composite(Image.new("RGBA", strip.size, _BACKGROUND), strip).convert(mode), (0, top))
    return flat


def _array(
    picture: Image.Image, size: tuple[int, int] | None = None, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> npt.NDArray[np.uint8]:
    if size and picture.size != size:
        picture = picture.resize(size, resample)
    array = np.asarray(picture, dtype=np.uint8)
    return array[..., np.newaxis] if array.ndim == 2 else array


def _to_8_bit(picture: Image.Image) -> Image.Image:
    samples = np.asarray(picture)
    if not np.isfinite(samples).all():
        raise PictureError("IMAGE_UNDECODABLE", "samples that are not finite")
    # PNG, TIFF and PNM integers are 0..65535; floating point pictures by convention 0..1.
    scale = 255.0 if picture.mode == "F" and samples.max(initial=0.0) <= 1.0 else 255.0 / 65535.0
    scaled = np.empty(samples.shape, np.uint8)
    rows = _strip(picture)
    for top in range(0, picture.height, rows):  # in float64 the whole would take 8 times what it does in 8 bits
        part = slice(top, top + rows)
        scaled[part] = np.clip(samples[part].astype(np.float64) * scale + 0.5, 0, 255)
    return Image.fromarray(scaled)


def _strip(picture: Image.Image) -> int:
    """How many rows of a picture to work on at once."""
    return max(1, _STRIP_PIXELS // picture.width)
