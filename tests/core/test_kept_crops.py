"""What is kept of a picture: small enough, upright, and with the face where it is said to be."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from oneglance_core.faces.turns import turn_box
from oneglance_core.glyphs import alphabet
from oneglance_core.kept_crops import LONGEST_SIDE, crop_of, face_crop_of, read_crop

MOST = 256 << 10
FACE = (255, 0, 0)


def decoded(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 90), st.integers(1, 90))
def test_a_small_picture_is_kept_as_it_is(height: int, width: int) -> None:
    pixels = noise(height, width)
    crop = read_crop(crop_of(pixels, MOST))
    assert crop.box is None
    assert (decoded(crop.picture) == pixels).all()


def test_a_drawing_is_kept_as_it_is_and_in_gray() -> None:
    ink = next(iter(alphabet(5, 1, 1, 400))).drawings[0]
    pixels = np.repeat(ink[..., np.newaxis], 3, axis=2)
    crop = read_crop(crop_of(pixels, MOST))
    assert Image.open(io.BytesIO(crop.picture)).mode == "L"
    assert (decoded(crop.picture) == pixels).all()


@pytest.mark.parametrize("colour", [(0, 0, 0), (200, 30, 60)])
def test_a_large_drawing_of_which_jpeg_has_more_bytes_is_kept_as_it_is(colour: tuple[int, int, int]) -> None:
    drawing = Image.new("RGB", (512, 400), "white")
    corners = np.random.default_rng(1).integers(0, 400, (40, 4)).tolist()
    for one in corners:
        ImageDraw.Draw(drawing).line(one, colour, 3)
    crop = read_crop(crop_of(np.asarray(drawing), MOST))
    assert len(crop.picture) < 64 << 10
    assert (decoded(crop.picture) == np.asarray(drawing)).all()


@pytest.mark.parametrize(
    ("size", "kept"), [((2000, 1000), (512, 256)), ((1, 5000), (1, 512)), ((512, 512), (512, 512))]
)
def test_a_large_one_is_shrunk_and_bounded(size: tuple[int, int], kept: tuple[int, int]) -> None:
    data = crop_of(noise(*size), MOST)
    assert len(data) <= MOST
    assert decoded(read_crop(data).picture).shape == (*kept, 3)


def test_what_can_not_be_written_in_so_many_bytes_is_not_kept() -> None:
    assert crop_of(noise(512, 512), 20_000) == b""
    assert 0 < len(crop_of(noise(256, 256), 100_000)) <= 100_000


@given(st.integers(20, 900), st.integers(20, 900), st.sampled_from([0, 90, 180, 270]), st.floats(0, 1), st.floats(0, 1))
def test_the_face_is_where_it_is_said_to_be(height: int, width: int, turn: int, across: float, down: float) -> None:
    side = max(8, min(height, width) // 4)
    x, y = round(across * (width - side)), round(down * (height - side))
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[y : y + side, x : x + side] = FACE
    pixels[y : y + side // 2, x : x + side // 2] = (0, 0, 255)  # its top left, until it is turned
    crop = read_crop(face_crop_of(pixels, (x, y, side, side), turn, MOST))
    assert crop.box is not None
    left, top, wide, high = crop.box
    found = decoded(crop.picture)
    assert max(found.shape[:2]) <= LONGEST_SIDE
    assert abs(wide - high) < 1e-3
    inside = found[round(top + 1) : round(top + high - 1), round(left + 1) : round(left + wide - 1)]
    assert (np.abs(inside.astype(int) - 90).max(axis=2) > 60).mean() > 0.9
    assert max(found.shape[:2]) <= 2.5 * wide + 3
    corner = turn_box((x + side / 8, y + side / 8, 1, 1), width, height, turn)
    upright = turn_box((x, y, side, side), width, height, turn)
    scale = wide / side
    seen = found[int(top + (corner[1] - upright[1]) * scale), int(left + (corner[0] - upright[0]) * scale)]
    assert seen[2] > 150 > seen[0]
