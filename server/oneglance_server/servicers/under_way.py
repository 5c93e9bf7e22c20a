"""The calls under way, for a drain: it refuses new ones, waits for these, and ends those that take too long."""

import asyncio
from types import TracebackType
from typing import Any

from oneglance_server.errors import NotServing


class CallsUnderWay:
    """Belongs to one event loop. A call is under way from when it is accepted until its status is sent."""

    def __init__(self) -> None:
        self.refusing = False  # new calls
        self.ended = False  # those under way, too
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: set[asyncio.Task[Any]] = set()  # of them, those that can be ended
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self) -> None:
        """The current task carries out a call, to its end."""
        task = _current_task()
        self._tasks.add(task)
        self._idle.clear()
        task.add_done_callback(self._remove)

    def leave(self) -> None:
        """The current task's call is over, though its peer may not read that for long."""
        self._remove(_current_task())

    def _remove(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._idle.set()

    async def idle(self, seconds: float) -> None:
        """Return once no call is under way, or after ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            pass

    def refuse(self) -> None:
        """From now on, refuse calls; those under way go on."""
        self.refusing = True

    def end(self) -> None:
        """End those under way, too."""
        self.refusing = self.ended = True
        for task in self._waiting:
            task.cancel()

    def ended_by_drain(self) -> "_EndedByDrain":
        """A block in which ``end`` ends the current task's call: it raises NotServing."""
        return _EndedByDrain(self, self._waiting)


def draining() -> NotServing:
    return NotServing("the server is draining")


class _EndedByDrain:
    def __init__(self, calls: CallsUnderWay, waiting: "set[asyncio.Task[Any]]") -> None:
        self._calls = calls
        self._waiting = waiting

    def __enter__(self) -> None:
        if self._calls.ended:
            raise draining()
        self._waiting.add(_current_task())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = _current_task()
        self._waiting.discard(task)
        if self._calls.ended and isinstance(error, asyncio.CancelledError):
            task.uncancel()
            raise draining() from error


def _current_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task
