"""How late the event loop is: what is heavy on it, or too much, all calls wait for."""

import asyncio
from collections.abc import Callable


async def watch_loop(observe: Callable[[float], None], every_seconds: float = 0.05) -> None:
    """Until cancelled. ``observe`` hears how much later than it asked for this task is woken, seconds."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every_seconds
        await asyncio.sleep(every_seconds)
        observe(max(0.0, loop.time() - due))
