"""Who may go on now: everything that is limited on this server is limited here.

One kind of queue, ``FairQueue``: items of a cost wait in it, callers take turns by cost, each caller's items stay in
order, and an item leaves it when its deadline passes or its caller does. Two things serve such a queue: a limiter
(limiter.py) lets items through while the cost of what is under way stays within its capacity, and a batcher
(engines/batcher.py) takes what fits into a batch.

Turns are those of start-time fair queueing (Goyal et al. 1996): each caller's next item has a start tag, the item with
the least tag goes first, and its cost is added to the tag of the same caller's next one. So a caller with a thousand
items delays another's single item by what is being served, not by what waits; and a caller who asks for less than its
share goes before those who always ask for more. Single calls as a whole and streams as a
whole take turns in the same way, each among themselves: however many streams there are, calls get half, and the other
way round.

Who would have to wait too long is refused at once. Before an item is let in we know what will be served before it: of
every other caller as much as has an earlier turn. That may be at most a full round of batches (``max_wait`` of
them), or for a large call about twice its own work: with what is under way and the call itself, a call that is let in
takes from then on at most three times what it takes alone in a batch as large. A burst may wait a little longer. A
call that would be done only after its deadline is refused, too.

Everything here belongs to one event loop.
"""

import asyncio
import heapq
import itertools
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Generic, TypeVar

from oneglance_server.calls import Call
from oneglance_server.errors import RETRY_AFTER, DeadlinePassed, Overloaded
from oneglance_server.tracing import Waiting

_GRAIN_SECONDS = 0.005  # deadlines are looked at no more often than this
_REMEMBERED = 256  # callers
_BURST_SECONDS = 0.1  # so long a wait is no overload, unless it lasts

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class Ticket(Generic[Item, Result]):
    """An item in the queue, and the future of whoever waits for it. ``line`` is None once it left the queue.

    ``cost``: how long it takes to serve, in a unit of the queue's; ``rows``: what it counts for people who watch.
    ``waiting``: whose trace it belongs to.
    """

    item: Item
    rows: int
    cost: int
    call: Call
    future: "asyncio.Future[Result]"
    line: "_Line[Item, Result] | None"
    waiting: Waiting | None = None


@dataclass(slots=True, eq=False)
class _Line(Generic[Item, Result]):
    """What one caller has waiting. ``tag``: the start tag of its first ticket. ``turns``: where it takes its turn."""

    key: Hashable
    tag: int
    turns: "_Turns[Item, Result]"
    tickets: "OrderedDict[Ticket[Item, Result], None]" = field(default_factory=OrderedDict)
    cost: int = 0  # of all that waits

    @property
    def first(self) -> "Ticket[Item, Result]":
        return next(iter(self.tickets))


class _Turns(Generic[Item, Result]):
    """Lines that take turns: all calls, or all streams. ``tag``: the start tag of the first of them.

    A caller who asked for less than its share has been left behind by the clock, and may come in before it, but for no
    more than ``credit``.
    """

    def __init__(self, credit: int) -> None:
        self._credit = credit
        self._left: dict[Hashable, int] = {}  # the tags of callers who have nothing waiting
        self._many = _REMEMBERED  # when it is to be looked through
        self.tag = 0
        self.cost = 0  # of all that waits
        self.lines: dict[Hashable, _Line[Item, Result]] = {}
        self.clock = 0  # the greatest start tag of what was served
        self._heap: list[tuple[int, int, _Line[Item, Result]]] = []  # by tag, then by who came first
        self._numbers = itertools.count()

    def line(self, key: Hashable) -> _Line[Item, Result]:
        """The line of that caller, old or new."""
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = _Line(key, self.tag_of(key), self)
            self._left.pop(key, None)
            self.queue_up(line)
        return line

    def tag_of(self, key: Hashable) -> int:
        """The start tag of that caller's next item."""
        line = self.lines.get(key)
        if line is not None:
            return line.tag + line.cost
        earliest = self.clock - self._credit
        return max(earliest, self._left.get(key, earliest))

    def queue_up(self, line: _Line[Item, Result]) -> None:
        """Let a line wait for its turn; it doesn't."""
        heapq.heappush(self._heap, (line.tag, next(self._numbers), line))

    def head(self) -> _Line[Item, Result] | None:
        """The line whose turn it is. Lines that are empty when their turn comes are forgotten."""
        while self._heap:
            line = self._heap[0][2]
            if line.tickets:
                return line
            heapq.heappop(self._heap)
            del self.lines[line.key]
            self._remember(line)
        if not self.lines:
            self.clock = 0
            self._left.clear()
        return None

    def _remember(self, line: _Line[Item, Result]) -> None:
        self._left[line.key] = line.tag
        if len(self._left) > self._many:
            earliest = self.clock - self._credit
            self._left = {key: tag for key, tag in self._left.items() if tag > earliest}
            self._many = 2 * len(self._left) + _REMEMBERED

    def pop(self) -> None:
        """The head waits for no turn any more."""
        heapq.heappop(self._heap)

    def served(self, line: _Line[Item, Result], cost: int) -> None:
        """The head has had its turn, for an item of this cost."""
        self.clock = max(self.clock, line.tag)
        line.tag += cost
        heapq.heapreplace(self._heap, (line.tag, next(self._numbers), line))

    def ahead(self, key: Hashable, cost: int) -> int:
        """What others have served before an item of this caller, should it queue up now behind own ones of ``cost``,
        and what the caller has waiting already: a close estimate."""
        mine = self.lines.get(key)
        tag = self.tag_of(key) + cost
        before = mine.cost if mine else 0
        for line in self.lines.values():
            if line is not mine and line.tickets and line.tag <= tag:
                before += min(line.cost, tag - line.tag + line.first.cost)
        return before


