"""Where log lines go: logging never fails the thing logged, and never holds it up."""

import io
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

_MAX_WAITING_CHARACTERS = 4 << 20
_PAUSE_SECONDS = 0.1  # after an error of ours


class LogSink(io.TextIOBase):
    """A text stream whose ``write`` neither raises nor blocks: one daemon thread writes to a file descriptor.

    Text that can't be written (full disk, closed pipe) is dropped; so is text that finds more than a few megabytes
    waiting (a pipe whose reader stopped). ``lost`` counts its lines. Once writing works again, the thread writes
    ``notice(lines)``, which says how many were lost since the last notice.

    It takes the place of ``sys.stderr``, too: what Python and libraries print there goes the same way.
    """

    def __init__(self, descriptor: int, notice: Callable[[int], str]) -> None:
        self.lost = 0
        self._descriptor = descriptor
        self._notice = notice
        self._told = 0  # of ``lost``, how many a notice has told of
        self._torn = False  # the last write stopped in the middle of a line
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._changed = threading.Condition()
        self._writing = False
        threading.Thread(target=self._write_forever, name="oneglance-log", daemon=True).start()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        try:
            return os.isatty(self._descriptor)
        except OSError:
            return False

    def write(self, text: str, /) -> int:
        try:
            with self._changed:
                if self._characters + len(text) > _MAX_WAITING_CHARACTERS:
                    self.lost += _lines(text)
                else:
                    self._characters += len(text)
                    self._waiting.append(text)
                    self._changed.notify_all()
        except MemoryError:
            self.lost += 1
        return len(text)

    def wait_until_written(self, seconds: float) -> None:
        """Return once nothing waits any more, or after ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._writing, seconds)

    def _write_forever(self) -> None:
        while True:
            try:
                self._write_next()
            except Exception:  # no memory, say, even to wait for the next text
                time.sleep(_PAUSE_SECONDS)

    def _write_next(self) -> None:
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting)
            text = self._waiting.popleft()
            self._characters -= len(text)
            self._writing = True
        if not self._put(text):
            with self._changed:
                self.lost += _lines(text)
        elif text.endswith("\n") and (more := self.lost - self._told) and self._put(self._notice(more)):
            self._told += more

    def _put(self, text: str) -> bool:
        """Whether all of it was written."""
        try:
            left = memoryview((("\n" if self._torn else "") + text).encode("utf-8", "backslashreplace"))
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # somebody else has made it non-blocking
                    select.select([], [self._descriptor], [])
                    continue
                self._torn = bool(left)
        except (OSError, ValueError, MemoryError):
            return False
        return True


def _lines(text: str) -> int:
    return max(1, text.count("\n"))
