"""From photos to faces: a search, a second search of the enlarged photo, then the landmarks of each face."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from oneglance_core.faces.chips import cut_chip, gray
from oneglance_core.faces.detection import Detection, Score, canvas_size, search, suppress
from oneglance_core.faces.quality import Quality, quality
from oneglance_core.faces.tiles import tiles
from oneglance_core.faces.turns import Box, turn_points
from oneglance_core.flags import Flag
from oneglance_core.frozen import Frozen
from oneglance_core.manifests import Alignment, DetectorManifest

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]
Run = Callable[[Mapping[str, npt.NDArray[Any]]], Points]
SmallFaces = Literal["when-none", "always", "never", "when-wide"]

# Landmarks are found from two boxes near the detected one, and averaged: the mean varies less than the landmarks of one
# box, which change with every pixel of the box. Each: (x, y) shift in box widths, and scale.
_TRIES = ((0.05, 0.05, 0.97), (-0.05, -0.05, 1.03))

# "when-wide": a photo whose largest face is at least this share of its shorter side is a portrait, not a wide view in
# which more people may stand farther off. Chosen by ``python -m benchmarks.groups``.
PORTRAIT = 0.3

_CANVAS_PIXELS = 16  # maximum for each of search_pixels; the second search of an ordinary photo needs 13


class FaceSearch(Frozen):
    """How thoroughly photos are searched for faces."""

    min_face: Annotated[int, Flag(unit="pixels")] = Field(
        40, ge=10, le=80, description="Side of the smallest face that the second search of a photo looks for."
    )
    search_pixels: int = Field(
        1_000_000,
        ge=10_000,
        description="Faces are searched at this size of a photo, width x height, at most; in the second search at four "
        "times that. Larger photos are shrunk for the search only.",
    )
    max_faces: int = Field(256, ge=1, le=4096, description="Faces of one photo, the largest first.")


@dataclass(frozen=True, slots=True)
class Uprightness:
    """How much a chip looks like an upright, aligned face, in [0, 1], and what the check asks for."""

    score: float
    threshold: float

    @property
    def enough(self) -> bool:
        return self.score >= self.threshold


@dataclass(frozen=True, slots=True)
class Face:
    """A face of a photo, in its pixels.

    box: (x, y, width, height). points: (x, y) of each landmark; empty before ``locate``.
    quality: None before ``cut``. uprightness: None unless it was checked.
    """

    box: Box
    score: float
    points: tuple[tuple[float, float], ...] = ()
    quality: Quality | None = None
    uprightness: Uprightness | None = None

    @property
    def comparable(self) -> bool:
        """It may be enrolled and compared: the check, if there is one, takes it for an upright, aligned face."""
        return self.uprightness is None or self.uprightness.enough


@dataclass(frozen=True, slots=True)
class Photo:
    """The faces of a photo, the largest first.

    smallest_face: side of the smallest face that was searched for, in pixels. truncated: there were more faces.
    turn_degrees: 0, 90, 180 or 270: how far the photo was turned clockwise to find them.
    """

    width: int
    height: int
    faces: tuple[Face, ...]
    smallest_face: float
    truncated: bool
    turn_degrees: int = 0

    @property
    def comparable(self) -> tuple[Face, ...]:
        return tuple(face for face in self.faces if face.comparable)

    def at_size(self, width: int, height: int) -> "Photo":
        """The same faces in the pixels of a copy of that size."""
        if (width, height) == (self.width, self.height):
            return self
        across, down = width / self.width, height / self.height

        def moved(face: Face) -> Face:
            x, y, wide, high = face.box
            points = tuple((x * across, y * down) for x, y in face.points)
            return replace(face, box=(x * across, y * down, wide * across, high * down), points=points)

        return replace(
            self,
            width=width,
            height=height,
            faces=tuple(map(moved, self.faces)),
            smallest_face=self.smallest_face * across,
        )


@dataclass(frozen=True, slots=True)
class ChipSpec:
    """The chip that an encoder takes: its alignment, and its size in pixels."""

    alignment: Alignment
    height: int
    width: int


class FaceFinder:
    """Finds faces and their landmarks. Thread-safe if ``score`` and ``points`` are, which run the networks."""

    def __init__(self, score: Score, detector: DetectorManifest, points: Run, limits: FaceSearch | None = None) -> None:
        self._score = score
        self._detector = detector
        self._points = points
        self._limits = limits or FaceSearch()

    def find(
        self, photos: Sequence[Pixels], small_faces: Sequence[SmallFaces], search_pixels: Sequence[int] = ()
    ) -> list[Photo]:
        """The faces of each photo uint8 [H, W, 3], without landmarks.

        small_faces: for each photo, when to search the enlarged photo, too: "when-none": the first search found no
        face; "when-wide": it found none of PORTRAIT of the photo's shorter side or more.
        search_pixels: for each photo, the size at which it is to be searched, where that is more than the setting; in
        tiles then. Empty: none asks for more.
        """
        by_shape: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for i, pixels in enumerate(photos):
            by_shape.setdefault((pixels.shape, search_pixels[i] if search_pixels else 0), []).append(i)
        seen: dict[int, Photo] = {}
        for ((height, width, _), asked), members in by_shape.items():
            first, second, levels = _scales(height, width, self._detector, self._limits)
            stack = [photos[i] for i in members]
            found = search(stack, self._score, self._detector, scale=first)
            fine = _fine_scale(height, width, asked, self._detector, self._limits)
            if finer := _levels_between(fine, first, self._detector):
                more = [self._search_tiles(pixels, first, fine, finer) for pixels in stack]
                found = [[*some, *others] for some, others in zip(found, more, strict=True)]
                first, levels = fine, _levels_between(second, fine, self._detector)
            smallest = [self._detector.window / first] * len(members)
            again = [
                j
                for j, i in enumerate(members)
                if levels and search_again(small_faces[i], [_to_box(one)[2] for one in found[j]], min(height, width))
            ]
            more = search([stack[j] for j in again], self._score, self._detector, scale=second, levels=levels)
            for j, extra in zip(again, more, strict=True):
                found[j] = [*found[j], *extra]
                smallest[j] = self._detector.window / second
            for j, i in enumerate(members):
                seen[i] = self._photo(height, width, suppress(found[j], self._detector), smallest[j])
        return [seen[i] for i in range(len(photos))]

    def _search_tiles(self, pixels: Pixels, first: float, fine: float, levels: int) -> list[Detection]:
        """The faces that a search at scale ``fine`` finds in its ``levels`` largest levels, and one at ``first``
        doesn't: they are smaller than the window there."""
        detector = self._detector
        overlap = 2 * math.ceil(detector.window / first)
        most = _CANVAS_PIXELS * self._limits.search_pixels

        def fits(height: int, width: int) -> bool:
            return math.prod(_canvas_at(height, width, fine, detector, levels)) <= most

        found: list[Detection] = []
        for tile in tiles(pixels.shape[0], pixels.shape[1], overlap, fits):
            part = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            for seen in search([part], self._score, detector, scale=fine, levels=levels)[0]:
                left, top, right, bottom = seen.box
                box = left + tile.left, top + tile.top, right + tile.left, bottom + tile.top
                if tile.owns((box[0] + box[2]) / 2, (box[1] + box[3]) / 2):
                    found.append(Detection(box, seen.score))
        return found

    def locate(self, photos: Sequence[Pixels], found: Sequence[Photo]) -> list[Photo]:
        """``found``, with the landmarks of all faces."""
        boxes = [np.array([_tries(face.box) for face in photo.faces], np.float32).reshape(-1, 4) for photo in found]
        return [
            replace(
                photo, faces=tuple(map(_with_points, photo.faces, points.reshape(-1, len(_TRIES), *points.shape[1:])))
            )
            for photo, points in zip(found, find_landmarks(self._points, photos, boxes), strict=True)
        ]

    def _photo(self, height: int, width: int, detections: Sequence[Detection], smallest: float) -> Photo:
        faces = [Face(_to_box(detection), detection.score) for detection in detections]
        faces.sort(key=lambda face: -face.box[2] * face.box[3])
        limit = self._limits.max_faces
        return Photo(width, height, tuple(faces[:limit]), smallest, len(faces) > limit)


