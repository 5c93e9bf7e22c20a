"""Whether a file ends where its container says.

Matroska, MP4, AVI, ASF and FLV state where they end; MPEG-TS, MPEG-PS and Ogg have parts of known size, of which the
last must be whole, and the last page of Ogg is marked.
"""

import struct
from pathlib import Path
from typing import BinaryIO

EBML = bytes.fromhex("1a45dfa3")
_SEGMENT = bytes.fromhex("18538067")
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_PS_PACK = bytes.fromhex("000001ba")
TS_PACKET = 188
_M2TS_PACKET = 192  # with 4 bytes of time before each packet
TS_SYNC = 0x47
_HEAD = 1 << 16  # bytes at the begin or the end that are looked through
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
        head = file.read(16).ljust(16, b"\0")
        file.seek(0)
        if head[:4] == EBML:
            end = end_of_matroska(file)
        elif head[:4] == b"RIFF":
            end = _end_of_riff(file, size)
        elif (packet := ts_packet(file, head, size)) is not None:
            end = -(-size // packet) * packet
            end += _missing_of_ts(file, size, packet) if end == size else 0
        elif head[4:8] in _MP4_BOXES:
            end = _end_of_mp4(file, size)
        elif head[:3] == b"FLV":
            end = _end_of_flv(file, size)
        elif head == _ASF:
            end = _end_of_asf(file)
        elif head[:4] == b"OggS":
            end = _end_of_ogg(file, size)
        elif head[:4] == _PS_PACK:
            end = _end_of_ps(file, size)
        else:
            return 0
    return max(0, end - size)


def ts_packet(file: BinaryIO, head: bytes, size: int) -> int | None:
    """The length of a packet of MPEG-TS; None: it is none."""
    for packet, sync in ((TS_PACKET, 0), (_M2TS_PACKET, 4)):
        if head[sync] == TS_SYNC and size > packet + sync and _byte(file, packet + sync) == TS_SYNC:
            return packet
    return None


def _byte(file: BinaryIO, at: int) -> int:
    file.seek(at)
    return file.read(1)[0]


def end_of_matroska(file: BinaryIO) -> int:
    """The end of the segment, which holds everything; 0 when its size isn't stated, as in a recording still under
    way. The file is at the segment's first element then."""
    file.read(4)
    header = vint(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if file.read(4) != _SEGMENT:
        return 0
    size = vint(file)
    return 0 if size is None else file.tell() + size


def vint(file: BinaryIO) -> int | None:
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


def _missing_of_ts(file: BinaryIO, size: int, packet: int) -> int:
    """How many bytes the last PES packets of the streams lack, where their length is stated, as that of sound is."""
    start = max(0, size - 40 * _HEAD // packet * packet)
    file.seek(start)
    tail = file.read()
    lacking: dict[int, int] = {}  # by stream, in its last PES packet
    for at in range(packet - TS_PACKET, len(tail), packet):
        stream = int.from_bytes(tail[at + 1 : at + 3], "big") & 0x1FFF
        field = 1 + tail[at + 4] if tail[at + 3] & 0x20 else 0
        payload = tail[at + 4 + field : at + TS_PACKET] if tail[at + 3] & 0x10 else b""
        if tail[at + 1] & 0x40:  # a PES packet begins, or a table
            length = int.from_bytes(payload[4:6], "big") if payload[:3] == b"\0\0\1" else 0
            lacking[stream] = length + 6 - len(payload) if length else 0
        elif stream in lacking:
            lacking[stream] -= len(payload)
    return sum(max(0, one) for one in lacking.values())


def _end_of_flv(file: BinaryIO, size: int) -> int:
    """What its metadata says, or else the end of the last tag: each is followed by its length."""
    begin = file.read(_HEAD)
    if (at := begin.find(b"\x00\x08filesize\x00")) >= 0 and len(begin) >= at + 19:
        (stated,) = struct.unpack(">d", begin[at + 11 : at + 19])
        if 0 < stated < 2**62:
            return int(stated)
    at = int.from_bytes(begin[5:9], "big") + 4
    while at < size:
        file.seek(at)
        tag = file.read(4)
        at += 11 + int.from_bytes(tag[1:4], "big") + 4
        if len(tag) < 4:
            break
    return at


def _end_of_asf(file: BinaryIO) -> int:
    """What its file properties say; 0 when it is a broadcast, which has no end."""
    begin = file.read(_HEAD)
    at = begin.find(_ASF_FILE)
    if at < 0 or len(begin) < at + 92 or begin[at + 88] & 1:
        return 0
    return int.from_bytes(begin[at + 40 : at + 48], "little")


def _end_of_ogg(file: BinaryIO, size: int) -> int:
    """The end of the last page, and one byte more when it isn't marked as the last of its stream."""
    start = max(0, size - _HEAD - _HEAD // 8)  # a page has 65,307 bytes at most
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return size + 1
    length = 27 + page[26] + sum(page[27 : 27 + page[26]])
    marked = page[5] & 4
    return start + at + length + (not marked)


def _end_of_ps(file: BinaryIO, size: int) -> int:
    """The end of the last packet, from the first pack in the file's last part."""
    start = max(0, size - 4 * _HEAD)
    file.seek(start)
    tail = file.read()
    at = tail.find(_PS_PACK)
    while 0 <= at < len(tail):
        code = tail[at : at + 4]
        if code[:3] != b"\0\0\1"[: len(code)]:  # padding, or damage, which shows elsewhere
            return 0
        if len(code) < 4:
            return start + at + 4
        if code == _PS_PACK:
            mpeg2 = tail[at + 4 : at + 5] >= b"\x40"
            at += (14 + (tail[at + 13] & 7) if len(tail) > at + 13 else 14) if mpeg2 else 12
        elif code[3] == 0xB9:  # the end
            at += 4
        else:
            at += 6 + int.from_bytes(tail[at + 4 : at + 6].ljust(2, b"\0"), "big")
    return start + at if at >= 0 else 0
