"""Time, as an argument: so that a test decides what time it is."""

import asyncio
import time
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")


class Clock(Protocol):
    """What tells the time, and waits."""

    def now(self) -> float:
        """Seconds since some fixed point. Never steps back."""

    def wall(self) -> datetime:
        """The time of day, with its time zone. May step when somebody sets the clock."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> datetime:
        return datetime.now().astimezone()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``work``; after ``seconds`` it is cancelled, and TimeoutError raised, or what it raises then."""
    task = asyncio.ensure_future(work)
    alarm = asyncio.ensure_future(clock.sleep(max(0.0, seconds)))
    try:
        await asyncio.wait((task, alarm), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
            if task.cancelled():
                raise TimeoutError
        return task.result()
    finally:
        alarm.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled():
                task.exception()  # the caller is cancelled: nobody else looks at it
