"""Small files that several processes change: here, or where another server keeps them."""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from oneglance_core.files import replacing
from oneglance_server.watched import MAX_BYTES, Watched

T = TypeVar("T")
Made = TypeVar("Made", covariant=True)
_TURN_SECONDS = 2.0


class SharedFile(Protocol[Made]):
    """A file that several processes change, one after the other. Safe from any thread."""

    @property
    def value(self) -> Made:
        """What was made of it, of the newest that is known here."""

    @property
    def sha256(self) -> str:
        """Of the file, hexadecimal; "": there is none."""

    def look(self) -> bool:
        """Whether ``value`` is a new one since the last look. Raises OSError and what reads it: the former stays."""

    def check(self) -> None:
        """Raises EngineUnavailable where it isn't sure that ``value`` is what there is."""

    def change(self, make: Callable[[Made], str]) -> None:
        """Its text becomes what ``make`` makes of the value that there is then: on the disk, and known everywhere, when
        this returns. It may be asked more than once. Raises what it raises, OSError where the file can't be written
        now, and EngineUnavailable."""


class Files(Protocol):
    """Small files that servers have in common."""

    def file(
        self, name: str, read: Callable[[Path, bytes], T], missing: T, max_bytes: int = MAX_BYTES
    ) -> SharedFile[T]:
        """``read`` as for Watched. Once a name. Raises OSError and what ``read`` raises."""


class LocalFiles:
    """Those of the folder. ``on_change`` hears in any thread that one is another; True: it was changed by this, and is
    done once it returns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, _Shared[Any]] = {}
        self.on_change: Callable[[str, bool], None] = lambda name, own: None

    def file(
        self, name: str, read: Callable[[Path, bytes], T], missing: T, max_bytes: int = MAX_BYTES
    ) -> SharedFile[T]:
        made = self._files[name] = _Shared(
            self.folder / name, read, missing, max_bytes, lambda own: self.on_change(name, own)
        )
        return made

    def known(self) -> dict[str, bytes]:
        """What is in each."""
        return {name: file.data for name, file in list(self._files.items())}

    def replace(self, name: str, former: str, text: str) -> bool:
        """The text of a file, if what there is has SHA-256 ``former``; whether it had. Raises OSError, what reads it,
        and ValueError for a name that is none of these."""
        if name not in self._files:
            raise ValueError(f"there is no file {name!r}")
        try:
            self._files[name].change(lambda _: text, former)
        except _AnotherOne:
            return False
        return True


class _AnotherOne(Exception):
    """The file is another one."""


class _Shared(Watched[T]):
    """A SharedFile of this machine."""

    def __init__(
        self,
        path: Path,
        read: Callable[[Path, bytes], T],
        missing: T,
        max_bytes: int,
        on_change: Callable[[bool], None],
    ) -> None:
        self._looking, self._changing = threading.Lock(), threading.Lock()
        self._on_change = on_change
        super().__init__(path, read, missing, max_bytes)

    def look(self) -> bool:
        changed = self._look()
        if changed:
            self._on_change(False)
        return changed

    def _look(self) -> bool:
        with self._looking:
            return super().look()

    def check(self) -> None:
        pass

    def change(self, make: Callable[[T], str], former: str | None = None) -> None:
        """``former``: raises _AnotherOne for a file that has another SHA-256."""
        try:
            with self._changing, open(self.path.with_suffix(".lock"), "a", opener=_private) as turn:
                _take_turn(turn.fileno())
                self._look()
                if former not in (None, self.sha256):
                    raise _AnotherOne
                data = make(self.value).encode()
                self._made_of(data)  # what can't be read again is never written
                with replacing(self.path, private=True) as fresh:
                    fresh.write_bytes(data)
                self._look()
        finally:
            self._on_change(True)  # what was seen of others, too


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _take_turn(descriptor: int) -> None:
    """The lock of the file, or OSError when another process keeps it for long."""
    until = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
