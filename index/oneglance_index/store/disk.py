"""Writing in place, and locking a file that may be replaced: what the files of keys need of the operating system."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oneglance_index.errors import StoreFull, StoreIOError


def disk_error(error: OSError, path: Path) -> StoreFull | StoreIOError:
    kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreIOError
    return kind(path, str(error))


def write_at(descriptor: int, content: bytes, offset: int) -> None:
    """Writes all of it. The operating system may write less than it was asked to, where a disk is nearly full, say.
    Raises OSError."""
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, offset)
        if written <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left, offset = left[written:], offset + written


@contextmanager
def locked(path: Path, kind: int) -> Iterator[None]:
    """The lock is the file's, for all processes and threads: each has a descriptor of its own. Raises StoreIOError,
    StoreFull.

    Whoever waits for it may find the file replaced by another one meanwhile: then the other one is to be locked.
    """
    try:
        own = _locked(path, kind)
        try:
            yield
        finally:
            os.close(own)
    except OSError as error:
        raise disk_error(error, path) from error


def _locked(path: Path, kind: int) -> int:
    while True:
        own = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(own, kind)
            if is_at(own, path):
                return own
        except BaseException:
            os.close(own)
            raise
        os.close(own)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that `path` names. Raises OSError."""
    return os.path.samestat(os.fstat(descriptor), os.stat(path))
