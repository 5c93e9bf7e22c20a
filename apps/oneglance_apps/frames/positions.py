"""The position of each frame of a file, in seconds from the file's start."""

LONGEST_GAP_SECONDS = 10.0  # of a clock that may step; FFmpeg's own bound


class Positions:
    """Positions from timestamps. They never decrease.

    The file starts where the first of its streams does, so pictures that begin later than the sound have later
    positions. A frame without a timestamp, or with an earlier one than the frame before, follows that frame after
    ``step`` seconds,
    and the clock goes on from there: broadcast clocks (MPEG) step, and start again from 0. Such a clock (``may_step``)
    that jumps ahead by more than 10 s has stepped, too.
    """

    def __init__(self, start: float | None, step: float, *, may_step: bool) -> None:
        self._start = start
        self._step = step
        self._may_step = may_step
        self._shift = 0.0
        self._last: float | None = None
        self._stepped_at: float | None = None  # timestamp of the frame before, if the clock seemed to have stepped then

    def of(self, at: float | None) -> float:
        """The position of the next frame. ``at``: its timestamp in seconds."""
        if self._start is None or (self._last is None and at is not None and not self._may_be_first(at)):
            self._start = at
        if at is None or self._start is None:
            position = 0.0 if self._last is None else self._last + self._step
        else:
            position = at - self._start + self._shift
            if self._last is not None and self._has_stepped(position - self._last):
                position = self._last + self._step
                if self._stepped_at is not None and 0 <= at - self._stepped_at < LONGEST_GAP_SECONDS:
                    self._shift = position - (at - self._start)
                self._stepped_at = at
            else:
                self._stepped_at = None
        self._last = position
        return position

    def _may_be_first(self, at: float) -> bool:
        assert self._start is not None
        return at - self._start >= 0 and not self._has_stepped(at - self._start)

    def _has_stepped(self, ahead: float) -> bool:
        return ahead < 0 or (self._may_step and ahead > LONGEST_GAP_SECONDS)
