"""Files that servers have in common, as a server knows them that uses the galleries of another one."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from oneglance_index.errors import EngineUnavailable, StoreIOError
from oneglance_server.shared_files import SharedFile
from oneglance_server.watched import MAX_BYTES, sha256_of

T = TypeVar("T")
_TRIES = 20  # to change a file that others change, too
_NO_FILE = "-"  # a SHA-256 that no file has
# Goes on while this machine sleeps, where it can: what was granted before isn't good any more then.
clock = functools.partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Keeping(Protocol):
    def replace_file(self, name: str, former: str, text: str) -> bool:
        """See sharing.beside.Beside. Raises EngineUnavailable, too."""


class RemoteFiles:
    """Those that the keeper keeps, as it told them: a watched.Files. `until`: of clock(), so long it is sure that they
    are the newest. `keeping` is who changes them, once it is known."""

    def __init__(self) -> None:
        self.until = 0.0
        self.keeping: Keeping | None = None
        self._told: dict[str, bytes] = {}
        self._files: dict[str, _RemoteFile[Any]] = {}
        self._lock = threading.Lock()

    def file(
        self, name: str, read: Callable[[Path, bytes], T], missing: T, max_bytes: int = MAX_BYTES
    ) -> SharedFile[T]:
        made = _RemoteFile(self, name, read, missing)
        with self._lock:
            self._files[name] = made
            made.hear(self._told.get(name, b""))
        return made

    def hear(self, told: Mapping[str, bytes], *, anew: bool) -> None:
        """`anew`: these are all there are. Raises what reads them."""
        with self._lock:
            self._told = dict(told) if anew else {**self._told, **told}
            for name, file in self._files.items():
                if anew or name in told:
                    file.hear(self._told.get(name, b""))

    def check(self) -> None:
        """Raises EngineUnavailable."""
        if clock() > self.until:
            raise EngineUnavailable("the keeper of the galleries", "it isn't heard of")


class _RemoteFile(Generic[T]):
    def __init__(self, files: RemoteFiles, name: str, read: Callable[[Path, bytes], T], missing: T) -> None:
        self._files, self._name, self._read, self._missing = files, name, read, missing
        # What was made of what, and its SHA-256: one thing, to be read by any thread.
        self._now, self._heard = (missing, b"", ""), False
        self._changing = threading.Lock()
        self.check = files.check

    @property
    def value(self) -> T:
        return self._now[0]

    @property
    def sha256(self) -> str:
        return self._now[2]

    def hear(self, data: bytes) -> None:
        if data != self._now[1]:
            value = self._read(Path(self._name), data) if data else self._missing
            self._now = value, data, sha256_of(data)
            self._heard = True

    def look(self) -> bool:
        heard, self._heard = self._heard, False
        return heard

    def change(self, make: Callable[[T], str]) -> None:
        with self._changing:  # here they take turns, so that only other servers are in the way
            for _ in range(_TRIES):
                self.check()
                value, _data, former = self._now
                try:
                    text = make(value)
                except BaseException:
                    self._replace(_NO_FILE, "")  # what this is raised for is known everywhere, too
                    raise
                if self._replace(former, text):
                    return
        raise OSError(f"{self._name} is changed by others all the time")

    def _replace(self, former: str, text: str) -> bool:
        keeping = self._files.keeping
        if keeping is None:
            return False
        try:
            return keeping.replace_file(self._name, former, text)
        except StoreIOError as error:
            raise OSError(str(error)) from error
