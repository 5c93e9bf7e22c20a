"""How late answers are: percentiles, and when to say that a bound isn't kept."""

import math
from collections import deque
from collections.abc import Iterable

REMEMBERED = 50_000  # latencies for the percentiles of a whole run
RECENT_SECONDS = 5.0
FEWEST = 3
AGAIN_SECONDS = 30.0  # at most so often "behind" is told while it lasts


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest of the values that at least ``share`` of them don't exceed; None without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


class Lateness:
    """The latencies of one source. ``bound_seconds``: what they should not exceed; None: whatever."""

    def __init__(self, bound_seconds: float | None) -> None:
        self._bound = bound_seconds
        self._all: deque[float] = deque(maxlen=REMEMBERED)
        self._recent: deque[tuple[float, float]] = deque()  # (when, latency)
        self._told_at = -math.inf

    def answered(self, now: float, latency_seconds: float) -> None:
        self._all.append(latency_seconds)
        self._recent.append((now, latency_seconds))

    def of_run(self, share: float) -> float | None:
        """A percentile of the last 50,000 answers."""
        return percentile(self._all, share)

    def of_late(self, now: float, share: float) -> float | None:
        """A percentile of the answers of the last 5 seconds."""
        self._forget(now)
        return percentile((latency for _, latency in self._recent), share)

    def is_behind(self, now: float, waiting_since: float | None) -> bool:
        """Whether to say now that the bound isn't kept: when half of the last answers were later, or when a frame has
        been waiting for its answer for 5 times as long. Then not again for 30 seconds.

        waiting_since: when the oldest frame without an answer was taken; None: there is none.
        """
        if self._bound is None or now - self._told_at < AGAIN_SECONDS:
            return False
        self._forget(now)
        late = sum(latency > self._bound for _, latency in self._recent)
        hung = waiting_since is not None and now - waiting_since > 5 * self._bound
        if hung or (len(self._recent) >= FEWEST and 2 * late > len(self._recent)):
            self._told_at = now
            return True
        return False

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - RECENT_SECONDS:
            self._recent.popleft()
