"""Print lines in a thread, so that who reads them slowly holds up nobody."""

import queue
import threading
from collections.abc import Callable

MOST_WAITING = 10_000


class Printer:
    """Prints lines with ``say``, in order. lost: lines that were not printed, as 10,000 others waited, or at the end.

    broken: called, in the thread, when nobody reads any more.
    """

    def __init__(self, say: Callable[[str], None], broken: Callable[[], None]) -> None:
        self.lost = 0
        self._say = say
        self._broken = broken
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._print, name="print", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Returns at once."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.lost += 1

    def close(self, seconds: float) -> None:
        """Print what waits, for at most ``seconds``."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            self.lost += 1
        self._thread.join(seconds)
        self.lost += self._lines.qsize()

    def _print(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._say(line)
        except OSError:
            self._broken()
