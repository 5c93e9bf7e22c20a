"""Room that is kept on the disk, so that what is to be deleted can be deleted though the disk is full."""

from __future__ import annotations

import os
from pathlib import Path

NAME = "reserve"
BYTES = 1 << 20


class Reserve:
    """The file `reserve` of a data directory. It is there while the store is open, whenever there was room for it."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME
        self._held = False
        self.fill()

    def fill(self) -> None:
        """Takes the room again, if there is any."""
        if self._held:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            return
        self._held = True

    def release(self) -> bool:
        """Gives the room away. False where there is none left."""
        if not self._held:
            return False
        self._held = False
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
