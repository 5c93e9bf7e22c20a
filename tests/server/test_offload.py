"""What a call has done off the event loop: callers take turns there, too."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from oneglance_server.calls import Call, Caller
from oneglance_server.errors import Overloaded
from oneglance_server.offload import Threads, off_loop, turns
from tests.waiting import PATIENCE_SECONDS, loop_turns, reached


class Quiet:
    def batch(self, rows: int) -> None: ...
    def queue(self, change: int) -> None: ...


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Busy:
    """One thread for all, that is busy until ``free`` is called; ``done``: whose work it did, in order."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.threads = Threads("test", executor, workers=1, max_wait=1.0, observer=Quiet())
        self.done: list[str] = []
        self._free = threading.Event()
        self.free = self._free.set
        self._begun = threading.Event()

    async def begin(self) -> "asyncio.Task[None]":
        def work() -> None:
            self._begun.set()
            assert self._free.wait(PATIENCE_SECONDS)

        task = asyncio.create_task(self.submit("first", work))
        await reached(self._begun.is_set)
        return task

    async def submit(self, caller: str, work: Callable[[], None] | None = None, *, refuse: bool = False) -> None:
        turns.set((self.threads, lambda: Call(Caller(caller))))
        await off_loop(work or (lambda: self.done.append(caller)), cost=16, refuse=refuse)


async def test_one_piece_of_work_does_not_wait_for_all_of_another_caller(executor: ThreadPoolExecutor) -> None:
    busy = Busy(executor)
    tasks = [await busy.begin()]
    tasks += [asyncio.create_task(busy.submit("greedy")) for _ in range(100)]
    await loop_turns(2)
    tasks.append(asyncio.create_task(busy.submit("light")))
    await loop_turns(2)
    busy.free()
    await asyncio.gather(*tasks)
    assert busy.done.index("light") <= 1
    assert len(busy.done) == 101


async def test_what_nothing_was_done_for_is_refused_when_it_would_wait_too_long(executor: ThreadPoolExecutor) -> None:
    busy = Busy(executor)
    tasks = [await busy.begin()]
    tasks += [asyncio.create_task(busy.submit("greedy", refuse=True)) for _ in range(100)]
    await loop_turns(3)
    refused = [task for task in tasks if task.done() and isinstance(task.exception(), Overloaded)]
    assert len(refused) > 90
    busy.free()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_without_a_call_it_is_done_all_the_same() -> None:
    assert await off_loop(lambda: threading.current_thread()) is not threading.main_thread()
