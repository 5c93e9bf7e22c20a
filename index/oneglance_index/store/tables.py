"""The tables of the database, version 5 of the schema.

A gallery holds subjects; each of its generations holds encodings and negatives of them, and what belongs to those:
thresholds, the snapshot, the log of deletions. AUTOINCREMENT never gives a number twice, even after the row with the
highest one is gone; encoding ids rest on it.
"""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 5

# One active generation for each gallery: no more than one by the index, no fewer since both rows are made at once.
# `threshold_revision` is the newest version in `thresholds`. `quality` names its quality policy, `least_gap` is how far
# two scores must be apart, `doubt` what is done about doubtful enrollments, `decided_by` whether distances decide or
# the probability of the encoder's pair head.
GENERATIONS = """
CREATE TABLE generations (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('filling', 'active', 'retired')),
    encoder_digest TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    kind TEXT NOT NULL,
    fusion TEXT NOT NULL,
    quality TEXT,
    threshold REAL,
    threshold_revision INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    least_gap REAL NOT NULL DEFAULT 0,
    doubt TEXT,
    decided_by TEXT NOT NULL DEFAULT 'distance'
) STRICT;
CREATE INDEX generations_by_gallery ON generations (gallery);
CREATE UNIQUE INDEX one_active_generation ON generations (gallery) WHERE state = 'active';
"""
# Every threshold that a generation has had: `version` is its threshold_revision when it was set, `since` is NULL where
# version 1 of the schema didn't keep the time. `followed` and `target_fpir` are NULL for a generation's own, `subjects`
# and `encodings`, the gallery's size at that moment, where versions before 4 didn't keep it.
THRESHOLDS = """
CREATE TABLE thresholds (
    generation INTEGER NOT NULL REFERENCES generations (number) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    threshold REAL,
    calibration TEXT,
    since REAL,
    followed TEXT,
    target_fpir REAL,
    subjects INTEGER,
    encodings INTEGER,
    PRIMARY KEY (generation, version)
) STRICT;
CREATE INDEX calibrated_thresholds ON thresholds (generation, version) WHERE calibration IS NOT NULL;
"""
# The log that lets a snapshot catch up. Its revisions, as all others, are the gallery's.
DELETIONS = """
CREATE TABLE deletions (
    generation INTEGER NOT NULL REFERENCES generations (number) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    encoding INTEGER NOT NULL,
    PRIMARY KEY (generation, revision, encoding)
) STRICT, WITHOUT ROWID;
"""
# A row vouches for a snapshot's file.
SNAPSHOTS = """
CREATE TABLE snapshots (
    generation INTEGER PRIMARY KEY REFERENCES generations (number) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
"""
# Encodings of what a subject is not, made by the generation's encoder.
NEGATIVES = """
CREATE TABLE negatives (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    generation INTEGER NOT NULL,
    subject INTEGER NOT NULL REFERENCES subjects (number) ON DELETE CASCADE,
    vector BLOB NOT NULL,
    created REAL NOT NULL
) STRICT;
CREATE INDEX negatives_by_subject ON negatives (subject);
CREATE INDEX negatives_by_generation ON negatives (generation);
"""
# `policies`, `rights` and `retention` are JSON. Nothing acts on them yet. `encodings` counts
# those of the active generation. `requests` makes enrolling idempotent.
TABLES = f"""
CREATE TABLE store (id TEXT NOT NULL, created REAL NOT NULL) STRICT;
CREATE TABLE galleries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    created REAL NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0,
    subjects INTEGER NOT NULL DEFAULT 0,
    encodings INTEGER NOT NULL DEFAULT 0,
    target_fpir REAL,
    policies TEXT,
    rights TEXT,
    retention TEXT
) STRICT;
{GENERATIONS}
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
    generation INTEGER NOT NULL,
    subject INTEGER NOT NULL REFERENCES subjects (number) ON DELETE CASCADE,
    vector BLOB NOT NULL,
    created REAL NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
CREATE INDEX encodings_by_subject ON encodings (subject);
CREATE INDEX encodings_by_revision ON encodings (generation, revision);
CREATE TABLE requests (
    gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    response TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (gallery, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_age ON requests (created);
{NEGATIVES}{DELETIONS}{SNAPSHOTS}{THRESHOLDS}"""


def run_all(db: sqlite3.Connection, statements: str) -> None:
    """Runs statements one by one, in the transaction that is open (executescript would commit first)."""
    for statement in statements.split(";"):
        if statement.strip():
            db.execute(statement)
