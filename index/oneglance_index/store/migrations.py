"""Bringing a database of an earlier version up to date.

Version 1 kept of each gallery's thresholds only the one in force. Version 2 kept them all. Both knew one encoder for
each gallery, whose encodings were the gallery's own; version 3 has generations in between. The first generation of a
gallery gets the gallery's number, so that encodings and the names of snapshot files stay as they are. Version 4 knows
thresholds that follow a gallery's size, a least gap of each generation and what is done about doubtful enrollments, and
negatives. Version 5 knows what decides in each generation. Version 6 seals its rows, and encrypts labels, encodings and
negatives. Version 7 seals them with a key, and has the audit trail. Later ones add tables (tables.py).

A file of version 1 may have version 2's table already, when an upgrade of it was not one transaction: what the table
has is kept, and what it lacks is added. Any other table of a later version is refused, and named.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from oneglance_index.errors import StoreDamaged
from oneglance_index.store.ciphers import Connection
from oneglance_index.store.commits import check_newest, known_commits
from oneglance_index.store.hashing import Hashes
from oneglance_index.store.sealing import check_contents, check_sealed, encrypt_all, seal_all
from oneglance_index.store.tables import (
    AUDIT,
    BLOCKS,
    DELETIONS,
    EXPIRIES,
    GENERATIONS,
    INDEXES_OF_SEALS,
    NEGATIVES,
    REQUESTS,
    SCHEMA_VERSION,
    SNAPSHOTS,
    THRESHOLDS,
    added,
    run_all,
)

_THRESHOLDS_OF_2 = """
CREATE TABLE IF NOT EXISTS thresholds (
    gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    threshold REAL,
    calibration TEXT,
    since REAL,
    PRIMARY KEY (gallery, version)
) STRICT;
INSERT OR IGNORE INTO thresholds (gallery, version, threshold)
    SELECT number, threshold_revision, threshold FROM galleries WHERE threshold_revision > 0;
"""
_GENERATIONS_OF_3 = f"""
{GENERATIONS}
INSERT INTO generations (
    number, gallery, state, encoder_digest, dimension, kind, fusion, threshold, threshold_revision, created
)
    SELECT
        number, number, 'active', encoder_digest, dimension, 'flat', 'nearest', threshold, threshold_revision, created
    FROM galleries;
DELETE FROM sqlite_sequence WHERE name = 'generations';
INSERT INTO sqlite_sequence (name, seq) SELECT 'generations', seq FROM sqlite_sequence WHERE name = 'galleries';

ALTER TABLE galleries DROP COLUMN encoder_digest;
ALTER TABLE galleries DROP COLUMN dimension;
ALTER TABLE galleries DROP COLUMN threshold;
ALTER TABLE galleries DROP COLUMN threshold_revision;
ALTER TABLE galleries ADD COLUMN target_fpir REAL;
ALTER TABLE galleries ADD COLUMN policies TEXT;
ALTER TABLE galleries ADD COLUMN rights TEXT;
ALTER TABLE galleries ADD COLUMN retention TEXT;

ALTER TABLE encodings RENAME COLUMN gallery TO generation;

ALTER TABLE thresholds RENAME TO former_thresholds;
DROP INDEX IF EXISTS calibrated_thresholds;
{THRESHOLDS}
INSERT INTO thresholds (generation, version, threshold, calibration, since)
    SELECT gallery, version, threshold, calibration, since FROM former_thresholds;
DROP TABLE former_thresholds;

ALTER TABLE snapshots RENAME TO former_snapshots;
{SNAPSHOTS}
INSERT INTO snapshots (generation, revision, sha256, bytes)
    SELECT gallery, revision, sha256, bytes FROM former_snapshots;
DROP TABLE former_snapshots;
"""
# What earlier versions get with the tables of 3 and 4, which are made as they are now.
_COLUMNS_OF_4 = """
ALTER TABLE thresholds ADD COLUMN followed TEXT;
ALTER TABLE thresholds ADD COLUMN target_fpir REAL;
ALTER TABLE thresholds ADD COLUMN subjects INTEGER;
ALTER TABLE thresholds ADD COLUMN encodings INTEGER;
ALTER TABLE generations ADD COLUMN least_gap REAL NOT NULL DEFAULT 0;
ALTER TABLE generations ADD COLUMN doubt TEXT;
"""
# What version 4 gets, and version 3 after those.
_COLUMNS_OF_5 = """
ALTER TABLE generations ADD COLUMN decided_by TEXT NOT NULL DEFAULT 'distance';
"""
_SEALS_OF_3 = """
ALTER TABLE generations ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE thresholds ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
"""
_SEALS_OF_4 = """
ALTER TABLE negatives ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
"""
_SEALS_OF_6 = f"""
ALTER TABLE store ADD COLUMN galleries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE store ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE store ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE store ADD COLUMN commits INTEGER NOT NULL DEFAULT 0;
ALTER TABLE store ADD COLUMN roots INTEGER NOT NULL DEFAULT 0;
ALTER TABLE galleries ADD COLUMN sealed_rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE galleries ADD COLUMN sealed_digest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE galleries ADD COLUMN root INTEGER NOT NULL DEFAULT 0;
ALTER TABLE galleries ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subjects ADD COLUMN encodings INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subjects ADD COLUMN slot INTEGER NOT NULL DEFAULT -1;
ALTER TABLE subjects RENAME COLUMN labels TO former_labels;
ALTER TABLE subjects ADD COLUMN labels BLOB NOT NULL DEFAULT x'';
ALTER TABLE subjects ADD COLUMN expires REAL;
ALTER TABLE subjects ADD COLUMN purpose TEXT;
ALTER TABLE subjects ADD COLUMN consent TEXT;
ALTER TABLE subjects ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE encodings ADD COLUMN seal INTEGER NOT NULL DEFAULT 0;

