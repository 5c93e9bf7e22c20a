"""Coalescing: concurrent callers meet in one batch.

A worker that is free takes everything that waits, up to a full batch, and nobody waits for a batch to fill: at low
load a batch holds one item and costs no extra time, at high load batches grow by themselves (the "natural" batching
of group commit). Items that arrive in the same turn of the event loop share a batch. When more calls come than the
event loop can look at, a batch waits some milliseconds for them: meanwhile the loop looks at little else. Who comes
first is up to admission.FairQueue.
"""

import asyncio
import functools
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, Protocol, TypeVar

from oneglance_server import tracing
from oneglance_server.admission import FairQueue, Ticket
from oneglance_server.calls import Call
from oneglance_server.errors import NotServing, Overloaded
from oneglance_server.limiter import Limiter

_STEP_SECONDS = 0.1
_FIRST_STEP = 64  # cost
_LEAST_STEP = 32  # less isn't worth a batch
_GATHER_SECONDS, _GATHER_STEP_SECONDS, _GATHERED_ROWS = 0.03, 0.005, 64
_NEWS = 0.2  # the weight of the newest batch in an average

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchObserver(Protocol):
    """Hears about every batch, and by how much the queue grew or shrank; sizes in rows."""

    def batch(self, rows: int, /) -> None: ...
    def queue(self, change: int, /) -> None: ...


