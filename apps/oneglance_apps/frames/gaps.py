"""How many frames of a file are missing, as the times of the others tell."""

LONG_SECONDS = 0.5
LONG_STEPS = 3
REGULAR = 0.9  # share of a video's frames that follow each other at one distance, if it has a constant rate
FEWEST = 10


class Gaps:
    """Counts frames that are missing from a video with a constant rate.

    A gap counts where something was damaged; and, if ``long_ones_count``, wherever it lasts more than half a second and
    three frames: containers without an index lose frames silently. A video of variable rate has no gaps.
    """

    def __init__(self, step: float, *, long_ones_count: bool) -> None:
        self._step = step
        self._long_ones_count = long_ones_count
        self._last: float | None = None
        self._regular = 0
        self._frames = 0
        self._lost = 0

    def add(self, seconds: float, *, damaged: bool) -> None:
        """The next frame. ``damaged``: whether something was damaged since the frame before."""
        if self._last is not None:
            distance = seconds - self._last
            self._frames += 1
            self._regular += abs(distance - self._step) < 0.25 * self._step
            lost = round(distance / self._step) - 1
            if lost > 0 and (
                damaged or (self._long_ones_count and distance > max(LONG_SECONDS, LONG_STEPS * self._step))
            ):
                self._lost += lost
        self._last = seconds

    @property
    def missing(self) -> int:
        """Frames missing so far."""
        constant = self._frames >= FEWEST and self._regular >= REGULAR * self._frames
        return self._lost if constant else 0
