"""Coalescing: concurrent callers meet in one batch.

A worker that is free takes everything that waits, up to a full batch, and nobody waits for a batch to fill: at low
load a batch holds one item and costs no extra time, at high load batches grow by themselves (the "natural" batching
of group commit). Items that arrive in the same turn of the event loop share a batch. Who comes first is up to
admission.FairQueue.
"""

import asyncio
import functools
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, Protocol, TypeVar

from oneglance_server.admission import FairQueue, Ticket
from oneglance_server.calls import Call
from oneglance_server.errors import NotServing

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
        max_batch_rows: a batch takes whole items until this many rows; one larger item runs alone.
        max_queue_rows: waiting rows of impatient calls beyond which they are refused. See admission.FairQueue.

    Belongs to one event loop.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        executor: Executor,
        *,
        workers: int,
        max_batch_rows: int,
        max_queue_rows: int,
        observer: BatchObserver,
    ) -> None:
        self._run = run
        self._executor = executor
        self._idle = workers
        self._max_batch_rows = max_batch_rows
        self._observer = observer
        self._queue = FairQueue[Item, Result](name, max_queue_rows, unit="rows", on_change=observer.queue)
        self._woken = False
        self._loop = asyncio.get_running_loop()

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return self._queue.cost

    async def submit(self, item: Item, call: Call, *, rows: int = 1) -> Result:
        """The result for ``item``.

        An item that hasn't started is dropped when the call's deadline passes (DeadlinePassed) or the caller is
        cancelled. Raises Overloaded at once when the queue is full and the call impatient, NotServing when the
        executor was shut down.
        """
        (outcome,) = await self.submit_settled([item], call, rows=rows)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def submit_all(self, items: Sequence[Item], call: Call, *, rows: int = 1) -> list[Result]:
        """Results for several items of ``rows`` rows each, admitted all together or not at all.

        Raises the first failed item's exception.
        """
        results: list[Result] = []
        for outcome in await self.submit_settled(items, call, rows=rows):
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
        return results

    async def submit_settled(
        self, items: Sequence[Item], call: Call, *, rows: int = 1
    ) -> Sequence[Result | BaseException]:
        """As submit_all, with a failed item's exception in place of its result."""
        tickets = self._queue.put(items, rows, call)
        self._wake()
        return await self._queue.settled(tickets)

    def _wake(self) -> None:
        # One turn later, so that everything submitted in this turn shares a batch.
        if not self._woken and self._idle:
            self._woken = True
            self._loop.call_soon(self._start_batches)

    def _start_batches(self) -> None:
        self._woken = False
        while self._idle and (batch := self._queue.take(self._max_batch_rows, alone=True)):
            self._idle -= 1
            self._observer.batch(sum(ticket.cost for ticket in batch))
            try:
                running = self._loop.run_in_executor(self._executor, self._run, [ticket.item for ticket in batch])
            except RuntimeError:  # it was shut down
                running = self._loop.create_future()
                running.cancel()
            running.add_done_callback(functools.partial(self._finish, batch))

    def _finish(
        self, batch: "Sequence[Ticket[Item, Result]]", done: "asyncio.Future[Sequence[Result | Exception]]"
    ) -> None:
        self._idle += 1
        error = NotServing("the server is draining") if done.cancelled() else done.exception()
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
