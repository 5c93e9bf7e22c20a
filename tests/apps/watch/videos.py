"""Small videos, written with PyAV."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

Picture = npt.NDArray[np.uint8]


def write_video(
    path: Path,
    pictures: Iterable[Picture],
    *,
    fps: int = 25,
    times: Iterable[float] | None = None,
    codec: str = "mpeg4",
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    aspect: Fraction | None = None,
    **options: str,
) -> Path:
    """A video of ``uint8 [H, W, 3]`` pictures, at ``fps`` or at the ``times`` given, in seconds."""
    frames = list(pictures)
    with av.open(str(path), "w", options=options) as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=fps))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.bit_rate = 20_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        context: Any = stream.codec_context
        if aspect:
            context.sample_aspect_ratio = aspect
        context.time_base = Fraction(1, 1000) if times else Fraction(1, fps)
        at = [round(1000 * t) for t in times] if times else range(len(frames))
        for pts, picture in zip(at, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = pts
            frame.time_base = context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def level(value: int, height: int = 48, width: int = 64) -> Picture:
    """A picture of one gray level."""
    return np.full((height, width, 3), value, np.uint8)


def scene(picture: Picture, side: int = 64) -> Picture:
    """An ``uint8 [8, 8, 1]`` picture of the pixels model as a frame of ``side`` pixels."""
    return np.repeat(np.kron(picture[..., 0], np.ones((side // 8, side // 8), np.uint8))[..., np.newaxis], 3, axis=2)
