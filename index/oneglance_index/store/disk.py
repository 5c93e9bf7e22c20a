"""Writing in place, and locking a file that may be replaced: what the files of keys need of the operating system."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from oneglance_index.errors import StoreFull, StoreIOError
from oneglance_index.records import Integers

# The operating system writes whole pages.
_PAGE_BYTES = 4096


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


def overwrite(descriptor: int, places: Integers, size: int, alone: bool) -> None:
    """Puts random bytes in the place of records of `size` bytes: on the disk when it returns. `places` ascend. `alone`:
    nobody else writes to the file meanwhile, so few large writes may take the place of many small ones. Raises OSError.
    """
    if not len(places):
        return
    fresh = np.frombuffer(os.urandom(len(places) * size), np.uint8).reshape(-1, size)
    farthest = max(1, _PAGE_BYTES // size) if alone else 1
    starts = np.flatnonzero(np.diff(places) > farthest) + 1
    for new, at in zip(np.split(fresh, starts), np.split(places, starts), strict=True):
        first, count = int(at[0]), int(at[-1] - at[0]) + 1
        if count > len(at):
            former = os.pread(descriptor, count * size, first * size).ljust(count * size)
            both = np.frombuffer(former, np.uint8).reshape(count, size).copy()
            both[at - first] = new
            new = both
        write_at(descriptor, new.tobytes(), first * size)
    os.fdatasync(descriptor)


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
