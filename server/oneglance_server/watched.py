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

    data: what ``value`` was made of; b"": there is no file. sha256: of that, hexadecimal; "": there is none.

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
        self._stamp, self.value, self.data, self.sha256 = self._now()

    def look(self) -> bool:
        """Whether ``value`` is a new one.

        Raises as the constructor: then the former value stays, and the file is read again the next time.
        """
        stamp = _stamp(self.path)
        if stamp is not None and stamp == self._stamp:
            return False
        if stamp is None and self._stamp is None and self._missing is not None:
            return False
        self._stamp, self.value, self.data, self.sha256 = self._now()
        return True

    def _now(self) -> tuple[_Stamp, T, bytes, str]:
        try:
            # A pipe would wait for a writer, and a device may never end.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            if self._missing is None:
                raise
            return None, self._missing, b"", ""
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{self.path} is no file")
            data = file.read(self._max_bytes + 1)
        return _of(found), self._made_of(data), data, sha256_of(data)

    def _made_of(self, data: bytes) -> T:
        if len(data) > self._max_bytes:
            raise OSError(f"{self.path} has more than {self._max_bytes} bytes")
        return self._read(self.path, data)


def sha256_of(data: bytes) -> str:
    """Hexadecimal; "" of nothing."""
    return hashlib.sha256(data).hexdigest() if data else ""


def _stamp(path: Path) -> _Stamp:
    try:
        return _of(path.stat())
    except FileNotFoundError:
        return None


def _of(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
