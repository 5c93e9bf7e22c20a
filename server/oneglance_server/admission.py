"""Who may go on now: everything that is limited on this server is limited here.

One kind of queue, ``FairQueue``: items of a cost wait in it, callers take turns by cost, each caller's items stay in
order, and an item leaves it when its deadline passes or its caller does. Two things serve such a queue: a ``Limiter``
lets items through while the cost of what is under way stays within its capacity, and a batcher (engines/batcher.py)
takes what fits into a batch.

Turns are those of start-time fair queueing (Goyal et al. 1996): each caller's next item has a start tag, the item with
the least tag goes first, and its cost is added to the tag of the same caller's next one. So a caller with a thousand
items delays another's single item by what is being served, not by what waits.

Everything here belongs to one event loop.
"""

import asyncio
import heapq
import itertools
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from oneglance_server.calls import Call
from oneglance_server.errors import DeadlinePassed, Overloaded

_GRAIN_SECONDS = 0.005  # deadlines are looked at no more often than this

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class Ticket(Generic[Item, Result]):
    """An item in the queue, and the future of whoever waits for it. ``line`` is None once it left the queue."""

    item: Item
    cost: int
    call: Call
    future: "asyncio.Future[Result]"
    line: "_Line[Item, Result] | None"


@dataclass(slots=True, eq=False)
class _Line(Generic[Item, Result]):
    """What one caller has waiting. ``tag``: the start tag of its first ticket."""

    key: Hashable
    tag: int
    tickets: "OrderedDict[Ticket[Item, Result], None]"


