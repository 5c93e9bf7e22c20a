"""What calls were like of late: who calls how often, and how long they take."""

import time
from collections import Counter, deque

_MANY_CALLS = 64  # in one or two seconds
_ENOUGH_CALLS, _RECENT_SECONDS = 12, 1.0


class Arrivals:
    """How often each connection calls: counted in the present second and the one before."""

    def __init__(self) -> None:
        self._since = 0.0
        self._before: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        self._all_before = self._all_now = 0

    def add(self, connection: str) -> None:
        now = time.monotonic()
        if now - self._since >= 1.0:
            stale = now - self._since >= 2.0
            self._before, self._all_before = (Counter(), 0) if stale else (self._now, self._all_now)
            self._now, self._all_now, self._since = Counter(), 0, now
        self._now[connection] += 1
        self._all_now += 1

    def few(self, connection: str) -> bool:
        """Whether that connection calls at most two thirds as often as the average one, or hardly anybody calls."""
        connections = max(len(self._before), len(self._now))
        mine, total = self._before[connection] + self._now[connection], self._all_before + self._all_now
        return total < _MANY_CALLS or 3 * mine * connections <= 2 * total


class UsualTime:
    """How long three of four calls of a method took at most, of the last 12 within a second, seconds.

    Those that were given up count, too, with what they had taken until then.
    """

    def __init__(self) -> None:
        self._took: dict[str, deque[tuple[float, float]]] = {}  # when, and how long

    def add(self, method: str, seconds: float) -> None:
        took = self._took.setdefault(method, deque(maxlen=_ENOUGH_CALLS))
        took.append((time.monotonic(), seconds))

    def seconds(self, method: str) -> float:
        """0 when there were too few to tell: those who call seldom may wait for what takes long."""
        took = self._took.get(method)
        if took is None or len(took) < _ENOUGH_CALLS or time.monotonic() - took[0][0] > _RECENT_SECONDS:
            return 0.0
        return sorted(seconds for _, seconds in took)[_ENOUGH_CALLS * 3 // 4]
