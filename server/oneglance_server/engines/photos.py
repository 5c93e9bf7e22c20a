"""From the bytes of a photo to aligned faces: decode, detect, choose, align."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from oneglance.faces.chips import cut_chip
from oneglance.faces.detection import Detection, search, suppress
from oneglance.faces.landmarks import find_landmarks
from oneglance.faces.quality import Quality, quality
from oneglance.model_folder import Alignment
from oneglance_server.engines.faces import Detector, Landmarks
from oneglance_server.engines.pictures import PictureError, PictureLimits, decode_photo

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
Result = TypeVar("Result")
SmallFaces = Literal["when-none", "always", "never"]

# Photos of one batch are decoded together up to this many pixels, larger ones one by one.
_PIXELS_AT_ONCE = 8_000_000


class StageObserver(Protocol):
    """Hears how long a stage took: ``decode``, ``detect`` or ``align``."""

    def __call__(self, stage: str, seconds: float, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Selector:
    """Which face of a photo is meant.

    which: ``unset`` (up to the call), ``only``, ``all``, ``largest``, ``box`` (the one that overlaps ``box`` most) or
        ``aligned`` (the picture is a chip already).
    box: (x, y, width, height) in photo pixels.
    """

    which: Literal["unset", "only", "all", "largest", "box", "aligned"] = "unset"
    box: Box | None = None
    small_faces: SmallFaces = "when-none"


UNSET = Selector()


@dataclass(frozen=True, slots=True)
class ChipSpec:
    """What an encoder wants a face brought to: its alignment, and (height, width)."""

    alignment: Alignment
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Face:
    """A face of a photo, in its pixels.

    box: (x, y, width, height). points: (x, y) of each landmark, once looked for.
    """

    box: Box
    score: float
    points: tuple[tuple[float, float], ...] = ()
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class Photo:
    """What was seen.

    ``faces``, the largest first; ``smallest_face``: side of the smallest that was searched for.
    """

    width: int
    height: int
    faces: tuple[Face, ...]
    smallest_face: float
    truncated: bool


@dataclass(frozen=True, slots=True)
class Look:
    """A photo to be looked at. Without ``chip`` no face is aligned."""

    data: bytes
    selector: Selector
    chip: ChipSpec | None


@dataclass(frozen=True, slots=True)
class Looked:
    """The photo with its chosen faces, and their chips uint8 [F, height, width, 3] in the same order."""

    photo: Photo
    chips: Pixels = field(repr=False)


class FaceError(ValueError):
    """A photo without the face that is needed. ``reason``: FACE_NOT_FOUND or FACES_SEVERAL (docs/errors.md)."""

    def __init__(self, reason: str, message: str, photo: Photo) -> None:
        super().__init__(message)
        self.reason = reason
        self.photo = photo


class FaceFinder:
    """Looks at photos. Thread-safe.

    Args:
        min_face: side in pixels of the smallest face that the second search looks for.
        search_pixels: photos are searched at this many pixels at most, in the second search at four times as many;
            larger ones are shrunk for the search, and only for it.
        max_faces: faces of one photo beyond which the smallest are left out.
    """

    def __init__(
        self,
        detector: Detector,
        landmarks: Landmarks,
        limits: PictureLimits,
        *,
        min_face: int,
        search_pixels: int,
        max_faces: int,
        on_stage: StageObserver = lambda stage, seconds: None,
    ) -> None:
        self.detector = detector
        self.landmarks = landmarks
        self._limits = limits
        self._min_face = min_face
        self._search_pixels = search_pixels
        self._max_faces = max_faces
        self._on_stage = on_stage

    def look(self, looks: Sequence[Look]) -> list[Looked | Exception]:
        """The i-th outcome is of the i-th photo: what was seen, a PictureError or a FaceError."""
        outcomes: list[Looked | Exception | None] = [None] * len(looks)
        waiting: list[tuple[int, Pixels]] = []
        for i, look in enumerate(looks):
            try:
                waiting.append((i, self._timed("decode", functools.partial(decode_photo, look.data, self._limits))))
            except PictureError as error:
                outcomes[i] = error
            if sum(pixels.shape[0] * pixels.shape[1] for _, pixels in waiting) > _PIXELS_AT_ONCE:
                self._look_at(waiting, looks, outcomes)
                waiting = []
        self._look_at(waiting, looks, outcomes)
        return [outcome for outcome in outcomes if outcome is not None]

    def _look_at(
        self, waiting: Sequence[tuple[int, Pixels]], looks: Sequence[Look], outcomes: list[Looked | Exception | None]
    ) -> None:
        chosen: list[tuple[int, Pixels, Photo]] = []
        found = self._timed("detect", lambda: self._detect([(p, looks[i].selector.small_faces) for i, p in waiting]))
        for (i, pixels), photo in zip(waiting, found, strict=True):
            try:
                chosen.append((i, pixels, replace(photo, faces=choose(photo, looks[i].selector))))
            except FaceError as error:
                outcomes[i] = error
        aligned = self._timed("align", lambda: self._align([(p, photo, looks[i].chip) for i, p, photo in chosen]))
        for (i, _, _), looked in zip(chosen, aligned, strict=True):
            outcomes[i] = looked

    def _detect(self, photos: Sequence[tuple[Pixels, SmallFaces]]) -> list[Photo]:
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, (pixels, _) in enumerate(photos):
            by_shape.setdefault(pixels.shape, []).append(i)
        seen: dict[int, Photo] = {}
        for (height, width, _), members in by_shape.items():
            first, second, levels = self._scales(height, width)
            stack = [photos[i][0] for i in members]
            found = search(stack, self.detector.score, self.detector.manifest, scale=first)
            smallest = [self.detector.manifest.window / first] * len(members)
            again = [
                j
                for j, i in enumerate(members)
                if second > first and (photos[i][1] == "always" or (photos[i][1] == "when-none" and not found[j]))
            ]
            more = search(
                [stack[j] for j in again], self.detector.score, self.detector.manifest, scale=second, levels=levels
            )
            for j, extra in zip(again, more, strict=True):
                found[j] = [*found[j], *extra]
                smallest[j] = self.detector.manifest.window / second
            for j, i in enumerate(members):
                kept = suppress(found[j], self.detector.manifest)
                seen[i] = self._photo(height, width, kept, smallest[j])
        return [seen[i] for i in range(len(photos))]

    def _scales(self, height: int, width: int) -> tuple[float, float, int]:
        """Scale of the first search, of the second, and how many levels of the second lie above the first."""
        pixels = height * width
        first = min(1.0, math.sqrt(self._search_pixels / pixels))
        second = min(self.detector.manifest.window / self._min_face, math.sqrt(4 * self._search_pixels / pixels))
        levels = math.ceil(math.log(max(second / first, 1.0)) / -math.log(self.detector.manifest.shrink) - 1e-6)
        return first, second if levels else first, levels

    def _photo(self, height: int, width: int, detections: Sequence[Detection], smallest: float) -> Photo:
        faces = [Face(_to_box(detection), detection.score) for detection in detections]
        faces.sort(key=lambda face: -face.box[2] * face.box[3])
        return Photo(width, height, tuple(faces[: self._max_faces]), smallest, len(faces) > self._max_faces)

    def _align(self, photos: Sequence[tuple[Pixels, Photo, ChipSpec | None]]) -> list[Looked]:
        boxes = [
            np.array([_to_edges(face.box) for face in photo.faces], np.float32).reshape(-1, 4) for _, photo, _ in photos
        ]
        points = find_landmarks(self.landmarks.points, [pixels for pixels, _, _ in photos], boxes)
        return [
            _aligned(pixels, photo, chip, found) for (pixels, photo, chip), found in zip(photos, points, strict=True)
        ]

    def _timed(self, stage: str, run: Callable[[], Result]) -> Result:
        started = time.perf_counter()
        try:
            return run()
        finally:
            self._on_stage(stage, time.perf_counter() - started)


def choose(photo: Photo, selector: Selector) -> tuple[Face, ...]:
    """The faces that ``selector`` means. Raises FaceError when there is none, or not the only one."""
    if selector.which == "all":
        return photo.faces
    if not photo.faces:
        raise FaceError(
            "FACE_NOT_FOUND",
            f"no face in this photo of {photo.width} x {photo.height}; searched for faces from "
            f"{photo.smallest_face:.0f} pixels",
            photo,
        )
    if selector.which == "largest":
        return photo.faces[:1]
    if selector.which == "box" and selector.box is not None:
        overlaps = [_overlap(face.box, selector.box) for face in photo.faces]
        best = max(range(len(overlaps)), key=overlaps.__getitem__)
        if not overlaps[best] > 0:
            raise FaceError("FACE_NOT_FOUND", f"no face in that box; {_listed(photo)}", photo)
        return (photo.faces[best],)
    if len(photo.faces) > 1:
        raise FaceError("FACES_SEVERAL", f"{_listed(photo)}; say which is meant", photo)
    return photo.faces


def _listed(photo: Photo) -> str:
    shown = ", ".join(f"{w:.0f} x {h:.0f} at ({x:.0f}, {y:.0f})" for x, y, w, h in (f.box for f in photo.faces[:5]))
    more = " and more" if len(photo.faces) > 5 or photo.truncated else ""
    return f"{len(photo.faces)} face{'s' if len(photo.faces) > 1 else ''} in this photo: {shown}{more}"


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def _aligned(pixels: Pixels, photo: Photo, chip: ChipSpec | None, points: npt.NDArray[np.float32]) -> Looked:
    faces, chips = [], []
    for face, marks in zip(photo.faces, points, strict=True):
        seen = replace(face, points=tuple((float(x), float(y)) for x, y in marks))
        if chip is not None:
            cut = cut_chip(pixels, marks, chip.alignment.template, chip.height, chip.width)
            chips.append(cut)
            seen = replace(seen, quality=quality(cut, marks))
        faces.append(seen)
    size = (chip.height, chip.width) if chip else (0, 0)
    return Looked(replace(photo, faces=tuple(faces)), np.stack(chips) if chips else np.empty((0, *size, 3), np.uint8))


def _to_box(detection: Detection) -> Box:
    left, top, right, bottom = detection.box
    return left, top, right - left + 1, bottom - top + 1


def _to_edges(box: Box) -> Box:
    x, y, width, height = box
    return x, y, x + width - 1, y + height - 1
