"""Samples of more than 8 bits: what is white is stated by the file, or by the rule; nothing is guessed."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from oneglance_core.pictures import PictureLimits, decode_photo

LIMITS = PictureLimits(1 << 24, 1 << 22)
RAMP = np.linspace(0, 4095, 13 * 17).astype(np.uint16).reshape(13, 17)
EIGHT = RAMP / 4095 * 255


def gray_tiff(samples: np.ndarray[Any, Any], white: int | None = None, **options: Any) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if white is not None:
        tags[281] = white
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "TIFF", tiffinfo=tags, **options)
    data = buffer.getvalue()
    if white is not None and options.get("compression"):  # libtiff writes 1
        data = data.replace(struct.pack("<HHII", 281, 3, 1, 1), struct.pack("<HHII", 281, 3, 1, white))
    return data


def color_tiff(samples: np.ndarray[Any, Any], white: int | None, order: str = "<") -> bytes:
    """Written by hand: Pillow writes no colour of 16 bits."""
    height, width, bands = samples.shape
    kind = {"<": b"II*\0", ">": b"MM\0*"}[order]
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [16] * bands), (259, 3, [1]), (262, 3, [2])]
    tags += [(273, 4, [0]), (277, 3, [bands]), (278, 4, [height]), (279, 4, [samples.size * 2])]
    if white is not None:
        tags.append((281, 3, [white] * bands))
    if bands == 4:
        tags.append((338, 3, [2]))
    tags.sort()
    endian: Any = "little" if order == "<" else "big"
    start = 8 + 2 + 12 * len(tags) + 4
    outside, entries = b"", b""
    pixels_at = start + sum(2 * len(values) for _, kind_, values in tags if kind_ == 3 and len(values) > 2)
    for tag, number, values in tags:
        values = [pixels_at] if tag == 273 else values
        raw = b"".join(value.to_bytes(2 if number == 3 else 4, endian) for value in values)
        if len(raw) > 4:
            place = (start + len(outside)).to_bytes(4, endian)
            outside += raw
            raw = place
        head = tag.to_bytes(2, endian) + number.to_bytes(2, endian) + len(values).to_bytes(4, endian)
        entries += head + raw.ljust(4, b"\0")
    body = samples.astype(f"{order}u2").tobytes()
    return kind + (8).to_bytes(4, endian) + len(tags).to_bytes(2, endian) + entries + bytes(4) + outside + body


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_the_stated_maximum_is_white(compression: str | None) -> None:
    data = gray_tiff(RAMP, 4095, compression=compression)
    assert np.abs(decode_photo(data, LIMITS)[..., 0] - EIGHT).max() <= 0.51


def test_without_it_65535_is_white_however_dark_that_is() -> None:
    assert np.abs(decode_photo(gray_tiff(RAMP), LIMITS)[..., 0] - RAMP / 257).max() <= 0.51
    assert decode_photo(gray_tiff(RAMP), LIMITS).max() == 16
    for odd in (0, 1, 255, 65535):  # states nothing
        assert decode_photo(gray_tiff(RAMP, odd), LIMITS).max() == 16


def test_more_than_the_stated_maximum_is_white_too() -> None:
    assert decode_photo(gray_tiff(RAMP, 1000), LIMITS)[-1, -1].tolist() == [255] * 3


def test_twelve_packed_bits_have_their_own_white() -> None:
    packed = bytearray()
    rows = np.concatenate([RAMP, np.zeros((13, 1), np.uint16)], axis=1)  # an even number
    for low, high in rows.reshape(-1, 2).tolist():
        packed += bytes([low >> 4, (low & 15) << 4 | high >> 8, high & 255])
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in {256: 18, 257: 13, 258: 12, 259: 1, 262: 1, 277: 1, 278: 13, 279: len(packed)}.items():
        tags[tag] = value
    tags[273] = 0  # from the end of the tags
    head = io.BytesIO(b"II*\0\x08\0\0\0")
    head.seek(8)
    tags.save(head)
    data = head.getvalue() + bytes(packed)
    assert np.abs(decode_photo(data, LIMITS)[:, :17, 0] - EIGHT).max() <= 0.51


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bands", [3, 4])
def test_colour_of_twelve_bits_keeps_them(order: str, bands: int) -> None:
    parts = [RAMP, RAMP[::-1], RAMP[:, ::-1], np.full_like(RAMP, 4095)]
    samples = np.dstack(parts[:bands])
    photo = decode_photo(color_tiff(samples, 4095, order), LIMITS)
    assert np.abs(photo - samples[..., :3] / 4095 * 255).max() <= 0.51


@pytest.mark.parametrize("order", ["<", ">"])
def test_colour_without_a_stated_maximum_is_as_before(order: str) -> None:
    samples = np.dstack([RAMP * 16, RAMP[::-1] * 16, RAMP[:, ::-1] * 16])
    photo = decode_photo(color_tiff(samples, None, order), LIMITS)
    assert np.abs(photo - samples / 257).max() <= 1.01
