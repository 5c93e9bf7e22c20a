"""The manifest of the check that a found face is upright and aligned."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from oneglance_core.manifests.landmarks import Alignment
from oneglance_core.manifests.model import ModelManifest
from oneglance_core.manifests.parity import NamedParity, Vectors
from oneglance_core.manifests.part import Part
from oneglance_core.manifests.tensor import TensorSpec


class UprightnessEvidence(Part):
    """What the check does at its threshold, measured on faces that it was not trained on.

    faces, faces_refused: chips of upright photos, and how many of them are below the threshold.
    junk, junk_accepted: chips of whatever was found in turned photos, and how many of them are not below it.
    """

    faces: int = Field(ge=1)
    faces_refused: int = Field(ge=0)
    junk: int = Field(ge=0)
    junk_accepted: int = Field(ge=0)
    data: str

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.faces_refused > self.faces or self.junk_accepted > self.junk:
            raise ValueError("evidence: more were refused or accepted than there were")
        return self


class UprightnessManifest(ModelManifest):
    """``manifest.json`` of the check that a chip shows an upright, aligned face.

    The graph takes ``chips`` uint8 [N, height, width, 3], rgb, cut by ``alignment``, and returns ``scores`` float32
    [N], in [0, 1]. A face whose chip scores below ``threshold`` is neither enrolled nor compared.
    """

    kind: Literal["uprightness"] = "uprightness"
    height: int = Field(ge=8, le=512)
    width: int = Field(ge=8, le=512)
    alignment: Alignment
    threshold: float = Field(ge=0, le=1)
    evidence: UprightnessEvidence | None = None
    parity: NamedParity

    @property
    def graph_inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("chips", "uint8", (None, self.height, self.width, 3)),)

    @property
    def graph_outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("scores", "float32", (None,)),)

    def vectors(self) -> Vectors:
        return self.parity.vectors()

    def _contract(self) -> dict[str, Any]:
        return self.model_dump(mode="json", include={"kind", "height", "width", "alignment", "threshold"})
