"""Room that is kept on the disk, so that what is to be deleted can be deleted though the disk is full."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NAME = "reserve"
BYTES = 1 << 20
# Where there isn't room for all of it, a part is better than nothing: so many of these.
_PART_BYTES = 1 << 15


class Reserve:
    """The file `reserve` of a data directory. It stays when the store is closed: the disk may be full at the next
    start."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME
        self._held = 0  # bytes
        with contextlib.suppress(OSError):  # of a former process
            self._held = self._path.stat().st_size
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
        """Gives the room away. False where there is none left."""
        if not self._held:
            return False
        self._held = 0
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
