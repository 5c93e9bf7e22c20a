"""A file that is read again when it has changed; and one that several processes change."""

import fcntl
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from oneglance_core.files import replacing

T = TypeVar("T")
MAX_BYTES = 4 << 20
_TURN_SECONDS = 2.0
_Stamp = tuple[int, ...] | None


class Watched(Generic[T]):
    """What ``read`` makes of the file at ``path``. ``look`` reads it again when it is another or was written to.

    sha256: of the bytes that ``value`` was made of, hexadecimal; "": there is no file.

    ``read``: (path, bytes) -> T; it raises for what it can't use. ``missing``: what there is without a file; None: the
    file must be there.
    """

    def __init__(
        self, path: Path, read: Callable[[Path, bytes], T], missing: T | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        """Raises OSError, also for what is no file or has more than ``max_bytes``, and what ``read`` raises."""
        self.path = path
        self._max_bytes = max_bytes
        self._read = read
        self._missing = missing
        self._stamp, self.value, self.sha256 = self._now()

    def look(self) -> bool:
        """Whether ``value`` is a new one.

        Raises as the constructor: then the former value stays, and the file is read again the next time.
        """
        stamp = _stamp(self.path)
        if stamp is not None and stamp == self._stamp:
            return False
        if stamp is None and self._stamp is None and self._missing is not None:
            return False
        self._stamp, self.value, self.sha256 = self._now()
        return True

    def _now(self) -> tuple[_Stamp, T, str]:
        try:
            # A pipe would wait for a writer, and a device may never end.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            if self._missing is None:
                raise
            return None, self._missing, ""
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{self.path} is no file")
            data = file.read(self._max_bytes + 1)
        if len(data) > self._max_bytes:
            raise OSError(f"{self.path} has more than {self._max_bytes} bytes")
        return _of(found), self._read(self.path, data), hashlib.sha256(data).hexdigest()


class Shared(Watched[T]):
    """A file that several processes change, one after the other. Safe from any thread."""

    def __init__(
        self, path: Path, read: Callable[[Path, bytes], T], missing: T | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        self._looking, self._changing = threading.Lock(), threading.Lock()
        super().__init__(path, read, missing, max_bytes)

    def look(self) -> bool:
        with self._looking:
            return super().look()

    @contextmanager
    def changing(self) -> Iterator[Callable[[str], None]]:
        """``value`` is what there is now, and nobody else changes it within the block, which is given what replaces the
        file's text. Raises as ``look``, and OSError when another process takes long."""
        with self._changing, open(self.path.with_suffix(".lock"), "a", opener=_private) as turn:
            _take_turn(turn.fileno())
            self.look()
            yield self._replace

    def _replace(self, text: str) -> None:
        with replacing(self.path, private=True) as fresh:
            fresh.write_text(text)
        self.look()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _take_turn(descriptor: int) -> None:
    """The lock of the file, or OSError when another process keeps it for long."""
    until = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def _stamp(path: Path) -> _Stamp:
    try:
        return _of(path.stat())
    except FileNotFoundError:
        return None


def _of(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
