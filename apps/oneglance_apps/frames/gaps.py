"""How many frames of a file are missing, as the times of the others tell."""

LONG_SECONDS = 0.5
LONG_STEPS = 3
REGULAR = 0.9  # share of a video's frames that follow each other at one distance, if it has a constant rate
FEWEST = 10


class Gaps:
    """Counts frames that are missing from a video with a constant rate.

    A gap counts where something was damaged; and it may count wherever it is long, that is more than half a second and
    three frames: some containers lose frames silently. A video of variable rate has no gaps.

    in_long_ones: frames that long gaps without damage would have room for.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._last: float | None = None
        self._regular = 0
        self._frames = 0
        self._damaged = 0
        self.in_long_ones = 0

    def add(self, seconds: float, *, damaged: bool) -> None:
        """The next frame. ``damaged``: whether something was damaged since the frame before."""
        if self._last is not None:
            distance = seconds - self._last
            self._frames += 1
            self._regular += abs(distance - self._step) < 0.25 * self._step
            lost = round(distance / self._step) - 1
            if lost > 0 and damaged:
                self._damaged += lost
            elif lost > 0 and distance > max(LONG_SECONDS, LONG_STEPS * self._step):
                self.in_long_ones += lost
        self._last = seconds

    def missing(self, *, long_ones_count: bool) -> int:
        """Frames missing so far."""
        if self._frames < FEWEST or self._regular < REGULAR * self._frames:
            return 0
        return self._damaged + (self.in_long_ones if long_ones_count else 0)
