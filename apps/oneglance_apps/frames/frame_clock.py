"""When the frames of a live source were taken, by their timestamps."""

from collections import deque

WINDOW_SECONDS = 60.0


class FrameClock:
    """Maps timestamps of a live stream to this machine's clock, so that a frame that was held up on its way isn't new.

    The frame that came with the least delay in the last 60 s counts as taken when it arrived; the timestamps tell how
    much earlier or later the others were. After a stall the frames that were held up come all at once: each keeps its
    time. A timestamp that isn't later than the one before means that the camera's clock was set back, or the stream
    began anew: it counts from there. A clock that is set ahead needs no care, as the frame then has the least delay of
    all.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._delays: deque[tuple[float, float]] = deque()  # (timestamp, arrival - timestamp), both increasing

    def taken(self, at: float | None, arrived: float) -> float:
        """When the frame was taken, at most ``arrived``. ``at``: its timestamp in seconds; None: it has none."""
        if at is None:
            return arrived
        if self._last is not None and at <= self._last:
            self._delays.clear()
        self._last = at
        delay = arrived - at
        while self._delays and self._delays[-1][1] >= delay:
            self._delays.pop()
        self._delays.append((at, delay))
        while self._delays[0][0] < at - WINDOW_SECONDS:
            self._delays.popleft()
        return at + self._delays[0][1]
