"""Room that is kept on the disk, so that what is to be deleted can be deleted though the disk is full."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NAME = "reserve"
BYTES = 8 << 20  # what it takes to encrypt the rest of a subject of 1,000 encodings, 512-d, with a new key
# So much is given away at once: others may want the room, too, and take it before it can be taken back.
_GIVEN_BYTES = 1 << 20
# Where there isn't room for all of it, a part is better than nothing: so many of these.
_PART_BYTES = 1 << 15
# What opening a store takes on the disk, about: the index of its write-ahead log.
_START_BYTES = 1 << 16


class Reserve:
    """The file `reserve` of a data directory. It stays when the store is closed: the disk may be full at the next
    start."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME
        self._held = _size(self._path)  # bytes: of a former process
        self.fill()

    def fill(self) -> None:
        """Takes as much of the room as there is, at most BYTES."""
        for size in range(BYTES, self._held, -_PART_BYTES):
            if self._take(size):
                self._held = size
                return

    def _take(self, size: int) -> bool:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            with contextlib.suppress(OSError):  # a part of it may be there
                os.ftruncate(descriptor, self._held)
            return False
        finally:
            os.close(descriptor)
        return True

    def release(self) -> bool:
        """Gives some of the room away. False where there is none left."""
        left = _release(self._path)
        self._held = max(0, left)
        return left >= 0


def release_to_start(data_dir: Path) -> bool:
    """As Reserve.release(), for a store that can't be opened: if the disk has no room."""
    try:
        disk = os.statvfs(data_dir)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _START_BYTES and _release(data_dir / NAME) >= 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _release(path: Path) -> int:
    """How much is left; -1 where nothing could be given away."""
    held = _size(path)
    left = max(0, held - _GIVEN_BYTES)
    try:
        if not held:
            return -1
        os.truncate(path, left)
    except OSError:
        return -1
    return left
