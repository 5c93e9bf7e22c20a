"""What ``import onnx`` is told of a network that others trained. No onnx: the command line reads this file."""

from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from oneglance_core.flags import Flag
from oneglance_exporter.settings import CommandSettings


class Contract(CommandSettings):
    """What the network wants: x' = (x - mean) * scale, x in 0..255, in its own channel order and layout."""

    color: Literal["rgb", "bgr", "gray"] = Field("rgb", description="the network's channel order")
    layout: Literal["nchw", "nhwc"] = Field("nchw", description="of the network's input")
    mean: Annotated[tuple[float, ...], Flag(metavar="X")] = Field(
        (0.0,),
        description="x' = (x - mean) * scale, x from 0 to 255; one number, or one per channel in the network's order",
    )
    scale: Annotated[tuple[float, ...], Flag(metavar="X")] = Field((1.0,), description="likewise")
    size: Annotated[tuple[int, int] | None, Flag(metavar=("H", "W"))] = Field(
        None, description="where the graph leaves it open"
    )

    @property
    def channels(self) -> int:
        return 1 if self.color == "gray" else 3

    def prepare(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """``images``: uint8 [N, H, W, C], rgb or gray. Returns the network's input, float32."""
        ordered = images[..., ::-1] if self.color == "bgr" else images
        x = (ordered.astype(np.float32) - np.array(self.mean, np.float32)) * np.array(self.scale, np.float32)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if self.layout == "nchw" else x)


class OnnxSettings(Contract):
    """Settings of ``import onnx``."""

    unit_norm: bool = Field(
        False,
        description="divide encodings by their length; for networks compared by cosine: squared L2 is then "
        "2 - 2 cosine",
    )
    output: Annotated[str | None, Flag(metavar="NAME")] = Field(
        None, description="the graph's output that is the encoding, if it has several"
    )
    align: Literal["none", "dlib-5", "arcface"] = Field(
        "none",
        description="how a face in a photo becomes the network's chip. dlib-5: dlib's mean face with --face-padding. "
        "arcface: dlib's mean face laid into ArcFace's chip so that the eyes meet; derived, not the author's five "
        "points, of which dlib's finder has only the eyes. none: no photos, only chips",
    )
    face_padding: Annotated[float, Flag(metavar="P")] = Field(
        0.25, ge=0, le=10, description="border of --align dlib-5, as a share of the face"
    )
    author_tau: Annotated[float | None, Flag(metavar="TAU")] = Field(
        None, ge=0, description="the author's threshold, as squared L2"
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        if "face_padding" in self.model_fields_set and self.align != "dlib-5":
            raise ValueError("--face-padding goes with --align dlib-5")
        return self


_PLUS_MINUS_1: dict[str, Any] = {"mean": (127.5,), "scale": (1 / 127.5,)}
_FACES: dict[str, Any] = {"unit_norm": True, "align": "arcface"}
PRESETS: dict[str, dict[str, Any]] = {
    "arcface": {**_PLUS_MINUS_1, **_FACES},
    "adaface": {"color": "bgr", **_PLUS_MINUS_1, **_FACES},
    "sface": _FACES,
    "imagenet": {"mean": (123.675, 116.28, 103.53), "scale": (1 / 58.395, 1 / 57.12, 1 / 57.375)},
}
"""Values of OnnxSettings, from the authors' own code."""
