"""Lets work through while its cost stays within a capacity; who waits for room takes turns as admission.py says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from oneglance_server.admission import FairQueue, Ticket
from oneglance_server.calls import Call
from oneglance_server.errors import Overloaded


class Limiter:
    """Lets items through while the cost of those under way stays within ``capacity``.

    An item larger than that is let through alone. What was let through must be given back.

    Args:
        name, unit, full: see FairQueue.
    """

    def __init__(self, name: str, capacity: int, *, unit: str, full: str = "") -> None:
        self.capacity = capacity
        self.under_way = 0  # cost
        self._unit = unit
        self._full = full or f"the {name} queue is full"
        self._queue = FairQueue[None, None](name, capacity, full=full)

    @property
    def waiting(self) -> int:
        """Cost of what waits to be let through."""
        return self._queue.cost

    def take(self, cost: int = 1) -> None:
        """Go through at once, whoever waits; a cost of 0 needs no room. Raises Overloaded when there is none."""
        if cost and not self._fits(cost):
            raise Overloaded(self._full, metadata={"queue": self._queue.name, f"max_{self._unit}": self.capacity})
        self.under_way += cost

    async def acquire(self, call: Call, cost: int = 1) -> None:
        """Go through: a patient or admitted call when it is its caller's turn and there is room, another at once.

        Raises Overloaded for those that don't wait, DeadlinePassed for the others.
        """
        if not (call.patient or call.admitted) or (self._fits(cost) and not self._queue):
            self.take(cost)
            return
        (ticket,) = self._queue.put([None], call, costs=[cost])
        try:
            (outcome,) = await self._queue.settled([ticket])
        except asyncio.CancelledError:
            # It may have been let through at the very moment; if not, those behind it may fit now.
            self.give(cost if _let_through(ticket) else 0)
            raise
        if outcome is not None:
            self.give(0)
            raise outcome

    def give(self, cost: int = 1) -> None:
        """Give back what was let through."""
        self.under_way -= cost
        for ticket in self._queue.take(self.capacity - self.under_way, alone=not self.under_way):
            self.under_way += ticket.cost
            ticket.future.set_result(None)

    @asynccontextmanager
    async def hold(self, call: Call, cost: int = 1) -> AsyncIterator[None]:
        """``acquire``, and ``give`` when the block ends."""
        await self.acquire(call, cost)
        try:
            yield
        finally:
            self.give(cost)

    def _fits(self, cost: int) -> bool:
        return not self.under_way or self.under_way + cost <= self.capacity


def _let_through(ticket: Ticket[None, None]) -> bool:
    return ticket.future.done() and not ticket.future.cancelled() and ticket.future.exception() is None
