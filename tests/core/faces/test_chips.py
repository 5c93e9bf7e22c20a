"""The similarity, and chips: against plain loops, against what must hold, against dlib pixel for pixel."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oneglance_core.faces.chips import cut_chip, similarity

Pixels = npt.NDArray[np.uint8]
# dlib's mean face with padding 0.25 in 150 x 150, from its get_face_chip_details; (0, 0) the first pixel's centre.
MEAN_FACE = [
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
]
TEMPLATE, SMALL = ([((x + 0.25) / 1.5 * s - 0.5, (y + 0.25) / 1.5 * s - 0.5) for x, y in MEAN_FACE] for s in (150, 30))

turns = st.floats(-math.pi, math.pi)
scales = st.floats(0.05, 20)
shifts = st.complex_numbers(max_magnitude=500)


def placed(factor: complex, shift: complex, template: list[tuple[float, float]] = TEMPLATE) -> npt.NDArray[np.float64]:
    """The template after a similarity, given as complex numbers."""
    points = np.array([complex(*p) for p in template]) * factor + shift
    return np.stack([points.real, points.imag], axis=1)


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(turns, scales, shifts)
def test_similarity_recovers_a_known_one(turn: float, scale: float, shift: complex) -> None:
    factor = scale * complex(math.cos(turn), math.sin(turn))
    found = similarity(placed(factor, shift), TEMPLATE)
    expected = [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=5, max_size=5))
def test_similarity_is_the_least_squares_one(points: list[tuple[float, float]]) -> None:
    # x = a u - b v + c, y = b u + a v + d is linear in (a, b, c, d).
    rows = [row for u, v in TEMPLATE for row in ((u, -v, 1, 0), (v, u, 0, 1))]
    a, b, c, d = np.linalg.lstsq(np.array(rows), np.array(points).ravel(), rcond=None)[0]
    np.testing.assert_allclose(similarity(points, TEMPLATE), [[a, -b, c], [b, a, d]], atol=1e-7)


def test_similarity_never_mirrors() -> None:
    mirrored = np.array(TEMPLATE) * (-1, 1)
    matrix = similarity(mirrored, TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) >= 0


@pytest.mark.parametrize(
    ("points", "template", "words"),
    [
        (np.full((5, 2), np.nan), TEMPLATE, "finite"),
        (np.full((5, 2), 1e12), TEMPLATE, "finite"),
        (np.zeros((4, 2)), TEMPLATE, "as many"),
        (np.zeros((5, 3)), np.zeros((5, 3)), "as many"),
        (np.zeros((5, 2)), np.ones((5, 2)), "single point"),
    ],
)
def test_points_that_make_no_chip_are_refused(points: Any, template: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cut_chip(noise(20, 20), points, template, 30, 30)


def plainly(photo: Pixels, points: Any, template: Any, size: int) -> npt.NDArray[np.float64]:
    """A chip of a face that needs no halving, pixel by pixel, before its values are cut to whole levels."""
    matrix = similarity(points, template)
    scale = math.hypot(*matrix[:, 0])
    middle = (size - 1) / 2
    stretch = (size * scale - 1) / (size - 1) / scale
    chip = np.zeros((size, size, 3))
    for row in range(size):
        for column in range(size):
            u, v = middle + (column - middle) * stretch, middle + (row - middle) * stretch
            x, y = matrix @ (u, v, 1)
            i, j = math.floor(y), math.floor(x)
            if 0 <= i < len(photo) - 1 and 0 <= j < photo.shape[1] - 1:
                p, q = y - i, x - j
                upper = (1 - q) * photo[i, j] + q * photo[i, j + 1]
                lower = (1 - q) * photo[i + 1, j] + q * photo[i + 1, j + 1]
                chip[row, column] = (1 - p) * upper + p * lower
    return chip


def test_chip_is_as_in_plain_loops() -> None:
    random = np.random.default_rng(1)
    for seed in range(40):
        photo = noise(60, 80, seed)
        factor = random.uniform(0.3, 1.9) * np.exp(1j * random.uniform(-np.pi, np.pi))
        points = placed(complex(factor), complex(*random.uniform(-30, 80, 2)), SMALL)
        chip = cut_chip(photo, points, SMALL, 12, 12)
        expected = plainly(photo, points, SMALL, 12)
        assert (chip <= expected + 1e-6).all()
        assert (chip > expected - 1 - 1e-6).all()


@settings(max_examples=40)
@given(st.integers(0, 3), turns, st.floats(0.5, 1.9), st.integers(0, 99))
def test_chip_of_a_turned_photo_is_the_same(quarters: int, turn: float, scale: float, seed: int) -> None:
    size = 100
    photo = noise(size, size, seed)
    factor = scale * complex(math.cos(turn), math.sin(turn))
    points = placed(factor, complex(50, 50) - factor * complex(14.5, 14.5), SMALL)
    chip = cut_chip(photo, points, SMALL, 30, 30)
    for _ in range(quarters):
        photo = np.rot90(photo)
        points = np.stack([points[:, 1], size - 1 - points[:, 0]], axis=1)
    again = cut_chip(photo, points, SMALL, 30, 30)
    assert np.abs(chip.astype(int) - again).max() <= 1


@pytest.mark.parametrize("scale", [0.4, 1.7, 2.5, 5.3, 11.0, 30.0])
def test_chip_of_a_slope_is_that_slope(scale: float) -> None:
    """Neither the binomial filter nor bilinear sampling changes a plane, so every halving can be followed exactly."""
    y, x = np.mgrid[:1400, :1300]
    slope = (x * 0.11 + y * 0.06).astype(np.uint8)
    photo = np.stack([slope, 255 - slope, slope // 2], axis=2)
    factor = scale * complex(0.98, 0.2)
    chip = cut_chip(photo, placed(factor, complex(650, 700) - factor * complex(14.5, 14.5), SMALL), SMALL, 30, 30)
    v, u = np.mgrid[:30, :30] - 14.5
    along, across = factor.real * u - factor.imag * v, factor.imag * u + factor.real * v
    expected = (650 + along) * 0.11 + (700 + across) * 0.06
    # Each halving rounds down once, and dlib places it a quarter pixel off.
    halvings = math.ceil(math.log2(scale))
    assert np.abs(chip[..., 0] - expected).max() < 3 + halvings + 0.03 * scale


def test_what_lies_beyond_the_photo_is_black() -> None:
    photo = np.full((100, 100, 3), 255, np.uint8)
    chip = cut_chip(photo, placed(0.5, -20 + 0j), TEMPLATE, 150, 150)
    assert set(np.unique(chip)) == {0, 255}
    assert (chip[:, :40] == 0).all()
    assert (chip[:, 45:] == 255).all()


@pytest.mark.parametrize(
    ("shape", "points"),
    [
        ((100, 100), placed(1, 5000 + 0j)),
        ((100, 100), placed(0, 50 + 50j)),
        ((1, 1), placed(0.01, 0j)),
        ((1, 300), placed(1, 0j)),
        ((7, 7), placed(100, 0j)),
        ((100, 100), placed(1e5, -1e6 + 0j)),
        ((100, 100), placed(1e6, 1e8j)),
    ],
)
def test_odd_faces_still_give_a_chip(shape: tuple[int, int], points: npt.NDArray[np.float64]) -> None:
    assert cut_chip(noise(*shape), points, TEMPLATE, 150, 150).shape == (150, 150, 3)


def dlib_chip(dlib: Any, photo: Pixels, points: npt.NDArray[np.float64], size: int) -> Pixels:
    parts = [dlib.point(int(x), int(y)) for x, y in points]
    face = dlib.full_object_detection(dlib.rectangle(0, 0, 9, 9), parts)
    chip: Pixels = dlib.get_face_chip(photo, face, size, 0.25)
    return chip


def test_chips_are_dlibs_anywhere_at_any_size(dlib: Any) -> None:
    random = np.random.default_rng(5)
    photo = noise(400, 500)
    for _ in range(150):
        factor = np.exp(random.uniform(-1.5, 2.5)) * np.exp(1j * random.uniform(-np.pi, np.pi))
        points = placed(complex(factor), complex(*random.uniform(-200, 600, 2)))
        points = np.round(points + random.uniform(-10, 10, points.shape))
        np.testing.assert_array_equal(cut_chip(photo, points, TEMPLATE, 150, 150), dlib_chip(dlib, photo, points, 150))


def test_chips_of_real_faces_are_dlibs(dlib: Any, weights: Path, face_photos: dict[str, Pixels]) -> None:
    predictor = dlib.shape_predictor(str(weights / "shape_predictor_5_face_landmarks.dat"))
    for i, (name, photo) in enumerate(face_photos.items()):
        for times in (1, 3, 7) if i % 8 == 0 else (1,):
            height, width = photo.shape[0] * times, photo.shape[1] * times
            larger = np.array(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))
            border = width // 5
            face = predictor(larger, dlib.rectangle(border, border, width - border, height - border))
            points = np.array([(part.x, part.y) for part in face.parts()], np.float64)
            chip = cut_chip(larger, points, TEMPLATE, 150, 150)
            assert np.array_equal(chip, dlib.get_face_chip(larger, face, 150, 0.25)), (name, times)
