"""What a HEIC or AVIF says of itself (ISO/IEC 14496-12 and 23008-12), without decoding it.

The file is boxes in boxes. ``meta`` holds the items: pictures, tiles of a picture, thumbnails, metadata. ``pitm`` says
which of them is the picture, ``ipma`` which properties each has, and ``ispe`` is the property that holds a size.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

MAX_ITEMS = 1000  # a phone's photo of 48 megapixels has about 250: its tiles, and those of its thumbnail
MAX_BOXES = 4096
_MOST_OVERLAP = 2  # tiles reach beyond the right and lower edge
_TILE_PIXELS = 4 << 20

_HEIC = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"))
_AVIF = frozenset((b"avif", b"avis"))
_GENERAL = frozenset((b"mif1", b"msf1"))


@dataclass(frozen=True, slots=True)
class HeifHeader:
    """``width`` and ``height`` as stored, before it is turned. ``most_pixels``: of the largest picture in the file."""

    format: Literal["HEIC", "AVIF"]
    width: int
    height: int
    most_pixels: int


def heif_header(data: bytes) -> HeifHeader | None:
    """None for a file of another format. Raises ValueError for one that doesn't say its size, or has too many parts."""
    kind = _format(data)
    if kind is None:
        return None
    try:
        return _read(data, kind)
    except (struct.error, IndexError) as error:
        raise ValueError("it ends too early") from error


def _format(data: bytes) -> Literal["HEIC", "AVIF"] | None:
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), len(data), 1024)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}
    if data[8:12] not in _HEIC | _AVIF | _GENERAL:
        return None
    if brands & _AVIF:
        return "AVIF"
    return "HEIC"


def _read(data: bytes, kind: Literal["HEIC", "AVIF"]) -> HeifHeader:
    boxes = _Boxes(data)
    meta = boxes.one(b"meta", 0, len(data))
    inside = meta[0] + 4, meta[1]
    picture = _primary(data, *boxes.one(b"pitm", *inside))
    properties = boxes.one(b"iprp", *inside)
    sizes = [
        struct.unpack_from(">II", data, begin + 4) if name == b"ispe" else None
        for name, begin, _ in boxes.all(*boxes.one(b"ipco", *properties))
    ]
    mine: tuple[int, int] | None = None
    pixels: dict[int, int] = {}
    items = 0
    for name, begin, _ in boxes.all(*properties):
        if name != b"ipma":
            continue
        for item, indices in _associations(data, begin):
            items += 1
            if items > MAX_ITEMS:
                raise ValueError(f"more than {MAX_ITEMS} pictures and tiles in one file")
            size = next((size for i in indices if 0 < i <= len(sizes) and (size := sizes[i - 1])), None)
            if size is not None:
                pixels[item] = size[0] * size[1]
            if item == picture:
                mine = size or mine
    if mine is None or not all(mine):
        raise ValueError("it does not say its size")
    for name, begin, end in boxes.all(*inside):
        if name == b"iloc":
            _check_extents(data, begin, end)
    parts = sum(pixels.get(part, 0) for part in _tiles(data, boxes, picture, *inside))
    if parts > _MOST_OVERLAP * mine[0] * mine[1] + _TILE_PIXELS:
        raise ValueError("its tiles have many more pixels than the picture")
    return HeifHeader(kind, *mine, max(width * height for width, height in filter(None, sizes)))


class _Boxes:
    """The boxes of a file, counted."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._seen = 0

    def all(self, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Type, begin and end of what is in each box between ``begin`` and ``end``."""
        while begin + 8 <= end:
            self._seen += 1
            if self._seen > MAX_BOXES:
                raise ValueError(f"more than {MAX_BOXES} boxes in one file")
            size, name = struct.unpack_from(">I4s", self._data, begin)
            head = 8
            if size == 1:
                (size,) = struct.unpack_from(">Q", self._data, begin + 8)
                head = 16
            stop = end if size == 0 else begin + size
            if size and size < head:
                raise ValueError("a box smaller than its own header")
            yield name, begin + head, min(stop, end)
            begin = stop

    def one(self, wanted: bytes, begin: int, end: int) -> tuple[int, int]:
        """Begin and end of what is in the first box of that type."""
        for name, start, stop in self.all(begin, end):
            if name == wanted:
                return start, stop
        raise ValueError(f"it has no box {wanted.decode()!r}")


def _primary(data: bytes, begin: int, _end: int) -> int:
    item: int
    (item,) = struct.unpack_from(">I" if data[begin] else ">H", data, begin + 4)
    return item


def _associations(data: bytes, begin: int) -> Iterator[tuple[int, list[int]]]:
    """Of each item, its id and the numbers of its properties, from 1."""
    wide_ids, wide_numbers = data[begin] > 0, data[begin + 3] & 1
    (entries,) = struct.unpack_from(">I", data, begin + 4)
    at = begin + 8
    for _ in range(entries):
        (item,) = struct.unpack_from(">I" if wide_ids else ">H", data, at)
        at += 4 if wide_ids else 2
        count = data[at]
        at += 1
        if wide_numbers:
            numbers = [number & 0x7FFF for number in struct.unpack_from(f">{count}H", data, at)]
        else:
            numbers = [number & 0x7F for number in struct.unpack_from(f"{count}B", data, at)]
        at += count * (1 + wide_numbers)
        yield item, numbers


def _check_extents(data: bytes, begin: int, end: int) -> None:
    """Raises ValueError where the content of an item isn't all there (ISO/IEC 14496-12, 8.11.3)."""
    version = data[begin]
    sizes = struct.unpack_from(">H", data, begin + 4)[0]
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    at = begin + 6
    (count,) = struct.unpack_from(">I" if version == 2 else ">H", data, at)
    at += 4 if version == 2 else 2
    if count > MAX_BOXES:
        raise ValueError(f"more than {MAX_BOXES} items in one file")
    extents = 0

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big")

    for _ in range(count):
        number(4 if version == 2 else 2)
        in_file = version == 0 or number(2) & 15 == 0
        number(2)
        base, parts = number(base_size), number(2)
        extents += parts
        if extents > MAX_BOXES or at > end:
            raise ValueError("more parts of items than a picture has")
        for _ in range(parts):
            if version > 0:
                number(index_size)
            offset, length = number(offset_size), number(length_size)
            if in_file and base + offset + length > len(data):
                raise ValueError("it ends too early")


def _tiles(data: bytes, boxes: _Boxes, picture: int, begin: int, end: int) -> Iterator[int]:
    """The items that a picture is put together of, as often as it names them."""
    for name, start, stop in boxes.all(begin, end):
        if name != b"iref":
            continue
        wide = data[start] > 0
        for kind, at, _ in boxes.all(start + 4, stop):
            item, count = struct.unpack_from(">IH" if wide else ">HH", data, at)
            if kind == b"dimg" and item == picture:
                yield from struct.unpack_from(f">{count}{'I' if wide else 'H'}", data, at + (6 if wide else 4))
