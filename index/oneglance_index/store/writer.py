"""The one thread that writes, with group commit.

Mutations queue up (write_queue.py); the writer takes a group of them, runs each in a savepoint of one transaction,
writes the new subjects that it gathered from them, commits once (one fsync for all of them), tells the indexes in
commit order, and only then resolves the futures. So a done future means: fsynced, and seen by every search that starts
from now on.

One mutation's own error (a typed one, or that its index has no room for it) undoes that mutation alone. When SQLite
itself fails inside a group, which may take the transaction down with it, the group is rolled back and its mutations run
again one by one, so that one that is too large for the disk doesn't fail its neighbours; only a lock of another process
fails them all at once. When a COMMIT fails, every mutation of that transaction fails and none is told to the indexes.
The writer lives on in each case.

Where the files that it writes to aren't in the data directory any more (StoreGone), nothing is begun, and what was
committed meanwhile fails, too: it may be in no file that anybody will ever open.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sqlite3
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

from oneglance_index.audit import ITSELF, Actor, Event
from oneglance_index.errors import (
    GalleryError,
    OutOfMemory,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreGone,
    StoreIOError,
)
from oneglance_index.store.auditing import Prune, Record, events_of
from oneglance_index.store.ciphers import Connection
from oneglance_index.store.commits import CommitCount
from oneglance_index.store.crops import SetKeepCrops
from oneglance_index.store.destroying import Destroyer
from oneglance_index.store.directory import OpenFiles
from oneglance_index.store.enrolling import Enroll
from oneglance_index.store.following import Following
from oneglance_index.store.gathering import Gathering
from oneglance_index.store.mirroring import carried_out
from oneglance_index.store.mutations import (
    Applied,
    DeleteEncodings,
    DeleteGallery,
    DeleteNegative,
    Effect,
    ForgetSnapshot,
    Mutation,
    joined,
)
from oneglance_index.store.outcomes import Outcome, Place, Together
from oneglance_index.store.reserve import Reserve
from oneglance_index.store.schema import BUSY_SECONDS, FAILURES, TOUCH, store_error
from oneglance_index.store.trail import Trail
from oneglance_index.store.write_queue import Job, WriteQueue
from oneglance_index.threads import started

T = TypeVar("T")

# What a mutation without encodings holds, about.
MUTATION_BYTES = 1024
# How long the next groups wait for a lock of another process that one has waited for: what is queued shall not be
# refused one BUSY_SECONDS after the other.
_STILL_BUSY_SECONDS = 0.05
# After a failure that isn't one mutation's, it is tried so often whether writing works again.
_TRY_SECONDS = 1.0


class Follower(Protocol):
    """What keeps the indexes in step with the store. Called in the writer's thread."""

    def begin(self) -> None:
        """A transaction begins; what was prepared for the former one is done or void."""

    def prepare(self, effects: Sequence[Effect]) -> None:
        """Makes sure, before the commit, that these effects of one mutation can be followed; else raises, having taken
        note of none of them, and the mutation is undone."""

    def follow(self, effects: Sequence[Effect]) -> None:
        """What the transaction did is committed. Must not fail."""


# Hears, in the writer's thread, what each transaction changed, once it is committed. Must not fail.
OnChange = Callable[[Sequence[Event]], None]


def unheard(_: Sequence[Event]) -> None:
    """What changed is told nobody."""


class _Unwritten(Exception):
    """The transaction is void: what was gathered could not be written, or a savepoint not be set or left."""

    def __init__(self, error: GalleryError) -> None:
        self.error = error


_Task = tuple[Mutation[Any], Outcome, Actor | None]


def _tasks_of(job: Job) -> Iterator[_Task]:
    if not isinstance(job.mutation, tuple):
        if job.mutation is not None:
            yield job.mutation, job.future, job.actor
        return
    if not job.mutation:
        job.future.set_result([])
        return
    together = Together(job.future, len(job.mutation))
    for place, mutation in enumerate(job.mutation):
        yield mutation, Place(together, place), job.actor


