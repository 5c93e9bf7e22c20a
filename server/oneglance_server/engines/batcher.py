"""Coalescing: concurrent callers meet in one batch.

A worker that is free takes everything that waits, up to a full batch, and nobody waits for a batch to fill: at low
load a batch holds one item and costs no extra time, at high load batches grow by themselves (the "natural" batching
of group commit). Items that arrive in the same turn of the event loop share a batch.
"""

import asyncio
import functools
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from oneglance_server.errors import DeadlinePassed, Overloaded

_RETRY_SECONDS = 0.01  # a batch takes longer than that when there is a queue

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchObserver(Protocol):
    """Hears about every batch, and by how much the queue grew or shrank; sizes in rows."""

    def batch(self, rows: int, /) -> None: ...
    def queue(self, change: int, /) -> None: ...


@dataclass(slots=True, eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    rows: int
    deadline: float | None
    future: "asyncio.Future[Result]"
    waits: bool = True


class Batcher(Generic[Item, Result]):
    """Runs ``run(items) -> results`` on ``executor`` for items that callers submit one by one.

    Args:
        run: called off the event loop with 1..n items; returns as many results, an exception in place of a result
            fails that item alone. Raising fails the whole batch.
        executor: where ``run`` goes.
        workers: how many batches may run at once.
        max_batch_rows: a batch takes whole items until this many rows; one larger item runs alone.
        max_queue_rows: waiting rows beyond which ``submit`` raises Overloaded. An empty queue takes any item.

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
        self.name = name
        self._run = run
        self._executor = executor
        self._idle = workers
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._observer = observer
        # Those who would be refused if it were full, and the patient ones, in turns: a long stream delays a single call
        # by a batch, not by all it has sent.
        self._queues: tuple[deque[_Entry[Item, Result]], deque[_Entry[Item, Result]]] = (deque(), deque())
        self._turn = 0
        self._queued_rows = 0
        self._woken = False
        self._loop = asyncio.get_running_loop()

    async def submit(
        self, item: Item, *, rows: int = 1, deadline: float | None = None, patient: bool = False
    ) -> Result:
        """The result for ``item``.

        ``deadline``: event loop time after which the item is dropped unrun with DeadlinePassed. Raises Overloaded
        at once when the queue is full; ``patient`` callers wait for room instead. Cancelling the caller drops an item
        that has not started.
        """
        return (await self.submit_all([item], rows=rows, deadline=deadline, patient=patient))[0]

    async def submit_all(
        self, items: Sequence[Item], *, rows: int = 1, deadline: float | None = None, patient: bool = False
    ) -> list[Result]:
        """Results for several items of ``rows`` rows each, admitted all together or not at all.

        Raises the first failed item's exception.
        """
        results: list[Result] = []
        for outcome in await self.submit_settled(items, rows=rows, deadline=deadline, patient=patient):
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
        return results

    async def submit_settled(
        self, items: Sequence[Item], *, rows: int = 1, deadline: float | None = None, patient: bool = False
    ) -> Sequence[Result | BaseException]:
        """As submit_all, with a failed item's exception in place of its result."""
        wanted = rows * len(items)
        while any(self._queues) and self._queued_rows + wanted > self._max_queue_rows:
            if not patient:
                raise Overloaded(
                    f"the {self.name} queue is full",
                    metadata={"queue": self.name, "max_rows": self._max_queue_rows},
                )
            await asyncio.sleep(_RETRY_SECONDS)
        entries = [_Entry(item, rows, deadline, self._loop.create_future()) for item in items]
        self._queues[patient].extend(entries)
        self._queued_rows += wanted
        self._observer.queue(wanted)
        self._wake()
        try:
            return await _settled([entry.future for entry in entries])
        except asyncio.CancelledError:
            self._leave(self._queues[patient], entries)
            raise

    def _leave(self, queue: deque[_Entry[Item, Result]], entries: Sequence[_Entry[Item, Result]]) -> None:
        """Take out what of ``entries`` still waits: it shall take no more room, nor memory."""
        for entry in entries:
            if entry.waits:
                entry.waits = False
                queue.remove(entry)
                self._queued_rows -= entry.rows
                self._observer.queue(-entry.rows)

    def _wake(self) -> None:
        # One turn later, so that everything submitted in this turn shares a batch.
        if not self._woken and self._idle:
            self._woken = True
            self._loop.call_soon(self._start_batches)

    def _start_batches(self) -> None:
        self._woken = False
        before = self._queued_rows
        while self._idle and (batch := self._take()):
            self._idle -= 1
            self._observer.batch(sum(entry.rows for entry in batch))
            running = self._loop.run_in_executor(self._executor, self._run, [entry.item for entry in batch])
            running.add_done_callback(functools.partial(self._finish, batch))
        self._observer.queue(self._queued_rows - before)

    def _take(self) -> list[_Entry[Item, Result]]:
        batch: list[_Entry[Item, Result]] = []
        rows = 0
        now = self._loop.time()
        while any(self._queues):
            queue = self._queues[self._turn] or self._queues[1 - self._turn]
            if batch and rows + queue[0].rows > self._max_batch_rows:
                break
            entry = queue.popleft()
            entry.waits = False
            self._turn = 1 - self._turn
            self._queued_rows -= entry.rows
            if entry.future.done():  # its caller was cancelled
                continue
            if entry.deadline is not None and entry.deadline <= now:
                entry.future.set_exception(DeadlinePassed(f"the deadline passed in the {self.name} queue"))
                continue
            batch.append(entry)
            rows += entry.rows
        return batch

    def _finish(self, batch: list[_Entry[Item, Result]], done: "asyncio.Future[Sequence[Result | Exception]]") -> None:
        self._idle += 1
        error = done.exception()
        outcomes = itertools.repeat(error, len(batch)) if error is not None else done.result()
        for entry, outcome in zip(batch, outcomes, strict=True):
            if entry.future.done():
                continue
            if isinstance(outcome, BaseException):
                entry.future.set_exception(outcome)
            else:
                entry.future.set_result(outcome)
        if any(self._queues):
            self._wake()


async def _settled(futures: "Sequence[asyncio.Future[Result]]") -> Sequence[Result | BaseException]:
    """Results, with exceptions in place of those that failed."""
    if len(futures) > 1:
        return await asyncio.gather(*futures, return_exceptions=True)
    try:
        return [await futures[0]]
    except Exception as error:
        return [error]
