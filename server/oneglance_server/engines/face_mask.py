"""Where a picture is kept because somebody's face is there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.faces.turns import Box

Floats = npt.NDArray[np.float32]

# An ellipse about the box of a face, which reaches from the brows to the chin: its centre and its half axes as shares
# of the box, and the share of them within which all is kept.
_CENTRE = 0.5, 0.45
_HALF_AXES = 0.85, 1.1
_CORE = 0.55


@dataclass(frozen=True, slots=True)
class FaceMask:
    """Soft ellipses about ``faces``: (x, y, width, height) in pixels of the picture."""

    faces: Sequence[Box]

    def over(self, rows: slice, columns: slice) -> Floats:
        """How much each pixel there is of a face, float32 [rows, columns] in [0, 1]."""
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        for x, y, width, height in self.faces:
            down = _away(rows, y + _CENTRE[1] * height, _HALF_AXES[1] * height)
            across = _away(columns, x + _CENTRE[0] * width, _HALF_AXES[0] * width)
            place = np.ix_(np.flatnonzero(down < 1), np.flatnonzero(across < 1))
            away = np.sqrt(down[place[0]] + across[place[1]])
            share = np.clip((1 - away) / (1 - _CORE), 0, 1)
            mask[place] = np.maximum(mask[place], share * share * (3 - 2 * share))
        return mask


def _away(pixels: slice, centre: float, half_axis: float) -> Floats:
    """Squared distance of each pixel's middle from the centre, in half axes."""
    away = (np.arange(pixels.start, pixels.stop) + 0.5 - centre) / half_axis
    return np.square(away, dtype=np.float32)
