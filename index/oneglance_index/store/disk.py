"""Writing in place, and locking a file that may be replaced: what the files of keys need of the operating system."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from oneglance_index.errors import StoreBusy, StoreFull, StoreIOError
from oneglance_index.records import Integers

# How long a start, say, waits for the lock of the keys; what has to have it waits on, and tells of it after a while.
LOCKED_SECONDS = 60.0
TOLD_SECONDS = 10.0
KEYS_IN_USE = "the keys are being copied: a backup or a check is under way, or hangs, in this process or another"
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.05
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


def not_for_long(waited: float) -> bool:
    """Whether to wait for a lock any longer, after so many seconds."""
    return waited < LOCKED_SECONDS


@contextmanager
def locked(path: Path, kind: int, go_on: Callable[[float], bool] = not_for_long) -> Iterator[None]:
    """The lock is the file's, for all processes and threads: each has a descriptor of its own. `go_on` is asked while
    it is waited for, with the seconds since. Raises StoreBusy where that says no, StoreIOError, StoreFull.

    Whoever waits for it may find the file replaced by another one meanwhile: then the other one is to be locked.
    """
    try:
        own = _locked(path, kind, go_on)
        try:
            yield
        finally:
            os.close(own)
    except OSError as error:
        raise disk_error(error, path) from error


def _locked(path: Path, kind: int, go_on: Callable[[float], bool]) -> int:
    since, pause = time.monotonic(), _SHORTEST_PAUSE_SECONDS
    while True:
        own = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(own, kind | fcntl.LOCK_NB)
                if is_at(own, path):
                    return own
        except BaseException:
            os.close(own)
            raise
        os.close(own)
        if not go_on(time.monotonic() - since):
            raise StoreBusy(path, KEYS_IN_USE)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that `path` names. Raises OSError."""
    return os.path.samestat(os.fstat(descriptor), os.stat(path))