class FairQueue(Generic[Item, Result]):
    """Items of many callers, each with a cost.

    A connection's calls and its streams count as two callers: a stream does not delay the calls beside it.

    Args:
        name: what is waited for, for errors.
        limit: cost of impatient calls' items that may wait; an item that finds none of them waiting is always let in.
            Items of patient calls wait for their turn however many there are: what bounds them is what their streams
            may have under way.
        unit: of cost, for errors. full: the message of Overloaded.
        on_change: hears by how much the waiting cost grew or shrank.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        *,
        unit: str,
        full: str = "",
        on_change: Callable[[int], None] = lambda change: None,
    ) -> None:
        self.name = name
        self.limit = limit
        self.cost = 0  # of all that waits
        self._impatient = 0  # of it, the cost of impatient calls' items
        self._unit = unit
        self._full = full or f"the {name} queue is full"
        self._on_change = on_change
        self._lines: dict[Hashable, _Line[Item, Result]] = {}
        self._turns: list[tuple[int, int, _Line[Item, Result]]] = []  # a heap by tag, then by who came first
        self._clock = 0  # the start tag of who comes now; no line has a lesser one
        self._numbers = itertools.count()
        # One timer for all deadlines. Most who had the one it is set to have long been served when it rings.
        self._alarm: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return self._head() is not None

    def refusal(self) -> Overloaded:
        return Overloaded(self._full, metadata={"queue": self.name, f"max_{self._unit}": self.limit})

    def put(self, items: Sequence[Item], cost: int, call: Call) -> "list[Ticket[Item, Result]]":
        """Let ``items`` of ``cost`` each wait, all of them or none; await ``settled`` of the tickets at once.

        One that waits when the call's deadline passes leaves the queue, with DeadlinePassed.
        Raises Overloaded when the call is impatient and there is no room.
        """
        total = cost * len(items)
        if not call.patient:
            if self._impatient and self._impatient + total > self.limit:
                raise self.refusal()
            self._impatient += total
        key = (call.caller.connection, call.patient)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(key, self._clock, OrderedDict())
            heapq.heappush(self._turns, (line.tag, next(self._numbers), line))
        loop = asyncio.get_running_loop()
        tickets = [Ticket(item, cost, call, loop.create_future(), line) for item in items]
        for ticket in tickets:
            line.tickets[ticket] = None
        self.cost += total
        self._change(total)
        if call.deadline is not None and (self._alarm is None or call.deadline < self._alarm.when()):
            self._set_alarm(call.deadline)
        return tickets

    async def settled(self, tickets: "Sequence[Ticket[Item, Result]]") -> list[Result | BaseException]:
        """The results of tickets of one call, with exceptions in place of those that failed.

        Those that still wait leave the queue when the caller is cancelled.
        """
        try:
            if len(tickets) == 1:
                try:
                    return [await tickets[0].future]
                except Exception as error:
                    return [error]
            return await asyncio.gather(*(ticket.future for ticket in tickets), return_exceptions=True)
        except asyncio.CancelledError:
            self._change(-sum(map(self._leave, tickets)))
            raise

    def take(self, room: int, *, alone: bool) -> "list[Ticket[Item, Result]]":
        """The tickets whose turn it is, of at most ``room`` cost together, up to the first that doesn't fit.

        ``alone``: the first one is taken however large it is.
        """
        taken: list[Ticket[Item, Result]] = []
        if not self._turns:
            return taken
        before, now = self.cost, time.monotonic()
        while (line := self._head()) is not None:
            ticket = next(iter(line.tickets))
            if ticket.cost > room and (taken or not alone):
                break
            self._leave(ticket)
            if ticket.future.done():  # its caller was cancelled
                continue
            if ticket.call.deadline is not None and ticket.call.deadline <= now:
                self._refuse_late(ticket)
                continue
            self._clock = line.tag
            line.tag += max(ticket.cost, 1)
            heapq.heapreplace(self._turns, (line.tag, next(self._numbers), line))
            room -= ticket.cost
            taken.append(ticket)
        self._change(self.cost - before)
        return taken

    def _head(self) -> "_Line[Item, Result] | None":
        """The line whose turn it is. Lines that are empty when their turn comes are forgotten."""
        while self._turns:
            line = self._turns[0][2]
            if line.tickets:
                return line
            heapq.heappop(self._turns)
            del self._lines[line.key]
            self._clock = line.tag  # it has no right to a lesser one when it comes back
        self._clock = 0
        return None

    def _change(self, change: int) -> None:
        if change:
            self._on_change(change)

    def _leave(self, ticket: "Ticket[Item, Result]") -> int:
        """Take it out of the queue. Returns its cost there."""
        if ticket.line is None:
            return 0
        del ticket.line.tickets[ticket]
        ticket.line = None
        self.cost -= ticket.cost
        if not ticket.call.patient:
            self._impatient -= ticket.cost
        return ticket.cost

    def _set_alarm(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(when, self._refuse_all_late)

    def _refuse_all_late(self) -> None:
        """Refuse who waits in vain, and come back for the next one."""
        self._alarm = None
        now = time.monotonic()
        next_one = math.inf
        before = self.cost
        for line in self._lines.values():
            for ticket in list(line.tickets):
                if ticket.call.deadline is None:
                    continue
                if ticket.call.deadline <= now:
                    self._leave(ticket)
                    self._refuse_late(ticket)
                else:
                    next_one = min(next_one, ticket.call.deadline)
        self._change(self.cost - before)
        if next_one < math.inf:
            self._set_alarm(max(next_one, now + _GRAIN_SECONDS))

    def _refuse_late(self, ticket: "Ticket[Item, Result]") -> None:
        if not ticket.future.done():
            ticket.future.set_exception(DeadlinePassed(f"the deadline passed in the {self.name} queue"))


class Limiter:
    """Lets items through while the cost of those under way stays within ``capacity``.

    An item larger than that is let through alone. What was let through must be given back.

    Args:
        name, unit, full: see FairQueue.
    """

    def __init__(self, name: str, capacity: int, *, unit: str, full: str = "") -> None:
        self.capacity = capacity
        self.under_way = 0  # cost
        self._queue = FairQueue[None, None](name, capacity, unit=unit, full=full)

    @property
    def waiting(self) -> int:
        """Cost of what waits to be let through."""
        return self._queue.cost

    def take(self, cost: int = 1) -> None:
        """Go through at once; a cost of 0 needs no room. Raises Overloaded when there is none or others wait for it."""
        if cost and (self._queue or not self._fits(cost)):
            raise self._queue.refusal()
        self.under_way += cost

    async def acquire(self, call: Call, cost: int = 1) -> None:
        """Go through: a patient call when it is its caller's turn and there is room, another at once.

        Raises Overloaded for impatient calls, DeadlinePassed for patient ones.
        """
        if not call.patient or (self._fits(cost) and not self._queue):
            self.take(cost)
            return
        (ticket,) = self._queue.put([None], cost, call)
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
