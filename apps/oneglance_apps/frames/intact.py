"""Whether the parts of a file follow each other without a gap: nothing in between was overwritten or cut out."""

from pathlib import Path

import numpy as np

from oneglance_apps.frames.whole import EBML, TS_PACKET, TS_SYNC, end_of_matroska, ts_packet, vint

_CLUSTER = bytes.fromhex("1f43b675")
_TS_NULL = 0x1FFF  # a stream of padding


def is_intact_matroska(path: Path) -> bool | None:
    """Whether the elements of a Matroska file follow each other up to its end: nothing in between was overwritten or
    cut out. None: it isn't Matroska, or of a size that isn't stated. Takes time in proportion to its packets."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        end = end_of_matroska(file) if file.read(4) == EBML and not file.seek(0) else 0
        if not end:
            return None
        while file.tell() < end:
            first = file.read(1)
            width = 9 - first[0].bit_length() if first else 9
            if width > 4:  # an id has at most 4 bytes
                return False
            kind = first + file.read(width - 1)
            length = vint(file)
            if kind == _CLUSTER:  # what is in it comes next
                continue
            if length is None or length > end:
                return False
            file.seek(length, 1)
        return file.tell() == end


def is_intact_ts(path: Path) -> bool:
    """Whether the packets of an MPEG-TS file follow each other: each begins with its sync byte, and those of a stream
    are counted through. Takes time in proportion to the size of the file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        size = path.stat().st_size
        packet = ts_packet(file, file.read(16).ljust(16, b"\0"), size)
    if packet is None:
        return False
    packets = np.memmap(path, np.uint8, "r", shape=(size // packet, packet))[:, packet - TS_PACKET :]
    head = np.array(packets[:, :6])
    streams = (head[:, 1] & 0x1F).astype(np.uint16) << 8 | head[:, 2]
    counter, payload = head[:, 3] & 0x0F, head[:, 3] & 0x10 > 0
    has_field = (head[:, 3] & 0x20 > 0) & (head[:, 4] > 0)
    restarts = has_field & (head[:, 5] & 0x80 > 0)  # a discontinuity that is announced
    if (head[:, 0] != TS_SYNC).any() or (head[:, 1] & 0x80).any():
        return False
    for stream in np.unique(streams[streams != _TS_NULL]):
        of_stream = np.flatnonzero((streams == stream) & payload)
        steps = (counter[of_stream[1:]] - counter[of_stream[:-1]]) & 0x0F
        if ((steps > 1) & ~restarts[of_stream[1:]]).any():  # 0: sent twice
            return False
    return True


def is_intact_flv(path: Path) -> bool:
    """Whether the tags of an FLV file follow each other: each is followed by its length."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(9)
        if head[:3] != b"FLV":
            return False
        file.seek(int.from_bytes(head[5:9], "big") + 4)
        while tag := file.read(11):
            length = int.from_bytes(tag[1:4], "big")
            file.seek(length, 1)
            if file.read(4) != (11 + length).to_bytes(4, "big"):
                return False
    return True


def is_intact_ogg(path: Path) -> bool | None:
    """Whether the pages of an Ogg file follow each other, those of each stream counted through; None: it isn't Ogg."""
    if not path.is_file():
        return None
    numbers: dict[bytes, int] = {}
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return None
        file.seek(0)
        while head := file.read(27):
            if len(head) < 27 or head[:4] != b"OggS":
                return False
            stream, number = head[14:18], int.from_bytes(head[18:22], "little")
            if number != numbers.get(stream, number - 1) + 1:
                return False
            numbers[stream] = number
            file.seek(sum(file.read(head[26])), 1)
    return True


def is_overwritten(path: Path) -> bool:
    """Whether a part of the file is none that its container can have; of Matroska and Ogg, which lose it silently."""
    return is_intact_matroska(path) is False or is_intact_ogg(path) is False
