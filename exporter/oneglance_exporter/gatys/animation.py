"""Pictures at several evaluations of the optimisation, as an animation."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from oneglance_exporter.perceptual.pictures import Rgb

_LONGEST_SIDE = 480  # pixels: animations are to be looked at in passing
_FRAME_MS, _LAST_MS = 300, 2000


def moments_of(evaluations: int, frames: int) -> frozenset[int]:
    """At which evaluations to take a frame: evenly spaced in their logarithm, as most happens early.

    Fewer than ``frames`` where there are fewer evaluations.
    """
    if frames == 0:
        return frozenset()
    return frozenset(np.geomspace(1, evaluations, frames).round().astype(int).tolist())


def animation(frames: Sequence[Rgb], format: str) -> bytes:
    """An endless GIF or WebP of pictures uint8 [H, W, 3]; all get the last one's size, at most 480 pixels a side."""
    height, width = frames[-1].shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    images = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames]
    file = io.BytesIO()
    images[0].save(
        file,
        format,
        save_all=True,
        append_images=images[1:],
        duration=[_FRAME_MS] * (len(images) - 1) + [_LAST_MS],
        loop=0,
        **({"quality": 85} if format == "WEBP" else {}),
    )
    return file.getvalue()
