"""Faces that stay as they are in a stylized picture."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oneglance import Client, FailedPreconditionError, OneglanceError
from oneglance_server.engines.face_mask import FaceMask
from tests.face_models import WINDOW, face_models, photo
from tests.pictures import png
from tests.running import server_thread
from tests.server.test_stylize import Pixels, opened, saved

PEOPLE = {(32, 24): 1, (88, 60): 2}  # person at (x, y)
PHOTO = photo(PEOPLE, size=(96, 128))


@pytest.fixture(scope="module")
def styles(tints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("kept")
    models = (tints, face_models(folder / "models"))
    with (
        server_thread(data_dir=folder / "data", models=models, min_face=10, stylize_tile=64) as server,
        Client(server.address) as client,
    ):
        yield client


def inside(pixels: Pixels, x: int, y: int, side: int = WINDOW) -> Pixels:
    return pixels[y : y + side, x : x + side]


def changed(found: Pixels, pixels: Pixels) -> npt.NDArray[np.float64]:
    """How much each pixel was repainted, [H, W]."""
    difference: npt.NDArray[np.float64] = np.abs(found.astype(np.float64) - pixels).max(axis=2)
    return difference


def test_faces_stay_and_all_else_is_stylized(styles: Client) -> None:
    painted = opened(styles.stylize(png(PHOTO), "ember"))
    kept = opened(styles.stylize(png(PHOTO), "ember", keep_faces=1))
    for x, y in PEOPLE:
        assert changed(inside(painted, x, y), inside(PHOTO, x, y)).mean() > 40
        assert changed(inside(kept, x, y), inside(PHOTO, x, y))[3:-3, 3:-3].max() == 0
    away = np.ones(PHOTO.shape[:2], bool)
    for x, y in PEOPLE:
        away[max(0, y - 16) : y + 32, x - 16 : x + 32] = False
    assert np.array_equal(kept[away], painted[away])


def test_a_share_is_kept_and_the_border_is_soft(styles: Client) -> None:
    painted, half, whole = (opened(styles.stylize(png(PHOTO), "ember", keep_faces=s)) for s in (0, 0.5, 1))
    x, y = 32, 24
    core = np.s_[y + 4 : y + 12, x + 4 : x + 12]
    assert np.abs(half[core] - (painted[core].astype(float) + PHOTO[core]) / 2).max() <= 1
    share = 1 - changed(whole, PHOTO) / np.maximum(changed(painted, PHOTO), 1)
    border = share[y + 8, x - 8 : x + 8]
    assert (np.diff(border) >= -0.05).all()  # rises from outside to the face
    assert ((border > 0.1) & (border < 0.9)).any()


def test_it_goes_with_strength_colors_and_stroke_size(styles: Client) -> None:
    for more in ({"strength": 0.5}, {"keep_colors": True}, {"stroke_size": 2.0}, {"stroke_size": 0.5}):
        kept = opened(styles.stylize(png(PHOTO), "ember", keep_faces=1, **more))
        for x, y in PEOPLE:
            assert changed(inside(kept, x, y), inside(PHOTO, x, y))[3:-3, 3:-3].max() == 0
        assert changed(kept, PHOTO)[:8].mean() > 5


def test_faces_are_found_in_a_turned_and_shrunk_picture(styles: Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    large = photo({(64, 48): 1}, size=(192, 256), side=32)
    stored = saved(Image.fromarray(np.rot90(large, k=1).copy()), "PNG", exif=exif)
    kept = opened(styles.stylize(stored, "ember", keep_faces=1, max_side=128))
    assert kept.shape == (96, 128, 3)
    small = np.asarray(Image.fromarray(large).resize((128, 96), Image.Resampling.LANCZOS))
    assert changed(kept, small)[28:36, 36:44].max() == 0


def test_without_faces_it_is_as_ever(styles: Client) -> None:
    empty = png(photo({}))
    assert styles.stylize(empty, "ember", keep_faces=1).image == styles.stylize(empty, "ember").image


def test_frames_keep_their_faces(styles: Client) -> None:
    frames = [png(photo({(x, 24): 1})) for x in (32, 40, 48)]
    answers = list(styles.stylize_stream(frames, "ember", keep_faces=1, format="png", every_frame=True))
    for x, answer in zip((32, 40, 48), answers, strict=True):
        whole = photo({(x, 24): 1})
        assert changed(inside(opened(answer.picture), x, 24), inside(whole, x, 24))[3:-3, 3:-3].max() == 0


def test_a_picture_that_cant_be_read_is_refused_as_ever(styles: Client) -> None:
    with pytest.raises(OneglanceError) as caught:
        styles.stylize(png(PHOTO)[:200], "ember", keep_faces=1)
    assert (caught.value.reason, caught.value.field_violations[0][0]) == ("IMAGE_UNDECODABLE", "image")


def test_a_stream_without_a_detector_is_told_so(tints: Path, tmp_path: Path) -> None:
    with (
        server_thread(data_dir=tmp_path, models=(tints,)) as server,
        Client(server.address) as client,
        pytest.raises(FailedPreconditionError, match=r"keep_faces needs a face detector .*--models"),
    ):
        list(client.stylize_stream([png(PHOTO)], "ember", keep_faces=0.1))


box = st.tuples(st.floats(-20, 60), st.floats(-20, 60), st.floats(1, 40), st.floats(1, 40))


@given(faces=st.lists(box, max_size=4), row=st.integers(0, 30), column=st.integers(0, 30))
def test_a_mask_is_the_same_in_parts(faces: list[tuple[float, float, float, float]], row: int, column: int) -> None:
    mask = FaceMask(faces)
    whole = mask.over(slice(0, 50), slice(0, 40))
    part = mask.over(slice(row, 50), slice(column, 40))
    assert np.array_equal(part, whole[row:, column:])
    assert ((whole >= 0) & (whole <= 1)).all()
    for x, y, width, height in faces:
        across, down = int(x + width / 2), int(y + 0.45 * height)
        if 0 <= across < 40 and 0 <= down < 50 and min(width, height) >= 8:
            assert whole[down, across] == 1
