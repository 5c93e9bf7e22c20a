"""How much an identity may ask for in a time, by the policy file. Counted from the start of this process; what callers
of servers with the same galleries spend is told to each other, see oneglance_server.sharing."""

import threading
import time
from collections import Counter
from collections.abc import Sequence

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from oneglance_server.access.policy import QuotaKind
from oneglance_server.errors import RETRY_AFTER, QuotaExceeded
from oneglance_server.sharing.messages import Spent


class Quotas:
    """Windows of fixed length, as the package ``limits`` counts them. Safe from any thread."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._lock = threading.Lock()
        self._spent: Counter[tuple[str, str, str]] | None = None

    def begin_telling(self) -> None:
        """From now on what is spent is kept for take()."""
        self._spent = Counter()

    def take(self) -> list[Spent]:
        """What was spent here since the last time."""
        with self._lock:
            spent, self._spent = self._spent, Counter()
        return [Spent(*what, amount) for what, amount in (spent or {}).items()]

    def spent_elsewhere(self, spent: Sequence[Spent]) -> None:
        for one in spent:
            self._limiter.hit(parse(one.rate), one.kind, one.name, cost=one.amount)

    def spend(self, rates: Sequence[RateLimitItem], name: str, kind: QuotaKind, amount: int) -> None:
        """Count so much for the identity of this name, or raise QuotaExceeded and count nothing."""
        if not amount:
            return
        for rate in rates:
            if amount > rate.amount:
                raise QuotaExceeded(
                    f"{amount} {kind} in one call; {name} has {rate.amount} in {rate.get_expiry()} s",
                    metadata={"quota": kind, "limit": rate.amount},
                )
            if not self._limiter.test(rate, kind, name, cost=amount):
                resets = self._limiter.get_window_stats(rate, kind, name).reset_time
                raise QuotaExceeded(
                    f"{name} has {rate.amount} {kind} in {rate.get_expiry()} s, and has used them",
                    metadata={
                        "quota": kind,
                        "limit": rate.amount,
                        RETRY_AFTER: max(1, round(1000 * (resets - time.time()))),
                    },
                )
        for rate in rates:
            self._limiter.hit(rate, kind, name, cost=amount)
            if self._spent is not None:
                with self._lock:
                    self._spent[str(rate), kind, name] += amount
