"""Figures of an encoder's input: numbers that tell a drawing from a photo, or a clean drawing from a shaded one."""

import functools
from typing import get_args

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests.made_for import FigureName

FIGURES: tuple[FigureName, ...] = get_args(FigureName)
LIGHT = 224  # gray levels from here on are light
DARK = 32  # gray levels below are dark


def input_figures(picture: npt.NDArray[np.uint8]) -> dict[FigureName, float]:
    """The figures of an image input uint8 [H, W, C], C = 1 gray or 3 rgb; all in [0, 1].

    light, dark, middle: the shares of pixels with a gray level of at least LIGHT, below DARK, and between; they sum to
    1. deviation: standard deviation of the gray levels / 255. detail: mean difference of neighbouring pixels / 255.
    colour: mean difference of the largest and the smallest of r, g and b / 255.
    """
    gray, colour = picture[..., 0], 0.0
    if picture.shape[2] > 1:  # channel by channel is ten times faster than along the last axis
        channels = [np.ascontiguousarray(picture[..., i]) for i in range(3)]
        gray = (functools.reduce(np.add, [channel.astype(np.uint16) for channel in channels]) // 3).astype(np.uint8)
        spread = functools.reduce(np.maximum, channels) - functools.reduce(np.minimum, channels)
        colour = float(spread.mean()) / 255
    counts = np.bincount(gray.reshape(-1), minlength=256)
    share = counts / gray.size
    levels = np.arange(256)
    mean = float(share @ levels)
    light, dark = float(share[LIGHT:].sum()), float(share[:DARK].sum())
    down, across = (np.abs(np.diff(gray.astype(np.int16), axis=axis)) for axis in (0, 1))
    steps = max(1, down.size + across.size)
    return {
        "light": light,
        "dark": dark,
        "middle": max(0.0, 1 - light - dark),
        "deviation": float(share @ (levels - mean) ** 2) ** 0.5 / 255,
        "detail": float(down.sum(dtype=np.int64) + across.sum(dtype=np.int64)) / steps / 255,
        "colour": colour,
    }