def canvas_sizes(height: int, width: int, detector: DetectorManifest, limits: FaceSearch) -> list[tuple[int, int]]:
    """(height, width) of every canvas on which faces of a photo of height x width are searched: of the first search,
    and of the second where there can be one."""
    first, second, levels = _scales(height, width, detector, limits)
    scales: list[tuple[float, int | None]] = [(first, None), *([(second, levels)] if levels else [])]
    return [_canvas_at(height, width, scale, detector, levels) for scale, levels in scales]


def _scales(height: int, width: int, detector: DetectorManifest, limits: FaceSearch) -> tuple[float, float, int]:
    """Scale of the first search, of the second, and how many levels of the second are larger than the first's."""
    pixels = height * width
    most = _CANVAS_PIXELS * limits.search_pixels

    def affordable(scale: float, levels: int | None) -> float:
        """``scale``, or a smaller one: the pyramid of a very long photo needs many more pixels than the photo."""
        while math.prod(_canvas_at(height, width, scale, detector, levels)) > most:
            scale *= 0.9
        return scale

    first = affordable(min(1.0, math.sqrt(limits.search_pixels / pixels)), None)
    second = min(detector.window / limits.min_face, math.sqrt(4 * limits.search_pixels / pixels))
    levels = _levels_between(second, first, detector)
    return first, affordable(second, levels) if levels else first, levels


