"""Measure what the pictures that an encoder is made for look like."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from oneglance_core.input_figures import FIGURES, input_figures
from oneglance_core.manifests import FigureRange, MadeFor
from oneglance_core.manifests.made_for import FigureName

# The limits are the measured range, widened: generously, because to refuse a picture that would have done is worse than
# to take one that is hardly worse than those measured. docs/model-folder.md shows what lies inside and outside.
WIDENED = 0.2  # light, dark, middle: by so much on each side
TIMES = 2.0  # the others: by this factor on each side
_SHARES: tuple[FigureName, ...] = ("light", "dark", "middle")
_DECIMALS = 4


def made_for(inputs: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8], data: str) -> MadeFor:
    """The figures of inputs uint8 [N, H, W, C], N >= 1. ``data``: what they are, in words."""
    found = [input_figures(picture) for picture in inputs]
    return MadeFor(pictures=len(found), data=data, figures=tuple(_range(name, found) for name in FIGURES))


def _range(name: FigureName, found: Sequence[dict[FigureName, float]]) -> FigureRange:
    values = [round(figures[name], _DECIMALS) for figures in found]
    low, high = min(values), max(values)
    least, most = (low - WIDENED, high + WIDENED) if name in _SHARES else (low / TIMES, high * TIMES)
    return FigureRange(
        figure=name,
        low=low,
        high=high,
        least=round(max(0.0, least), _DECIMALS),
        most=round(min(1.0, most), _DECIMALS),
    )
