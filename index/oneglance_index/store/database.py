"""The durable system of record: one SQLite database in a data directory that one process at a time may open.

Everything else in this package is a cache of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import sqlite3
from collections.abc import Hashable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from oneglance_core.files import sync_folder
from oneglance_index.errors import StoreClosed, StoreIOError, StoreLocked
from oneglance_index.store.mutations import Mutation
from oneglance_index.store.schema import DATABASE_NAME, connect_reader, connect_writer, store_error
from oneglance_index.store.writer import MUTATION_BYTES, Follower, Writer

T = TypeVar("T")

LOCK_NAME = "lock"


class Store:
    """Opens (and if need be creates) the store in `data_dir`. Raises StoreError.

    `follower` hears in the writer thread of each transaction, in order, before the futures of its mutations resolve.
    """

    def __init__(self, data_dir: Path, follower: Follower, max_queued_bytes: int) -> None:
        self.path = data_dir / DATABASE_NAME
        self._lock = _lock_directory(data_dir)
        try:
            db = connect_writer(self.path)
            try:
                sync_folder(data_dir)
                self.id = str(db.execute("SELECT id FROM store").fetchall()[0]["id"])
            except (sqlite3.Error, MemoryError) as error:
                db.close()
                raise store_error(error, self.path) from error
        except BaseException:
            os.close(self._lock)
            raise
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._writer = Writer(db, self.path, follower, max_queued_bytes)
        self._open = True

    @property
    def commits(self) -> int:
        """How many transactions were committed since opening."""
        return self._writer.commits

    def queued(self) -> int:
        """How many mutations wait for the writer."""
        return self._writer.queued()

    def write(
        self, mutation: Mutation[T], caller: Hashable = None, size: int = MUTATION_BYTES, patient: bool = False
    ) -> Future[T]:
        """`size`: the bytes that the mutation holds. Callers take turns. The future may fail with WriteQueueFull,
        unless `patient`."""
        return self._writer.submit(mutation, caller, size, patient)

    def checkpoint(self) -> Future[None]:
        """Empties the write-ahead log into the database, with all that is done so far."""
        return self._writer.checkpoint()

    def finish(self, until: float | None = None) -> None:
        """Returns when all that is queued now is done, or at `until`, a time of time.monotonic()."""
        self._writer.finish(until)

    def trouble(self) -> str | None:
        """Why nothing can be written now; None where all is well."""
        return self._writer.trouble()

    @property
    def closed(self) -> bool:
        return not self._open

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read-only connection that sees one state of the store throughout. Raises StoreError, OutOfMemory."""
        if not self._open:
            raise StoreClosed(self.path)
        try:
            db = self._readers.get_nowait()
        except queue.Empty:
            db = connect_reader(self.path)
        try:
            db.execute("BEGIN")
            yield db
        except (sqlite3.Error, MemoryError) as error:
            raise store_error(error, self.path) from error
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if self._open:
                self._readers.put(db)
            else:
                db.close()

    def close(self, until: float | None = None) -> None:
        """Finishes the queued mutations, checkpoints, closes, and lets other processes in. Idempotent.

        At `until`, a time of time.monotonic(), what is still queued fails with StoreClosed, and the checkpoint waits
        for readers no longer.
        """
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()
        self._writer.close(until)
        os.close(self._lock)


def _lock_directory(data_dir: Path) -> int:
    """Takes the directory for this process; the lock ends with the descriptor, or with the process."""
    path = data_dir / LOCK_NAME
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreIOError(data_dir, str(error)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise StoreLocked(path) from None
        raise StoreIOError(path, str(error)) from error
    return descriptor
