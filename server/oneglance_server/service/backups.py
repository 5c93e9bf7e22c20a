"""Backups that calls ask for: files of a folder for them, of the server that keeps the galleries."""

import asyncio
import re
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Protocol

from oneglance_core.files import remove_left_parts
from oneglance_index import Backup, GalleryStore, StoreIOError
from oneglance_server.calls import Call
from oneglance_server.errors import BackupsOff, InvalidRequest, Overloaded
from oneglance_server.service.auditing import Audit

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


class Backups(Protocol):
    @property
    def backs_up(self) -> bool:
        """Whether there is a folder for them."""

    def create_backup(self, name: str) -> Future[Backup]:
        """A new file of this name, one at a time. Cancelled, nothing is left of it. InvalidRequest, BackupsOff,
        Overloaded, BackupExists, StoreError."""


class BackupFolder:
    """Backups in ``folder``, made in a thread of ``pool``; None: there is none. Safe from any thread."""

    def __init__(self, store: GalleryStore, folder: Path | None, pool: Executor) -> None:
        self._store, self._folder, self._pool = store, folder, pool
        self._turn = threading.Lock()
        if folder is not None:  # what a server that was killed left there
            remove_left_parts(folder)

    @property
    def backs_up(self) -> bool:
        return self._folder is not None

    def create_backup(self, name: str) -> Future[Backup]:
        check_name(name)
        if self._folder is None:
            raise _off()
        if not self._turn.acquire(blocking=False):
            raise Overloaded("another backup is being made", metadata={"queue": "backups"})
        making = _Making()
        try:
            self._pool.submit(self._make, self._folder / name, making)
        except BaseException:
            self._turn.release()
            raise
        return making

    def _make(self, target: Path, making: "_Making") -> None:
        try:
            made = self._back_up(target, making.given_up.is_set)
        except BaseException as error:
            self._turn.release()
            making.set_exception(error)
        else:
            self._turn.release()
            making.set_result(made)

    def _back_up(self, target: Path, ended: Callable[[], bool]) -> Backup:
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreIOError(target.parent, str(error)) from error
        return self._store.back_up(target, ended)


class _Making(Future[Backup]):
    """To cancel it is a wish: it ends as soon as it can."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up = threading.Event()

    def cancel(self) -> bool:
        self.given_up.set()
        return False


class BackupService:
    """Backups for who may have them."""

    def __init__(self, backups: Backups, audit: Audit) -> None:
        self._backups = backups
        self._audit = audit

    async def create(self, call: Call, name: str) -> Backup:
        """A new file of this name. When the call ends before, nothing is left of it."""
        call.need("backup")
        check_name(name)
        if not self._backups.backs_up:
            raise _off()
        await self._audit.did(call, "backup", name=name)
        return await asyncio.wrap_future(self._backups.create_backup(name))


def check_name(name: str) -> None:
    """Raises InvalidRequest."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest.field(
            "name", 'must be 1 to 128 ASCII letters, digits and "._-", the first a letter or digit'
        )


def _off() -> BackupsOff:
    return BackupsOff("there is no folder for backups: the setting backup_dir of the server that keeps the galleries")
