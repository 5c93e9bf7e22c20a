"""The tables of the database, version 9 of the schema.

A gallery holds subjects; each of its generations holds encodings and negatives of them, and what belongs to those:
thresholds, the snapshot, the log of deletions. AUTOINCREMENT never gives a number twice, even after the row with the
highest one is gone; encoding ids rest on it. A `seal` says whether a row is what was written (seals.py). The
labels of subjects, encodings, negatives, crops and answers are encrypted (ciphers.py); `slot` is that of a key
(keys.py). The audit trail belongs to no gallery, and stays when one goes (trail.py).
"""

from __future__ import annotations

import contextlib
import sqlite3

SCHEMA_VERSION = 9
# Since this version rows are sealed and encrypted: such a database can be read, checked and restored.
SEALED_SINCE = 6
KEYED_SINCE = TRAIL_SINCE = 7
# In a backup: the files of its keys.
KEY_FILES_NAME = "key_files"

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
    decided_by TEXT NOT NULL DEFAULT 'distance',
    seal INTEGER NOT NULL DEFAULT 0
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
    seal INTEGER NOT NULL DEFAULT 0,
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
    subject INTEGER NOT NULL,
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
# The blocks of a snapshot's file whose keys are still there: `first` to `last` are the numbers of the encodings in it,
# or where the rule of fusion has templates those of their subjects; `slot` is its key's.
BLOCKS = """
CREATE TABLE blocks (
    generation INTEGER NOT NULL REFERENCES generations (number) ON DELETE CASCADE,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    PRIMARY KEY (generation, first)
) STRICT, WITHOUT ROWID;
"""
# What makes enrolling idempotent: the answers that requests got, by the ids that they came with. `answer` is encrypted
# with the key of its subject, which may be deleted since: so `subject` may be nobody's number.
REQUESTS = """
CREATE TABLE requests (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,
    subject INTEGER NOT NULL,
    id TEXT NOT NULL,
    answer BLOB NOT NULL,
    created REAL NOT NULL,
    seal INTEGER NOT NULL DEFAULT 0,
    UNIQUE (gallery, id)
) STRICT;
CREATE INDEX requests_by_subject ON requests (subject);
"""
# What adding up the seals of a gallery reads.
INDEXES_OF_SEALS = """
CREATE INDEX encodings_by_revision ON encodings (generation, revision, number, seal);
CREATE INDEX requests_by_number ON requests (gallery, number, seal);
"""
# What sweeping reads.
EXPIRIES = """
CREATE INDEX subjects_by_expiry ON subjects (expires) WHERE expires IS NOT NULL;
"""
# Encodings of what a subject is not, made by the generation's encoder.
NEGATIVES = """
CREATE TABLE negatives (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    generation INTEGER NOT NULL,
    subject INTEGER NOT NULL REFERENCES subjects (number) ON DELETE CASCADE,
    vector BLOB NOT NULL,
    created REAL NOT NULL,
    seal INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX negatives_by_subject ON negatives (subject);
CREATE INDEX negatives_by_generation ON negatives (generation);
"""
# What is kept of the pictures that encodings were made of, where the gallery keeps that: one for each encoding, at
# most. The picture comes last, so that to read the rest of a row is to read none of it.
CROPS = """
CREATE TABLE crops (
    encoding INTEGER PRIMARY KEY REFERENCES encodings (number) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    seal INTEGER NOT NULL DEFAULT 0,
    picture BLOB NOT NULL
) STRICT;
CREATE INDEX crops_by_subject ON crops (subject);
CREATE INDEX crops_by_generation ON crops (generation, encoding, seal);
"""
# Subjects whose encodings a map made of another encoder's, and by which version of it; and the newest map of each
# generation: `loss` is JSON, what it was measured to cost, and of how many subjects each version made the encodings.
MAPPED = """
CREATE TABLE maps (
    generation INTEGER PRIMARY KEY REFERENCES generations (number) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    created REAL NOT NULL,
    loss TEXT NOT NULL,
    seal INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE mapped (
    subject INTEGER PRIMARY KEY REFERENCES subjects (number) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    version INTEGER NOT NULL,
    seal INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX mapped_by_generation ON mapped (generation, version);
"""
# `entry` is JSON; `hash` chains it to the one before. The one row of `audit_head` says where the chain begins and ends:
# `pruned` is the number of the last entry that was removed, 0 where none was, `last` that of the newest.
AUDIT = """
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    entry TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE audit_head (
    pruned INTEGER NOT NULL,
    pruned_hash BLOB NOT NULL,
    last INTEGER NOT NULL,
    hash BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;
"""
# `galleries` and `digest`: how many galleries there are, and the digest of their rows. `commits`: see commits.py.
# `policies`, `rights` and `retention` are JSON: the first of an import under way (importing.py) or a move
# (succession.py), the second of nothing yet, the third of what is kept besides (crops.py). `encodings` of a gallery and
# of a subject counts those of the active generation. `sealed_rows`, `sealed_digest`: what a gallery knows of its rows;
# `root` seals them, and its revision and sizes. A gallery without an active generation is deleted; its rows are going.
TABLES_OF_8 = f"""
CREATE TABLE store (
    id TEXT NOT NULL,
    created REAL NOT NULL,
    galleries INTEGER NOT NULL DEFAULT 0,
    digest INTEGER NOT NULL DEFAULT 0,
    seal INTEGER NOT NULL DEFAULT 0,
    commits INTEGER NOT NULL DEFAULT 0,
    roots INTEGER NOT NULL DEFAULT 0
) STRICT;
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
    retention TEXT,
    sealed_rows INTEGER NOT NULL DEFAULT 0,
    sealed_digest INTEGER NOT NULL DEFAULT 0,
    root INTEGER NOT NULL DEFAULT 0,
    seal INTEGER NOT NULL DEFAULT 0
) STRICT;
{GENERATIONS}
CREATE TABLE subjects (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,
    id TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    encodings INTEGER NOT NULL DEFAULT 0,
    slot INTEGER NOT NULL DEFAULT -1,
    labels BLOB NOT NULL DEFAULT x'',
    expires REAL,
    purpose TEXT,
    consent TEXT,
    seal INTEGER NOT NULL DEFAULT 0,
    UNIQUE (gallery, id)
) STRICT;
CREATE TABLE encodings (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    generation INTEGER NOT NULL,
    subject INTEGER NOT NULL REFERENCES subjects (number) ON DELETE CASCADE,
    vector BLOB NOT NULL,
    created REAL NOT NULL,
    revision INTEGER NOT NULL,
    seal INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX encodings_by_subject ON encodings (subject);
{NEGATIVES}{REQUESTS}{DELETIONS}{SNAPSHOTS}{BLOCKS}{THRESHOLDS}{INDEXES_OF_SEALS}{EXPIRIES}{AUDIT}"""
# What a version has beyond the one before, where that is no more than tables: by version.
ADDED = {9: CROPS + MAPPED}
TABLES = TABLES_OF_8 + "".join(ADDED.values())


