"""Threads of the store and its indexes: a thread that can't be started is want of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable


def started(name: str, target: Callable[..., None], *args: object) -> threading.Thread:
    """A thread that runs target(*args), and that the process doesn't wait for as it ends. Raises MemoryError."""
    thread = threading.Thread(target=target, args=args, name=f"oneglance-{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise MemoryError("no thread can be started") from error
    return thread
