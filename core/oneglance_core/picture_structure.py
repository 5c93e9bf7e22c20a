"""Is a picture made to keep its decoder busy? Looked at before it is opened.

Pillow walks through a file's parts in Python, one after the other, and codecs work through every scan that a file has.
A few megabytes can hold a million empty parts, or a thousand scans of fifty megapixels: seconds or minutes of work for
nothing that anybody would see. Pictures as cameras and programs write them are far below the limits here. Whatever is
wrong otherwise is left to the decoder.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import JpegImagePlugin

MAX_PARTS = 4096  # chunks before they are 4 KiB on average, segments, blocks, tags
MAX_SCANS = 100  # of a progressive JPEG; encoders write about 10
MAX_NUMBERS = 65_536  # in one tag of a TIFF: strips or tiles, mostly
MAX_HEADER_BYTES = 1 << 16  # of a PNM, comments included
MAX_PLAIN_BYTES = 1 << 20  # of a PNM whose pixels are text: Pillow reads them in Python

_RUN_OF_FF = re.compile(b"\xff+")
_END_OF_SCAN = re.compile(b"\xff[^\x00\xd0-\xd7\xff]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_TIFF_WIDTHS = {3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # of numbers


def flaw(data: bytes) -> str | None:
    """What is excessive about the structure of an encoded picture; None for any that isn't."""
    for magic, check in _CHECKS:
        if data.startswith(magic):
            try:
                return check(data)
            except (IndexError, struct.error):  # it ends too early
                return None
    return None


def _png(data: bytes) -> str | None:
    position, parts = 8, 0
    allowed = MAX_PARTS + len(data) // 4096
    while position + 8 <= len(data):
        parts += 1
        if parts > allowed:
            return f"a PNG of more than {allowed} chunks"
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return None


@dataclass(slots=True)
class JpegScans:
    """Of a JPEG: its components, and what its scans hold. ``coded``: by component and coefficient, the lowest bit that
    is there; in a JPEG that isn't progressive all 64 coefficients come at once."""

    components: bytes = b""
    progressive: bool = False
    arithmetic: bool = False
    scans: int = 0
    coded: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Every bit of every coefficient has its scan."""
        return bool(self.components) and all(
            self.coded.get((component, i)) == 0 for component in self.components for i in range(64)
        )

    def add(self, components: bytes, first: int, last: int, low: int) -> None:
        self.scans += 1
        if not self.progressive:
            first, last, low = 0, 63, 0
        for component in components:
            self.coded.update(((component, i), low) for i in range(first, last + 1))


class _Excess(Exception):
    """What is excessive about a picture's structure."""


def jpeg_scans(data: bytes, *, first_only: bool = False) -> JpegScans | None:
    """The scans of a JPEG up to the one that makes it whole, or to its end; None for what isn't one, or is excessive.

    ``first_only``: look no further than the first scan.
    """
    found = JpegScans()
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        _walk_jpeg(data, found, 1 if first_only else MAX_SCANS)
    except _Excess:
        return found if first_only else None
    except (IndexError, struct.error):
        return None
    return found


def _jpeg(data: bytes) -> str | None:
    try:
        _walk_jpeg(data, JpegScans(), MAX_SCANS)
    except _Excess as error:
        return str(error)
    return None


def _walk_jpeg(data: bytes, found: JpegScans, most: int) -> None:
    """Fills ``found``. Raises _Excess, IndexError for one that ends too early."""
    position, steps = 2, 0
    while True:
        mark = data.find(b"\xff", position)
        if mark < 0:
            return
        run = _RUN_OF_FF.match(data, mark)
        assert run is not None
        steps += run.end() - position  # Pillow steps through all of these bytes
        if steps > MAX_PARTS:
            raise _Excess(f"a JPEG of more than {MAX_PARTS} segments, or bytes between them")
        kind, position = data[run.end()], run.end() + 1
        marker = JpegImagePlugin.MARKER.get(0xFF00 | kind)
        if kind == 0xD9 or (marker is None and kind != 0):
            return
        if marker is None or marker[2] is None:  # it has no length
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if kind in _FRAMES:
            found.components = data[position + 8 : position + 8 + 3 * data[position + 7] : 3]
            found.progressive = kind in _PROGRESSIVE
            found.arithmetic = kind > 0xC8
        elif kind == 0xDA:
            if found.scans == most:
                raise _Excess(f"a JPEG of more than {most} scans")
            count = data[position + 2]
            after = position + 3 + 2 * count
            found.add(data[position + 3 : after : 2], data[after], min(data[after + 1], 63), data[after + 2] & 15)
            if not found.progressive and count == len(found.components):
                return  # this one has everything
            end = _END_OF_SCAN.search(data, position + length)
            if end is None:
                return
            length = end.start() - position
        position += length


def _gif(data: bytes) -> str | None:
    flags = data[10]
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    for _ in range(MAX_PARTS):
        kind = data[position]
        position += 1
        if kind in b",;":
            return None
        if kind != 0x21:  # Pillow skips it
            continue
        position += 1
        for _ in range(MAX_PARTS):
            size = data[position]
            position += 1 + size
            if not size:
                break
        else:
            break
    return f"a GIF of more than {MAX_PARTS} blocks before its picture"


def _tiff(data: bytes) -> str | None:
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (at,) = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
    (tags,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    if tags > MAX_PARTS:
        return f"a TIFF of {tags} tags"
    size = 20 if big else 12
    at += 8 if big else 2
    for i in range(tags):
        kind, count = struct.unpack_from(order + ("HQ" if big else "HL"), data, at + i * size + 2)
        if kind in _TIFF_WIDTHS and count > MAX_NUMBERS:
            return f"a TIFF with {count} numbers in one tag"
    return None


def _pnm(data: bytes) -> str | None:
    if data[1:2] in b"123" and len(data) > MAX_PLAIN_BYTES:
        return f"a plain PNM of {len(data)} bytes"
    head = data[2:MAX_HEADER_BYTES]
    words = re.sub(rb"#[^\r\n]*", b"", head).split(None, 3)
    if len(words) < 3 and len(data) > MAX_HEADER_BYTES:
        return f"a PNM whose header has more than {MAX_HEADER_BYTES} bytes"
    return None


_CHECKS: tuple[tuple[bytes, Callable[[bytes], str | None]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"GIF8", _gif),
    (b"II", _tiff),
    (b"MM", _tiff),
    (b"P", _pnm),
)
