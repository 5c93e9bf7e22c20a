"""The one row of `store`, what it knows of the galleries, and what is checked at a start."""

from __future__ import annotations

import sqlite3
import struct
from typing import NamedTuple

from oneglance_index.store.ciphers import hashes_of
from oneglance_index.store.queries import TOMBSTONE, all_rows
from oneglance_index.store.seals import (
    GALLERIES,
    GENERATIONS,
    MAPPED,
    MAPS,
    MODULUS,
    NEGATIVES,
    REQUESTS,
    SEALED,
    THRESHOLDS,
    Total,
    damaged,
    of_seals,
    signed,
    store_seal,
    there,
)

_STORE = struct.Struct("<qqd")
# Beyond it the count was changed.
_MOST_COMMITS = 1 << 62


class StoreRow(NamedTuple):
    """The one row of `store`; `galleries`: how many there are, and the digest of their rows; `commits`: how many
    transactions were done; `roots`: the sum of the galleries' roots, modulo 2^64."""

    id: str
    created: float
    galleries: Total
    commits: int
    roots: int


def told_store(db: sqlite3.Connection) -> tuple[str, int]:
    """The store's id, and how many transactions were done, without a look at the seal. Raises StoreDamaged."""
    rows = db.execute("SELECT id, commits FROM store").fetchall()
    if len(rows) == 1:
        store_id, commits = rows[0]
        if type(store_id) is str and type(commits) is int and 0 <= commits < _MOST_COMMITS:
            return store_id, commits
    raise damaged(db, "it doesn't say which store it is")


def store_row(db: sqlite3.Connection) -> StoreRow:
    """Its seal isn't checked. Raises StoreDamaged."""
    store_id, commits = told_store(db)
    roots = "roots" if hashes_of(db).keyed else "0"
    (row,) = db.execute(f"SELECT created, galleries, digest, {roots} FROM store").fetchall()
    created, count, digest, total = row
    if type(created) is not float or not all(type(value) is int for value in (count, digest, total)):
        raise damaged(db, "what the store knows of its galleries was changed")
    return StoreRow(store_id, created, Total(count, digest % MODULUS), commits, total % MODULUS)


def store_content(db: sqlite3.Connection) -> bytes:
    """What the seal of the store is of. Raises StoreDamaged."""
    row = store_row(db)
    packed = _STORE.pack(row.galleries.rows, signed(row.galleries.digest), row.created)
    if not hashes_of(db).keyed:  # version 6
        return packed + row.id.encode()
    head = db.execute("SELECT pruned, pruned_hash, last, hash FROM audit_head").fetchall()
    sequences = db.execute("SELECT name, seq FROM sqlite_sequence ORDER BY name").fetchall()
    rest = (row.id, row.commits, row.roots, [tuple(one) for one in head], [tuple(one) for one in sequences])
    return packed + repr(rest).encode()


def check_store(db: sqlite3.Connection) -> StoreRow:
    """Raises StoreDamaged."""
    row = store_row(db)
    try:
        sound = db.execute("SELECT seal FROM store").fetchall()[0]["seal"] == store_seal(db, store_content(db))
    except struct.error:
        sound = False
    if not sound:
        raise damaged(db, "what the store knows of its galleries, its transactions and its audit trail was changed")
    return row


def check_galleries(db: sqlite3.Connection) -> bool:
    """As check_known() and check_others()."""
    some_deleted = check_known(db)
    check_others(db)
    return some_deleted


def check_known(db: sqlite3.Connection) -> bool:
    """That the store has the galleries that it knows of, each with one active generation unless it is deleted, and
    that no number is given again. Returns whether rows of deleted galleries are left. Raises StoreDamaged."""
    rows = db.execute(
        f"SELECT {GALLERIES.columns}, (SELECT COUNT(*) FROM generations"
        " WHERE gallery = galleries.number AND state = 'active') AS active FROM galleries"
    ).fetchall()
    for row in rows:
        GALLERIES.check(db, GALLERIES.row(row))
        if row["active"] != (not row["id"].startswith(TOMBSTONE)):  # a text: the row is sound
            raise damaged(db, f"gallery number {row['number']} has {row['active']} active generations")
    store = check_store(db)
    if of_seals(row["seal"] for row in rows) != store.galleries:
        raise damaged(db, "it doesn't have the galleries that it counts")
    roots = db.execute("SELECT root FROM galleries").fetchall()
    if hashes_of(db).keyed and sum(row["root"] for row in roots) % MODULUS != store.roots:
        raise damaged(db, "a gallery isn't what it was last")
    for row in all_rows(db, GENERATIONS):
        GENERATIONS.check(db, row)
    _check_sequences(db)
    return any(row["id"].startswith(TOMBSTONE) for row in rows)


def check_others(db: sqlite3.Connection) -> None:
    """That all rows but those of subjects and encodings are sound, and are found. Raises StoreDamaged."""
    # Those that are looked for by what they hold: one that was changed would not be found, and not be missed.
    for table in there(db, (THRESHOLDS, NEGATIVES, REQUESTS, MAPS, MAPPED)):
        for row in all_rows(db, table):
            table.check(db, row)
    # That rows are found by their indexes, too. Encodings are read by theirs, and are added up (loading.py).
    names = ("galleries", "generations", "thresholds", "negatives", "snapshots", "subjects", "requests")
    for name in (*names, *(table.name for table in there(db, (MAPPED,)))):
        for row in db.execute(f"PRAGMA integrity_check({name})").fetchall():
            if row[0] != "ok":
                raise damaged(db, row[0])


def _check_sequences(db: sqlite3.Connection) -> None:
    """That no number is given again. Raises StoreDamaged."""
    rows = db.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
    known = {row["name"]: row["seq"] for row in rows}
    for table in (table.name for table in SEALED if table.key == ("number",)):
        last = db.execute(f"SELECT COALESCE(MAX(number), 0) AS last FROM {table}").fetchall()[0]["last"]
        seq = known.get(table, 0)
        if type(seq) is not int or seq < last or len(known) != len(rows):
            raise damaged(db, f"the last number of {table} was changed")
