"""How late the event loop is: what is heavy on it, or too much, all calls wait for."""

import asyncio
from collections.abc import Callable


class LoopWatch:
    """``observe`` hears how much later than it asked for a task is woken, seconds. Belongs to one event loop."""

    def __init__(self, observe: Callable[[float], None], every_seconds: float = 0.05) -> None:
        self._observe = observe
        self._every = every_seconds
        self._due: float | None = None
        self._last = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._due = loop.time() + self._every
                await asyncio.sleep(self._every)
                self._last = max(0.0, loop.time() - self._due)
                self._observe(self._last)
        finally:
            self._due = None

    @property
    def lag(self) -> float:
        """Seconds, as last seen or, while it is being late again, as it will be at least."""
        if self._due is None:
            return 0.0
        return max(self._last, asyncio.get_running_loop().time() - self._due)