class Writer:
    """Owns `db`, a connection in autocommit mode, until close(). `files` are those that it writes to."""

    def __init__(
        self,
        db: Connection,
        path: Path,
        files: OpenFiles,
        follower: Follower,
        max_queued_bytes: int,
        trail: Trail,
        on_change: OnChange = unheard,
    ) -> None:
        self._db = db
        self._trail = trail
        self._on_change = on_change
        self._destroyer = Destroyer(db.keys)
        self._reserve = Reserve(path.parent)
        self._commit_count = CommitCount(db, path.parent)
        self._gathering = Gathering(db)
        self._path = path
        self._files = files
        self._follower = follower
        self._queue = WriteQueue(path, max_queued_bytes)
        self._closed = False
        self._until: float | None = None
        self._failure: str | None = None
        self._patience_seconds = BUSY_SECONDS
        self.commits = 0
        try:
            self._thread = started("writer", self._loop)
        except MemoryError:
            self._destroyer.close(None)
            raise

    def submit(
        self,
        mutation: Mutation[T],
        caller: Hashable = None,
        size: int = MUTATION_BYTES,
        patient: bool = False,
        actor: Actor | None = None,
    ) -> Future[T]:
        """Queues a mutation, after all of the same caller. `size`: the bytes it holds, which don't count if `patient`.
        `actor`: on whose behalf; the audit trail tells of it, unless that is None.

        The future fails with WriteQueueFull where too much waits, with StoreClosed after close(). A future that is
        cancelled before its turn is never run.
        """
        return self._submit(mutation, caller, size, patient, actor)

    def submit_many(
        self,
        mutations: Sequence[Mutation[T]],
        caller: Hashable = None,
        size: int = MUTATION_BYTES,
        patient: bool = False,
        actor: Actor | None = None,
    ) -> Future[list[T | Exception]]:
        """As submit(), for several in their order, in one transaction unless the disk makes trouble. What came of each,
        or the error of it, once all are done."""
        return self._submit(tuple(mutations), caller, size, patient, actor)

    def _submit(
        self,
        mutation: Mutation[Any] | tuple[Mutation[Any], ...] | None,
        caller: Hashable,
        size: int,
        patient: bool,
        actor: Actor | None = None,
    ) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            self._queue.put(Job(mutation, future, size, patient, actor), caller)
        except GalleryError as error:
            future.set_exception(error)
        return future

    def checkpoint(self) -> Future[None]:
        """Moves the write-ahead log into the database and empties it, with all that was committed so far.

        The future fails with StoreBusy if a reader is in the way: the writer waits for none.
        """
        return self._submit(None, self, 0, patient=True)

    def queued(self) -> int:
        return len(self._queue)

    def finish(self, until: float | None = None) -> None:
        """Returns when all that is queued now is done, or at `until`, a time of time.monotonic()."""
        wait(self._queue.futures(), None if until is None else max(0.0, until - time.monotonic()))

    def trouble(self) -> str | None:
        """Why nothing can be written now; None where all is well."""
        if not self._closed and not self._thread.is_alive():
            return "the thread that writes has ended"
        return self._failure or (None if self._closed else self._destroyer.trouble())

    def close(self, until: float | None = None) -> None:
        """Finishes what is queued, empties the write-ahead log into the database, and closes the connection.

        At `until`, a time of time.monotonic(), what is still queued fails with StoreClosed, and the log waits for
        readers no longer.
        """
        self._closed = True
        self._until = until
        self._queue.close()
        self._thread.join()

    def _loop(self) -> None:
        while (group := self._queue.take(_TRY_SECONDS if self._failure else None)) is not None:
            try:
                if self._until is not None and time.monotonic() >= self._until:
                    self._fail([job.future for job in group], StoreClosed(self._path))
                elif group:
                    self._work(group)
                else:
                    self._try_to_write()
            except BaseException as error:  # a bug, or no memory: whoever waits must hear of it, the writer must live
                self._roll_back()
                self._fail([job.future for job in group if not job.future.done()], error)
            self._queue.release()
        left = BUSY_SECONDS if self._until is None else min(BUSY_SECONDS, max(0.0, self._until - time.monotonic()))
        with contextlib.suppress(sqlite3.Error):  # the log is replayed at the next start then
            self._wait_for_locks(left)
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
        self._commit_count.close()
        if self._destroyer.close(None if self._until is None else max(0.0, self._until - time.monotonic())):
            self._db.keys.close()

    def _work(self, group: list[Job]) -> None:
        jobs = [job for job in group if job.future.set_running_or_notify_cancel()]
        try:
            self._files.check()
        except StoreGone as error:
            self._fail([job.future for job in jobs], error)
            return
        tasks = list(itertools.chain.from_iterable(map(_tasks_of, jobs)))
        if tasks and not self._transact(tasks):
            for one in tasks:
                self._transact([one], alone=True)
        for job in jobs:
            if job.mutation is None:
                self._checkpoint(job.future)

    def _transact(self, tasks: list[_Task], alone: bool = False) -> bool:
        """One transaction. False: rolled back before the commit with no future resolved; try one by one."""
        outcomes: list[tuple[Outcome, Applied[Any]]] = []
        failures: list[tuple[Outcome, Exception]] = []
        effects: list[Effect] = []
        changes: list[Event] = []
        self._follower.begin()
        self._gathering.begin()
        self._trail.begin()
        self._db.keys.journal.roll_back()
        before = self._db.total_changes
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for mutation, future, actor in tasks:
                try:
                    applied = self._told(mutation) or self._gathered(mutation) or self._run(mutation)
                except (sqlite3.Error, UnicodeDecodeError, _Unwritten):
                    raise
                except Exception as error:  # the caller's, whatever it is: the writer must live
                    if not self._db.in_transaction:  # SQLite ran out of memory, and undid all
                        raise
                    failures.append((future, _typed(error)))
                else:
                    outcomes.append((future, applied))
                    told = events_of(mutation, applied, actor or ITSELF)
                    changes += told
                    self._trail.add([event for event in told if actor is not None or event.did == "expire"])
                    effects += applied.effects
            self._flush()
            self._write_trail()
            changed = self._db.total_changes != before
            if changed:
                self._commit_count.count()
        except (*FAILURES, _Unwritten) as error:
            self._roll_back()
            failure = error.error if isinstance(error, _Unwritten) else store_error(error, self._path)
            if isinstance(failure, StoreBusy):
                self._wait_for_locks(_STILL_BUSY_SECONDS)
            elif not alone and len(tasks) > 1:
                return False
            elif self._makes_room(failure, tasks):
                return self._transact(tasks, alone)
            self._note(failure)
            self._fail([future for _, future, _ in tasks], failure)
            return True
        try:
            self._db.execute("COMMIT")
        except FAILURES as error:
            self._roll_back()
            failure = store_error(error, self._path)
            if isinstance(failure, StoreFull) and len(tasks) > 1:
                return False
            if self._makes_room(failure, tasks):
                return self._transact(tasks, alone)
            self._note(failure)
            self._fail([future for _, future, _ in tasks], failure)
            return True
        if changed:
            self._commit_count.committed()
        self._trail.committed()
        self.commits += 1
        self._failure = None
        self._follower.follow(list(joined(effects)))  # whatever fails behind it
        self._settle_slots()
        self._on_change(changes)
        self._reserve.fill()
        try:
            self._files.check()
        except StoreGone as error:
            self._fail([future for future, _ in outcomes], error)
            outcomes.clear()
        for future, applied in outcomes:
            if applied.destroyed:
                self._destroyer.submit(applied.destroyed, functools.partial(_settle, future, applied.result))
            else:
                future.set_result(applied.result)
        for future, refusal in failures:
            future.set_exception(refusal)
        self._wait_for_locks(BUSY_SECONDS)  # last, since it may fail
        return True

    def _told(self, mutation: Mutation[Any]) -> Applied[Any] | None:
        """What comes of a mutation of the audit trail alone; None for any other."""
        if isinstance(mutation, Record):
            self._trail.add(mutation.events)
            return Applied(None)
        if isinstance(mutation, Prune):
            return Applied(self._trail.prune(mutation.before, mutation.most))
        return None

    def _gathered(self, mutation: Mutation[Any]) -> Applied[Any] | None:
        """What comes of a mutation that can wait to be written with others; None for any other."""
        if not isinstance(mutation, Enroll | Following):
            return None
        applied: Applied[Any] | None = mutation.gather(self._db, self._gathering)
        if applied is not None and applied.effect is not None:
            try:
                self._follower.prepare(applied.effects)
            except BaseException:
                self._gathering.undo()
                raise
        return applied

    def _run_in_step(self, mutation: Mutation[T]) -> Applied[T]:
        applied = self._run_with_room(mutation)
        for one in applied.destroyed:
            if one.slots is not None:
                self._db.keys.of(one.gallery).will_doom(one.slots)
        self._follower.prepare(applied.effects)  # last: what fails behind it would be known as done
        return applied

    def _flush(self) -> None:
        try:
            self._gathering.flush()
        except StoreError as error:
            raise _Unwritten(error) from error

    def _write_trail(self) -> None:
        try:
            self._trail.write()
        except StoreError as error:
            raise _Unwritten(error) from error

    def _run(self, mutation: Mutation[T]) -> Applied[T]:
        self._flush()
        taken = self._db.keys.journal.mark()
        self._step("SAVEPOINT mutation")
        try:
            applied = self._run_in_step(mutation)
        except (sqlite3.Error, UnicodeDecodeError):
            raise
        except Exception:
            if self._db.in_transaction:
                self._step("ROLLBACK TO mutation")
                self._step("RELEASE mutation")
                self._db.keys.journal.roll_back(taken)
            raise
        self._step("RELEASE mutation")
        return applied

    def _step(self, statement: str) -> None:
        """Where it fails the transaction is void."""
        try:
            self._db.execute(statement)
        except FAILURES as error:
            raise _Unwritten(store_error(error, self._path)) from error

    def _run_with_room(self, mutation: Mutation[T]) -> Applied[T]:
        taken = self._db.keys.journal.mark()
        while True:
            try:
                return carried_out(self._db, mutation)
            except StoreFull as error:
                if not self._makes_room(error, [(mutation, Future(), None)]):
                    raise
                self._db.execute("ROLLBACK TO mutation")
                self._db.keys.journal.roll_back(taken)

    def _makes_room(self, failure: GalleryError, tasks: Sequence[_Task]) -> bool:
        """Whether the disk is full, all is about deleting, and there was a reserve to give away."""
        return isinstance(failure, StoreFull) and all(map(_deletes, tasks)) and self._reserve.release()

    def _settle_slots(self) -> None:
        """A transaction is committed. What there is no memory for is done after the next one."""
        with contextlib.suppress(MemoryError):
            if self._db.keys.journal.commit():
                self._destroyer.wake()

    def _roll_back(self) -> None:
        self._db.keys.journal.roll_back()
        if self._db.in_transaction:
            # If even this fails, SQLite has rolled back already or will when the next transaction begins.
            with contextlib.suppress(sqlite3.Error, MemoryError):
                self._db.execute("ROLLBACK")

    def _wait_for_locks(self, seconds: float) -> None:
        if seconds != self._patience_seconds:
            self._db.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")
            self._patience_seconds = seconds

    def _note(self, failure: GalleryError) -> None:
        """Keeps what makes every write fail. A full disk, a lock and want of memory don't: they are told call by
        call, and pass."""
        if isinstance(failure, StoreIOError | StoreDamaged):
            self._failure = str(failure)

    def _try_to_write(self) -> None:
        """Finds out whether writing works again, though nobody writes."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(TOUCH)
            self._db.execute("COMMIT")
            self._failure = None
            self._settle_slots()
        except sqlite3.Error:
            self._roll_back()

    def _checkpoint(self, future: Future[None]) -> None:
        patience = self._patience_seconds
        try:
            self._wait_for_locks(0)
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]["busy"]
            self._wait_for_locks(patience)
        except FAILURES as error:
            future.set_exception(store_error(error, self._path))
        else:
            if busy:
                future.set_exception(StoreBusy(self._path, "a reader kept the write-ahead log from being emptied"))
            else:
                future.set_result(None)

    @staticmethod
    def _fail(futures: Sequence[Outcome], error: BaseException) -> None:
        for future in futures:
            with contextlib.suppress(InvalidStateError):  # cancelled just now
                future.set_exception(error)


def _deletes(task: _Task) -> bool:
    mutation = task[0]
    if isinstance(mutation, Following):
        mutation = mutation.mutation
    if isinstance(mutation, SetKeepCrops):
        return not mutation.keep
    return isinstance(mutation, DeleteEncodings | DeleteNegative | DeleteGallery | ForgetSnapshot | Prune)


def _settle(future: Outcome, result: object, error: Exception | None) -> None:
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _typed(error: Exception) -> Exception:
    """What its caller is told, who may keep it: with its traceback also the cursor that was reading, which keeps the
    write-ahead log from being emptied, and all mutations of the group."""
    if isinstance(error, MemoryError):
        return OutOfMemory("for this write")
    one: BaseException | None = error
    while one is not None:
        if isinstance(error, GalleryError):
            one.__traceback__ = None
        else:  # a bug: where it is shall be told
            traceback.clear_frames(one.__traceback__)
        one = one.__context__
    return error
