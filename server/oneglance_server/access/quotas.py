"""How much an identity may ask for in a time, by the policy file. Counted in this process, from its start."""

import time
from collections.abc import Sequence

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from oneglance_server.access.policy import QuotaKind
from oneglance_server.errors import RETRY_AFTER, QuotaExceeded


class Quotas:
    """Windows of fixed length, as the package ``limits`` counts them. Safe from any thread."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

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
