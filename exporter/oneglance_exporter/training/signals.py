"""Stop signals: Ctrl-C and SIGTERM end a loop after its current step, not in the middle of it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGINT or SIGTERM has arrived. Inside the context, they do nothing else.

    Works in the main thread only, as Python's signal handlers do.
    """
    received: list[int] = []

    def remember(number: int, frame: object) -> None:
        received.append(number)

    old = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
