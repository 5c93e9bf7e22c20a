"""The one thread that writes, with group commit.

Mutations queue up; the writer takes all that wait, runs each in a savepoint of one transaction, commits once
(one fsync for all of them), tells the indexes in commit order, and only then resolves the futures. So a done
future means: fsynced, and seen by every search that starts from now on.

One mutation's own error (a typed one) undoes that mutation alone. When SQLite itself fails inside a group,
which may take the transaction down with it, the group is rolled back and its mutations run again one by one,
so that one that is too large for the disk doesn't fail its neighbours. When a COMMIT fails, every mutation of
that transaction fails and none is told to the indexes. The writer lives on in each case.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from oneglance_index.errors import GalleryError, StoreClosed, StoreIOError
from oneglance_index.store.mutations import Effect, Mutation
from oneglance_index.store.schema import store_error

T = TypeVar("T")

# Bounds how long a mutation waits for its neighbours in the group.
MAX_GROUP = 256


class _Job(NamedTuple):
    mutation: Mutation[Any] | None  # None: a checkpoint
    future: Future[Any]


_Task = tuple[Mutation[Any], Future[Any]]


class Writer:
    """Owns `db`, a connection in autocommit mode, until close(). `on_commit` runs in the writer thread."""

    def __init__(self, db: sqlite3.Connection, path: Path, on_commit: Callable[[Sequence[Effect]], None]) -> None:
        self._db = db
        self._path = path
        self._on_commit = on_commit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self.commits = 0
        self._thread = threading.Thread(target=self._loop, name="oneglance-writer", daemon=True)
        self._thread.start()

    def submit(self, mutation: Mutation[T]) -> Future[T]:
        """Queues a mutation. After close() the future fails with StoreClosed. A future that is cancelled
        before its turn is never run."""
        return self._submit(mutation)

    def _submit(self, mutation: Mutation[Any] | None) -> Future[Any]:
        future: Future[Any] = Future()
        with self._closing:
            if self._closed:
                future.set_exception(StoreClosed(self._path))
            else:
                self._jobs.put(_Job(mutation, future))
        return future

    def checkpoint(self) -> Future[None]:
        """Moves the write-ahead log into the database and empties it, after everything queued so far.

        The future fails with StoreIOError if a reader was in the way for 5 s.
        """
        return self._submit(None)

    def queued(self) -> int:
        return self._jobs.qsize()

    def close(self) -> None:
        """Finishes what is queued, empties the write-ahead log into the database, and closes the connection."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _loop(self) -> None:
        last = False
        while not last:
            waiting = [self._jobs.get()]
            with contextlib.suppress(queue.Empty):
                while len(waiting) < MAX_GROUP and waiting[-1] is not None:
                    waiting.append(self._jobs.get_nowait())
            last = waiting[-1] is None
            jobs = [job for job in waiting if job is not None and job.future.set_running_or_notify_cancel()]
            group = [(job.mutation, job.future) for job in jobs if job.mutation is not None]
            if group and not self._transact(group):
                for one in group:
                    self._transact([one], alone=True)
            for job in jobs:
                if job.mutation is None:
                    self._checkpoint(job.future)
        with contextlib.suppress(sqlite3.Error):  # the log is replayed at the next start then
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    def _transact(self, group: list[_Task], alone: bool = False) -> bool:
        """One transaction. False: rolled back before the commit with no future resolved; try one by one."""
        outcomes: list[tuple[Future[Any], Any]] = []
        failures: list[tuple[Future[Any], Exception]] = []
        effects: list[Effect] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for mutation, future in group:
                self._db.execute("SAVEPOINT mutation")
                try:
                    applied = mutation.run(self._db)
                except sqlite3.Error:
                    raise
                except Exception as error:  # the caller's, whatever it is: the writer must live
                    self._db.execute("ROLLBACK TO mutation")
                    failures.append((future, error))
                else:
                    outcomes.append((future, applied.result))
                    if applied.effect is not None:
                        effects.append(applied.effect)
                self._db.execute("RELEASE mutation")
        except sqlite3.Error as error:
            self._roll_back()
            if not alone and len(group) > 1:
                return False
            self._fail(group, store_error(error, self._path))
            return True
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            self._fail(group, store_error(error, self._path))
            return True
        self.commits += 1
        try:
            self._on_commit(effects)
        except Exception as bug:  # of ours: whoever waits must hear of it, and the writer must live
            outcomes, failures = [], [(future, bug) for _, future in group]
        for future, result in outcomes:
            future.set_result(result)
        for future, failure in failures:
            future.set_exception(failure)
        return True

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            # If even this fails, SQLite has rolled back already or will when the next transaction begins.
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def _checkpoint(self, future: Future[None]) -> None:
        try:
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]["busy"]
        except sqlite3.Error as error:
            future.set_exception(store_error(error, self._path))
        else:
            if busy:
                future.set_exception(StoreIOError(self._path, "a reader kept the write-ahead log from being emptied"))
            else:
                future.set_result(None)

    @staticmethod
    def _fail(group: list[_Task], error: GalleryError) -> None:
        for _, future in group:
            future.set_exception(error)
