"""How pictures become H.264: the settings of the encoder, and the frames that it takes. Needs PyAV and Pillow."""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Colorspace
from PIL import Image

CODEC = "libx264"
OPTIONS = {"crf": "18"}  # quality of H.264: visually lossless
BT709 = 1  # code of ITU-T H.273 for primaries, transfer and matrix
MPEG_RANGE = 1

Pixels = npt.NDArray[np.uint8]


def pixels_of(jpeg: bytes) -> Pixels:
    """uint8 [h, w, 3]."""
    with Image.open(io.BytesIO(jpeg)) as picture:
        return np.asarray(picture.convert("RGB"))


def even(pixels: Pixels) -> tuple[int, int]:
    """Width and height of the video whose first picture this is: H.264 wants even sides."""
    height, width = (side + side % 2 for side in pixels.shape[:2])
    return width, height


def set_up(context: Any, size: tuple[int, int], base: Fraction) -> None:
    """``context``: of an encoder that is not open yet. ``base``: the unit of times."""
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.time_base = base
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = MPEG_RANGE


def to_frame(pixels: Pixels, size: tuple[int, int], pts: int, base: Fraction) -> av.VideoFrame:
    """A frame of that width and height: one row or column repeated, or resized if the source changed its size."""
    width, height = size
    more = height - pixels.shape[0], width - pixels.shape[1]
    if not all(0 <= side <= 1 for side in more):
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    elif any(more):
        pixels = np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
    frame.pts, frame.time_base = pts, base
    return frame
