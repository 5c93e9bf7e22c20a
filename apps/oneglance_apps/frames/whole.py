"""Whether a file ends where its container says: Matroska, MP4, AVI and MPEG-TS have parts of known size."""

import struct
from pathlib import Path
from typing import BinaryIO

_EBML = bytes.fromhex("1a45dfa3")
_SEGMENT = bytes.fromhex("18538067")
TS_PACKET = 188
_TS_SYNC = 0x47
_MP4_BOXES = (
    b"ftyp",
    b"moov",
    b"moof",
    b"mdat",
    b"free",
    b"skip",
    b"wide",
    b"sidx",
    b"styp",
    b"uuid",
    b"mfra",
    b"emsg",
)


def missing_bytes(path: Path) -> int:
    """How many bytes the file is shorter than its container says; 0 when it is whole, or doesn't say."""
    if not path.is_file():  # a pipe; or gone meanwhile
        return 0
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12).ljust(12, b"\0")
        file.seek(0)
        if head[:4] == _EBML:
            end = _end_of_matroska(file)
        elif head[:4] == b"RIFF":
            end = _end_of_riff(file, size)
        elif head[0] == _TS_SYNC and size > TS_PACKET and _byte(file, TS_PACKET) == _TS_SYNC:
            end = -(-size // TS_PACKET) * TS_PACKET
        elif head[4:8] in _MP4_BOXES:
            end = _end_of_mp4(file, size)
        else:
            return 0
    return max(0, end - size)


def _byte(file: BinaryIO, at: int) -> int:
    file.seek(at)
    return file.read(1)[0]


def _end_of_matroska(file: BinaryIO) -> int:
    """The end of the segment, which holds everything; 0 when its size isn't stated, as in a recording still under
    way."""
    file.read(4)
    header = _vint(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if file.read(4) != _SEGMENT:
        return 0
    size = _vint(file)
    return 0 if size is None else file.tell() + size


def _vint(file: BinaryIO) -> int | None:
    """A length of EBML: as many bytes as the first one has leading zero bits, and one more; None: unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else value


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """The end of the last RIFF chunk: long AVI files have several."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            break
        length = struct.unpack("<I", head[4:])[0]
        if length in (0, 0xFFFFFFFF):  # a recording that was not finished
            break
        at += 8 + length + length % 2
    return at - 1 if at == size + 1 else at  # the last one may lack its padding


def _end_of_mp4(file: BinaryIO, size: int) -> int:
    """The end of the last box."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return at + 8
        length = struct.unpack(">I", head[:4])[0]
        if length == 0:  # up to the end of the file
            return size
        if length == 1:
            if len(head) < 16:
                return at + 16
            length = struct.unpack(">Q", head[8:])[0]
        if length < 8 or not head[4:8].isalnum():
            return size  # not a box: damaged, which shows elsewhere
        at += length
    return at
