"""Keep the event loop free: everybody's calls wait while something runs on it."""

import asyncio
import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from oneglance_server.calls import Call
from oneglance_server.engines.batcher import Batcher, BatchObserver
from oneglance_server.errors import NotServing, StartupError

_AT_ONCE = 16  # a thread takes so many short ones with it

P = ParamSpec("P")
T = TypeVar("T")


def start_threads(executor: ThreadPoolExecutor) -> None:
    """Start all threads of ``executor`` now: later there may be no memory for one. Raises StartupError."""
    count = executor._max_workers
    started = threading.Barrier(count)
    try:
        for waiting in [executor.submit(started.wait) for _ in range(count)]:
            waiting.result()
    except RuntimeError as error:
        started.abort()
        raise StartupError(f"can't start {count} threads: {error}") from error


class Threads:
    """Runs blocking calls, such as reads of the store, on ``executor``; callers take turns.

    ``workers``: its threads. ``name``, ``max_wait``, ``observer``: see Batcher. Belongs to one event loop.
    """

    def __init__(
        self, name: str, executor: Executor, *, workers: int, max_wait: float, observer: BatchObserver
    ) -> None:
        self._batcher = Batcher[Callable[[], Any], Any](
            name, _run, executor, workers=workers, max_cost=_AT_ONCE, max_wait=max_wait, observer=observer
        )

    async def run(self, call: Call, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` returns. Raises what it raises, Overloaded and DeadlinePassed."""
        return await self.run_long(call, 1, functools.partial(work, *args, **kwargs))

    async def run_long(self, call: Call, cost: int, work: Callable[[], T]) -> T:
        """The same for something that takes ``cost`` times as long as a short read."""
        done: T = await self._batcher.submit(work, call, cost=cost)
        return done


def _run(items: Sequence[Callable[[], Any]]) -> list[Any]:
    return [_outcome(item) for item in items]


def _outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return error


# Where the call that the current task carries out does such work, and who calls; see off_loop.
turns: ContextVar[tuple[Threads, Callable[[], Call]] | None] = ContextVar("turns", default=None)


async def off_loop(work: Callable[[], T], *, when: bool = True, cost: int = 8, refuse: bool = False) -> T:
    """What ``work`` returns, run in a thread ``when`` it takes more than a few milliseconds.

    Within a call, callers take ``turns``: this work holds Python's lock, and in more threads it would only keep the
    event loop from it. ``cost``: see Threads.run_long. ``refuse``: raise Overloaded when it would have to wait too
    long; else it waits, for something was done for the call already.
    """
    if not when:
        return work()
    if (given := turns.get()) is not None:
        threads, call = given
        return await threads.run_long(call() if refuse else call().let_in, cost, work)
    try:
        running = asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError as error:  # it was shut down
        raise NotServing("the server is draining") from error
    return await running
