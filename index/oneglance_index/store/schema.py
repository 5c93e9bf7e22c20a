"""The SQLite database: its tables, how a connection is set up, and what SQLite's errors mean to us.

One file, `store.sqlite3`, per data directory. Write-ahead log with synchronous=FULL: a commit has been
fsynced. secure_delete: deleted content is overwritten with zeros, not left in free pages.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from pathlib import Path

from oneglance_index.errors import StoreDamaged, StoreError, StoreFull, StoreIOError, StoreTooNew

SCHEMA_VERSION = 2
DATABASE_NAME = "store.sqlite3"

# AUTOINCREMENT never gives a number twice, even after the row with the highest one is gone; encoding ids rest
# on it. `deletions` is the log that lets a snapshot catch up; `requests` makes enrolling idempotent; a
# `snapshots` row vouches for a file. `thresholds` (since version 2) keeps every one a gallery has had: `version` is
# galleries.threshold_revision when it was set, `since` is NULL where version 1 of the schema didn't keep the time.
THRESHOLDS = """
CREATE TABLE thresholds (
    gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    threshold REAL,
    calibration TEXT,
    since REAL,
    PRIMARY KEY (gallery, version)
) STRICT;
CREATE INDEX calibrated_thresholds ON thresholds (gallery, version) WHERE calibration IS NOT NULL;
"""
TABLES = f"""
CREATE TABLE store (id TEXT NOT NULL, created REAL NOT NULL) STRICT;
CREATE TABLE galleries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    encoder_digest TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    description TEXT NOT NULL,
    threshold REAL,
    threshold_revision INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0,
    subjects INTEGER NOT NULL DEFAULT 0,
    encodings INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE subjects (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,
    id TEXT NOT NULL,
    labels TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    UNIQUE (gallery, id)
) STRICT;
CREATE TABLE encodings (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    gallery INTEGER NOT NULL,
    subject INTEGER NOT NULL REFERENCES subjects (number) ON DELETE CASCADE,
    vector BLOB NOT NULL,
    created REAL NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
CREATE INDEX encodings_by_subject ON encodings (subject);
CREATE INDEX encodings_by_revision ON encodings (gallery, revision);
CREATE TABLE deletions (
    gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    encoding INTEGER NOT NULL,
    PRIMARY KEY (gallery, revision, encoding)
) STRICT, WITHOUT ROWID;
CREATE TABLE requests (
    gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    response TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (gallery, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_age ON requests (created);
CREATE TABLE snapshots (
    gallery INTEGER PRIMARY KEY REFERENCES galleries (number) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
{THRESHOLDS}"""


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes. Creates the tables in a new file. Raises StoreError."""
    try:
        # check_same_thread is off because the connection is opened here, then given to the writer thread for
        # good.
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            # Before anything else, so that a file of a later version isn't touched.
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA_VERSION:
                raise StoreTooNew(path, f"schema {version}, this version reads up to {SCHEMA_VERSION}")
            if version == 0 and db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                raise StoreDamaged(path, "not a oneglance store")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA secure_delete = ON")
            if version == 0:
                _create(db)
            elif version == 1:
                _migrate_from_1(db)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    return db


def _create(db: sqlite3.Connection) -> None:
    # One transaction, user_version included: a crash leaves either nothing or all of it.
    db.execute("BEGIN IMMEDIATE")
    _run_all(db, TABLES)
    db.execute("INSERT INTO store (id, created) VALUES (?, ?)", (uuid.uuid4().hex, time.time()))
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


def _migrate_from_1(db: sqlite3.Connection) -> None:
    # One transaction here, too.
    db.execute("BEGIN IMMEDIATE")
    _run_all(db, THRESHOLDS)
    db.execute(
        "INSERT INTO thresholds (gallery, version, threshold)"
        " SELECT number, threshold_revision, threshold FROM galleries WHERE threshold_revision > 0"
    )
    db.execute("PRAGMA user_version = 2")
    db.execute("COMMIT")


def _run_all(db: sqlite3.Connection, statements: str) -> None:
    # Not executescript, which would commit first.
    for statement in statements.split(";"):
        if statement.strip():
            db.execute(statement)


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write; it may be handed from thread to thread."""
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA query_only = ON")
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    return db


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """The typed error for one of SQLite's."""
    # The low byte is the primary code; sqlite3 errors raised by Python itself carry none.
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kind = {
        sqlite3.SQLITE_FULL: StoreFull,
        sqlite3.SQLITE_CORRUPT: StoreDamaged,
        sqlite3.SQLITE_NOTADB: StoreDamaged,
    }.get(primary, StoreIOError)
    return kind(path, str(error))
