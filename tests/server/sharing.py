"""A keeper of galleries in this process, and who uses them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from oneglance_index import GalleryStore, IndexSettings, LocalGalleries
from oneglance_server.service.backups import BackupFolder
from oneglance_server.shared_files import LocalFiles
from oneglance_server.sharing.addresses import Keeping
from oneglance_server.sharing.keeper import Keeper
from oneglance_server.sharing.news import News
from oneglance_server.sharing.own import KeepersOwn
from oneglance_server.sharing.remote import open_remote


class Kept:
    """Galleries that others may use, at `keeping`, until close(). What is granted lasts long: machines may be slow."""

    def __init__(
        self, data_dir: Path, settings: IndexSettings | None = None, seconds: float = 60.0, **how: Any
    ) -> None:
        self.news = News(seconds)
        self.store = LocalGalleries.open(data_dir, settings=settings, on_galleries=self.news.tell, **how)
        self.files = LocalFiles(data_dir)
        self.files.on_change = lambda name, own: self.news.tell_file(name, lambda: self.files.known()[name], wait=own)
        self.news.begin(self.store.list_galleries(page_size=1000).galleries, self.files.known())
        self.keeping = Keeping(f"keeper+unix:{data_dir}/keeper.socket")
        self.loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(4)
        self.data_dir = data_dir
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self._run(self._start())

    def _run(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self.loop).result()

    async def _start(self) -> None:
        backups = BackupFolder(self.store, self.data_dir.parent / "backups", self._pool)
        self.keeper = Keeper(self.store, KeepersOwn(backups, self.files), self.news, self._pool)
        self._server = self.keeper.server()
        self._server.add_insecure_port(self.keeping.name.replace("keeper+unix", "unix"))
        await self._server.start()

    def close(self) -> None:
        self._run(self._server.stop(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self._pool.shutdown()
        self.store.close()


class Remotely:
    """The galleries of a directory, used from elsewhere; what keeps them is closed with them."""

    def __init__(self, data_dir: Path, settings: IndexSettings) -> None:
        self._kept = Kept(data_dir, settings)
        self._store = open_remote(self._kept.keeping)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def close(self, deadline_seconds: float | None = None) -> None:
        self._store.close(deadline_seconds)
        if not self._kept.loop.is_closed():
            self._kept.close()


@contextlib.contextmanager
def kept(data_dir: Path, users: int, **how: Any) -> Iterator[tuple[Kept, list[GalleryStore]]]:
    """Galleries, and so many that use them."""
    keeper = Kept(data_dir, **how)
    with contextlib.ExitStack() as opened:
        opened.callback(keeper.close)
        stores: list[GalleryStore] = [open_remote(keeper.keeping) for _ in range(users)]
        for store in stores:
            opened.callback(store.close)
        yield keeper, stores
