"""Bringing a database of an earlier version up to date.

Version 1 kept of each gallery's thresholds only the one in force. Version 2 kept them all. Both knew one encoder for
each gallery, whose encodings were the gallery's own; version 3 has generations in between. The first generation of a
gallery gets the gallery's number, so that encodings and the names of snapshot files stay as they are. Version 4 knows
thresholds that follow a gallery's size, a least gap of each generation and what is done about doubtful enrollments, and
negatives. Version 5 knows what decides in each generation.
"""

from __future__ import annotations

import sqlite3

from oneglance_index.store.tables import DELETIONS, GENERATIONS, NEGATIVES, SNAPSHOTS, THRESHOLDS, run_all

_THRESHOLDS_OF_2 = """
CREATE TABLE thresholds (
    gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    threshold REAL,
    calibration TEXT,
    since REAL,
    PRIMARY KEY (gallery, version)
) STRICT;
INSERT INTO thresholds (gallery, version, threshold)
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

ALTER TABLE deletions RENAME TO former_deletions;
{DELETIONS}
INSERT INTO deletions (generation, revision, encoding) SELECT gallery, revision, encoding FROM former_deletions;
DROP TABLE former_deletions;

ALTER TABLE snapshots RENAME TO former_snapshots;
{SNAPSHOTS}
INSERT INTO snapshots (generation, revision, sha256, bytes)
    SELECT gallery, revision, sha256, bytes FROM former_snapshots;
DROP TABLE former_snapshots;
"""
# What earlier versions get with the tables of 3, which are made as they are now.
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


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Brings the tables from `version`, at least 1, to the present ones, in the transaction that is open."""
    if version == 1:
        run_all(db, _THRESHOLDS_OF_2)
    if version < 3:
        run_all(db, _GENERATIONS_OF_3)
    elif version == 3:
        run_all(db, _COLUMNS_OF_4)
    if version < 4:
        run_all(db, NEGATIVES)
    if version >= 3:
        run_all(db, _COLUMNS_OF_5)
