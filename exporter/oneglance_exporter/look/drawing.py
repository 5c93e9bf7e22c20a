"""Patches of every kind of input as pictures: pictures and planes as they are, signals as curves, volumes as slices."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Patch = npt.NDArray[np.float64]
TILE = 66  # pixels, the longer side of a patch
_OUTSIDE = (206, 214, 232)  # what lies outside of the input
_CURVES = ((20, 20, 20), (190, 60, 30), (30, 90, 190), (40, 130, 60))
_MOST_CURVES = len(_CURVES)
_SAME = 1e-12


def scale_of(patches: Sequence[Patch], low: float, high: float) -> tuple[float, float]:
    """(black, white) for the patches of one unit: of arrays the range of their values, never wider than ``low`` to
    ``high``."""
    values = np.concatenate([patch[np.isfinite(patch)] for patch in patches])
    if not len(values):
        return low, high
    return max(low, float(values.min())), min(high, float(values.max()))


def tile(patch: Patch, kind: str, black: float, white: float) -> Image.Image:
    """``patch`` [*sizes, C] as a picture of about TILE pixels; NaN is outside of the input."""
    if kind == "signal":
        return (
            _curves(patch, black, white) if patch.shape[-1] <= _MOST_CURVES else _gray(patch.T[..., None], black, white)
        )
    if kind == "volume":
        return _slices(patch, black, white)
    return _gray(patch, black, white)


def _gray(patch: Patch, black: float, white: float) -> Image.Image:
    """[H, W, 1] or [H, W, 3]; of other channels the mean."""
    pixels = patch if patch.shape[-1] in (1, 3) else patch.mean(axis=-1, keepdims=True)
    level = (pixels - black) / max(white - black, _SAME)
    rgb = np.repeat(level, 3, axis=-1) if level.shape[-1] == 1 else level
    outside = np.isnan(rgb).any(axis=-1)
    shown = (np.nan_to_num(rgb).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    shown[outside] = _OUTSIDE
    height, width = shown.shape[:2]
    factor = TILE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    filter_ = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    return Image.fromarray(shown).resize(size, filter_)


def _curves(patch: Patch, black: float, white: float) -> Image.Image:
    picture = Image.new("RGB", (TILE, TILE // 2), "white")
    draw = ImageDraw.Draw(picture)
    length = len(patch)
    across = np.arange(length) * (TILE - 3) / max(1, length - 1) + 1
    for place in np.flatnonzero(np.isnan(patch).any(axis=1)):
        half = (TILE - 3) / max(1, length - 1) / 2
        draw.rectangle((across[place] - half, 0, across[place] + half, TILE // 2), fill=_OUTSIDE)
    for channel, colour in zip(range(patch.shape[1]), _CURVES, strict=False):
        level = (patch[:, channel] - black) / max(white - black, _SAME)
        down = (1 - level.clip(0, 1)) * (TILE // 2 - 5) + 2
        inside = np.isfinite(down)
        if inside.sum() > 1:
            draw.line(list(zip(across[inside].tolist(), down[inside].tolist(), strict=True)), fill=colour)
    return picture


def _slices(patch: Patch, black: float, white: float) -> Image.Image:
    """The three slices through the middle, across each axis."""
    cuts = [_gray(patch.take(patch.shape[axis] // 2, axis=axis), black, white) for axis in range(3)]
    third = TILE * 2 // 3
    picture = Image.new("RGB", (3 * third + 2, third), "white")
    for i, cut in enumerate(cuts):
        picture.paste(cut.resize((third, third), Image.Resampling.NEAREST), (i * (third + 1), 0))
    return picture
