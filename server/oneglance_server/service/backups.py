"""Backups that calls ask for: files of the server's folder for them."""

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from oneglance_core.files import remove_left_parts
from oneglance_index import Backup, GalleryStore, StoreIOError
from oneglance_server.calls import Call
from oneglance_server.errors import BackupsOff, InvalidRequest, Overloaded
from oneglance_server.service.auditing import Audit

_BUSY = Overloaded("another backup is being made", metadata={"queue": "backups"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


class BackupService:
    """``folder``: None, backups are refused. One is made at a time, in a thread of ``pool``."""

    def __init__(self, store: GalleryStore, folder: Path | None, pool: ThreadPoolExecutor, audit: Audit) -> None:
        self._store = store
        self._folder = folder
        self._pool = pool
        self._audit = audit
        self._busy = False
        if folder is not None:  # what a server that was killed left there
            remove_left_parts(folder)

    async def create(self, call: Call, name: str) -> Backup:
        """A new file of this name. When the call ends before, nothing is left of it."""
        call.need("backup")
        if not _NAME.fullmatch(name):
            raise InvalidRequest.field(
                "name", 'must be 1 to 128 ASCII letters, digits and "._-", the first a letter or digit'
            )
        if self._folder is None:
            raise BackupsOff("this server has no folder for backups: its setting backup_dir")
        if self._busy:
            raise _BUSY
        await self._audit.did(call, "backup", name=name)
        if self._busy:  # meanwhile
            raise _BUSY
        loop, ended = asyncio.get_running_loop(), threading.Event()
        self._busy = True
        made = self._pool.submit(self._make, self._folder / name, ended)
        made.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        try:
            return await asyncio.wrap_future(made)
        finally:
            ended.set()

    def _make(self, target: Path, ended: threading.Event) -> Backup:
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreIOError(target.parent, str(error)) from error
        return self._store.back_up(target, ended.is_set)

    def _done(self) -> None:
        self._busy = False
