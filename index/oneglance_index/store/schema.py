"""The SQLite database: its tables, how a connection is set up, and what SQLite's errors mean to us.

One file per data directory. Write-ahead log with synchronous=FULL: a commit has been
fsynced. secure_delete: deleted content is overwritten with zeros, not left in free pages. Rows are read by the names
of their columns.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from oneglance_core.files import sync_folder
from oneglance_index.errors import (
    GalleryError,
    OutOfMemory,
    StoreBusy,
    StoreDamaged,
    StoreFull,
    StoreIOError,
    StoreMissing,
    StoreTooNew,
)
from oneglance_index.store.ciphers import Connection, Reader
from oneglance_index.store.commits import check_newest, known_commits
from oneglance_index.store.directory import (
    CONVERTING_NAME,
    HOW_TO_RESTORE,
    KEYS_NAME,
    check_new,
    check_none_is_later,
)
from oneglance_index.store.disk import disk_error
from oneglance_index.store.hashing import Hashes
from oneglance_index.store.keys import Keys
from oneglance_index.store.ledger import seal_store
from oneglance_index.store.migrations import migrate, migrate_sealed
from oneglance_index.store.queries import last_generation
from oneglance_index.store.spelling import compose_names
from oneglance_index.store.store_row import told_store
from oneglance_index.store.tables import (
    KEYED_SINCE,
    SCHEMA_VERSION,
    SEALED_SINCE,
    TABLES,
    added,
    differences,
    run_all,
)
from oneglance_index.store.trail import begin_trail

AConnection = TypeVar("AConnection", bound=Connection)

# How long a statement waits for the lock of another process, or a checkpoint for a reader.
BUSY_SECONDS = 2.0
# What SQLite's calls raise. It tells of a text in the file that isn't UTF-8 by an error of its own, or of Python's.
FAILURES = (sqlite3.Error, MemoryError, UnicodeDecodeError)


def connect_writer(path: Path, masters: Callable[[bool], Sequence[bytes]]) -> Connection:
    """The one connection that writes, with the keys of its store. Creates the tables in a new file, and brings those of
    an earlier version up to date. `masters` gives the master keys (master.py), for a store that gets its first keys
    those of a new key file. Raises StoreError."""
    try:
        _make_private(path)
        # check_same_thread is off because the connection is opened here, then given to the writer thread for
        # good.
        db = _connect(path, Connection)
        try:
            # Before anything else, so that a file of a later version isn't touched.
            version = int(db.execute("PRAGMA user_version").fetchone()["user_version"])
            if version > SCHEMA_VERSION:
                raise StoreTooNew(path, f"schema {version}, this version reads up to {SCHEMA_VERSION}")
            if version == 0 and db.execute("SELECT 1 FROM sqlite_master").fetchall():
                raise StoreDamaged(path, "not a oneglance store")
            if version == 0:
                check_new(path)
            if version == 0:
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only a file without tables takes it
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA secure_delete = ON")
            if version == 0:
                db.use(Keys(path.parent, masters(True), create=True))
                db.execute("BEGIN IMMEDIATE")
                _create(db)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                db.execute("COMMIT")
            else:
                if version < SEALED_SINCE:
                    _convert(db, version, path, masters(True))
                _settle_keys(path.parent)
                db.use(Keys(path.parent, masters(False)))
                if SEALED_SINCE <= version < KEYED_SINCE:
                    _convert_sealed(db, path)
                elif KEYED_SINCE <= version < SCHEMA_VERSION:
                    _convert_keyed(db, version, path)
                check_structure(db, path)
                check_newest(db, path.parent, known_commits(path.parent))
                if not db.keys.hashes.required:
                    with db.keys.changing():
                        db.keys.require_seals()
            if db.execute("PRAGMA application_id").fetchone()["application_id"] == _UNSWEPT:
                _sweep(db, path)
            _check_writable(db, path)
        except BaseException:
            db.close()
            if hasattr(db, "keys"):
                db.keys.close()
            raise
    except FAILURES as error:
        raise store_error(error, path) from error
    return db


# The application_id of a database that may still hold what an earlier version wrote in the clear, in gaps of its pages.
_UNSWEPT = 0x6F676C31


def _convert(db: Connection, version: int, path: Path, masters: Sequence[bytes]) -> None:
    """Brings a database of a schema without keys up to date, in one transaction: a crash leaves either nothing of it or
    all. Its keys are made in a folder of their own, which takes its place afterwards: keys that are there already are
    those of another store. Raises StoreMissing, too."""
    if (path.parent / KEYS_NAME).exists():
        raise StoreMissing(
            path, f"this one is of schema {version}, but {KEYS_NAME} of a later one is there: {HOW_TO_RESTORE}"
        )
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path.parent / CONVERTING_NAME)
    except OSError as error:
        raise disk_error(error, path.parent / CONVERTING_NAME) from error
    keys = Keys(path.parent, masters, create=True, folder_name=CONVERTING_NAME)
    db.use(keys)
    try:
        db.execute("BEGIN IMMEDIATE")
        migrate(db, version, path)
        _finish(db, path)
        revisions = db.execute(
            "SELECT a.number, g.revision FROM galleries AS g JOIN generations AS a"
            " ON a.gallery = g.number AND a.state = 'active'"
        ).fetchall()
        check_none_is_later(path.parent, last_generation(db), dict(map(tuple, revisions)))
        db.execute(f"PRAGMA application_id = {_UNSWEPT}")
        db.execute("COMMIT")
    finally:
        del db.keys
        keys.close()


def _convert_sealed(db: Connection, path: Path) -> None:
    """As _convert(), of one that has its keys already."""
    if db.keys.hashes.required:
        raise StoreDamaged(path, "it says that its rows are sealed without a key, but they had one already")
    db.execute("BEGIN IMMEDIATE")
    migrate_sealed(db, path)
    _finish(db, path)
    db.execute("COMMIT")


def _convert_keyed(db: Connection, version: int, path: Path) -> None:
    """As _convert_sealed(), of one whose rows are sealed with its key: it lacks no more than tables."""
    check_structure(db, path, version)
    check_newest(db, path.parent, known_commits(path.parent))
    db.execute("BEGIN IMMEDIATE")
    run_all(db, added(version))
    compose_names(db)
    seal_store(db)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


def _finish(db: Connection, path: Path) -> None:
    begin_trail(db, told_store(db)[0], db.keys.signing_seed)
    check_structure(db, path)
    compose_names(db)
    seal_store(db)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def check_structure(db: sqlite3.Connection, path: Path, version: int = SCHEMA_VERSION) -> None:
    """Raises StoreDamaged where tables, indexes or what belongs to them aren't those of this version, 7 or later."""
    if wrong := differences(db, version):
        raise StoreDamaged(path, f"not as they should be: {', '.join(wrong)}")


