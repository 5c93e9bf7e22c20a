"""Opens pictures, within limits: what comes before their pixels are brought to anything. pictures.py is for the rest.

Two kinds of JPEG are treated apart. One of more pixels than the limit is decoded at half its sides, if it is coded in
one pass; else all of it would be in memory before the first row comes out. And one without its end marker, which some
programs cut off, is decoded if every block of every scan is there.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from oneglance_core.heif.decoding import check_heif, decode_heif
from oneglance_core.heif.header import HeifHeader, heif_header
from oneglance_core.picture_error import PictureError
from oneglance_core.picture_structure import flaw, jpeg_scans

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_NAMES = ", ".join((*FORMATS, "HEIC", "AVIF"))

# The limit below is ours, checked before decoding; Pillow's own would warn at another number.
Image.MAX_IMAGE_PIXELS = None

_MAX_SLOW_PIXELS = 1_000_000  # of a picture that Pillow decodes in Python: seconds
_DECODING_BYTES_A_PIXEL = 18  # at most
_SIDEWAYS = (5, 6, 7, 8)  # orientations of which width and height change places
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
Made = TypeVar("Made")
Size = tuple[int, int]
Make = Callable[[Image.Image, Size], Made]
Wanted = Callable[[Image.Image], tuple[str, Size]]


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """Checked before decoding: the size of the file, and width x height of what is decoded, as its header states them.

    That is less than the picture has where a larger JPEG is decoded at half its sides; see decode_whole.
    """

    max_image_bytes: int
    max_image_pixels: int


def check_bytes(data: bytes, limits: PictureLimits) -> HeifHeader | None:
    """What there is to check before a picture is opened. The header of a HEIC or AVIF. Raises PictureError."""
    if not data:
        raise PictureError("IMAGE_EMPTY", "no bytes")
    if len(data) > limits.max_image_bytes:
        raise PictureError("IMAGE_TOO_LARGE", f"{len(data)} bytes, at most {limits.max_image_bytes}")
    excess = flaw(data)
    if excess is not None:
        raise PictureError("IMAGE_UNDECODABLE", f"not decoded: {excess}")
    try:
        heif = heif_header(data)
    except ValueError as error:
        raise PictureError("IMAGE_UNDECODABLE", f"damaged picture: {error}") from error
    if heif is not None:
        _check_pixels(heif.width, heif.height, limits)
        check_heif(heif)
    return heif


def _check_pixels(width: int, height: int, limits: PictureLimits, how: str = "") -> None:
    if width * height > limits.max_image_pixels:
        most = limits.max_image_pixels
        raise PictureError("IMAGE_TOO_LARGE", f"{width} x {height} pixels{how}, at most {most} in all")


def opened(
    data: bytes, limits: PictureLimits, make: Make[Made], wanted: Wanted | None = None, *, halve: bool = True
) -> Made:
    """What ``make`` makes of the opened, undecoded picture, given the (width, height) of its file.

    wanted: mode and (width, height), once it is upright, that the decoded picture must have at least.
    halve: a picture of too many pixels may be decoded at half its sides, where it can be.
    Raises PictureError, MemoryError.
    """
    heif = check_bytes(data, limits)
    if heif is not None:
        picture = decode_heif(data, heif)
        return make(picture, picture.size)
    try:
        return _made(data, limits, make, wanted, halve)
    except _Unended as error:
        scans = jpeg_scans(data)
        if scans is None or scans.arithmetic or not scans.whole or not _every_block(error.ended):
            raise PictureError("IMAGE_UNDECODABLE", f"damaged picture: {error.__cause__}") from error
        return _made(error.ended, limits, make, wanted, halve)


class _Unended(Exception):
    """A JPEG without its end marker; ``ended`` has one."""

    def __init__(self, ended: bytes) -> None:
        super().__init__()
        self.ended = ended


def _made(data: bytes, limits: PictureLimits, make: Make[Made], wanted: Wanted | None, halve: bool) -> Made:
    pixels = _webp_pixels(data)  # its plugin may fail before it says them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken EXIF and the like: the picture decides, not its metadata
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                stored = picture.size
                pixels = picture.width * picture.height
                if pixels > _MAX_SLOW_PIXELS and any(
                    tile[0] in Image.DECODERS for tile in getattr(picture, "tile", ())
                ):
                    _check_pixels(*stored, limits)
                    raise PictureError(
                        "IMAGE_TOO_LARGE",
                        f"{pixels} pixels in an encoding that is slow to read, at most {_MAX_SLOW_PIXELS}",
                    )
                _draft(picture, data, limits, wanted, halve)
                return make(picture, stored)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError("IMAGE_UNDECODABLE", f"not a picture of a known format ({_NAMES})") from error
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
        if data.startswith(_JPEG_START) and not data.endswith(_JPEG_END):
            raise _Unended(data.rstrip(b"\xff") + _JPEG_END) from error
        raise PictureError("IMAGE_UNDECODABLE", f"damaged picture: {error}") from error


def _every_block(jpeg: bytes) -> bool:
    """Whether the bytes before its end marker hold every block of every scan: libjpeg fills what is missing with gray,
    and only warns; of arithmetic coding it doesn't even warn."""
    try:
        simplejpeg.decode_jpeg(jpeg, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError:
        return False
    return True


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


def _draft(picture: Image.Image, data: bytes, limits: PictureLimits, wanted: Wanted | None, halve: bool) -> None:
    """Let a JPEG be decoded at the smallest scale that covers what is wanted; and at half its sides, if it has more
    pixels than the limit. Raises PictureError for a picture of which too many would be decoded even so."""
    is_jpeg = kind_of(picture) == "JPEG"
    too_many = picture.width * picture.height > limits.max_image_pixels
    if too_many:
        if not (is_jpeg and _in_one_pass(data)):
            _check_pixels(*picture.size, limits)
        _check_pixels(-(-picture.width // 2), -(-picture.height // 2), limits, " at half its sides")
    if is_jpeg and (wanted or (too_many and halve)):
        mode, size = wanted(picture) if wanted else ("RGB", picture.size)
        if on_its_side(picture):
            size = size[::-1]
        if too_many and halve:
            size = min(size[0], picture.width // 2), min(size[1], picture.height // 2)
        picture.draft(mode, size)
    _check_pixels(*picture.size, limits)


def _in_one_pass(jpeg: bytes) -> bool:
    scans = jpeg_scans(jpeg, first_only=True)
    return scans is not None and not scans.progressive and scans.whole


def kind_of(picture: Image.Image) -> str:
    """Its format. Many a phone's JPEG holds a second picture behind the first."""
    return "JPEG" if picture.format == "MPO" else picture.format or ""


def on_its_side(picture: Image.Image) -> bool:
    return picture.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
