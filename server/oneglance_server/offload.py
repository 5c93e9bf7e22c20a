"""Keep the event loop free: everybody's calls wait while something runs on it."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from oneglance_server.errors import NotServing, StartupError

P = ParamSpec("P")
T = TypeVar("T")


def start_threads(executor: ThreadPoolExecutor) -> None:
    """Start all threads of ``executor`` now: later there may be no memory for one. Raises StartupError."""
    count = executor._max_workers
    started = threading.Barrier(count)
    try:
        waiting = [executor.submit(started.wait) for _ in range(count)]
        for one in waiting:
            one.result()
    except RuntimeError as error:
        started.abort()
        raise StartupError(f"can't start {count} threads: {error}") from error


class Threads:
    """Runs blocking calls, such as reads of the store, on ``executor``."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await in_thread(lambda: call(*args, **kwargs), self._executor)


async def off_loop(work: Callable[[], T], *, when: bool = True) -> T:
    """What ``work`` returns, run in a thread ``when`` it takes more than a few milliseconds."""
    if not when:
        return work()
    return await in_thread(work)


async def in_thread(work: Callable[[], T], executor: Executor | None = None) -> T:
    """What ``work`` returns, run on ``executor`` or the event loop's own. Raises NotServing when that was shut down."""
    try:
        running = asyncio.get_running_loop().run_in_executor(executor, work)
    except RuntimeError as error:
        raise NotServing("the server is draining") from error
    return await running
