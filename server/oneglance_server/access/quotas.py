"""How much an identity may ask for in a time, by the policy file. Counted in this process, from its start."""

import time

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from oneglance_server.access.identity import Identity
from oneglance_server.access.policy import Policy, Quota, QuotaKind
from oneglance_server.errors import RETRY_AFTER, QuotaExceeded


class Quotas:
    """Windows of fixed length, as the package ``limits`` counts them. Safe from any thread."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def spend(self, policy: Policy, identity: Identity, kind: QuotaKind, amount: int) -> None:
        """Count so much for the identity, or raise QuotaExceeded and count nothing."""
        if not amount or not policy.quota:
            return
        items = [(quota, item) for quota in policy.quotas_of(identity) for item in _items(quota, kind)]
        for _, item in items:
            if amount > item.amount:
                raise QuotaExceeded(
                    f"{amount} {kind} in one call; {identity.name} has {item.amount} in {item.get_expiry()} s",
                    metadata={"quota": kind, "limit": item.amount},
                )
            if not self._limiter.test(item, kind, identity.name, cost=amount):
                resets = self._limiter.get_window_stats(item, kind, identity.name).reset_time
                wait = max(1, round(1000 * (resets - time.time())))
                raise QuotaExceeded(
                    f"{identity.name} has {item.amount} {kind} in {item.get_expiry()} s, and has used them",
                    metadata={"quota": kind, "limit": item.amount, RETRY_AFTER: wait},
                )
        for _, item in items:
            self._limiter.hit(item, kind, identity.name, cost=amount)


def _items(quota: Quota, kind: QuotaKind) -> list[RateLimitItem]:
    text = getattr(quota, kind)
    return parse_many(text) if text else []
