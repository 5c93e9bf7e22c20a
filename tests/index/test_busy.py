"""What SQLite says, and what becomes of it: another process that locks the database, a failing disk, no memory."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import (
    GalleryError,
    LocalGalleries,
    OutOfMemory,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreFull,
    StoreIOError,
)
from oneglance_index.store import disk, schema, writer
from oneglance_index.store.ciphers import Reader
from tests.index import asking
from tests.waiting import until

VECTORS = np.eye(4, dtype=np.float32)


@pytest.fixture
def galleries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGalleries]:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(writer, "_TRY_SECONDS", 0.001)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "s0", VECTORS[:1]).result()
        yield galleries


@pytest.fixture
def other(galleries: LocalGalleries) -> Iterator[sqlite3.Connection]:
    """Another connection to the database, as a tool for backups would have."""
    db = sqlite3.connect(galleries.data_dir / "store.sqlite3", isolation_level=None)
    yield db
    db.close()


def test_a_locked_store_is_busy_and_writes_go_on_afterwards(
    galleries: LocalGalleries, other: sqlite3.Connection
) -> None:
    other.execute("BEGIN IMMEDIATE")
    refused = [galleries.enroll("g", f"s{i}", VECTORS[1:2]) for i in range(1, 6)]
    refused.append(galleries.enroll("g", "s0", VECTORS[1:2], on_existing="replace"))
    assert {type(future.exception()) for future in refused} == {StoreBusy}
    assert galleries.get_gallery("g").subjects == 1  # reading goes on
    assert asking.nearest(galleries, "g", VECTORS[:1], 5).candidates[0][0].distance == 0
    assert galleries.trouble() is None
    other.execute("COMMIT")
    assert galleries.enroll("g", "late", VECTORS[1:2]).result().revision == 2
    assert galleries.get_gallery("g").subjects == asking.nearest(galleries, "g", VECTORS[:1], 5).subjects == 2


def test_a_group_waits_for_a_lock_once(
    galleries: LocalGalleries, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = 0

    class Counting:
        def __init__(self, db: sqlite3.Connection) -> None:
            self.db = db

        def __getattr__(self, name: str) -> Any:
            return getattr(self.db, name)

        def execute(self, statement: str, *arguments: Any) -> Any:
            nonlocal begun
            begun += statement == "BEGIN IMMEDIATE"
            return self.db.execute(statement, *arguments)

    hold, held = threading.Event(), threading.Event()

    class Hold:
        def run(self, db: sqlite3.Connection) -> Any:
            held.set()
            hold.wait()
            raise ValueError

    galleries._store.write(Hold())
    until(held.is_set)
    group = [galleries.enroll("g", f"s{i}", VECTORS[1:2]) for i in range(1, 100)]
    monkeypatch.setattr(galleries._store._writer, "_db", Counting(galleries._store._writer._db))
    taker = sqlite3.connect(galleries.data_dir / "store.sqlite3", 60, isolation_level=None, check_same_thread=False)
    taken = threading.Event()

    def take() -> None:
        hold.set()
        taker.execute("BEGIN IMMEDIATE")
        taken.set()

    threading.Thread(target=take).start()
    outcomes = {type(future.exception()) for future in group}
    until(taken.is_set)
    taker.execute("COMMIT")
    taker.close()
    assert outcomes in ({StoreBusy}, {type(None)})  # whoever came first
    assert begun == 1


def test_what_waits_is_refused_soon_after_the_first(
    galleries: LocalGalleries, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    wait = galleries._store._writer._wait_for_locks

    def noted(seconds: float) -> None:
        waits.append(seconds)
        wait(seconds)

    monkeypatch.setattr(writer, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(writer, "_STILL_BUSY_SECONDS", 0.001)
    monkeypatch.setattr(galleries._store._writer, "_wait_for_locks", noted)
    other.execute("BEGIN IMMEDIATE")
    for future in [galleries.enroll("g", f"s{i}", VECTORS[1:2]) for i in range(600)]:
        assert isinstance(future.exception(), StoreBusy)
    assert set(waits) == {0.001}
    other.execute("COMMIT")
    galleries.enroll("g", "late", VECTORS[1:2]).result()
    assert waits[-1] == 0.05


def test_an_exclusive_lock_makes_reads_busy(galleries: LocalGalleries, other: sqlite3.Connection) -> None:
    def refused() -> bool:
        try:
            galleries.get_gallery("g")
        except StoreBusy:
            return True
        return False

    # What a database that is being recovered, or read by another with locking_mode = EXCLUSIVE, says.
    with galleries._store.reading():
        pass
    reader = galleries._store._readers.queue[0]

    class Locked(Reader):
        def execute(self, *arguments: Any) -> Any:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error

    galleries._store._readers.queue[0] = Locked(":memory:")
    assert refused()
    galleries._store._readers.queue[0] = reader
    assert not refused()


def test_opening_a_locked_store_is_busy(galleries: LocalGalleries) -> None:
    galleries.close()
    other = sqlite3.connect(galleries.data_dir / "store.sqlite3", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreBusy):
        LocalGalleries.open(galleries.data_dir)
    other.close()
    LocalGalleries.open(galleries.data_dir).close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, StoreBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreBusy),
        (sqlite3.SQLITE_BUSY_RECOVERY, StoreBusy),
        (sqlite3.SQLITE_LOCKED, StoreBusy),
        (sqlite3.SQLITE_PROTOCOL, StoreBusy),
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_IOERR, StoreIOError),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreIOError),
        (sqlite3.SQLITE_IOERR_NOMEM, OutOfMemory),
        (sqlite3.SQLITE_IOERR_SHMMAP, OutOfMemory),
        (sqlite3.SQLITE_IOERR_MMAP, OutOfMemory),
        (sqlite3.SQLITE_READONLY, StoreIOError),
        (sqlite3.SQLITE_CANTOPEN, StoreIOError),
        (sqlite3.SQLITE_CORRUPT, StoreDamaged),
        (sqlite3.SQLITE_CORRUPT_INDEX, StoreDamaged),
        (sqlite3.SQLITE_NOTADB, StoreDamaged),
        (sqlite3.SQLITE_INTERRUPT, StoreIOError),
    ],
)
def test_what_sqlite_says_is_typed(code: int, kind: type[GalleryError]) -> None:
    error = sqlite3.OperationalError("it says so")
    error.sqlite_errorcode = code
    assert type(schema.store_error(error, Path("store"))) is kind


class Failing:
    """The connection, whose statements of one name fail."""

    def __init__(self, db: sqlite3.Connection, statement: str, error: Exception) -> None:
        self.db, self.statement, self.error = db, statement, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)

    def execute(self, statement: str, *arguments: Any) -> Any:
        if statement.startswith(self.statement):
            raise self.error
        return self.db.execute(statement, *arguments)

    def executemany(self, statement: str, rows: Any) -> Any:
        if statement.startswith(self.statement):
            raise self.error
        return self.db.executemany(statement, rows)


@pytest.mark.parametrize("statement", ["BEGIN", "SAVEPOINT", "INSERT INTO encodings", "RELEASE", "COMMIT"])
def test_the_writer_survives_want_of_memory_anywhere(galleries: LocalGalleries, statement: str) -> None:
    writer = galleries._store._writer
    whole = writer._db
    writer._db = writer._gathering._db = Failing(whole, statement, MemoryError())  # type: ignore[assignment]
    # Only what is there already is enrolled in a savepoint.
    names = ["s0"] if statement in ("SAVEPOINT", "RELEASE") else [f"s{i}" for i in range(1, 6)]
    futures = [galleries.enroll("g", name, VECTORS[1:2]) for name in names]
    assert {type(future.exception()) for future in futures} == {OutOfMemory}
    writer._db = writer._gathering._db = whole
    assert galleries.trouble() is None
    galleries.enroll("g", "late", VECTORS[1:2]).result()
    assert galleries.get_gallery("g").subjects == asking.nearest(galleries, "g", VECTORS[:1], 9).subjects == 2


def test_a_disk_that_fails_is_trouble_until_it_works_again(galleries: LocalGalleries) -> None:
    broken = sqlite3.OperationalError("disk I/O error")
    broken.sqlite_errorcode = sqlite3.SQLITE_IOERR
    whole = galleries._store._writer._db
    galleries._store._writer._db = Failing(whole, "COMMIT", broken)  # type: ignore[assignment]
    with pytest.raises(StoreIOError):
        galleries.enroll("g", "s1", VECTORS[1:2]).result()
    assert "disk I/O error" in (galleries.trouble() or "")
    assert galleries.get_gallery("g").subjects == 1
    galleries._store._writer._db = whole
    until(lambda: galleries.trouble() is None)  # without a write
    assert galleries.enroll("g", "s1", VECTORS[1:2]).result().revision == 2


def test_a_writer_that_ended_is_trouble(galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(galleries._store._writer._thread, "is_alive", lambda: False)
    assert galleries.trouble()
    monkeypatch.undo()
    assert galleries.trouble() is None


def test_a_bug_fails_its_group_and_the_writer_lives(galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(galleries._opened, "begin", lambda: 1 / 0)
        future = galleries.enroll("g", "s1", VECTORS[1:2])
        assert isinstance(future.exception(), ZeroDivisionError)
    galleries.enroll("g", "s1", VECTORS[1:2]).result()


def test_what_is_committed_is_followed_though_the_patience_cannot_be_set_again(
    galleries: LocalGalleries, other: sqlite3.Connection
) -> None:
    other.execute("BEGIN IMMEDIATE")
    assert isinstance(galleries.enroll("g", "s1", VECTORS[1:2]).exception(), StoreBusy)
    other.execute("COMMIT")
    whole = galleries._store._writer._db
    galleries._store._writer._db = Failing(whole, "PRAGMA busy_timeout", MemoryError())  # type: ignore[assignment]
    assert galleries.enroll("g", "s1", VECTORS[1:2]).result().revision == 2
    galleries._store._writer._db = whole
    assert galleries.get_gallery("g").subjects == asking.nearest(galleries, "g", VECTORS[:1], 9).subjects == 2


@contextmanager
def copied(data_dir: Path) -> Iterator[None]:
    """As while another process makes a backup, or hangs meanwhile."""
    with (data_dir / "keys" / "galleries").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def test_a_deletion_waits_for_a_backup_and_tells_of_it(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "TOLD_SECONDS", 0.001)
    with copied(galleries.data_dir):
        deleting = galleries.delete_subject("g", "s0")
        until(lambda: "backup" in (galleries.trouble() or ""))
        assert not deleting.done()
    deleting.result()
    assert galleries.trouble() is None


def test_a_stop_in_a_hurry_does_not_wait_for_a_backup_and_a_start_says_why(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "LOCKED_SECONDS", 0.0)
    with copied(galleries.data_dir):
        deleting = galleries.delete_subject("g", "s0")
        galleries.close(deadline_seconds=0)
        assert isinstance(deleting.exception(), StoreBusy | StoreClosed)  # it was, or was not, begun
        with pytest.raises(StoreBusy, match="backup"):
            LocalGalleries.open(galleries.data_dir)
    LocalGalleries.open(galleries.data_dir).close()
