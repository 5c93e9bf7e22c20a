"""The files of slots that are open: those that were used last, since a process may have only so many open."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MOST_OPEN = 64


@dataclass(slots=True)
class _File:
    descriptor: int
    users: int = 0
    forgotten: bool = False


class Descriptors:
    """Opens files of a folder, by name, when they are used. At most `most` stay open, and those in use. Thread-safe.

    The folder is the one that was there at first, wherever it is moved. Raises OSError.
    """

    def __init__(self, folder: Path, most: int = MOST_OPEN) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._most = most
        self._files: OrderedDict[str, _File] = OrderedDict()  # used last: last
        self._lock = threading.Lock()

    @contextmanager
    def using(self, name: str) -> Iterator[int]:
        """A descriptor that is good in the block, to read and to write."""
        file = self._take(name)
        try:
            yield file.descriptor
        finally:
            self._give_back(file)

    def read(self, name: str, size: int, offset: int) -> bytes:
        """What is there, `size` bytes at most."""
        file = self._take(name)  # not using(), which takes longer than the reading
        try:
            return os.pread(file.descriptor, size, offset)
        finally:
            self._give_back(file)

    def _take(self, name: str) -> _File:
        with self._lock:
            file = self._files.get(name)
            if file is None:
                self._close_idle(self._most - 1)
                file = _File(os.open(name, os.O_RDWR | os.O_CLOEXEC, dir_fd=self._folder))
                self._files[name] = file
            self._files.move_to_end(name)
            file.users += 1
            return file

    def _give_back(self, file: _File) -> None:
        with self._lock:
            file.users -= 1
            if file.forgotten and not file.users:
                os.close(file.descriptor)
            if len(self._files) > self._most:
                self._close_idle(self._most)

    def forget(self, name: str) -> None:
        """It is closed once nobody uses it."""
        with self._lock:
            file = self._files.pop(name, None)
            if file is not None:
                file.forgotten = True
                if not file.users:
                    os.close(file.descriptor)

    def close(self) -> None:
        for name in list(self._files):
            self.forget(name)
        os.close(self._folder)

    def _close_idle(self, left: int) -> None:
        idle = [name for name, file in self._files.items() if not file.users]
        for name in idle[: max(0, len(self._files) - left)]:
            os.close(self._files.pop(name).descriptor)
