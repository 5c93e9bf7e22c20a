"""The manifest of a face detector."""

from typing import Any, Literal

from pydantic import Field

from oneglance_core.manifests.model import ModelManifest
from oneglance_core.manifests.parity import NamedParity, Vectors
from oneglance_core.manifests.tensor import TensorSpec

_CONTRACT = {
    "window",
    "stride",
    "offset",
    "shrink",
    "margin",
    "gap",
    "smallest_side",
    "threshold",
    "nms_iou",
    "nms_covered",
}


class DetectorManifest(ModelManifest):
    """``manifest.json`` of a face detector: a sliding window over a pyramid of smaller and smaller copies of a photo.

    The graph takes ``image`` uint8 [N, H, W, 4], H and W at least ``smallest_side``: canvases on which all levels of a
    pyramid lie, as ``oneglance_core.faces.detection`` lays them (dlib's create_tiled_pyramid): rgb and 255, and four
    zeros where there is nothing. It returns ``scores`` float32 [N, h, w]: how much the window of ``window`` pixels (a
    square), centred on (x, y) = (offset + stride * column, offset + stride * row), looks like a face.

    ``shrink``: a level of H x W is followed by one of floor(H * shrink) x floor(W * shrink), in which (x, y) is what
    is (x / shrink + 0.3, y / shrink + 0.3) in the larger one. ``margin``: pixels of nothing around the canvas' levels;
    ``gap``: between them. ``threshold``: windows with a greater score are faces. ``nms_iou``, ``nms_covered``: of two
    windows whose intersection is a greater share than ``nms_iou`` of the smallest rectangle around both, or than
    ``nms_covered`` of either, the better one stays (dlib's test_box_overlap).
    """

    kind: Literal["detector"] = "detector"
    # Bounds keep the canvas of a small photo small, and the pyramid short.
    window: int = Field(ge=8, le=4096)
    stride: int = Field(ge=1, le=1024)
    offset: float = Field(ge=-4096, le=4096)
    shrink: float = Field(gt=0.1, le=0.98)
    margin: int = Field(ge=0, le=128)
    gap: int = Field(ge=0, le=1024)
    smallest_side: int = Field(ge=1, le=4096)
    threshold: float
    nms_iou: float = Field(gt=0, le=1)
    nms_covered: float = Field(gt=0, le=1)
    parity: NamedParity

    @property
    def graph_inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("image", "uint8", (None, None, None, 4)),)

    @property
    def graph_outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("scores", "float32", (None, None, None)),)

    def vectors(self) -> Vectors:
        return self.parity.vectors()

    def _contract(self) -> dict[str, Any]:
        return self.model_dump(mode="json", include={"kind", *_CONTRACT})