class FairQueue(Generic[Item, Result]):
    """Items of many callers, each with a cost.

    Args:
        name: what is waited for, for errors.
        round_cost: what is served at once.
        max_wait: what may be served before a call's items, in multiples of ``round_cost``; for a call that takes
            several rounds itself, of twice its own cost less one round. A call that finds nothing waiting is always
            let in. Patient and admitted calls are, too: what bounds them is what their streams may have under way.
        full: the message of Overloaded.
        on_change: hears by how many rows the queue grew or shrank.

    Attributes:
        pace: seconds that a cost of 1 takes, measured by who serves the queue; infinite until it is known.
    """

    def __init__(
        self,
        name: str,
        round_cost: int,
        *,
        max_wait: float = 1.0,
        full: str = "",
        on_change: Callable[[int], None] = lambda change: None,
    ) -> None:
        self.name = name
        self.round_cost = round_cost
        self.pace = math.inf
        self.rows = 0  # of all that waits
        self._max_wait = max_wait
        self._full = full or f"the {name} queue is full"
        self._on_change = on_change
        self._calls, self._streams = _Turns[Item, Result](round_cost), _Turns[Item, Result](round_cost)
        self._clock = 0  # the start tag of who comes now, calls or streams
        self._standing_since: float | None = None  # since when calls wait all the time
        # One timer for all deadlines. Most who had the one it is set to have long been served when it rings.
        self._alarm: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return self._head() is not None

    @property
    def cost(self) -> int:
        """Of all that waits."""
        return self._calls.cost + self._streams.cost

    def first(self) -> Call | None:
        """The call whose turn it is."""
        line = self._head()
        return None if line is None else line.first.call

    def put(
        self,
        items: Sequence[Item],
        call: Call,
        *,
        rows: Sequence[int] | None = None,
        costs: Sequence[int] | None = None,
        busy: bool = True,
    ) -> "list[Ticket[Item, Result]]":
        """Let ``items`` wait, all of them or none; await ``settled`` of the tickets at once.

        One that waits when the call's deadline passes leaves the queue, with DeadlinePassed.

        Args:
            rows, costs: of each; 1 unless given, and a cost as the rows. busy: whoever serves the queue has no hand
                free: what is put into it waits, if nothing else does.

        Raises Overloaded when the call is impatient and would have to wait too long, or beyond its deadline.
        """
        rows = rows or [1] * len(items)
        costs = costs or rows
        total = sum(costs)
        key = call.caller.connection
        turns = self._streams if call.patient else self._calls
        if not (call.patient or call.admitted):
            self._check_wait(key, costs, call.deadline, busy)
        if not turns.cost:
            turns.tag = max(turns.tag, self._clock)
        if turns is self._calls and self._standing_since is None:
            self._standing_since = time.monotonic()
        line = turns.line(key)
        loop = asyncio.get_running_loop()
        tickets = [
            Ticket(item, places, cost, call, loop.create_future(), line)
            for item, places, cost in zip(items, rows, costs, strict=True)
        ]
        for ticket in tickets:
            line.tickets[ticket] = None
        line.cost += total
        turns.cost += total
        places = sum(rows)
        self.rows += places
        self._change(places)
        if call.deadline is not None and (self._alarm is None or call.deadline < self._alarm.when()):
            self._set_alarm(call.deadline)
        return tickets

    def _check_wait(self, key: Hashable, costs: Sequence[int], deadline: float | None, busy: bool) -> None:
        """Raises Overloaded for a wait that is too long for a call of these costs."""
        if not (busy or self.cost):
            return
        cost = sum(costs)
        limit = self._max_wait * max(self.round_cost, 2 * cost - self.round_cost)
        now = time.monotonic()
        due = math.inf if deadline is None or math.isinf(self.pace) else deadline  # nobody is refused for a guess
        if self.cost <= limit and (due == math.inf or now + (self.cost + cost) * self.pace <= due):
            return
        ahead = self._calls.ahead(key, cost - costs[-1])
        ahead += min(self._streams.cost, ahead + cost)  # they have every second turn
        seconds = ahead * self.pace if ahead else 0.0
        fresh = self._standing_since is None or now - self._standing_since <= _BURST_SECONDS
        late = due < math.inf and now + (ahead + cost) * self.pace > due
        if late or (ahead > limit and not (fresh and seconds <= _BURST_SECONDS)):
            text = f"{self._full}; it would not be done before its deadline" if late else self._full
            hint = seconds if math.isfinite(seconds) else _BURST_SECONDS
            raise Overloaded(text, metadata={"queue": self.name, RETRY_AFTER: max(1, round(1000 * hint))})

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

    def take(self, room: int, *, alone: bool, share: float = math.inf) -> "list[Ticket[Item, Result]]":
        """The tickets whose turn it is, of at most ``room`` cost together, up to the first that doesn't fit.

        ``alone``: the first one is taken however large it is. ``share``: a line that has given so much cost in tickets
        of more than 1 gives no more of these: large calls leave room for others, and a batch of theirs is no longer
        than need be.
        """
        taken: list[Ticket[Item, Result]] = []
        given: Counter[Hashable] = Counter()
        aside: list[_Line[Item, Result]] = []
        before, now = self.rows, time.monotonic()
        while (line := self._head()) is not None:
            ticket = line.first
            if ticket.cost > room and (taken or not alone):
                break
            if ticket.cost > 1 and given[id(line)] >= share:
                line.turns.pop()
                aside.append(line)
                continue
            self._leave(ticket)
            if ticket.future.done():  # its caller was cancelled
                continue
            if ticket.call.deadline is not None and ticket.call.deadline <= now:
                self._refuse_late(ticket)
                continue
            turns, charge = line.turns, max(ticket.cost, 1)
            self._clock = turns.tag
            turns.tag += charge
            turns.served(line, charge)
            given[id(line)] += ticket.cost if ticket.cost > 1 else 0
            room -= ticket.cost
            taken.append(ticket)
        for line in aside:
            line.turns.queue_up(line)
        self._change(self.rows - before)
        return taken

    def _head(self) -> "_Line[Item, Result] | None":
        """The line whose turn it is."""
        heads = [(turns.tag, line) for turns in (self._calls, self._streams) if (line := turns.head()) is not None]
        if not heads:
            self._clock = self._calls.tag = self._streams.tag = 0
            return None
        return min(heads, key=_tag)[1]

    def _change(self, change: int) -> None:
        if change:
            self._on_change(change)

    def _leave(self, ticket: "Ticket[Item, Result]") -> int:
        """Take it out of the queue. Returns its rows there."""
        line = ticket.line
        if line is None:
            return 0
        del line.tickets[ticket]
        ticket.line = None
        line.cost -= ticket.cost
        line.turns.cost -= ticket.cost
        self.rows -= ticket.rows
        if not self._calls.cost:
            self._standing_since = None
        return ticket.rows

    def _set_alarm(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(when, self._refuse_all_late)

    def _refuse_all_late(self) -> None:
        """Refuse who waits in vain, and come back for the next one."""
        self._alarm = None
        now = time.monotonic()
        next_one = math.inf
        before = self.rows
        for line in (*self._calls.lines.values(), *self._streams.lines.values()):
            for ticket in list(line.tickets):
                if ticket.call.deadline is None:
                    continue
                if ticket.call.deadline <= now:
                    self._leave(ticket)
                    self._refuse_late(ticket)
                else:
                    next_one = min(next_one, ticket.call.deadline)
        self._change(self.rows - before)
        if next_one < math.inf:
            self._set_alarm(max(next_one, now + _GRAIN_SECONDS))

    def _refuse_late(self, ticket: "Ticket[Item, Result]") -> None:
        if not ticket.future.done():
            ticket.future.set_exception(DeadlinePassed(f"the deadline passed in the {self.name} queue"))


_tag = itemgetter(0)