def added(since: int, version: int = SCHEMA_VERSION) -> str:
    """What versions after `since`, 7 or later, up to `version` have beyond it."""
    return "".join(tables for one, tables in ADDED.items() if since < one <= version)


def differences(db: sqlite3.Connection, version: int = SCHEMA_VERSION) -> list[str]:
    """The names of what a database has otherwise than this version does, 7 or later, or has beyond it, or lacks:
    tables, their columns, keys and indexes, views, triggers. Of a backup, the table of its keys is none."""
    with contextlib.closing(sqlite3.connect(":memory:")) as whole:
        run_all(whole, TABLES_OF_8 + added(8, version))
        return sorted({name for name, _ in _structure(db) ^ _structure(whole)})


def _structure(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """All that is in the file by name, with all that can be told of it."""
    found: set[tuple[str, str]] = set()

    def add(name: str, *told: object) -> None:
        found.add((name, repr(told)))

    master = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    for kind, name, table, sql in map(tuple, master):
        if table == KEY_FILES_NAME or (name.startswith("sqlite_") and kind == "table"):
            continue
        condition = " ".join(str(sql).split("WHERE")[1:]).split()
        add(name, kind, table, "COLLATE" in str(sql).upper(), condition if kind == "index" else None)
        if kind == "table":
            for column in db.execute(f'PRAGMA table_xinfo("{name}")').fetchall():
                add(name, "column", *tuple(column)[1:])
            for key in db.execute(f'PRAGMA foreign_key_list("{name}")').fetchall():
                add(name, "key", *tuple(key)[2:])
            for index in db.execute(f'PRAGMA index_list("{name}")').fetchall():
                add(tuple(index)[1], "index", *tuple(index)[2:])
        elif kind == "index":
            for part in db.execute(f'PRAGMA index_xinfo("{name}")').fetchall():
                place, _, *rest = tuple(part)
                add(name, "part", place, *rest)
    for _, name, kind, _, without_rowid, strict in map(tuple, db.execute("PRAGMA table_list").fetchall()):
        if not name.startswith("sqlite_") and name != KEY_FILES_NAME:
            add(name, "table", kind, without_rowid, strict)
    return found


def complete(db: sqlite3.Connection) -> None:
    """Lets a database of an earlier version be read as one of the present version: what it lacks is empty. Of a
    connection that can't write; nothing comes to the file."""
    db.execute("PRAGMA query_only = OFF")
    for statement in added(8).split(";"):
        if statement.lstrip().startswith("CREATE TABLE"):
            db.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
    db.execute("PRAGMA query_only = ON")


def run_all(db: sqlite3.Connection, statements: str) -> None:
    """Runs statements one by one, in the transaction that is open (executescript would commit first)."""
    for statement in statements.split(";"):
        if statement.strip():
            db.execute(statement)
