"""Tiles: as few as fit, all of one size, inside the photo; every point is in one core, away from the tile's edges."""

import pytest

from oneglance_core.faces.tiles import tiles


@pytest.mark.parametrize(("height", "width"), [(2160, 3840), (3840, 2160), (700, 700), (100, 9000), (1, 1)])
@pytest.mark.parametrize("overlap", [2, 101, 480])
@pytest.mark.parametrize("most", [300_000, 1_500_000, 10_000_000])
def test_every_point_is_in_one_core(height: int, width: int, overlap: int, most: int) -> None:
    found = tiles(height, width, overlap, lambda tall, wide: tall * wide <= most)
    assert len({(one.height, one.width) for one in found}) == 1
    assert all(one.height * one.width <= most or max(one.height, one.width) <= 2 * overlap for one in found)
    assert len(found) == 1 or height * width > most
    for one in found:
        assert 0 <= one.top <= height - one.height
        assert 0 <= one.left <= width - one.width
    for y in [*range(-3, height, 97), height - 1, height + 3]:
        for x in [*range(-3, width, 97), width - 1, width + 3]:
            (owner,) = (one for one in found if one.owns(x, y))
            for at, begin, side, end in ((y, owner.top, owner.height, height), (x, owner.left, owner.width, width)):
                assert begin == 0 or at >= begin + overlap // 2 - 1
                assert begin + side == end or at <= begin + side - overlap // 2 + 1


def test_as_few_as_fit() -> None:
    assert len(tiles(2160, 3840, 480, lambda tall, wide: tall * wide <= 5_500_000)) == 2
    assert len(tiles(2160, 3840, 480, lambda tall, wide: True)) == 1
