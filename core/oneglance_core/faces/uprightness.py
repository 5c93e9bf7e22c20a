"""The check that a found face is upright and aligned, and the search of a turned photo for one that is.

A detector finds faces in turned photos, too, and the landmarks of what it found are then anywhere. Encodings of such
chips resemble each other more than those of one person do: they must neither be enrolled nor compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.chips import cut_chip
from oneglance_core.faces.finder import FaceFinder, Photo, SmallFaces, Uprightness
from oneglance_core.faces.turns import turn_box, turn_points
from oneglance_core.manifests import Alignment, UprightnessManifest

Pixels = npt.NDArray[np.uint8]
# One run of the check: chips uint8 [N, H, W, 3] -> scores float32 [N]; see UprightnessManifest.
ScoreChips = Callable[[Pixels], npt.NDArray[np.float32]]

_TURNS = (90, 270, 180)  # degrees clockwise; the likelier of two equal ones first


class UprightnessCheck:
    """Scores found faces. Thread-safe if ``score`` is, which runs the network."""

    def __init__(self, score: ScoreChips, manifest: UprightnessManifest) -> None:
        self._score = score
        self._manifest = manifest

    def judge(self, photos: Sequence[Pixels], found: Sequence[Photo]) -> list[Photo]:
        """``found``, located, with the uprightness of all faces. The network is not run if there is no face."""
        spec = self._manifest
        chips = [
            cut_chip(pixels, face.points, spec.alignment.template, spec.height, spec.width)
            for pixels, photo in zip(photos, found, strict=True)
            for face in photo.faces
        ]
        scores = iter(self._score(np.stack(chips)).tolist() if chips else ())
        return [
            replace(
                photo,
                faces=tuple(
                    replace(face, uprightness=Uprightness(next(scores), spec.threshold)) for face in photo.faces
                ),
            )
            for photo in found
        ]

    def judge_chip(self, chip: Pixels, alignment: Alignment) -> Uprightness:
        """Of a picture that is said to be an aligned face: uint8 [H, W, 3], as ``alignment`` would have cut it."""
        spec = self._manifest
        cut = cut_chip(chip, alignment.template, spec.alignment.template, spec.height, spec.width)
        return Uprightness(float(self._score(cut[np.newaxis])[0]), spec.threshold)


def search_turned(
    finder: FaceFinder,
    check: UprightnessCheck,
    photos: Sequence[Pixels],
    found: Sequence[Photo],
    small_faces: Sequence[SmallFaces],
    search_pixels: Sequence[int],
) -> list[Photo]:
    """The faces of photos without an upright one, from the turn in which the most upright face is.

    photos: uint8 [H, W, 3]. found: what was found in them as they are, judged. It stays when no turn shows an upright
    face. small_faces: for each photo; its copies are enlarged only for ``always``, which bounds what a photo without
    any face costs. search_pixels: see FaceFinder.find.
    """
    copies = [np.rot90(pixels, -degrees // 90) for pixels in photos for degrees in _TURNS]  # views: no memory
    thorough: list[SmallFaces] = ["always" if small == "always" else "never" for small in small_faces for _ in _TURNS]
    sizes = [size for size in search_pixels for _ in _TURNS]
    seen = check.judge(copies, finder.locate(copies, finder.find(copies, thorough, sizes)))
    result = []
    for i, photo in enumerate(found):
        turned = zip(_TURNS, seen[i * len(_TURNS) : (i + 1) * len(_TURNS)], strict=True)
        degrees, best = max(turned, key=lambda one: _score(one[1]))
        result.append(_turned_back(best, degrees) if best.comparable else photo)
    return result


def _score(photo: Photo) -> float:
    """Of the most upright face; -1 without any face."""
    return max((face.uprightness.score for face in photo.faces if face.uprightness), default=-1.0)


def _turned_back(photo: Photo, degrees: int) -> Photo:
    """What was found in a copy that was turned clockwise, in pixels of the photo itself."""
    seen, back = (photo.width, photo.height), (360 - degrees) % 360
    faces = tuple(
        replace(face, box=turn_box(face.box, *seen, back), points=turn_points(face.points, *seen, back))
        for face in photo.faces
    )
    width, height = seen[::-1] if degrees % 180 else seen
    return replace(photo, width=width, height=height, faces=faces, turn_degrees=degrees)
