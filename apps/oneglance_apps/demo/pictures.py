"""Pictures: sent to the server unchanged, and embedded in the page as small copies."""

import base64
import io
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneglance import photo
from oneglance.v1.common_pb2 import Example
from oneglance.v1.face_pb2 import Face
from oneglance_core.pictures import PictureLimits, decode_layers, decode_photo

THUMBNAIL_PIXELS = 105  # the size of Omniglot's drawings, which are shown unchanged
LIMITS = PictureLimits(max_image_bytes=1 << 30, max_image_pixels=1 << 27)
_AROUND = 0.2  # of a face's width, shown on each side
_GRAYS = 16  # enough for pen strokes with soft edges


@dataclass(frozen=True)
class Picture:
    """An encoded picture, in memory or in a file.

    caption: where it is from.
    face: what is shown of it, (left, top, right, bottom) in pixels of the upright photo; None: all.
    """

    source: bytes | Path
    caption: str
    face: tuple[float, float, float, float] | None = None

    def of_face(self, face: Face) -> "Picture":
        """The same, of which that face is shown, with some of what is around it."""
        box, more = face.box, _AROUND * face.box.width
        return replace(self, face=(box.x - more, box.y - more, box.x + box.width + more, box.y + box.height + more))

    def example(self) -> Example:
        """The picture as it is enrolled and probed with; of a photo, its largest face."""
        return photo(self.read(), "largest")

    def read(self) -> bytes:
        """The encoded picture, as it is sent to the server."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    @property
    def size_bytes(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    def large_uri(self, max_side: int) -> str:
        """A JPEG with at most ``max_side`` pixels a side, as a ``data:`` URI."""
        large = _shrunk(self.read(), max_side)
        buffer = io.BytesIO()
        large.save(buffer, "JPEG", quality=85)
        return jpeg_uri(buffer.getvalue())

    def data_uri(self) -> str:
        """A PNG of the face, or of all, with at most ``THUMBNAIL_PIXELS`` a side, as a ``data:`` URI."""
        return _data_uri(self)


def drawing(pixels: npt.NDArray[np.uint8], caption: str) -> Picture:
    """A drawing as PNG. pixels: uint8 [H, W], ink 0, paper 255."""
    return Picture(_png(Image.fromarray(pixels)), caption)


def jpeg_uri(jpeg: bytes) -> str:
    """A JPEG as a ``data:`` URI."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


@lru_cache(maxsize=4096)
def _data_uri(picture: Picture) -> str:
    if picture.face is None:
        small = _shrunk(picture.read(), THUMBNAIL_PIXELS)
    else:
        small = Image.fromarray(decode_photo(picture.read(), LIMITS)).crop(picture.face)
        small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    red, green, blue = small.split()
    small = red.quantize(_GRAYS) if red == green == blue else small
    return "data:image/png;base64," + base64.b64encode(_png(small)).decode()


def _shrunk(data: bytes, max_side: int) -> Image.Image:
    """RGB, upright, transparency on white, at most ``max_side`` pixels a side."""
    return Image.fromarray(decode_layers(data, LIMITS, max_side=max_side).pixels)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