def _levels_between(scale: float, other: float, detector: DetectorManifest) -> int:
    """How many levels of the pyramid at ``scale`` are larger than the largest at ``other``."""
    return math.ceil(math.log(max(scale / other, 1.0)) / -math.log(detector.shrink) - 1e-6)


def _fine_scale(height: int, width: int, asked: int, detector: DetectorManifest, limits: FaceSearch) -> float:
    """The scale at which ``asked`` pixels are searched; less where tiles that overlap by twice the largest faces of
    that search would not fit into the memory of a search."""
    most = limits.search_pixels**2 // (5 * detector.window**2)
    return min(1.0, math.sqrt(min(asked, most) / (height * width)))


def _canvas_at(
    height: int, width: int, scale: float, detector: DetectorManifest, levels: int | None
) -> tuple[int, int]:
    return canvas_size(round(height * scale), round(width * scale), detector, levels)


def search_again(when: SmallFaces, widths: Sequence[float], side: int) -> bool:
    """Whether to make the second search. ``widths``: of the faces that the first one found; ``side``: the photo's
    shorter one."""
    if when == "when-none":
        return not widths
    if when == "when-wide":
        return all(width < PORTRAIT * side for width in widths)
    return when == "always"


def cut(pixels: Pixels, photo: Photo, chip: ChipSpec) -> tuple[Photo, Pixels]:
    """The photo with the quality of its faces, and their chips, uint8 [F, height, width, 3]."""
    faces, chips = [], np.empty((len(photo.faces), chip.height, chip.width, 3), np.uint8)
    upright = np.rot90(pixels, -photo.turn_degrees // 90)  # a view
    for i, face in enumerate(photo.faces):
        points = turn_points(face.points, photo.width, photo.height, photo.turn_degrees)
        chips[i] = cut_chip(upright, points, chip.alignment.template, chip.height, chip.width)
        faces.append(replace(face, quality=quality(chips[i], points, chip.alignment.template)))
    return replace(photo, faces=tuple(faces)), chips


def find_landmarks(run: Run, photos: Sequence[Pixels], boxes: Sequence[npt.ArrayLike]) -> list[Points]:
    """The landmarks of the faces of each photo: float32 [F, L, 2], (x, y) in that photo.

    run: runs the network, from its inputs by name to ``points``. photos: uint8 [H, W, 3], of any sizes.
    boxes: for each photo, float [F, 4] with F >= 0: (left, top, right, bottom), all included.

    The network gets whole photos, because it may read pixels far outside a box. It is not run if there is no face.
    Raises ValueError if the numbers of photos and of entries in ``boxes`` differ.
    """
    given = [np.asarray(of_photo, np.float32).reshape(-1, 4) for of_photo in boxes]
    counts = [len(of_photo) for of_photo in given]
    pixels = [gray(photo).reshape(-1) for photo, count in zip(photos, counts, strict=True) if count]
    if not pixels:
        return [np.empty((0, 5, 2), np.float32) for _ in photos]
    sizes = [photo.shape[0] * photo.shape[1] if count else 0 for photo, count in zip(photos, counts, strict=True)]
    begins = np.cumsum([0, *sizes[:-1]])
    pictures = [(begin, *photo.shape[:2]) for begin, photo in zip(begins, photos, strict=True)]
    points = run(
        {
            "pixels": np.concatenate(pixels),
            "pictures": np.repeat(np.array(pictures, np.int64), counts, axis=0),
            "boxes": np.concatenate(given),
        }
    )
    return np.split(points, np.cumsum(counts)[:-1])


def _with_points(face: Face, tried: Points) -> Face:
    mean = tried.astype(np.float64).mean(axis=0)
    return replace(face, points=tuple((float(x), float(y)) for x, y in mean))


def _tries(box: Box) -> list[Box]:
    """The boxes to find landmarks from: (left, top, right, bottom), all included."""
    x, y, width, height = box
    middle_x, middle_y = x + (width - 1) / 2, y + (height - 1) / 2
    half_x, half_y = (width - 1) / 2, (height - 1) / 2
    tries = []
    for right, down, scale in _TRIES:
        cx, cy = middle_x + right * width, middle_y + down * height
        tries.append((cx - scale * half_x, cy - scale * half_y, cx + scale * half_x, cy + scale * half_y))
    return tries


def _to_box(detection: Detection) -> Box:
    left, top, right, bottom = detection.box
    return left, top, right - left + 1, bottom - top + 1
