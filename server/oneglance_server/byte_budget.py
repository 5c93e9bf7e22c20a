"""How many bytes of requests and answers may be held at once: by all callers together, and by each of them."""

from oneglance_server.calls import Call
from oneglance_server.limiter import Limiter

_KEPT = 1024  # limiters of connections that hold nothing are kept up to so many


class ByteBudget:
    """Bytes that are charged before they are read and given back when they are let go.

    One connection holds at most half of ``capacity``, so that there is always room for another's. A single message
    larger than that is let through alone. Belongs to one event loop.
    """

    def __init__(self, capacity: int) -> None:
        self._all = Limiter("requests", max(1, capacity), unit="bytes", full="too many bytes of requests under way")
        self._each = max(1, capacity // 2)
        self._connections: dict[str, Limiter] = {}

    @property
    def under_way(self) -> int:
        return self._all.under_way

    def take(self, connection: str, size: int) -> None:
        """Charge ``size`` bytes at once. Raises Overloaded when there is no room for them."""
        own = self._of(connection)
        own.take(size)
        try:
            self._all.take(size)
        except BaseException:
            own.give(size)
            raise

    async def acquire(self, call: Call, size: int) -> None:
        """Charge ``size`` bytes of a patient call as soon as there is room. Raises DeadlinePassed."""
        own = self._of(call.caller.connection)
        await own.acquire(call, size)
        try:
            await self._all.acquire(call, size)
        except BaseException:
            own.give(size)
            raise

    def charge_anyway(self, connection: str, size: int) -> None:
        """Charge what is held already, whether there is room for it or not."""
        self._of(connection).under_way += size
        self._all.under_way += size

    def give(self, connection: str, size: int) -> None:
        """Give back what was charged."""
        self._of(connection).give(size)  # of 0 bytes: it may have been dropped meanwhile
        self._all.give(size)

    def _of(self, connection: str) -> Limiter:
        own = self._connections.get(connection)
        if own is None:
            if len(self._connections) >= _KEPT:
                self._connections = {
                    name: used for name, used in self._connections.items() if used.under_way or used.waiting
                }
            own = self._connections[connection] = Limiter(
                "requests", self._each, unit="bytes", full="too many bytes of requests under way on this connection"
            )
        return own
