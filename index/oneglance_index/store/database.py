"""The durable system of record: one SQLite database in a data directory that one process at a time may open.

Everything else in this package is a cache of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

from oneglance_core.files import sync_folder
from oneglance_index.audit import acting
from oneglance_index.errors import StoreBusy, StoreClosed, StoreError, StoreFull, StoreIOError
from oneglance_index.records import Backup
from oneglance_index.settings import IndexSettings
from oneglance_index.store.backup import write_backup
from oneglance_index.store.ciphers import Reader
from oneglance_index.store.directory import (
    DATABASE_NAME,
    OpenFiles,
    check_before_opening,
    check_writable,
    former_keys,
    lock_directory,
    open_files,
    remove_leftovers,
)
from oneglance_index.store.keys import copying
from oneglance_index.store.master import master_keys, next_master_key, settle_master_key
from oneglance_index.store.mutations import Mutation
from oneglance_index.store.receipts import Receipts
from oneglance_index.store.reserve import Reserve, release_to_start
from oneglance_index.store.schema import BUSY_SECONDS, FAILURES, connect_reader, connect_writer, store_error
from oneglance_index.store.slots import KeyDestroyed
from oneglance_index.store.store_row import check_store
from oneglance_index.store.trail import Trail
from oneglance_index.store.writer import MUTATION_BYTES, Follower, OnChange, Writer, unheard

T = TypeVar("T")
log = logging.getLogger(__name__)

# Between two tries to empty the write-ahead log, while a reader is in the way.
_CHECKPOINT_SECONDS = 0.02
# How often something is read anew, where it was deleted meanwhile; then deletions wait.
_READS = 4


class Store:
    """Opens (and if need be creates) the store in `data_dir`. Raises StoreError.

    `follower` hears in the writer thread of each transaction, in order, before the futures of its mutations resolve.
    """

    def __init__(
        self, data_dir: Path, follower: Follower, settings: IndexSettings, on_change: OnChange = unheard
    ) -> None:
        self._master_key = settings.master_key
        self.path = data_dir / DATABASE_NAME
        self._lock = lock_directory(data_dir)
        try:
            check_before_opening(self.path)
            check_writable(data_dir)
            remove_leftovers(self.path)
            masters = partial(master_keys, settings.master_key, settings.former_master_key, data_dir)
            try:
                db = connect_writer(self.path, masters)
            except (StoreFull, StoreIOError):
                if not release_to_start(data_dir):
                    raise
                try:
                    db = connect_writer(self.path, masters)
                except BaseException:
                    Reserve(data_dir)  # takes back what was of no use
                    raise
            self.keys = db.keys
            try:
                self._settle_rotation()
                sync_folder(data_dir)
                self._files = OpenFiles(open_files(self.path))
                self.receipts = Receipts(
                    db.keys.signing_seed, check_store(db).id, settings.backup_seconds, settings.engine_copy_seconds
                )
                self.receipts.publish(data_dir)
                trail = Trail(db, settings.audit_subjects == "hashed")
                if data_dir.stat().st_mode & 0o077:
                    log.warning("%s can be looked into by others: chmod 700", data_dir)
                for folder in former_keys(data_dir):
                    log.warning(
                        "%s has keys of before a restore: remove it, or what is deleted can be read there", folder
                    )
            except BaseException:
                db.close()
                self.keys.close()
                raise
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, FAILURES):
                raise store_error(error, self.path) from error
            if isinstance(error, OSError):
                raise StoreIOError(data_dir, str(error)) from error
            raise
        self._readers: queue.LifoQueue[Reader] = queue.LifoQueue()
        try:
            self._writer = Writer(db, self.path, self._files, follower, settings.max_queued_bytes, trail, on_change)
        except BaseException:
            db.close()
            self.keys.close()
            os.close(self._lock)
            raise
        self._open = True

    def rotate_key(self, gallery: int) -> None:
        """Gives a gallery another key. Raises StoreError."""
        with self.keys.changing():
            self.keys.rotate(gallery)

    def rotate_master_key(self) -> None:
        """Encrypts all galleries' keys under another master key: a new one, where it is the directory's own, else what
        its source gives now. Where it failed half-way before, it is finished. Raises StoreError."""
        with self.keys.changing():
            data_dir = self.path.parent
            following = next_master_key(self._master_key, data_dir)
            if self._master_key or not self.keys.is_master(following):
                self.keys.rotate_master(following)
            settle_master_key(self._master_key, data_dir, self.keys.is_master)

    def _settle_rotation(self) -> None:
        """At the start. What fails is left for the next one, or the next rotation: all keys can be read."""
        try:
            settle_master_key(self._master_key, self.path.parent, self.keys.is_master)
        except StoreError as error:
            log.warning("the rotation of the master key could not be finished: %s", error)

    def back_up(self, target: Path, ended: Callable[[], bool]) -> Backup:
        """Writes a backup to a new file: see backup.py. It ends, too, when the store is closed. Raises StoreError,
        BackupExists, OutOfMemory."""
        self.check_in_place()
        return write_backup(self.path, target, self.keys.hashes, new=True, ended=lambda: ended() or not self._open)

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
        unless `patient`. The audit trail tells of it where somebody is acting."""
        return self._writer.submit(mutation, caller, size, patient, acting.get())

    def write_many(
        self,
        mutations: Sequence[Mutation[T]],
        caller: Hashable = None,
        size: int = MUTATION_BYTES,
        patient: bool = False,
    ) -> Future[list[T | Exception]]:
        """As write(), for several: see Writer.submit_many()."""
        return self._writer.submit_many(mutations, caller, size, patient, acting.get())

    def checkpoint(self, ending: threading.Event) -> None:
        """Empties the write-ahead log into the database, with all that is done so far.

        Where a reader is in the way it waits here, while writes go on, for BUSY_SECONDS or until `ending` is set.
        Raises StoreError.
        """
        give_up = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return self._writer.checkpoint().result()
            except StoreBusy:
                if time.monotonic() >= give_up or ending.wait(_CHECKPOINT_SECONDS):
                    raise

    def finish(self, until: float | None = None) -> None:
        """Returns when all that is queued now is done, or at `until`, a time of time.monotonic()."""
        self._writer.finish(until)

    def trouble(self) -> str | None:
        """Why nothing can be written now; None where all is well."""
        try:
            self.check_in_place()
        except StoreError as error:
            return str(error)
        return self._writer.trouble()

    def check_in_place(self) -> None:
        """Raises StoreGone where the files in the data directory aren't those that are open."""
        self._files.check()

    @property
    def closed(self) -> bool:
        return not self._open

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read-only connection that sees one state of the store throughout. Raises StoreError, OutOfMemory."""
        if not self._open:
            raise StoreClosed(self.path)
        self.check_in_place()
        try:
            db = self._readers.get_nowait()
        except queue.Empty:
            db = connect_reader(self.path, self.keys)
        db.since = time.monotonic_ns()  # before it reads: what is destroyed later may be in what it sees
        try:
            db.execute("BEGIN")
            yield db
        except FAILURES as error:
            raise store_error(error, self.path) from error
        finally:
            db.let_go()
            if self._open:
                self._readers.put(db)
            else:
                db.close()

    def read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """What `ask` finds in one state of the store. Raises what it raises, StoreError, OutOfMemory."""
        for _ in range(_READS):
            # What is deleted meanwhile can't be decrypted any more; in the next state it isn't there.
            with contextlib.suppress(KeyDestroyed), self.reading() as db:
                return ask(db)
        with contextlib.suppress(KeyDestroyed), copying(self.path.parent), self.reading() as db:
            return ask(db)
        raise StoreBusy(self.path, "what is being read is being deleted")

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
