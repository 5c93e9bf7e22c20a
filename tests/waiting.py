"""Waiting for events: a test never waits for time, so that it passes on a machine ten times slower."""

import asyncio
import time
from collections.abc import Callable

PATIENCE_SECONDS = 240.0
"""How long a test waits for what is bound to come: only what hangs takes so long. Below pytest's timeout of a test."""


def until(true: Callable[[], object]) -> None:
    """Return once ``true()``. Raises AssertionError when that takes PATIENCE_SECONDS."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < give_up, "it never came to that"
        time.sleep(0.005)


async def reached(true: Callable[[], object]) -> None:
    """``until``, while the event loop goes on."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < give_up, "it never came to that"
        await asyncio.sleep(0.005)


async def loop_turns(count: int) -> None:
    """Let the event loop go round ``count`` times: a delay whose order is the same on every machine."""
    for _ in range(count):
        await asyncio.sleep(0)
