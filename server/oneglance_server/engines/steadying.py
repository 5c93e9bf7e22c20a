"""Against flicker: what a stream keeps of the frame before.

Two things make a stylized video restless although little moves: the moments by which a frame is normalised jump, and
noise that nobody sees is painted large. So the moments follow an exponential average over the frames, and where a frame
does not differ from the one before, the pixel painted before is kept in part. (No optical flow: what moves is painted
anew.)
"""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]
Fine = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float32]

# Levels of 255 by which a pixel's surroundings of 5 x 5 differ from the frame before: up to STILL that is noise,
# from MOVED on something moved.
STILL = 4.0
MOVED = 16.0
_BLUR = ImageFilter.BoxBlur(2)
# A share of moved pixels that no pan reaches: another scene begins, whose moments have nothing to do with the last.
_CUT = 0.9
_EVERY = 4  # row and column is looked at for that
# Of a level, in what is kept. In whole levels a still picture would never arrive where steadiness is high: steps below
# half a level would be rounded away, frame after frame.
_PARTS = 256


@dataclass(frozen=True, slots=True)
class _Kept:
    look: Hashable
    blurred: Pixels
    painted: Fine
    moments: Floats


class FrameMemory:
    """The memory of one stream: 9 bytes per pixel of its last frame. Not thread-safe."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def begin(self, pixels: Pixels, look: Hashable, steadiness: float) -> "Frame":
        """The next frame, uint8 [H, W, 3]. What was kept is forgotten when size or ``look`` (stylizer and style)
        differ, or everything moved. ``steadiness`` in [0, 1)."""
        blurred = np.asarray(Image.fromarray(pixels).filter(_BLUR))
        before = self._kept
        if before is not None and (before.look != look or before.blurred.shape != blurred.shape or not steadiness):
            before = None
        if before is not None:
            some = (slice(None, None, _EVERY), slice(None, None, _EVERY))
            if (_moved(blurred[some], before.blurred[some]) >= MOVED).mean() > _CUT:
                before = None
        return Frame(self, blurred, look, steadiness, before)

    def keep(self, kept: _Kept | None) -> None:
        self._kept = kept


class Frame:
    """One frame of a stream on its way.

    Attributes:
        moments: what to give the stylizer, float32 [M, 2], or None for the frame's own.
        own: the share of its own moments, beside them.
    """

    def __init__(
        self, memory: FrameMemory, blurred: Pixels, look: Hashable, steadiness: float, before: _Kept | None
    ) -> None:
        self._memory = memory
        self._blurred = blurred
        self._look = look
        self._steadiness = steadiness
        self._before = before
        self._painted: Fine = np.empty(blurred.shape, np.uint16)
        self.moments = before.moments if before else None
        self.own = 1 - steadiness if before else 1.0

    def steady(self, stylized: Floats, rows: slice, columns: slice) -> Floats:
        """Part of the stylized frame, float32 [h, w, 3], with what didn't move held back."""
        place = (rows, columns)
        if self._before is not None:
            moved = _moved(self._blurred[place], self._before.blurred[place])
            share = self._steadiness * np.clip((MOVED - moved) / (MOVED - STILL), 0, 1)
            before = self._before.painted[place] * np.float32(1 / _PARTS)
            stylized = stylized + share[..., np.newaxis] * (before - stylized)
        self._painted[place] = np.rint(stylized * _PARTS)
        return stylized

    def finish(self, moments: Floats) -> None:
        """All parts are done, under these ``moments`` [M, 2]: they are what the next frame follows."""
        self._memory.keep(_Kept(self._look, self._blurred, self._painted, moments) if self._steadiness else None)


def _moved(now: Pixels, before: Pixels) -> Floats:
    """float32 [h, w], levels: the greatest difference over the colours."""
    difference = np.abs(now.astype(np.int16) - before.astype(np.int16))
    moved: Floats = difference.max(axis=2).astype(np.float32)
    return moved
