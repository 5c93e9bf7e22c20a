"""Print lines in a thread, so that who reads them slowly holds up nobody."""

import contextlib
import queue
import threading
from collections.abc import Callable

MOST_WAITING = 10_000


class Printer:
    """Prints lines with ``say``, in order.

    lost: lines that are not printed: because 10,000 others waited or, after ``close``, as there was no time left.
    ended: after ``close``: no line is being printed any more.
    broken: called, in the thread, when nobody reads any more.
    """

    def __init__(self, say: Callable[[str], None], broken: Callable[[], None]) -> None:
        self.lost = 0
        self._say = say
        self._broken = broken
        self._given = 0
        self._printed = 0
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._print, name="print", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def put(self, line: str) -> None:
        """Returns at once."""
        self._given += 1
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.lost += 1

    def close(self, seconds: float) -> None:
        """Print what waits, for at most ``seconds``."""
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)  # wakes the thread
        self._thread.join(seconds)
        self.lost = self._given - self._printed

    def _print(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._say(line)
                self._printed += 1
                if self._closing.is_set() and self._lines.empty():
                    return
        except OSError:
            self._broken()
