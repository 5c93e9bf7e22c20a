"""The pyramid, the windows, and what overlaps: with detectors simple enough to foretell."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneglance_core.faces.detection import Detection, find_windows, search, suppress
from oneglance_core.manifests import Array, DetectorManifest, NamedParity

Pixels = npt.NDArray[np.uint8]
NOTHING = Array.pack(np.zeros(1, np.float32))


def spec(**changes: float) -> DetectorManifest:
    fields = {"window": 21, "stride": 4, "offset": 9.0, "shrink": 5 / 6, "margin": 7, "gap": 6, "smallest_side": 20}
    return DetectorManifest.model_validate(
        {
            "name": "test",
            "created": "2026-01-01",
            "model_sha256": "0" * 64,
            "model_bytes": 1,
            "threshold": 0.5,
            "nms_iou": 0.3,
            "nms_covered": 1.0,
            "parity": NamedParity(inputs={"image": NOTHING}, outputs={"scores": NOTHING}, tolerance=0.1),
            **fields,
            **changes,
        }
    )


class Seen:
    """A detector that calls whatever is white at its centre a face, and keeps the canvases it was shown."""

    def __init__(self) -> None:
        self.canvases: list[Pixels] = []

    def __call__(self, canvases: Pixels) -> npt.NDArray[np.float32]:
        assert canvases.dtype == np.uint8
        assert canvases.shape[3:] == (4,)
        self.canvases.append(canvases)
        return canvases[:, 9:-9:4, 9:-9:4, 0].astype(np.float32) / np.float32(255)


def square(height: int, width: int, left: int, top: int, side: int) -> Pixels:
    photo = np.zeros((height, width, 3), np.uint8)
    photo[top : top + side, left : left + side] = 255
    return photo


def levels_of(canvas: Pixels) -> list[Pixels]:
    """The rectangles of alpha 255 on a canvas, the largest first. Fails when they touch."""
    rest = canvas[..., 3].copy()
    found = []
    while rest.any():
        top, left = np.argwhere(rest)[0]
        width = int(np.argmin(np.append(rest[top, left:], 0)))
        height = int(np.argmin(np.append(rest[top:, left], 0)))
        part = slice(top, top + height), slice(left, left + width)
        assert (rest[part] == 255).all()
        assert (
            canvas[max(top - 1, 0) : top + height + 1, left : left + width, 3].astype(int).sum() == 255 * height * width
        )
        rest[part] = 0
        found.append(canvas[part])
    return sorted(found, key=lambda level: -level.shape[0] * level.shape[1])


@settings(max_examples=60)
@given(st.integers(1, 220), st.integers(1, 220), st.none() | st.integers(1, 4), st.integers(0, 9))
def test_the_canvas_holds_the_pyramid(height: int, width: int, levels: int | None, seed: int) -> None:
    photo = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    seen = Seen()
    found = find_windows([photo], seen, spec(), levels=levels)
    if not seen.canvases:
        assert found == [[]]
        assert min(height, width) + 2 * 7 < 20
        return
    canvas = seen.canvases[0][0]
    assert not canvas[canvas[..., 3] == 0].any()
    assert not canvas[:7].any()
    assert not canvas[:, :7].any()
    assert not canvas[-7:].any()
    assert not canvas[:, -7:].any()
    pyramid = levels_of(canvas)
    assert levels is None or len(pyramid) <= levels
    np.testing.assert_array_equal(pyramid[0][..., :3], photo)
    for larger, smaller in itertools.pairwise(pyramid):
        assert smaller.shape[:2] == tuple(math.floor(5 / 6 * side) for side in larger.shape[:2])
        assert np.abs(bilinear(larger, *smaller.shape[:2]) - smaller).max() <= 2  # two roundings and two shares


def bilinear(picture: Pixels, height: int, width: int) -> npt.NDArray[np.float64]:
    """Corner on corner, by interpolating along one axis, then along the other."""
    result = picture.astype(np.float64)
    for axis, count in ((0, height), (1, width)):
        old = np.arange(picture.shape[axis])
        new = np.linspace(0, len(old) - 1, count) if count > 1 else np.zeros(1)
        lines = [np.interp(new, old, line) for line in np.moveaxis(result, axis, -1).reshape(-1, len(old))]
        rest = np.delete(result.shape, axis)
        result = np.moveaxis(np.reshape(lines, (*rest, count)), -1, axis)
    return result


@settings(max_examples=60)
@given(st.integers(40, 160), st.integers(40, 160), st.integers(0, 30), st.integers(0, 30), st.integers(12, 40))
def test_windows_lie_where_their_centres_are(height: int, width: int, left: int, top: int, side: int) -> None:
    photo = square(height, width, left, top, side)
    (windows,) = find_windows([photo], Seen(), spec())
    assert windows
    for window in windows:
        x, y = (window.box[0] + window.box[2]) / 2, (window.box[1] + window.box[3]) / 2
        size = window.box[2] - window.box[0] + 1
        blur = size / 21 * 2.5  # what a pixel or two of its level are in the photo
        assert left - blur <= x <= left + side + blur
        assert top - blur <= y <= top + side + blur
        assert abs((window.box[3] - window.box[1]) - (window.box[2] - window.box[0])) <= 2
        assert window.score > 0.5
    # On the photo itself nothing is lost and nothing is moved.
    expected = {
        (float(x - 10), float(y - 10))
        for x in range(9 - 7, width + 2 * 7 - 9 - 7, 4)  # as far as the detector's edge
        for y in range(9 - 7, height, 4)
        if left <= x < min(left + side, width) and top <= y < min(top + side, height)
    }
    assert {w.box[:2] for w in windows if w.box[2] - w.box[0] == 20} == expected


def test_photos_of_a_batch_are_as_alone() -> None:
    photos = [square(300, 700, 20 * i, 10 * i, 30) for i in range(5)]
    seen = Seen()
    together = find_windows(photos, seen, spec())
    assert 1 < len(seen.canvases) < 5  # in more runs than one, and not one by one
    assert together == [find_windows([photo], Seen(), spec())[0] for photo in photos]


@settings(max_examples=40)
@given(st.integers(60, 120), st.integers(60, 120), st.floats(0.5, 3), st.integers(5, 20), st.integers(5, 20))
def test_search_maps_boxes_back(height: int, width: int, scale: float, left: int, top: int) -> None:
    photo = square(height, width, left, top, 34)
    (windows,) = search([photo], Seen(), spec(), scale=scale, levels=1)
    assert windows
    for window in windows:
        a, b, c, d = window.box
        assert left - 2 <= (a + c) / 2 <= left + 35
        assert top - 2 <= (b + d) / 2 <= top + 35
        assert (c - a + 1) == pytest.approx(21 / scale, abs=1.5)
        assert window.box == tuple(round(edge) for edge in window.box)


def test_levels_already_searched_are_left_out() -> None:
    photo = square(90, 120, 20, 20, 30)
    every, seen = Seen(), Seen()
    found = search([photo], every, spec(), scale=2)[0]
    new = math.ceil(math.log(2) / -math.log(5 / 6))
    few = search([photo], seen, spec(), scale=2, levels=new)[0]
    assert [level.shape[:2] for level in levels_of(seen.canvases[0][0])] == [
        (180, 240),
        (150, 200),
        (125, 166),
        (104, 138),
    ]
    assert len(few) < len(found)
    assert max(w.box[2] - w.box[0] for w in few) < 21 <= max(w.box[2] - w.box[0] for w in found)


def test_nothing_to_search() -> None:
    seen = Seen()
    assert search([], seen, spec()) == []
    assert search([np.zeros((1, 1, 3), np.uint8)], seen, spec()) == [[]]
    assert search([np.zeros((300, 300, 3), np.uint8)], seen, spec(), scale=0.001) == [[]]
    assert seen.canvases == []
    with pytest.raises(ValueError, match="one size"):
        find_windows([np.zeros((30, 30, 3), np.uint8), np.zeros((30, 31, 3), np.uint8)], seen, spec())


boxes = st.tuples(st.integers(-20, 60), st.integers(-20, 60), st.integers(0, 40), st.integers(0, 40)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
windows_of_any_kind = st.lists(st.builds(Detection, boxes, st.floats(0, 5)), max_size=25)


def too_much(a: Detection, b: Detection, iou: float, covered: float) -> bool:
    """dlib's test_box_overlap, by counting pixels."""
    first, second = (
        {(x, y) for x in range(int(d.box[0]), int(d.box[2]) + 1) for y in range(int(d.box[1]), int(d.box[3]) + 1)}
        for d in (a, b)
    )
    inner = len(first & second)
    if not inner:
        return False
    both = [*zip(a.box, b.box, strict=True)]
    hull = (max(both[2]) - min(both[0]) + 1) * (max(both[3]) - min(both[1]) + 1)
    return inner / hull > iou or inner / len(first) > covered or inner / len(second) > covered


