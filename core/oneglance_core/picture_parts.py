"""How many parts a picture may have: a few small bytes or pixels can cost as much as millions of others.

Much of a header, and some rare formats altogether, Pillow reads in Python: part by part, at some microseconds each,
while no other thread runs. And a progressive JPEG is decoded once from end to end for each of its scans.
"""

import io
import re
import struct

from PIL import Image

MAX_SCANS = 64  # of a JPEG; encoders make about ten
MAX_TIFF_NUMBERS = 1 << 16  # in one entry of a TIFF's directory, such as the places of its strips
MAX_SLOW_PIXELS = 1_000_000  # of a picture that is decoded in Python: seconds
_READS = 10_000  # of a picture's bytes, and one more for every _BYTES_PER_READ
_BYTES_PER_READ = 256

_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)  # of a JPEG, and not within a scan's data
_SCAN, _END = b"\xda", b"\xd9"
_NUMBERS = frozenset({3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17, 18})  # TIFF types of more than a byte


class TooManyParts(ValueError):
    """A picture in more parts than any honest one has."""


class PictureFile(io.BytesIO):
    """A picture's bytes, for Pillow. Raises TooManyParts out of ``read`` when they are read in too small pieces."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = _READS + len(data) // _BYTES_PER_READ

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads -= 1
        if self._reads < 0:
            raise TooManyParts("too many parts")
        return super().read(size)

    def allow_reads_of_pixels(self) -> None:
        """From now on it may be read pixel by pixel."""
        self._reads = len(self.getbuffer()) + _READS


def check_before(data: bytes) -> None:
    """What Pillow itself takes long to find out. Raises TooManyParts."""
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_tiff(data)
    elif data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > MAX_SCANS:
        _check_jpeg(data)


def check_opened(picture: Image.Image, file: PictureFile) -> None:
    """Once its header is read. Raises TooManyParts."""
    if any(tile[0] in Image.DECODERS for tile in getattr(picture, "tile", ())):
        pixels = picture.width * picture.height
        if pixels > MAX_SLOW_PIXELS:
            raise TooManyParts(f"{pixels} pixels in an encoding that takes long to read, at most {MAX_SLOW_PIXELS}")
        file.allow_reads_of_pixels()


def _check_tiff(data: bytes) -> None:
    """Only the first directory is read: of several pages the first counts."""
    order = "<" if data[:1] == b"I" else ">"
    big = b"+" in data[:4]
    offset, counted, entry = ("8xQ", "Q", "HHQ8x") if big else ("4xL", "H", "HHL4x")
    try:
        (start,) = struct.unpack_from(order + offset, data)
        (count,) = struct.unpack_from(order + counted, data, start)
    except (struct.error, OverflowError):
        return  # damaged, which Pillow tells
    layout = struct.Struct(order + entry)
    first = start + struct.calcsize(order + counted)
    last = min(first + count * layout.size, len(data) - layout.size + 1)
    if count > MAX_TIFF_NUMBERS:
        raise TooManyParts(f"{count} entries in a directory")
    for at in range(first, last, layout.size):
        _, kind, numbers = layout.unpack_from(data, at)
        if kind in _NUMBERS and numbers > MAX_TIFF_NUMBERS:
            raise TooManyParts(f"{numbers} numbers in one entry, at most {MAX_TIFF_NUMBERS}")


def _check_jpeg(data: bytes) -> None:
    """Count the scans as the decoder finds them; other data may hold the same bytes."""
    scans, position, left = 0, 2, _READS
    while (found := _MARKER.search(data, position)) is not None and found[1] != _END:
        left -= 1
        scans += found[1] == _SCAN
        if scans > MAX_SCANS or left < 0:
            raise TooManyParts(f"more than {MAX_SCANS} scans")
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
