"""Cutting pictures: any size comes back as it was, tiles leave no seam, no run is larger than a tile."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneglance_core.folder import read_any_model_folder
from oneglance_core.pictures import PictureLimits, decode_layers
from oneglance_server.engines.painting import Look, Painted, Painter
from oneglance_server.engines.session import Runtime
from oneglance_server.engines.stylizer import Floats, Pixels, Stylizer
from oneglance_server.engines.tiles import Grid, Span, cut
from tests.pictures import png
from tests.style_models import BLOCK, MARGIN, style_model, tinted

LIMITS = PictureLimits(16 << 20, 50_000_000)
LOOK = Look(np.array([0.5, 0.5, 0, 0], np.float32))


class Watched(Stylizer):
    """A stylizer that remembers what it was given, and the moments it used."""

    def __init__(self, folder: Any, runtime: Runtime) -> None:
        super().__init__(folder, runtime)
        self.runs: list[tuple[tuple[int, ...], Floats]] = []

    def run(
        self, image: Pixels, weights: Floats, moments: Floats | None = None, own: float = 0.0
    ) -> tuple[Floats, Floats]:
        stylized, used = super().run(image, weights, moments, own)
        self.runs.append((image.shape[:2], used))
        return stylized, used


@pytest.fixture(scope="module")
def stylizer(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return Watched(read_any_model_folder(style_model(tmp_path_factory.mktemp("tints"))), Runtime("cpu", 1, 1))


def painter(stylizer: Watched, *, bucket: int = 16, tile: int = 64, **manifest: object) -> Painter:
    stylizer.runs.clear()
    return Painter(stylizer, Grid(stylizer.manifest.model_copy(update=manifest), bucket=bucket, tile=tile), LIMITS)


def paint(painter: Painter, pixels: npt.NDArray[Any], look: Look = LOOK) -> tuple[Painted, Pixels]:
    """All steps at once, and the pixels."""
    steps = painter.paint(png(pixels), look, "PNG")
    try:
        while True:
            next(steps)
    except StopIteration as done:
        painted: Painted = done.value
        return painted, decode_layers(painted.image, LIMITS).pixels


def noise(height: int, width: int) -> Pixels:
    """A picture of coarse and fine grain, uint8 [height, width, 3]."""
    random = np.random.default_rng(height * 1000 + width)
    coarse = random.integers(0, 200, (height // 9 + 1, width // 9 + 1, 3)).repeat(9, axis=0).repeat(9, axis=1)
    return (coarse[:height, :width] + random.integers(0, 56, (height, width, 3))).astype(np.uint8)


def whole(painter: Painter, pixels: Pixels, moments: Floats | None) -> Floats:
    """The picture stylized in one run, under given moments or its own, float32 [H, W, 3]."""
    height, width, _ = pixels.shape
    plan = painter.grid.plan(height, width)
    ends = [spans[-1].begin + spans[-1].length for spans in (plan.rows, plan.columns)]
    lengthened = np.pad(pixels, [(0, ends[0] - height), (0, ends[1] - width), (0, 0)], mode="symmetric")
    stylized, _ = tinted(lengthened, LOOK.weights, moments, 1.0 if moments is None else 0.0)
    return stylized[:height, :width]


@given(height=st.integers(1, 200), width=st.integers(1, 200))
def test_any_size_comes_back_and_no_run_is_larger_than_a_tile(stylizer: Watched, height: int, width: int) -> None:
    pixels = noise(height, width)
    painted, found = paint(painter(stylizer), pixels)
    assert (painted.width, painted.height) == (width, height)
    assert found.shape == pixels.shape
    shapes = {shape for shape, _ in stylizer.runs}
    assert all(h * w <= 64 * 64 and not h % BLOCK and not w % BLOCK and min(h, w) >= 16 for h, w in shapes)
    assert len(stylizer.runs) == painted.tiles + (painted.tiles > 1)
    assert len(shapes) <= 2  # the small copy's, and the tile's
    _, untouched = paint(painter(stylizer), pixels, Look(LOOK.weights, strength=0))
    assert np.array_equal(untouched, pixels)


@given(height=st.integers(1, 200), width=st.integers(1, 200))
def test_tiles_under_given_moments_are_the_whole_under_the_same(stylizer: Watched, height: int, width: int) -> None:
    pixels, one = noise(height, width), painter(stylizer)
    painted, found = paint(one, pixels)
    moments = None
    if painted.tiles > 1:
        moments = stylizer.runs[0][1]
        assert all(np.array_equal(used, moments) for _, used in stylizer.runs)
    assert np.abs(found - whole(one, pixels, moments)).max() <= 1


def test_a_margin_too_small_would_show_seams(stylizer: Watched) -> None:
    """The test above can fail: with less overlap than the network needs, it would."""
    pixels, one = noise(150, 200), painter(stylizer, margin=0)
    painted, found = paint(one, pixels)
    assert painted.tiles > 4
    assert np.abs(found - whole(one, pixels, stylizer.runs[0][1])).max() > 3


def test_moments_come_from_a_small_copy_near_those_of_the_whole(stylizer: Watched) -> None:
    pixels = noise(20, 20).repeat(9, axis=0).repeat(9, axis=1)
    paint(painter(stylizer), pixels)
    used, own = stylizer.runs[0][1], tinted(pixels, LOOK.weights)[1]
    assert np.abs(used[:, 0] - own[:, 0]).max() < 3
    assert np.abs(used[:, 1] / own[:, 1] - 1).max() < 0.15
    assert not np.array_equal(used, own)


def test_what_transparency_hides_has_no_say_in_the_moments(stylizer: Watched) -> None:
    seen, hidden = np.full((160, 160, 4), 255, np.uint8), np.zeros(4, np.uint8)
    seen[..., :3] = noise(20, 20).repeat(8, axis=0).repeat(8, axis=1) // 2 + 120
    seen[::2] = hidden  # as most programs write it: black
    paint(painter(stylizer), seen)
    hidden_black = stylizer.runs[0][1]
    seen[::2, :, :3] = 255
    paint(painter(stylizer), seen)
    assert np.abs(hidden_black - stylizer.runs[0][1]).max() < 1


@pytest.mark.parametrize(("height", "width"), [(1, 50_000), (50_000, 1), (3, 20_000), (1, 1), (2, 4097)])
def test_thin_pictures_are_cut_in_thin_tiles(stylizer: Watched, height: int, width: int) -> None:
    pixels, one = noise(height, width), painter(stylizer)
    painted, found = paint(one, pixels)
    assert found.shape == pixels.shape
    assert max(min(shape) for shape, _ in stylizer.runs) == 16
    assert (painted.tiles > 1) == (max(height, width) > 64 * 64 // 16)
    moments = stylizer.runs[0][1] if painted.tiles > 1 else None
    assert np.abs(found - whole(one, pixels, moments)).max() <= 1


@given(side=st.integers(1, 5000), tile=st.sampled_from([64, 68, 100, 256]), bucket=st.sampled_from([1, 16, 64, 50]))
def test_spans_cover_a_side_once_and_overlap_enough(stylizer: Watched, side: int, tile: int, bucket: int) -> None:
    grid = Grid(stylizer.manifest, bucket=bucket, tile=tile)
    plan = grid.plan(side, 5000)
    assert len(plan) == len(plan.rows) * len(plan.columns) == len(list(plan))
    for spans, length in ((plan.rows, side), (plan.columns, 5000)):
        assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
        assert spans[-1].stop == length
        assert len({span.length for span in spans}) == 1
        for span in spans:
            assert not span.begin % BLOCK
            assert not span.length % BLOCK
            assert span.start == 0 or span.start - span.begin >= MARGIN
            assert span.stop == length or span.begin + span.length - span.stop >= MARGIN
    small = grid.small_copy(side, 5000)
    assert len(grid.plan(*small)) == 1


def test_reflection_repeats_the_edge() -> None:
    pixels = np.arange(3, dtype=np.uint8).reshape(1, 3, 1)
    tile = cut(pixels, Span(0, 4, 0, 1), Span(0, 8, 0, 3))
    assert tile[..., 0].tolist() == [[0, 1, 2, 2, 1, 0, 0, 1]] * 4
    assert np.array_equal(
        cut(pixels, Span(0, 2, 0, 1), Span(0, 70, 0, 3)), np.pad(pixels, [(0, 1), (0, 67), (0, 0)], mode="symmetric")
    )


def test_every_step_is_one_run_at_most(stylizer: Watched, tmp_path: Path) -> None:
    steps = painter(stylizer).paint(png(noise(150, 150)), LOOK, "PNG")
    runs = 0
    for _ in steps:
        assert len(stylizer.runs) - runs <= 1
        runs = len(stylizer.runs)
    assert runs > 9
