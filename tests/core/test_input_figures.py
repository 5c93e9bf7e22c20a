"""Figures of an encoder's input: what each must say of pictures made for it."""

import numpy as np
import numpy.typing as npt
import pytest

from oneglance_core.input_figures import FIGURES, input_figures

Pixels = npt.NDArray[np.uint8]


def gray(*rows: list[int]) -> Pixels:
    return np.array(rows, np.uint8)[..., None]


def test_shares_are_of_light_dark_and_middle_pixels() -> None:
    found = input_figures(gray([255, 224, 223, 32], [31, 0, 128, 255]))
    assert (found["light"], found["dark"], found["middle"]) == (3 / 8, 2 / 8, 3 / 8)


def test_a_flat_picture_deviates_in_nothing() -> None:
    found = input_figures(np.full((9, 7, 3), 77, np.uint8))
    assert (found["deviation"], found["detail"], found["colour"]) == (0, 0, 0)


def test_deviation_and_detail_against_numpy() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 31, 1), dtype=np.uint8)
    levels = picture[..., 0].astype(np.float64)
    steps = np.concatenate([np.abs(np.diff(levels, axis=0)).ravel(), np.abs(np.diff(levels, axis=1)).ravel()])
    found = input_figures(picture)
    assert found["deviation"] == pytest.approx(levels.std() / 255)
    assert found["detail"] == pytest.approx(steps.mean() / 255)


def test_colour_is_how_far_the_channels_are_apart() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0] = (255, 0, 0)
    assert input_figures(picture)["colour"] == pytest.approx(0.5)
    assert input_figures(picture[..., :1])["colour"] == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (4, 1, 1)])
def test_every_figure_is_there_and_a_share_whatever_the_size(shape: tuple[int, ...]) -> None:
    found = input_figures(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))
    assert set(found) == set(FIGURES)
    assert all(0 <= value <= 1 for value in found.values())
