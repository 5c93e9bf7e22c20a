"""From the bytes of photos to aligned faces, in one call: decode, find, choose, align."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.finder import ChipSpec, Face, FaceFinder, Photo, SmallFaces, cut
from oneglance_core.faces.turns import Box
from oneglance_core.faces.uprightness import UprightnessCheck, search_turned
from oneglance_core.kept_crops import face_crop_of
from oneglance_core.pictures import PictureError, PictureLimits, decode_sized

Pixels = npt.NDArray[np.uint8]
# Entered while a stage runs: ``decode``, ``detect``, ``align`` or ``turn``.
Stage = Callable[[str], AbstractContextManager[None]]

# Photos of one call are held decoded up to this many pixels together, larger ones one by one.
_PIXELS_AT_ONCE = 8_000_000


@dataclass(frozen=True, slots=True)
class FaceChoice:
    """Which face of a photo is meant.

    which: ``unset`` (up to the call), ``only``, ``all``, ``largest``, ``box`` (the one that overlaps ``box`` most) or
        ``aligned`` (the picture is a chip already).
    box: (x, y, width, height) in photo pixels.
    small_faces: None: up to the call.
    upright_only: a photo without an upright face is not searched turned.
    search_pixels: the photo is searched at this size where that is more than the setting; 0: it isn't.
    """

    which: Literal["unset", "only", "all", "largest", "box", "aligned"] = "unset"
    box: Box | None = None
    small_faces: SmallFaces | None = None
    upright_only: bool = False
    search_pixels: int = 0


class FaceError(ValueError):
    """A photo without the face that is needed.

    ``reason``: FACE_NOT_FOUND, FACES_SEVERAL or FACE_NOT_UPRIGHT (docs/errors.md).
    """

    def __init__(self, reason: str, message: str, photo: Photo) -> None:
        super().__init__(message)
        self.reason = reason
        self.photo = photo


@dataclass(frozen=True, slots=True)
class CropRequest:
    """The bytes of a photo, and what is wanted of it. Without ``chip`` no face is aligned.

    face_required: a photo without the face that is meant, or in which that one isn't upright, is a FaceError; else it
        has no face, or one that isn't comparable. A photo of which all faces are meant may have any.
    quality_only: chips are cut to judge the faces' quality, and dropped.
    crop_bytes: of each comparable face a crop is made (kept_crops.py), of so many bytes at most; 0: none.
    """

    data: bytes = field(repr=False)
    choice: FaceChoice
    chip: ChipSpec | None
    face_required: bool = True
    quality_only: bool = False
    crop_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FaceCrops:
    """The photo with its chosen faces, and the chips of its comparable ones uint8 [F, height, width, 3], in order; and
    their crops, where these were wanted."""

    photo: Photo
    chips: Pixels = field(repr=False)
    crops: Sequence[bytes] = field(default=(), repr=False)


CropOutcome = FaceCrops | PictureError | FaceError | MemoryError


def crop_faces(
    finder: FaceFinder,
    check: UprightnessCheck | None,
    requests: Sequence[CropRequest],
    limits: PictureLimits,
    stage: Stage,
) -> list[CropOutcome]:
    """The i-th outcome is of the i-th photo: its faces, or why there are none. Without ``check`` every face counts."""
    outcomes: dict[int, CropOutcome] = {}
    decoded: dict[int, Pixels] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for i, request in enumerate(requests):
        try:
            with stage("decode"):
                decoded[i], sizes[i] = decode_sized(request.data, limits)
        except (PictureError, MemoryError) as error:
            outcomes[i] = error
        if sum(pixels.shape[0] * pixels.shape[1] for pixels in decoded.values()) > _PIXELS_AT_ONCE:
            outcomes |= _crop(finder, check, decoded, sizes, requests, stage)
            decoded = {}
    outcomes |= _crop(finder, check, decoded, sizes, requests, stage)
    return [outcomes[i] for i in range(len(requests))]


def _crop(
    finder: FaceFinder,
    check: UprightnessCheck | None,
    decoded: dict[int, Pixels],
    sizes: dict[int, tuple[int, int]],
    requests: Sequence[CropRequest],
    stage: Stage,
) -> dict[int, CropOutcome]:
    """The outcomes of some photos, by their position. Those of a photo that was decoded at half its sides are in the
    pixels of its file, (width, height) of ``sizes``."""
    if not decoded:
        return {}
    outcomes: dict[int, CropOutcome] = {}
    with stage("detect"):
        found = finder.find(
            list(decoded.values()),
            [requests[i].choice.small_faces or "when-none" for i in decoded],
            [requests[i].choice.search_pixels for i in decoded],
        )
    if check is not None:
        found = _checked(finder, check, decoded, found, requests, stage)
    chosen: dict[int, Photo] = {}
    for i, photo in zip(decoded, found, strict=True):
        shown = photo.at_size(*sizes[i])
        try:
            faces = choose(shown, requests[i].choice)
            if requests[i].face_required and requests[i].choice.which != "all":
                _require_upright(faces, shown)
            chosen[i] = replace(photo, faces=tuple(photo.faces[shown.faces.index(face)] for face in faces))
        except FaceError as error:
            if requests[i].face_required:
                outcomes[i] = error
            else:
                chosen[i] = replace(photo, faces=())
    with stage("align"):
        located = list(chosen.values())
        if check is None:
            located = finder.locate([decoded[i] for i in chosen], located)
        for i, photo in zip(chosen, located, strict=True):
            crops = _aligned(decoded[i], photo, requests[i])
            outcomes[i] = replace(crops, photo=crops.photo.at_size(*sizes[i]))
    return outcomes


def _checked(
    finder: FaceFinder,
    check: UprightnessCheck,
    decoded: dict[int, Pixels],
    found: Sequence[Photo],
    requests: Sequence[CropRequest],
    stage: Stage,
) -> list[Photo]:
    """``found``, located and judged; of a photo in which no face is upright, what its turned copies show."""
    photos, choices = list(decoded.values()), [requests[i].choice for i in decoded]
    with stage("align"):
        judged = check.judge(photos, finder.locate(photos, found))
    again = [j for j, photo in enumerate(judged) if not photo.comparable and not choices[j].upright_only]
    if again:
        with stage("turn"):
            turned = search_turned(
                finder,
                check,
                [photos[j] for j in again],
                [judged[j] for j in again],
                [choices[j].small_faces or "when-none" for j in again],
                [choices[j].search_pixels for j in again],
            )
        for j, photo in zip(again, turned, strict=True):
            judged[j] = photo
    return judged


def _aligned(pixels: Pixels, photo: Photo, request: CropRequest) -> FaceCrops:
    none = np.empty((0, 0, 0, 3), np.uint8)
    if request.chip is None:
        return FaceCrops(photo, none)
    judged, chips = cut(pixels, photo, request.chip)
    crops = (
        [face_crop_of(pixels, face.box, photo.turn_degrees, request.crop_bytes) for face in photo.comparable]
        if request.crop_bytes
        else ()
    )
    return FaceCrops(judged, none if request.quality_only else chips[[face.comparable for face in photo.faces]], crops)


def choose(photo: Photo, choice: FaceChoice) -> tuple[Face, ...]:
    """The faces that ``choice`` means, comparable or not. Raises FaceError when there is none, or not the only one."""
    if choice.which == "all":
        return photo.faces
    if not photo.faces:
        raise FaceError(
            "FACE_NOT_FOUND",
            f"no face in this photo of {photo.width} x {photo.height}; searched for faces from "
            f"{photo.smallest_face:.0f} pixels",
            photo,
        )
    if choice.which == "largest":
        return photo.comparable[:1] or photo.faces[:1]
    if choice.which == "box" and choice.box is not None:
        overlaps = [_overlap(face.box, choice.box) for face in photo.faces]
        best = max(range(len(overlaps)), key=overlaps.__getitem__)
        if not overlaps[best] > 0:
            raise FaceError("FACE_NOT_FOUND", f"no face in that box; {_listed(photo)}", photo)
        return (photo.faces[best],)
    if len(photo.faces) > 1:
        raise FaceError("FACES_SEVERAL", f"{_listed(photo)}; say which is meant", photo)
    return photo.faces


def _require_upright(faces: Sequence[Face], photo: Photo) -> None:
    """Raise FaceError for a face that the check refuses."""
    for face in faces:
        if not face.comparable and (found := face.uprightness):
            raise FaceError(
                "FACE_NOT_UPRIGHT",
                f"{_listed(photo)}; the one meant is not upright and aligned: {found.score:.3f}, at least "
                f"{found.threshold:g}",
                photo,
            )


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
