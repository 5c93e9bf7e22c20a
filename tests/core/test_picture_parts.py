"""Pictures that are small in bytes or pixels, and would take seconds to read nevertheless."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from oneglance_core.picture_parts import MAX_SCANS, MAX_SLOW_PIXELS, MAX_TIFF_NUMBERS
from oneglance_core.pictures import PictureError, PictureLimits, decode_photo, read_header

LIMITS = PictureLimits(max_image_bytes=16 << 20, max_image_pixels=50_000_000)
PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (10, 14, 3), dtype=np.uint8))


def save(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(count: int) -> bytes:
    """``count`` empty chunks before the pixels."""
    data = save(PICTURE, "PNG")
    place = data.index(b"IDAT") - 4
    return data[:place] + count * chunk(b"teSt") + data[place:]


def png_of_parts(count: int) -> bytes:
    """Its pixels in ``count`` chunks more than needed."""
    data = save(PICTURE, "PNG")
    place = data.index(b"IDAT") - 4
    return data[:place] + count * chunk(b"IDAT") + data[place:]


def jpeg(count: int) -> bytes:
    """``count`` empty comments."""
    data = save(PICTURE, "JPEG")
    return data[:2] + count * b"\xff\xfe\x00\x02" + data[2:]


def progressive(count: int, noise: bytes = b"") -> bytes:
    """``count`` scans, and ``noise`` in a comment and behind the picture."""
    data = save(PICTURE, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scans = count - data.count(b"\xff\xda")
    comment = b"\xff\xfe" + (len(noise) + 2).to_bytes(2, "big") + noise
    return data[:2] + comment + data[2:last] + (scans + 1) * data[last:-2] + data[-2:] + noise


def tiff(count: int, order: str = "<", *, big: bool = False) -> bytes:
    """A strip for each of ``count`` rows, all at the same place."""
    start = 16 if big else 8
    places = struct.pack(order + "L", start) * count
    number, entry, size = ("Q", "HHQQ", 20) if big else ("H", "HHLL", 12)
    entries = {256: 1, 257: count, 258: 8, 259: 1, 262: 1, 273: start, 277: 1, 278: 1, 279: 1}
    directory = struct.pack(order + number, len(entries))
    for tag, value in entries.items():
        directory += struct.pack(order + entry, tag, 4, count if tag == 273 else 1, value)
        assert size == struct.calcsize(order + entry)
    mark = {"<": b"II", ">": b"MM"}[order]
    head = (
        struct.pack(order + "HHHQ", 43, 8, 0, start + len(places))
        if big
        else struct.pack(order + "HL", 42, start + len(places))
    )
    return mark + head + places + directory + bytes(8)


def run_lengths(side: int) -> bytes:
    """A BMP whose rows end after their first pixel."""
    data = b"\x01\x00\x00\x00" * side + b"\x00\x01"
    start = 14 + 40 + 1024
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + bytes(1024) + data


def plain(side: int) -> bytes:
    """PPM in decimal digits."""
    return b"P3\n%d %d\n255\n" % (side, side) + b"1 " * (3 * side * side)


def odd_maximum(side: int) -> bytes:
    """PPM whose samples must be scaled."""
    return b"P6\n%d %d\n254\n" % (side, side) + bytes(3 * side * side)


SIDE = int(MAX_SLOW_PIXELS**0.5)


@pytest.mark.parametrize(
    "data",
    [
        png(50_000),
        png_of_parts(50_000),
        jpeg(50_000),
        progressive(MAX_SCANS + 1),
        progressive(MAX_SCANS + 1, bytes(100)),
        tiff(MAX_TIFF_NUMBERS + 1),
        tiff(MAX_TIFF_NUMBERS + 1, ">"),
        tiff(MAX_TIFF_NUMBERS + 1, big=True),
        run_lengths(SIDE + 1),
        plain(SIDE + 1),
        odd_maximum(SIDE + 1),
    ],
    ids=[
        "png chunks", "png pixels", "jpeg segments", "scans", "scans and noise", "tiff", "tiff big endian", "bigtiff",
        "bmp runs", "plain ppm", "ppm maximum",
    ],
)  # fmt: skip
def test_too_many_parts_are_refused(data: bytes) -> None:
    with pytest.raises(PictureError, match="takes too long to read") as caught:
        decode_photo(data, LIMITS)
    assert caught.value.reason == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize("data", [png(50_000), jpeg(50_000), tiff(MAX_TIFF_NUMBERS + 1)])
def test_they_are_refused_when_the_header_is_read(data: bytes) -> None:
    with pytest.raises(PictureError, match="takes too long to read"):
        read_header(data, LIMITS)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (png(1000), (10, 14, 3)),
        (png_of_parts(1000), (10, 14, 3)),
        (jpeg(1000), (10, 14, 3)),
        (progressive(MAX_SCANS), (10, 14, 3)),
        (progressive(MAX_SCANS, 1000 * b"\xff\xda\x00\x00"), (10, 14, 3)),  # bytes as of scans, that are none
        (tiff(1000), (1000, 1, 3)),
        (tiff(1000, ">"), (1000, 1, 3)),
        (tiff(1000, big=True), (1000, 1, 3)),
        (run_lengths(100), (100, 100, 3)),
        (plain(100), (100, 100, 3)),
        (odd_maximum(100), (100, 100, 3)),
    ],
)
def test_many_parts_are_read(data: bytes, shape: tuple[int, ...]) -> None:
    assert decode_photo(data, LIMITS).shape == shape


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_all_orientations_are_as_pillow_turns_them(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(PICTURE, kind, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode_photo(data, LIMITS), np.asarray(turned))


def test_exif_is_not_written_anew_to_turn_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = save(PICTURE, "PNG", exif=exif)

    def write(*_: object, **__: object) -> bytes:
        raise AssertionError("it takes seconds for millions of numbers")

    monkeypatch.setattr(Image.Exif, "tobytes", write)
    assert decode_photo(data, LIMITS).shape == (14, 10, 3)
