"""Keep the event loop free: everybody's calls wait while something runs on it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Runs blocking calls, such as reads of the store, on ``executor``."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: call(*args, **kwargs))


async def off_loop(work: Callable[[], T], *, when: bool = True) -> T:
    """What ``work`` returns, run in a thread ``when`` it takes more than a few milliseconds."""
    if not when:
        return work()
    return await asyncio.get_running_loop().run_in_executor(None, work)
