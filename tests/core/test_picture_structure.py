"""Files that would keep a decoder busy for nothing are refused before they are opened; no real picture is."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oneglance_core.picture_structure import flaw
from oneglance_core.pictures import PictureError, PictureLimits, decode_photo, read_header

LIMITS = PictureLimits(16 << 20, 50_000_000)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)


def encoded(format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 10, 10, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def png_of_many_chunks(before: bytes) -> bytes:
    pixels = zlib.compress(bytes(11) * 10)
    return png(before, *(chunk(b"IDAT", pixels[i : i + 1]) for i in range(len(pixels))), chunk(b"IEND", b""))


def progressive(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def tiff(count: int, kind: int = 4, order: str = "<") -> bytes:
    tag = struct.pack(order + "HHLL", 273, kind, count, 8)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "LH", 8, 1) + tag + bytes(4)


def big_tiff(count: int) -> bytes:
    return b"II" + struct.pack("<HHHQQHHQQQ", 43, 8, 0, 16, 1, 273, 4, count, 0, 0)


EXCESSIVE = {
    "png of empty chunks": png(chunk(b"vpAg", b"") * 1_000_000),
    "png of texts": png(chunk(b"tEXt", b"a\0b") * 100_000),
    "png of tiny parts of pixels": png(chunk(b"IDAT", b"") * 1_000_000),
    "jpeg of empty segments": b"\xff\xd8" + b"\xff\xfe\x00\x02" * 1_000_000,
    "jpeg of markers without length": b"\xff\xd8" + b"\xff\xd0" * 1_000_000,
    "jpeg of padding": b"\xff\xd8" + b"\xff" * 4_000_000 + b"\xd9",
    "jpeg of junk": b"\xff\xd8\xff\xd0" + bytes(4_000_000) + b"\xff\xd9",
    "jpeg of escaped bytes": b"\xff\xd8" + b"\xff\x00" * 1_000_000,
    "jpeg of a thousand scans": progressive(1000),
    "gif of comments": b"GIF89a" + bytes(7) + b"\x21\xfe\x00" * 1_000_000,
    "gif of one long comment": b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\x01a" * 1_000_000 + b"\x00",
    "gif of junk": b"GIF89a" + bytes(7) + b"\x01" * 1_000_000,
    "tiff of strips": tiff(4_000_000),
    "tiff of strips, big endian": tiff(4_000_000, order=">"),
    "tiff of fractions": tiff(100_000, kind=5),
    "big tiff of strips": big_tiff(4_000_000),
    "tiff of tags": b"II*\0" + struct.pack("<LH", 8, 60_000) + bytes(720_000),
    "pnm of a long comment": b"P5\n#" + b"a" * 4_000_000 + b"\n1 1\n255\n\0",
    "pnm of comments": b"P6\n" + b"#\n" * 2_000_000 + b"1 1\n255\n\0\0\0",
    "pnm in text": b"P2\n1000 1000\n255\n" + b"1 " * 1_000_000,
}


@pytest.mark.parametrize("name", EXCESSIVE)
def test_what_is_excessive_is_refused_unopened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", None)
    for read in (read_header, decode_photo):
        with pytest.raises(PictureError, match="not decoded: a ") as caught:
            read(EXCESSIVE[name], LIMITS)
        assert caught.value.reason == "IMAGE_UNDECODABLE"


SOUND = {
    "png": encoded("PNG"),
    "png of many chunks": png_of_many_chunks(chunk(b"tEXt", b"a\0b") * 1000),
    "jpeg": encoded("JPEG"),
    "progressive jpeg": encoded("JPEG", progressive=True),
    "jpeg with restarts": encoded("JPEG", restart_marker_blocks=1),
    "jpeg with exif": encoded("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + b"\xff\xda" * 10_000),
    "jpeg with a film behind it": encoded("JPEG", progressive=True) + b"\xff\xda\x00\x0c" * 1_000_000,
    "repeated scans": progressive(50),
    "gif": encoded("GIF", comment=b"a" * 60_000),
    "webp": encoded("WEBP"),
    "bmp": encoded("BMP"),
    "tiff": encoded("TIFF"),
    "tiff of thin strips": encoded("TIFF", tiffinfo={278: 1}),
    "pnm": encoded("PPM"),
    "pnm in text": b"P2 # grey\n2 2\n255\n1 2 3 4\n",
}


@pytest.mark.parametrize("name", SOUND)
def test_real_pictures_are_not(name: str) -> None:
    assert flaw(SOUND[name]) is None
    assert decode_photo(SOUND[name], LIMITS).size


@pytest.mark.parametrize("name", [*SOUND, *EXCESSIVE])
def test_wherever_a_file_is_cut_off_there_is_an_answer(name: str) -> None:
    data = (SOUND | EXCESSIVE)[name][:5000]
    for end in [*range(200), *range(200, len(data), 97)]:
        flaw(data[:end])  # raises nothing


@given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"MM\0*", b"P5"]), st.binary())
def test_whatever_the_bytes_there_is_an_answer(magic: bytes, rest: bytes) -> None:
    flaw(magic + rest)
