"""Several photos' faces in one run of the graph: what it is given, and what comes back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneglance_core.faces.chips import gray
from oneglance_core.faces.finder import find_landmarks

Photos = list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]


@st.composite
def photos_with_boxes(draw: st.DrawFn) -> Photos:
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    sizes = draw(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 3)), max_size=5))
    return [
        (
            random.integers(0, 256, (height, width, 3), dtype=np.uint8),
            random.uniform(-20, 20, (faces, 4)).astype(np.float32),
        )
        for height, width, faces in sizes
    ]


def summary(picture: npt.NDArray[np.int64], box: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Five points that tell one picture and box from another."""
    height, width = picture.shape
    weights = np.arange(1, picture.size + 1).reshape(picture.shape)
    numbers = [height, width, (picture * weights).sum(), *box, picture[0, 0], picture[-1, -1], 0]
    return np.array(numbers, np.float32).reshape(5, 2)


def run(inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    pixels, pictures, boxes = (inputs[name] for name in ("pixels", "pictures", "boxes"))
    assert len(inputs) == 3
    assert [array.dtype.name for array in (pixels, pictures, boxes)] == ["uint8", "int64", "float32"]
    assert [array.shape[1:] for array in (pixels, pictures, boxes)] == [(), (3,), (4,)]
    return np.stack(
        [
            summary(pixels[begin : begin + height * width].reshape(height, width).astype(np.int64), box)
            for (begin, height, width), box in zip(pictures.tolist(), boxes, strict=True)
        ]
    )


@settings(max_examples=60)
@given(photos_with_boxes())
def test_every_face_gets_its_own_photo_and_box(given_photos: Photos) -> None:
    found = find_landmarks(run, [photo for photo, _ in given_photos], [boxes for _, boxes in given_photos])
    assert len(found) == len(given_photos)
    for points, (photo, boxes) in zip(found, given_photos, strict=True):
        assert points.shape == (len(boxes), 5, 2)
        plain = photo.astype(np.int64).sum(axis=2) // 3
        for face, box in zip(points, boxes, strict=True):
            np.testing.assert_array_equal(face, summary(plain, box))


def test_without_faces_nothing_runs() -> None:
    def never(inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        raise AssertionError("run without a face")

    photo = np.zeros((5, 5, 3), np.uint8)
    assert find_landmarks(never, [], []) == []
    found = find_landmarks(never, [photo, photo], [np.empty((0, 4)), []])
    assert [points.shape for points in found] == [(0, 5, 2)] * 2


def test_boxes_for_other_photos_are_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        find_landmarks(run, [np.zeros((5, 5, 3), np.uint8)], [])


def test_gray_is_the_mean_rounded_down() -> None:
    levels = np.array([0, 1, 2, 3, 127, 128, 254, 255], np.uint8)
    photo = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 8, 3)
    np.testing.assert_array_equal(gray(photo), photo.astype(int).sum(axis=2) // 3)
    np.testing.assert_array_equal(gray(photo[::2, 1:]), gray(photo)[::2, 1:])