def _settle_keys(data_dir: Path) -> None:
    """The database is of the present schema: the keys that were made for it take their place, or are left from a
    conversion that never ended."""
    made, place = data_dir / CONVERTING_NAME, data_dir / KEYS_NAME
    try:
        if not made.exists():
            return
        if place.exists():
            shutil.rmtree(made)
        else:
            made.rename(place)
        sync_folder(data_dir)
    except OSError as error:
        raise disk_error(error, place) from error


def _sweep(db: Connection, path: Path) -> None:
    """Leaves nothing in the file but what is in its rows. Raises StoreBusy where a reader is in the way."""
    db.execute("VACUUM")
    if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]["busy"]:
        raise StoreBusy(path, "a reader keeps what an earlier version wrote in the clear from being overwritten")
    db.execute("PRAGMA application_id = 0")


# Changes nothing, but is written, as an UPDATE that changes nothing isn't.
TOUCH = f"PRAGMA user_version = {SCHEMA_VERSION}"


def _check_writable(db: sqlite3.Connection, path: Path) -> None:
    """Raises StoreIOError where no write would be taken, now or later. A full disk and a lock pass."""
    try:
        db.execute("BEGIN IMMEDIATE")
        db.execute(TOUCH)
        db.execute("COMMIT")
    except sqlite3.Error as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        failure = store_error(error, path)
        if isinstance(failure, StoreFull | StoreBusy):
            return
        if isinstance(failure, StoreIOError):
            raise StoreIOError(path, f"it can't be written ({error}): whose is it, and how is it mounted?") from error
        raise failure from error


def _create(db: Connection) -> None:
    run_all(db, TABLES)
    store_id, created = uuid.uuid4().hex, time.time()
    db.execute("INSERT INTO store (id, created) VALUES (?, ?)", (store_id, created))
    begin_trail(db, store_id, db.keys.signing_seed)
    seal_store(db)


def _make_private(path: Path) -> None:
    """A new database is its owner's alone, and so are its log and the log's index, which SQLite makes like it."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise disk_error(error, path) from error


def _connect(path: Path, kind: type[AConnection]) -> AConnection:
    db = sqlite3.connect(path, BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=kind)
    db.row_factory = sqlite3.Row
    return db


def connect_reader(path: Path, known: Keys | Hashes | None) -> Reader:
    """A connection that cannot write; it may be handed from thread to thread. With `known` hashes only it can't
    decrypt, without them it can't tell whether rows are sound."""
    try:
        db = _connect(path, Reader)
        if isinstance(known, Keys):
            db.use(known)
        elif known is not None:
            db.hashes = known
        db.execute("PRAGMA query_only = ON")
    except FAILURES as error:
        raise store_error(error, path) from error
    return db


# Mapping the index of the write-ahead log fails for nothing else on a disk that works.
_NO_MEMORY = (sqlite3.SQLITE_IOERR_NOMEM, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_MMAP)


def store_error(error: BaseException, path: Path) -> GalleryError:
    """The typed error for one of FAILURES."""
    # sqlite3 errors raised by Python itself carry no code; Python makes a MemoryError of SQLITE_NOMEM.
    code = getattr(error, "sqlite_errorcode", 0)
    if isinstance(error, UnicodeDecodeError) or (not code and str(error).startswith("Could not decode")):
        return StoreDamaged(path, "a text that isn't UTF-8")
    if isinstance(error, MemoryError) or code in _NO_MEMORY:
        return OutOfMemory("for the store")
    kind = {
        sqlite3.SQLITE_BUSY: StoreBusy,
        sqlite3.SQLITE_LOCKED: StoreBusy,
        sqlite3.SQLITE_PROTOCOL: StoreBusy,
        sqlite3.SQLITE_FULL: StoreFull,
        sqlite3.SQLITE_CORRUPT: StoreDamaged,
        sqlite3.SQLITE_NOTADB: StoreDamaged,
    }.get(code & 0xFF, StoreIOError)  # the low byte is the primary code
    return kind(path, str(error))
