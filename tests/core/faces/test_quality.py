"""Quality: what each number must say of pictures made for it."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneglance_core.faces.quality import quality

UPRIGHT = np.array([(110, 46), (89, 47), (37, 46), (58, 47), (74, 87)], np.float64)


def chip_of(gray: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    return np.repeat(gray[..., None].astype(np.uint8), 3, axis=2)


def test_a_flat_chip_has_neither_sharpness_nor_contrast() -> None:
    found = quality(chip_of(np.full((150, 150), 51)), UPRIGHT, UPRIGHT)
    assert (found.sharpness, found.contrast) == (0, 0)
    assert found.brightness == pytest.approx(0.2)


def test_black_and_white_has_the_most_contrast_there_is() -> None:
    y, x = np.mgrid[:150, :150]
    found = quality(chip_of((x + y) % 2 * 255), UPRIGHT, UPRIGHT)
    assert found.contrast == pytest.approx(0.5)
    assert found.brightness == pytest.approx(0.5)
    assert found.sharpness == pytest.approx(4 * 255)  # the Laplacian is 4 x 255 up or down everywhere


def test_sharpness_is_the_spread_of_the_laplacian() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (20, 30))
    middle = gray[5:15, 7:23]  # the middle half counts
    laplacian = [
        middle[i - 1, j] + middle[i + 1, j] + middle[i, j - 1] + middle[i, j + 1] - 4 * middle[i, j]
        for i in range(1, 9)
        for j in range(1, 15)
    ]
    assert quality(chip_of(gray), UPRIGHT, UPRIGHT).sharpness == pytest.approx(np.std(laplacian), rel=1e-5)


def test_what_is_around_the_face_does_not_count() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (40, 40))
    beyond_the_edge = gray.copy()
    beyond_the_edge[:, :10] = 0
    assert quality(chip_of(gray), UPRIGHT, UPRIGHT) == quality(chip_of(beyond_the_edge), UPRIGHT, UPRIGHT)


def test_blur_takes_sharpness_away() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (150, 150)).astype(np.float64)
    blurred = (gray[:-1, :-1] + gray[1:, :-1] + gray[:-1, 1:] + gray[1:, 1:]) / 4
    assert (
        quality(chip_of(blurred), UPRIGHT, UPRIGHT).sharpness < quality(chip_of(gray), UPRIGHT, UPRIGHT).sharpness / 3
    )


@given(st.floats(-179, 179), st.floats(0.1, 100), st.floats(-1e3, 1e3))
def test_the_alignment_error_is_that_of_the_landmarks_whatever_the_size(
    degrees: float, scale: float, shift: float
) -> None:
    turn = math.radians(degrees)
    turned = UPRIGHT @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) * scale + shift
    flat = chip_of(np.zeros((10, 10)))
    assert quality(flat, turned, UPRIGHT).alignment_error == pytest.approx(0, abs=1e-6)
    eyes = math.hypot(99.5 - 47.5, 46.5 - 46.5)
    assert quality(flat, turned, UPRIGHT).eye_distance == pytest.approx(scale * eyes)


def test_the_alignment_error_is_a_share_of_the_eye_distance() -> None:
    template = np.array([(3, 0), (1, 0), (-3, 0), (-1, 0), (0, 4)], np.float64)
    points = template * 10
    points[4] += (0, 10)  # the nose 10 pixels too low: what no rotation, scale or shift makes up for wholly
    matrix = np.concatenate([template, np.ones((5, 1))], axis=1)
    # Without rotation, by the symmetry: least squares over scale s and shift t of y, by hand.
    rows = np.concatenate([np.stack([template[:, 0], np.zeros(5)], 1), np.stack([template[:, 1], matrix[:, 2]], 1)])
    solved = np.linalg.lstsq(rows, np.concatenate([points[:, 0], points[:, 1]]), rcond=None)[0]
    left = np.concatenate([points[:, 0], points[:, 1]]) - rows @ solved
    expected = math.sqrt((left**2).sum() / 5) / 40
    found = quality(chip_of(np.zeros((10, 10))), points, template)
    assert found.eye_distance == pytest.approx(40)
    assert found.alignment_error == pytest.approx(expected)
    assert expected > 0.03


@given(st.floats(-179, 179), st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_roll_is_how_far_the_face_was_turned_clockwise(degrees: float, scale: float, shift: float) -> None:
    # y grows downwards, so turning by a positive angle is clockwise to the eye. The mean eyes lie level to 0.1 degrees.
    turn = math.radians(degrees)
    turned = UPRIGHT @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    flat = chip_of(np.zeros((10, 10)))
    roll = quality(flat, turned * scale + shift, UPRIGHT).roll_degrees
    assert abs((roll - degrees + 180) % 360 - 180) < 1e-3
