"""The bytes of a picture, from what programs hold pictures in: files, Pillow's images, arrays of pixels.

An array doesn't say what it is. Of the same shape are a photo, in which faces are searched, and an aligned face, which
an encoder takes as it is; and OpenCV has blue first where all others have red. So ``photo`` and ``tensor`` say it.
"""

import io
import struct
import sys
import zlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Order = Literal["RGB", "BGR"]
_PNG_COLOURS = {1: 0, 3: 2, 4: 6}  # by number of channels
_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_ORDER = "say the order of its channels: photo(array, order='BGR') for what OpenCV gives, order='RGB' for all others"


def file_bytes(content: object) -> bytes | None:
    """The bytes of a picture or a sound from a buffer, an open file or a Pillow image; None of anything else.

    Of a BytesIO it is all of them, wherever it stands. Raises TypeError for a file that is open as text.
    """
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    if isinstance(content, io.BytesIO):
        return content.getvalue()
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(content, pillow.Image):
        return _of_pillow(content)
    read = getattr(content, "read", None)
    if not callable(read):
        return None
    data = read()
    if not isinstance(data, bytes):
        raise TypeError("a file with a picture is opened for bytes: open(path, 'rb')")
    return data


def photo_bytes(pixels: npt.NDArray[Any], order: Order | None) -> bytes:
    """A PNG of pixels uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]. Raises TypeError, ValueError."""
    if pixels.dtype != np.uint8:
        raise TypeError(f"the pixels of a photo are uint8, 0 to 255, not {pixels.dtype}; convert them first")
    shaped = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    if shaped.ndim != 3 or shaped.shape[2] not in _PNG_COLOURS or not shaped.size:
        raise ValueError(f"a photo is an array [H, W], [H, W, 3] or [H, W, 4], not {list(pixels.shape)}")
    if shaped.shape[2] > 1:
        if order not in ("RGB", "BGR"):
            raise ValueError(_ORDER)
        if order == "BGR":
            shaped = shaped[..., [2, 1, 0, 3][: shaped.shape[2]]]
    return _png(np.ascontiguousarray(shaped))


def is_ambiguous(array: npt.NDArray[Any]) -> bool:
    """Whether it may be a photo as well as an encoder's input."""
    return array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)))


def _of_pillow(image: Any) -> bytes:
    if image.mode in ("I", "F") or (image.mode.startswith("I;16") and image.mode != "I;16"):
        raise TypeError(
            f"an image of mode {image.mode} doesn't say which of its values is white: give the bytes of its file, or "
            "convert it to 8 bits"
        )
    if image.mode not in _PNG_MODES:
        exif, image = image.getexif(), image.convert("RGB")
    else:
        exif = image.getexif()
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, exif=exif)  # EXIF says how it is turned
    return buffer.getvalue()


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Each row as its difference from the one above, which makes photos smaller by half."""
    height, width, channels = pixels.shape
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0] = 2
    flat = pixels.reshape(height, -1)
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOURS[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, content)
        for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data, 1)), (b"IEND", b""))
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