class Batcher(Generic[Item, Result]):
    """Runs ``run(items) -> results`` on ``executor`` for items that callers submit one by one.

    Args:
        run: called off the event loop with 1..n items; returns as many results, an exception in place of a result
            fails that item alone. Raising fails the whole batch.
        executor: where ``run`` goes.
        workers: how many batches may run at once.
        max_cost: a batch takes whole items up to this cost; one larger item runs alone.
        max_wait: see admission.FairQueue.
        slots: lets batches through, of this batcher and of others that compute with the same thing.
        crowded: whether calls wait that the event loop hasn't looked at.

    A batch is a step: between two of them others have their turn. Items of a cost above 1 are parts of large calls, or
    large themselves; ``step`` says how much of them a batch should take from one caller, so that it takes about
    _STEP_SECONDS. It is learned from the batches that ran.

    Belongs to one event loop.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        executor: Executor,
        *,
        workers: int,
        max_cost: int,
        max_wait: float,
        observer: BatchObserver,
        slots: Limiter | None = None,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._name = name
        self._run = run
        self._executor = executor
        self._workers = self._idle = workers
        self._max_cost = max_cost
        self._slots = slots
        self._crowded = crowded
        self._observer = observer
        self._queue = FairQueue[Item, Result](name, workers * max_cost, max_wait=max_wait, on_change=observer.queue)
        self._woken = False
        self._asking: set[str] = set()  # in whose names a slot is asked for
        self._seconds: float | None = None  # of a batch and
        self._cost = 0.0  # its cost, on average
        self.step = min(_FIRST_STEP, max_cost)
        self._loop = asyncio.get_running_loop()

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return self._queue.rows

    @property
    def pace(self) -> float:
        """Seconds that a cost of 1 takes; infinite until that is known."""
        return self._queue.pace

    async def submit(self, item: Item, call: Call, *, rows: int = 1, cost: int | None = None) -> Result:
        """The result for ``item``.

        An item that hasn't started is dropped when the call's deadline passes (DeadlinePassed) or the caller is
        cancelled. ``cost``: in the unit that all items of this batcher use; its rows, unless given. Raises Overloaded
        at once when the item would have to wait too long, NotServing when the executor was shut down.
        """
        (outcome,) = await self.submit_settled([item], call, rows=[rows], costs=[rows if cost is None else cost])
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def submit_all(
        self,
        items: Sequence[Item],
        call: Call,
        *,
        rows: Sequence[int] | None = None,
        costs: Sequence[int] | None = None,
    ) -> list[Result]:
        """Results for several items, admitted all together or not at all. ``rows`` and ``costs`` of each, as in submit.

        Raises the first failed item's exception.
        """
        results: list[Result] = []
        for outcome in await self.submit_settled(items, call, rows=rows, costs=costs):
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
        return results

    async def submit_settled(
        self,
        items: Sequence[Item],
        call: Call,
        *,
        rows: Sequence[int] | None = None,
        costs: Sequence[int] | None = None,
    ) -> Sequence[Result | BaseException]:
        """As submit_all, with a failed item's exception in place of its result."""
        tickets = self._queue.put(items, call, rows=rows, costs=costs, busy=bool(self._asking) or not self._idle)
        if self._asking and self._slots is not None:
            self._ask_for(call, self._slots)
        if (waiting := tracing.waiting()) is not None:
            for ticket in tickets:
                ticket.waiting = waiting
        self._wake()
        return await self._queue.settled(tickets)

    def _wake(self) -> None:
        # One turn later, so that everything submitted in this turn shares a batch.
        if not self._woken and self._idle:
            self._loop.call_soon(self._gather, -1, self._loop.time() + _GATHER_SECONDS)
            self._woken = True

    def _gather(self, rows: int, end: float) -> None:
        """Start batches, once no more comes while others wait unseen. ``rows``: that waited before."""
        try:
            if rows < self._queue.rows < _GATHERED_ROWS and self._crowded() and self._loop.time() < end:
                self._loop.call_later(_GATHER_STEP_SECONDS, self._gather, self._queue.rows, end)
                return
        except MemoryError:  # then at once
            pass
        self._start_batches()

    def _start_batches(self) -> None:
        self._woken = False
        while self._idle and not self._asking and (call := self._queue.first()):
            if self._slots is not None:
                try:
                    self._slots.take()
                except Overloaded:
                    self._ask_for(call, self._slots)
                    return
            self._start_batch()

    def _ask_for(self, call: Call, slots: Limiter) -> None:
        """Wait for a slot in the name of this caller, too: the batch comes when it is the turn of any of them."""
        name = call.caller.connection
        if name not in self._asking:
            self._asking.add(name)
            asking = self._loop.create_task(slots.acquire(Call(call.caller, admitted=True)))
            asking.add_done_callback(functools.partial(self._asked, name, slots))

    def _asked(self, name: str, slots: Limiter, task: "asyncio.Task[None]") -> None:
        self._asking.discard(name)
        if task.cancelled() or task.exception() is not None:
            return
        if self._idle:
            self._start_batch()
        else:
            slots.give()
        self._start_batches()

    def _start_batch(self) -> None:
        """Take what fits into a batch; if there is anything, run it. A slot was taken for it."""
        batch = self._queue.take(self._max_cost, alone=True, share=self.step)
        if not batch:
            if self._slots is not None:
                self._slots.give()
            return
        self._idle -= 1
        self._observer.batch(sum(ticket.rows for ticket in batch))
        started = self._loop.time()
        spans = tracing.begin_batch(self._name, ((ticket.waiting, ticket.rows) for ticket in batch))
        run = self._run if spans is None else tracing.in_batch(spans, self._run)
        try:
            running = self._loop.run_in_executor(self._executor, run, [ticket.item for ticket in batch])
        except RuntimeError:  # it was shut down
            running = self._loop.create_future()
            running.cancel()
        running.add_done_callback(functools.partial(self._finish, batch, started, spans))

    def _finish(
        self,
        batch: "Sequence[Ticket[Item, Result]]",
        started: float,
        spans: list[Any] | None,
        done: "asyncio.Future[Sequence[Result | Exception]]",
    ) -> None:
        self._idle += 1
        if spans is not None:
            tracing.end_batch(spans)
        if self._slots is not None:
            self._slots.give()
        error = NotServing("the server is draining") if done.cancelled() else done.exception()
        if error is None:
            self._learn(batch, self._loop.time() - started)
        outcomes = itertools.repeat(error, len(batch)) if error is not None else done.result()
        for ticket, outcome in zip(batch, outcomes, strict=True):
            if ticket.future.done():
                continue
            if isinstance(outcome, BaseException):
                ticket.future.set_exception(outcome)
            else:
                ticket.future.set_result(outcome)
        if self._queue:
            self._wake()

    def _learn(self, batch: "Sequence[Ticket[Item, Result]]", seconds: float) -> None:
        """How fast it goes, and how large steps may be."""
        cost = sum(ticket.cost for ticket in batch)
        weight = 1.0 if self._seconds is None else _NEWS
        self._seconds = weight * seconds + (1 - weight) * (self._seconds or 0.0)
        self._cost = weight * cost + (1 - weight) * self._cost
        # A full batch is taken to last as long as those that ran: rather too short. So what is estimated to come too
        # late surely would.
        self._queue.pace = self._seconds / (self._workers * max(self._cost, self._max_cost))
        if cost >= self.step or seconds > _STEP_SECONDS:
            wanted = self.step * min(2.0, max(0.5, _STEP_SECONDS / max(seconds, 1e-9)))
            self.step = min(self._max_cost, max(_LEAST_STEP, round(wanted)))
