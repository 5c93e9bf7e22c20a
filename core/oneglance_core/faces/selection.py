"""Which face of a photo is meant."""

from dataclasses import dataclass
from typing import Literal

from oneglance_core.faces.finder import Box, Face, Photo, SmallFaces


@dataclass(frozen=True, slots=True)
class FaceChoice:
    """Which face of a photo is meant.

    which: ``unset`` (up to the call), ``only``, ``all``, ``largest``, ``box`` (the one that overlaps ``box`` most) or
        ``aligned`` (the picture is a chip already).
    box: (x, y, width, height) in photo pixels.
    """

    which: Literal["unset", "only", "all", "largest", "box", "aligned"] = "unset"
    box: Box | None = None
    small_faces: SmallFaces = "when-none"


class FaceError(ValueError):
    """A photo without the face that is needed. ``reason``: FACE_NOT_FOUND or FACES_SEVERAL (docs/errors.md)."""

    def __init__(self, reason: str, message: str, photo: Photo) -> None:
        super().__init__(message)
        self.reason = reason
        self.photo = photo


def choose(photo: Photo, choice: FaceChoice) -> tuple[Face, ...]:
    """The faces that ``choice`` means. Raises FaceError when there is none, or not the only one."""
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
        return photo.faces[:1]
    if choice.which == "box" and choice.box is not None:
        overlaps = [_overlap(face.box, choice.box) for face in photo.faces]
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
