"""Which frames are looked at, when more come than are wanted."""

EARLY = 0.85  # of the time between two frames


class FilePace:
    """At most ``fps`` frames per second of a file: the first one of each slot of 1 / fps."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._last_slot = -1

    def due(self, seconds: float) -> bool:
        """Whether to look at the frame at this position. Positions must not decrease."""
        slot = int(seconds * self._fps + 1e-6)
        if slot <= self._last_slot:
            return False
        self._last_slot = slot
        return True


class LivePace:
    """At most ``fps`` frames per second on average, of a live source.

    A camera of just that rate loses none: its frames may come early, by up to 0.85 of the time between two. (If each
    were due a fixed time after the last, a frame that is early by a millisecond would be skipped: every second one.)
    """

    def __init__(self, fps: float) -> None:
        self._step = 1 / fps
        self._due = float("-inf")

    def due(self, seconds: float) -> bool:
        """Whether to look at the frame that was taken then."""
        if seconds < self._due - EARLY * self._step:
            return False
        self._due = max(self._due, seconds) + self._step
        return True