@settings(max_examples=60)
@given(windows_of_any_kind, st.sampled_from([0.1, 0.3382761351109955, 0.9]), st.sampled_from([0.4, 1.0]))
def test_of_windows_that_overlap_the_best_stays(windows: list[Detection], iou: float, covered: float) -> None:
    kept = suppress(windows, spec(nms_iou=iou, nms_covered=covered))
    plain: list[Detection] = []
    for window in sorted(windows, key=lambda d: -d.score):
        if not any(too_much(window, other, iou, covered) for other in plain):
            plain.append(window)
    assert kept == plain


def test_a_detector_that_sees_faces_everywhere_is_cut_off_at_its_best() -> None:
    rng = np.random.default_rng(0)
    shown: list[npt.NDArray[np.float32]] = []

    def everywhere(canvases: Pixels) -> npt.NDArray[np.float32]:
        shown.append(rng.random((1, canvases.shape[1] // 2, canvases.shape[2] // 2), dtype=np.float32) + 1)
        return shown[-1]

    (found,) = find_windows([np.zeros((400, 500, 3), np.uint8)], everywhere, spec())
    assert len(found) == 1 << 14 < shown[0].size
    best = np.sort(shown[0].ravel())[-len(found) :]
    np.testing.assert_array_equal(np.sort([window.score for window in found]), best)
