"""A file that is read again when it has changed."""

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
MAX_BYTES = 4 << 20
_Stamp = tuple[int, ...] | None


class Watched(Generic[T]):
    """What ``read`` makes of the file at ``path``. ``look`` reads it again when it is another or was written to.

    sha256: of the bytes that ``value`` was made of, hexadecimal; "": there is no file.

    ``read``: (path, bytes) -> T; it raises for what it can't use. ``missing``: what there is without a file; None: the
    file must be there.
    """

    def __init__(self, path: Path, read: Callable[[Path, bytes], T], missing: T | None = None) -> None:
        """Raises OSError, also for what is no file or has more than MAX_BYTES, and what ``read`` raises."""
        self.path = path
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
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise OSError(f"{self.path} has more than {MAX_BYTES} bytes")
        return _of(found), self._read(self.path, data), hashlib.sha256(data).hexdigest()


def _stamp(path: Path) -> _Stamp:
    try:
        return _of(path.stat())
    except FileNotFoundError:
        return None


def _of(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
