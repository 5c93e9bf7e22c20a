"""What calls were like of late: who calls how often, and how long they take."""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable

_OFTEN, _LATELY_SECONDS = 250, 0.25
_MANY_CALLS = 64  # in one or two seconds
_ENOUGH_CALLS, _RECENT_SECONDS = 12, 1.0
_REMEMBERED_KINDS = 4096


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


class Lately:
    """Whether something happened often in the last quarter of a second."""

    def __init__(self) -> None:
        self._when: deque[float] = deque(maxlen=_OFTEN)

    def add(self) -> None:
        self._when.append(time.monotonic())

    def many(self) -> bool:
        return len(self._when) == _OFTEN and time.monotonic() - self._when[0] < _LATELY_SECONDS


class UsualTime:
    """How long three of four calls of a kind took at most, of the last 12 within a second, seconds.

    Those that were given up count, too, with what they had taken until then. A kind is a method and a connection:
    nobody's heavy calls say how long another's take.
    """

    def __init__(self) -> None:
        self._took: OrderedDict[Hashable, deque[tuple[float, float]]] = OrderedDict()  # when, and how long

    def add(self, kind: Hashable, seconds: float) -> None:
        took = self._took.setdefault(kind, deque(maxlen=_ENOUGH_CALLS))
        took.append((time.monotonic(), seconds))
        self._took.move_to_end(kind)
        if len(self._took) > _REMEMBERED_KINDS:
            self._took.popitem(last=False)

    def seconds(self, kind: Hashable) -> float:
        """0 when there were too few to tell: those who call seldom may wait for what takes long."""
        took = self._took.get(kind)
        if took is None or len(took) < _ENOUGH_CALLS or time.monotonic() - took[0][0] > _RECENT_SECONDS:
            return 0.0
        return sorted(seconds for _, seconds in took)[_ENOUGH_CALLS * 3 // 4]
