"""From the bytes of a photo to aligned faces: decode, detect, choose, align."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.finder import Box, ChipSpec, Face, FaceFinder, FaceSearch, Photo, SmallFaces, cut
from oneglance_core.pictures import PictureError, PictureLimits, decode_photo
from oneglance_server.engines.faces import Detector, Landmarks

Pixels = npt.NDArray[np.uint8]
Result = TypeVar("Result")

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
class Look:
    """A photo to be looked at. Without ``chip`` no face is aligned.

    face_required: a photo without the face that is meant is a FaceError; else it has no face.
    quality_only: chips are cut to judge the faces' quality, and dropped.
    """

    data: bytes
    selector: Selector
    chip: ChipSpec | None
    face_required: bool = True
    quality_only: bool = False


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


class Looker:
    """Looks at photos, as FaceFinder does. Thread-safe."""

    def __init__(
        self,
        detector: Detector,
        landmarks: Landmarks,
        limits: PictureLimits,
        search: FaceSearch,
        on_stage: StageObserver,
    ) -> None:
        self.detector = detector
        self.landmarks = landmarks
        self._limits = limits
        self._finder = FaceFinder(detector.score, detector.manifest, landmarks.points, search)
        self._on_stage = on_stage

    def look(self, looks: Sequence[Look]) -> list[Looked | Exception]:
        """The i-th outcome is of the i-th photo: what was seen, a PictureError, a FaceError or a MemoryError."""
        outcomes: list[Looked | Exception | None] = [None] * len(looks)
        waiting: list[tuple[int, Pixels]] = []
        for i, look in enumerate(looks):
            try:
                waiting.append((i, self._timed("decode", functools.partial(decode_photo, look.data, self._limits))))
            except (PictureError, MemoryError) as error:
                outcomes[i] = error
            if sum(pixels.shape[0] * pixels.shape[1] for _, pixels in waiting) > _PIXELS_AT_ONCE:
                self._look_at(waiting, looks, outcomes)
                waiting = []
        self._look_at(waiting, looks, outcomes)
        return [outcome for outcome in outcomes if outcome is not None]

    def _look_at(
        self, waiting: Sequence[tuple[int, Pixels]], looks: Sequence[Look], outcomes: list[Looked | Exception | None]
    ) -> None:
        if not waiting:
            return
        pixels = dict(waiting)
        small_faces = [looks[i].selector.small_faces for i in pixels]
        found = self._timed("detect", lambda: self._finder.find(list(pixels.values()), small_faces))
        chosen: dict[int, Photo] = {}
        for i, photo in zip(pixels, found, strict=True):
            try:
                chosen[i] = replace(photo, faces=choose(photo, looks[i].selector))
            except FaceError as error:
                if looks[i].face_required:
                    outcomes[i] = error
                else:
                    chosen[i] = replace(photo, faces=())

        def align() -> None:
            located = self._finder.locate([pixels[i] for i in chosen], list(chosen.values()))
            for i, photo in zip(chosen, located, strict=True):
                outcomes[i] = _aligned(pixels[i], photo, looks[i])

        self._timed("align", align)

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


def _aligned(pixels: Pixels, photo: Photo, look: Look) -> Looked:
    none = np.empty((0, 0, 0, 3), np.uint8)
    if look.chip is None:
        return Looked(photo, none)
    judged, chips = cut(pixels, photo, look.chip)
    return Looked(judged, none if look.quality_only else chips)
