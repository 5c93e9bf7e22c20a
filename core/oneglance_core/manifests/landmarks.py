"""The manifest of what finds a face's landmarks, and how a face is aligned by them."""

from typing import Any, Literal, Self

from pydantic import model_validator

from oneglance_core.manifests.model import ModelManifest
from oneglance_core.manifests.parity import NamedParity, Vectors
from oneglance_core.manifests.part import Part
from oneglance_core.manifests.tensor import TensorSpec

LANDMARKS = {"dlib-5": 5}  # how many points


class Alignment(Part):
    """How a face in a photo is brought to an encoder's input, the *chip*.

    The similarity that takes ``template`` nearest to the face's landmarks (least squares in the photo; Umeyama 1991)
    says where the chip, (H, W) of ``InputSpec.shape``, lies. Sampled bilinearly; a face larger than the chip is first
    halved until it is less than twice as large, with dlib's 5 x 5 binomial filter.

    landmarks: what the points are. ``dlib-5``: outer and inner corner of the eye on the right of the photo, outer and
        inner corner of the one on the left, bottom of the nose.
    template: their places in the chip, (x, y) in pixels, (0, 0) the centre of its top left pixel. They may lie beyond
        it, up to 4 times its side from (0, 0), and span at least 1 pixel, across or down.
    """

    landmarks: Literal["dlib-5"]
    template: tuple[tuple[float, float], ...]

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.template) != LANDMARKS[self.landmarks]:
            raise ValueError(f"{self.landmarks} has {LANDMARKS[self.landmarks]} points, got {len(self.template)}")
        if max(max(places) - min(places) for places in zip(*self.template, strict=True)) < 1:
            raise ValueError("the template's points lie within a pixel of each other")
        return self


class LandmarksManifest(ModelManifest):
    """``manifest.json`` of a landmark finder.

    The graph takes F faces of several gray pictures laid end to end: ``pixels`` uint8 [P]; ``pictures`` int64 [F, 3],
    each face's picture as (where it begins in ``pixels``, height, width), C order; ``boxes`` float32 [F, 4], each face
    as (left, top, right, bottom), edges inclusive as in dlib. It returns ``points`` float32 [F, L, 2], (x, y).
    Gray is the integer (r + g + b) // 3 of an rgb picture.
    """

    kind: Literal["landmarks"] = "landmarks"
    landmarks: Literal["dlib-5"]
    parity: NamedParity

    @property
    def graph_inputs(self) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec("pixels", "uint8", (None,)),
            TensorSpec("pictures", "int64", (None, 3)),
            TensorSpec("boxes", "float32", (None, 4)),
        )

    @property
    def graph_outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("points", "float32", (None, LANDMARKS[self.landmarks], 2)),)

    def vectors(self) -> Vectors:
        return self.parity.vectors()

    def _contract(self) -> dict[str, Any]:
        return {"kind": self.kind, "landmarks": self.landmarks}
