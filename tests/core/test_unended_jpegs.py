"""A JPEG without its end marker is a picture if all of it is there, and damaged if anything is missing."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oneglance_core.picture_structure import jpeg_scans
from oneglance_core.pictures import PictureError, PictureLimits, decode_photo, read_header

LIMITS = PictureLimits(1 << 24, 1 << 22)
NOISE = np.random.default_rng(1).integers(0, 256, (40, 56, 3), dtype=np.uint8)
# A smooth picture's last block may take a few bits; noise in every block takes many.
PICTURES = {"noise": NOISE, "smooth": np.asarray(Image.fromarray(NOISE[:3, :4]).resize((56, 40)))}
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "no subsampling": {"quality": 100, "subsampling": 0},
    "optimized": {"optimize": True},
    "restarts": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
    "gray": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "progressive gray": {"mode": "L", "progressive": True},
}
every = pytest.mark.parametrize("kind", KINDS)


def jpeg(kind: str, picture: str = "noise") -> bytes:
    options = dict(KINDS[kind])
    buffer = io.BytesIO()
    Image.fromarray(PICTURES[picture]).convert(options.pop("mode", "RGB")).save(buffer, "JPEG", **options)
    data = buffer.getvalue()
    assert data.endswith(b"\xff\xd9")
    return data


@every
@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("end", [b"", b"\xff", b"\xff\xff"])
def test_without_its_end_marker_it_is_the_same_picture(kind: str, picture: str, end: bytes) -> None:
    data = jpeg(kind, picture)
    assert np.array_equal(decode_photo(data[:-2] + end, LIMITS), decode_photo(data, LIMITS))
    assert read_header(data[:-2], LIMITS) == read_header(data, LIMITS)


@every
@pytest.mark.parametrize("picture", PICTURES)
def test_with_anything_missing_it_is_refused(kind: str, picture: str) -> None:
    data = jpeg(kind, picture)[:-2]
    first = data.index(b"\xff\xda")
    for end in (*range(first, len(data) - 40, 23), *range(max(first, len(data) - 40), len(data))):
        with pytest.raises(PictureError) as caught:
            decode_photo(data[:end], LIMITS)
        assert caught.value.reason == "IMAGE_UNDECODABLE"


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused() -> None:
    """What it has is whole, and shows a blurred picture; a decoder alone would take it."""
    data = jpeg("progressive")
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 3
    tables = {at: data.rfind(b"\xff\xc4", 0, at) for at in scans}  # of its Huffman codes, before each
    for at in scans[1:]:
        for end in (at, tables[at]):
            with pytest.raises(PictureError):
                decode_photo(data[:end], LIMITS)


@settings(max_examples=200)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_damage_before_the_missing_end_is_never_anything_but_a_picture_error(kind: str, at: int, change: bytes) -> None:
    data = bytearray(jpeg(kind)[:-2])
    at %= len(data)
    data[at : at + len(change)] = change
    with contextlib.suppress(PictureError):
        assert decode_photo(bytes(data), LIMITS).dtype == np.uint8


def test_arithmetic_coding_is_told_apart() -> None:
    """libjpeg fills in what is missing there, and doesn't even warn."""
    data = jpeg("baseline").replace(b"\xff\xc0", b"\xff\xc9", 1)
    scans = jpeg_scans(data[:-2])
    assert scans is not None
    assert (scans.whole, scans.arithmetic) == (True, True)