ALTER TABLE requests RENAME TO former_requests;
DROP INDEX IF EXISTS requests_by_age;
{REQUESTS}
INSERT INTO requests (gallery, subject, id, answer, created)
    SELECT r.gallery, s.number, r.id, CAST(json_set(r.response, '$.digest', lower(hex(r.digest))) AS BLOB), r.created
    FROM former_requests AS r
        JOIN subjects AS s ON s.gallery = r.gallery AND s.id = json_extract(r.response, '$.subject_id')
            AND s.created <= r.created
    ORDER BY r.created;
INSERT INTO requests (gallery, subject, id, answer, created)
    SELECT gallery, 0, id, x'', created FROM former_requests AS r
    WHERE NOT EXISTS (SELECT 1 FROM requests AS n WHERE n.gallery = r.gallery AND n.id = r.id)
    ORDER BY created;
DROP TABLE former_requests;
DROP INDEX encodings_by_revision;
DELETE FROM snapshots;
DROP TABLE deletions;
{DELETIONS}
{BLOCKS}
"""
# The tables that each version added, and those that exist in the middle of an upgrade.
_ADDED = {
    2: ("thresholds",),
    3: ("generations", "former_thresholds", "former_deletions", "former_snapshots"),
    4: ("negatives",),
    6: ("former_requests", "blocks"),
    7: ("audit", "audit_head"),
    9: ("crops", "maps", "mapped"),
}
_COLUMNS_OF_2 = ("gallery", "version", "threshold", "calibration", "since")


def migrate(db: sqlite3.Connection, version: int, path: Path) -> None:
    """Brings the tables from `version`, 1 to 5, to the present ones, in the transaction that is open. The head of the
    audit trail is left to the caller.

    Raises StoreDamaged for tables that this version of the schema can't have.
    """
    _check_tables(db, version, path)
    if version == 1:
        run_all(db, _THRESHOLDS_OF_2)
    if version < 3:
        run_all(db, _GENERATIONS_OF_3)
    else:
        run_all(db, _SEALS_OF_3)
    if version == 3:
        run_all(db, _COLUMNS_OF_4)
    if version in (3, 4):
        run_all(db, _COLUMNS_OF_5)
    run_all(db, _SEALS_OF_4 if version >= 4 else NEGATIVES)
    run_all(db, _SEALS_OF_6)
    check_contents(db)
    encrypt_all(db)
    db.execute("ALTER TABLE subjects DROP COLUMN former_labels")
    db.execute("UPDATE subjects SET encodings = (SELECT COUNT(*) FROM encodings WHERE subject = subjects.number)")
    seal_all(db)
    run_all(db, INDEXES_OF_SEALS + EXPIRIES + AUDIT + added(8))


def migrate_sealed(db: Connection, path: Path) -> None:
    """As migrate(), of version 6, whose rows are encrypted already, and sealed without a key. Raises StoreDamaged."""
    present, db.hashes = db.hashes, Hashes(b"")
    _check_tables(db, 6, path)
    check_newest(db, path.parent, known_commits(path.parent))
    check_sealed(db)
    db.hashes = present
    db.execute("ALTER TABLE store ADD COLUMN roots INTEGER NOT NULL DEFAULT 0")
    seal_all(db)
    run_all(db, AUDIT + added(8))


def _check_tables(db: sqlite3.Connection, version: int, path: Path) -> None:
    there = {row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    for later in range(version + 1, SCHEMA_VERSION + 1):
        for name in there.intersection(_ADDED.get(later, ())):
            columns = tuple(row["name"] for row in db.execute(f"PRAGMA table_info({name})").fetchall())
            if (version, name) != (1, "thresholds") or columns != _COLUMNS_OF_2:
                raise StoreDamaged(
                    path, f"it is of schema {version}, but has the table {name!r} of schema {later}: restore a backup"
                )
