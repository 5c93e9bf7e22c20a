"""Strokes of another size: a copy is painted and brought back, with the picture's own edges."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oneglance import Client, InvalidArgumentError
from oneglance_core.pictures import Layers
from oneglance_server.engines import strokes
from oneglance_server.engines.painting import PaintOptions
from oneglance_server.engines.strokes import BroughtBack, copied, copy_size, strips
from tests.pictures import png
from tests.running import server_thread
from tests.server.test_stylize import direct, near, opened, scene
from tests.server.test_stylize_tiles import LOOK, Watched, noise, painter
from tests.server.test_stylize_tiles import stylizer as stylizer

LANCZOS = Image.Resampling.LANCZOS


@pytest.fixture(scope="module")
def styles(tints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = {"data_dir": tmp_path_factory.mktemp("data"), "models": (tints,), "stylize_tile": 128}
    with (
        server_thread(**settings, max_stylize_pixels=300_000, max_frame_pixels=100_000) as server,
        Client(server.address) as client,
    ):
        yield client


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), LANCZOS))


def test_one_is_as_the_stylizer_paints(styles: Client) -> None:
    for pixels in (scene(), scene(200, 300)):
        assert styles.stylize(png(pixels), "moss", stroke_size=1).image == styles.stylize(png(pixels), "moss").image


def test_large_strokes_are_those_of_a_small_copy(styles: Client) -> None:
    pixels = np.repeat(np.repeat(scene(), 2, axis=0), 2, axis=1)  # no detail that a copy would lack
    answer = styles.stylize(png(pixels), "moss", stroke_size=2)
    assert (answer.width, answer.height, answer.tiles) == (256, 128, 1)
    painted = direct(resized(pixels, 64, 128), moss=1)
    found = resized(opened(answer), 64, 128)
    assert np.abs(found - painted).mean() < 2
    assert np.abs(found - resized(opened(styles.stylize(png(pixels), "moss")), 64, 128)).mean() > 4


def test_small_strokes_are_those_of_an_enlarged_copy(styles: Client) -> None:
    pixels = scene(32, 64)
    answer = styles.stylize(png(pixels), "moss", stroke_size=0.5)
    assert (answer.width, answer.height, answer.tiles) == (64, 32, 1)
    painted = direct(resized(pixels, 64, 128), moss=1).round().astype(np.uint8)
    assert near(opened(answer), resized(painted, 32, 64), 1)
    assert styles.stylize(png(scene()), "moss", stroke_size=0.5).tiles > 1


def test_edges_of_the_picture_stay_sharp() -> None:
    picture = np.full((60, 60, 3), 40, np.uint8)
    picture[:, 31:] = 210  # not where the copy's pixels meet
    copy = resized(picture, 20, 20)
    painted = (30 + copy * 0.8).astype(np.uint8)
    back = BroughtBack(copy, painted, 60, 60).rows(slice(0, 60), picture)
    plain = resized(painted, 60, 60).astype(float)
    assert np.abs(np.diff(back, axis=1)).max() > 1.6 * np.abs(np.diff(plain, axis=1)).max()
    assert np.abs(back - (30 + picture * 0.8))[20:40].mean() < np.abs(plain - (30 + picture * 0.8))[20:40].mean() / 2


def test_nothing_of_the_picture_comes_through_where_the_painting_is_flat() -> None:
    picture = noise(90, 120)
    copy = resized(picture, 30, 40)
    back = BroughtBack(copy, np.full_like(copy, 77), 90, 120).rows(slice(0, 90), picture)
    assert np.abs(back - 77).max() < 0.01


@given(height=st.integers(1, 90), width=st.integers(1, 90), times=st.floats(0.5, 4), rows=st.integers(1, 40))
@settings(deadline=None)
def test_strips_join_without_a_seam(height: int, width: int, times: float, rows: int) -> None:
    picture = noise(height, width)
    copy = copied(Layers(picture), copy_size(height, width, times), LANCZOS).pixels
    back = BroughtBack(copy, 255 - copy // 2, height, width)
    whole = back.rows(slice(0, height), picture)
    assert whole.shape == picture.shape
    for top in range(0, height, rows):
        some = slice(top, min(top + rows, height))
        assert np.abs(back.rows(some, picture[some]) - whole[some]).max() < 1.5


@given(height=st.integers(1, 200), width=st.integers(1, 200), times=st.floats(0.5, 4))
@settings(deadline=None)
def test_any_size_comes_back_in_the_steps_that_were_told(
    stylizer: Watched, height: int, width: int, times: float
) -> None:
    look = PaintOptions(LOOK.weights, stroke_size=times)
    small = painter(stylizer)
    work = small.work(height, width, times)
    steps = small.paint(png(noise(height, width)), look, "PNG")
    taken = 1
    try:
        while True:
            next(steps)
            taken += 1
    except StopIteration as done:
        painted = done.value
    assert taken == work.steps
    assert (painted.height, painted.width, painted.tiles) == (height, width, work.tiles)
    assert all(tall * wide <= 64**2 for (tall, wide), _ in stylizer.runs)
    assert work.pixels in (height * width, height * width + work.height * work.width)


def test_a_large_picture_is_brought_back_in_several_steps() -> None:
    assert [(rows.start, rows.stop) for rows in strips(3000, 500)] == [(0, 1048), (1048, 2096), (2096, 3000)]
    assert strips(1, 2 * strokes._STRIP_PIXELS) == [slice(0, 1)]


def test_strength_colors_and_transparency_hold_at_any_stroke_size(styles: Client) -> None:
    pixels = scene(90, 130)
    alpha = np.linspace(0, 255, pixels[..., 0].size).reshape(90, 130).astype(np.uint8)
    came = np.dstack([pixels, alpha])
    for times in (0.5, 3):
        untouched = styles.stylize(png(came), "slate", stroke_size=times, strength=0)
        assert np.array_equal(opened(untouched), came)
        full, half = (
            opened(styles.stylize(png(pixels), "slate", stroke_size=times, strength=share)) for share in (1, 0.5)
        )
        assert near(half, (full.astype(float) + pixels) / 2)


def test_limits_hold_for_the_copy_too(styles: Client) -> None:
    large = png(scene(400, 500))
    assert styles.stylize(large, "moss", stroke_size=4).width == 500
    with pytest.raises(InvalidArgumentError, match="1000 x 800 pixels to stylize, at most 300000") as caught:
        styles.stylize(large, "moss", stroke_size=0.5)
    assert caught.value.reason == "IMAGE_TOO_LARGE"
    (answer,) = styles.stylize_stream([png(scene(200, 300))], "moss", stroke_size=0.5, every_frame=True)
    assert answer.error.reason == "IMAGE_TOO_LARGE"


def test_frames_are_painted_in_strokes_of_that_size_and_kept_steady(styles: Client) -> None:
    still = [png(scene(90, 130))] * 4
    answers = list(styles.stylize_stream(still, "moss", stroke_size=2, steadiness=0.9, format="png", every_frame=True))
    first, *rest = (opened(answer.picture) for answer in answers)
    assert first.shape == (90, 130, 3)
    assert near(first, opened(styles.stylize(still[0], "moss", stroke_size=2)))
    assert all(near(other, first) for other in rest)
