"""A clock that stands still until a test moves it."""

import asyncio
from datetime import UTC, datetime, timedelta

from tests.waiting import loop_turns

TURNS = 50  # of the event loop, for everything that is due


class ManualClock:
    """Starts at 0 seconds, 2026-01-01 00:00 UTC. ``step_wall`` sets the time of day, as somebody may."""

    def __init__(self) -> None:
        self._now = 0.0
        self._wall_step = 0.0
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._now + self._wall_step)

    def step_wall(self, seconds: float) -> None:
        self._wall_step += seconds

    def move(self, seconds: float) -> None:
        """Without waking anybody."""
        self._now += seconds

    def sleeping_for(self, seconds: float) -> bool:
        """Whether somebody sleeps who wakes within so many seconds."""
        return any(when <= self._now + seconds and not wake.done() for when, wake in self._sleeping)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.append((self._now + seconds, wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that is due meanwhile, in order."""
        end = self._now + seconds
        await loop_turns(TURNS)
        while due := [one for one in self._sleeping if one[0] <= end + 1e-9]:
            when, wake = min(due, key=lambda one: one[0])
            self._sleeping.remove((when, wake))
            self._now = max(self._now, when)
            if not wake.done():
                wake.set_result(None)
            await loop_turns(TURNS)
        self._now = end
