"""Where points and boxes are in a turned photo, against numpy."""

import numpy as np
import pytest

from oneglance_core.faces.turns import turn_box, turn_points


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_point_follows_its_pixel(degrees: int) -> None:
    photo = np.arange(5 * 7).reshape(5, 7)  # 7 wide, 5 high
    turned = np.rot90(photo, -degrees // 90)
    for y in range(5):
        for x in range(7):
            ((u, v),) = turn_points([(x, y)], 7, 5, degrees)
            assert turned[int(v), int(u)] == photo[y, x]
            height, width = turned.shape
            assert turn_points([(u, v)], width, height, (360 - degrees) % 360) == ((x, y),)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_box_follows_its_pixels(degrees: int) -> None:
    photo = np.zeros((5, 7), bool)
    photo[1:3, 2:6] = True
    rows, columns = np.nonzero(np.rot90(photo, -degrees // 90))
    x, y, width, height = turn_box((2, 1, 4, 2), 7, 5, degrees)
    assert (x, y) == (float(columns.min()), float(rows.min()))
    assert (width, height) == (float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1)
