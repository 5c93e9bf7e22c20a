"""From the bytes of photos to aligned faces, in one call: decode, find, choose, align."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.finder import ChipSpec, FaceFinder, Photo, cut
from oneglance_core.faces.selection import FaceChoice, FaceError, choose
from oneglance_core.pictures import PictureError, PictureLimits, decode_photo

Pixels = npt.NDArray[np.uint8]
# Entered while a stage runs: ``decode``, ``detect`` or ``align``.
Stage = Callable[[str], AbstractContextManager[None]]

# Photos of one call are held decoded up to this many pixels together, larger ones one by one.
_PIXELS_AT_ONCE = 8_000_000


@dataclass(frozen=True, slots=True)
class CropRequest:
    """The bytes of a photo, and what is wanted of it. Without ``chip`` no face is aligned.

    face_required: a photo without the face that is meant is a FaceError; else it has no face.
    quality_only: chips are cut to judge the faces' quality, and dropped.
    """

    data: bytes = field(repr=False)
    choice: FaceChoice
    chip: ChipSpec | None
    face_required: bool = True
    quality_only: bool = False


@dataclass(frozen=True, slots=True)
class FaceCrops:
    """The photo with its chosen faces, and their chips uint8 [F, height, width, 3] in the same order."""

    photo: Photo
    chips: Pixels = field(repr=False)


CropOutcome = FaceCrops | PictureError | FaceError | MemoryError


def crop_faces(
    finder: FaceFinder, requests: Sequence[CropRequest], limits: PictureLimits, stage: Stage
) -> list[CropOutcome]:
    """The i-th outcome is of the i-th photo: its faces, or why there are none."""
    outcomes: dict[int, CropOutcome] = {}
    decoded: dict[int, Pixels] = {}
    for i, request in enumerate(requests):
        try:
            with stage("decode"):
                decoded[i] = decode_photo(request.data, limits)
        except (PictureError, MemoryError) as error:
            outcomes[i] = error
        if sum(pixels.shape[0] * pixels.shape[1] for pixels in decoded.values()) > _PIXELS_AT_ONCE:
            outcomes |= _crop(finder, decoded, requests, stage)
            decoded = {}
    outcomes |= _crop(finder, decoded, requests, stage)
    return [outcomes[i] for i in range(len(requests))]


def _crop(
    finder: FaceFinder, decoded: dict[int, Pixels], requests: Sequence[CropRequest], stage: Stage
) -> dict[int, CropOutcome]:
    """The outcomes of some photos, by their position."""
    if not decoded:
        return {}
    outcomes: dict[int, CropOutcome] = {}
    with stage("detect"):
        found = finder.find(list(decoded.values()), [requests[i].choice.small_faces for i in decoded])
    chosen: dict[int, Photo] = {}
    for i, photo in zip(decoded, found, strict=True):
        try:
            chosen[i] = replace(photo, faces=choose(photo, requests[i].choice))
        except FaceError as error:
            if requests[i].face_required:
                outcomes[i] = error
            else:
                chosen[i] = replace(photo, faces=())
    with stage("align"):
        located = finder.locate([decoded[i] for i in chosen], list(chosen.values()))
        for i, photo in zip(chosen, located, strict=True):
            outcomes[i] = _aligned(decoded[i], photo, requests[i])
    return outcomes


def _aligned(pixels: Pixels, photo: Photo, request: CropRequest) -> FaceCrops:
    none = np.empty((0, 0, 0, 3), np.uint8)
    if request.chip is None:
        return FaceCrops(photo, none)
    judged, chips = cut(pixels, photo, request.chip)
    return FaceCrops(judged, none if request.quality_only else chips)
