"""Room that is kept on the disk, so that what is to be deleted can be deleted though the disk is full."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

NAME = "reserve"
# What it takes to encrypt the rest of a subject of 1,000 encodings, 512-d, and as many crops as it may have (crops.py),
# with a new key.
BYTES = 12 << 20
# So much is given away at once: others may want the room, too, and take it before it can be taken back.
_GIVEN_BYTES = 1 << 20
# Where there isn't room for all of it, a part is better than nothing: so many of these.
_PART_BYTES = 1 << 15
# What opening a store takes on the disk, about: the index of its write-ahead log.
_START_BYTES = 1 << 16


# So much of the disk is left to others.
_LEFT_BYTES = 4 << 20


class Reserve:
    """The file `reserve` of a data directory. It stays when the store is closed: the disk may be full at the next
    start."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME
        self._held = _held(self._path)  # bytes: of a former process
        for size in range(BYTES, self._held, -_PART_BYTES):
            if self._take(size):
                return

    def fill(self) -> None:
        """Takes what it lacks, where others have room, too."""
        if self._held < BYTES and _free(self._path.parent) >= BYTES - self._held + _LEFT_BYTES:
            self._take(BYTES)

    def _take(self, size: int) -> bool:
        try:
            with _opened(self._path) as file:
                try:
                    os.posix_fallocate(file, 0, size)
                except OSError:  # a part of it may be there
                    os.ftruncate(file, self._held)
                    raise
        except OSError:
            return False
        self._held = size
        return True

    def release(self) -> bool:
        """Gives some of the room away. False where there is none left."""
        left = _release(self._path)
        self._held = max(0, left)
        return left >= 0


def release_to_start(data_dir: Path) -> bool:
    """As Reserve.release(), for a store that can't be opened for want of room, it seems."""
    return _free(data_dir) < _START_BYTES and _release(data_dir / NAME) >= 0


def _free(folder: Path) -> int:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A file of its own: no link, no pipe. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(errno.EINVAL, "it isn't a file of its own")
        yield descriptor
    finally:
        os.close(descriptor)


def _held(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    return min(found.st_size, 512 * found.st_blocks) if stat.S_ISREG(found.st_mode) else 0


def _release(path: Path) -> int:
    """How much is left; -1 where nothing could be given away."""
    held = _held(path)
    if not held:
        return -1
    left = max(0, held - _GIVEN_BYTES)
    try:
        with _opened(path) as file:
            os.ftruncate(file, left)
    except OSError:
        return -1
    return left
