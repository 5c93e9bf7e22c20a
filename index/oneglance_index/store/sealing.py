"""Encrypting and sealing the rows of a database of an earlier version, which did neither, or sealed without a key:
once, when it is brought up to date.

What can be seen to be wrong is not sealed: it is refused.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from oneglance_core.distance import usable_encodings
from oneglance_index.store import ciphers, queries
from oneglance_index.store.seals import (
    ENCODINGS,
    MODULUS,
    NEGATIVES,
    NO_ROWS,
    SEALED,
    Sealed,
    damaged,
    gallery_total,
    of_seals,
    root_seal,
    signed,
    there,
)
from oneglance_index.store.store_row import check_galleries
from oneglance_index.store.subjects import all_subjects

_ROWS_AT_ONCE = 4096

log = logging.getLogger(__name__)


def check_sealed(db: sqlite3.Connection) -> None:
    """That all rows are sound, and those that the galleries count. Raises StoreDamaged."""
    for table in there(db, SEALED):
        for rows in _blocks(db, table):
            table.check_all(db, rows)
    check_galleries(db)
    subjects = all_subjects(db)
    for row in db.execute("SELECT number FROM galleries").fetchall():
        number = row["number"]
        known = queries.knowledge_of(db, number)
        own = subjects[number].total if number in subjects else NO_ROWS
        if known is not None and known != gallery_total(db, number, own):
            raise damaged(db, f"gallery number {number} doesn't have the rows that it counts")


def seal_all(db: sqlite3.Connection) -> None:
    """Gives every row its seal, in the transaction that is open."""
    for table in there(db, SEALED):
        _seal_table(db, table)
    seal_counts(db)


def seal_counts(db: sqlite3.Connection) -> None:
    """What the galleries know of their rows, and the store of its galleries, in the transaction that is open. Its seal
    is left to the caller."""
    galleries = db.execute("SELECT number, revision, subjects, encodings, seal FROM galleries").fetchall()
    subjects = all_subjects(db)
    for row in galleries:
        own = subjects[row["number"]].total if row["number"] in subjects else NO_ROWS
        total = gallery_total(db, row["number"], own)
        root = root_seal(db, row["number"], row["revision"], row["subjects"], row["encodings"], total)
        db.execute(
            "UPDATE galleries SET sealed_rows = ?, sealed_digest = ?, root = ? WHERE number = ?",
            (total.rows, signed(total.digest), root, row["number"]),
        )
    of_galleries = of_seals(row["seal"] for row in galleries)
    roots = sum(row["root"] for row in db.execute("SELECT root FROM galleries").fetchall())
    db.execute(
        "UPDATE store SET galleries = ?, digest = ?, roots = ?",
        (of_galleries.rows, signed(of_galleries.digest), signed(roots % MODULUS)),
    )


def encrypt_all(db: sqlite3.Connection) -> None:
    """Makes the keys of all galleries and subjects, and encrypts what is to be, in the transaction that is open."""
    keys = ciphers.keys_of(db)
    names = {table.name for table in there(db, SEALED)}
    known = [one for one in ciphers.CONTENTS if one.table in names]
    for row in db.execute("SELECT number FROM galleries").fetchall():
        keys.make(row["number"])
    last, done = 0, 0
    total = db.execute("SELECT COUNT(*) AS count FROM subjects").fetchall()[0]["count"]
    while rows := db.execute(
        "SELECT number, gallery, former_labels FROM subjects WHERE number > ? ORDER BY number LIMIT ?",
        (last, _ROWS_AT_ONCE),
    ).fetchall():
        last, done = rows[-1]["number"], done + len(rows)
        for number, gallery, labels in rows:
            slots = keys.of(gallery)
            slot, key = slots.take()
            sealed = ciphers.encrypt(key, labels.encode(), ciphers.labels_identity(gallery, number))
            db.execute("UPDATE subjects SET slot = ?, labels = ? WHERE number = ?", (slot, sealed, number))
            for table, column, owner, identity in known:
                contents = db.execute(
                    f"SELECT number, {owner}, {column} FROM {table} WHERE subject = ?", (number,)
                ).fetchall()
                db.executemany(
                    f"UPDATE {table} SET {column} = ? WHERE number = ?",
                    [(ciphers.encrypt(key, one[2], identity(one[1], one[0])), one[0]) for one in contents],
                )
        keys.journal.commit()  # nothing is void but all of it
        log.info("encrypting an earlier version's store: %d of %d subjects", done, total)


def _seal_table(db: sqlite3.Connection, table: Sealed) -> None:
    condition = " AND ".join(f"{column} = ?" for column in table.key)
    update = f"UPDATE {table.name} SET seal = ? WHERE {condition}"
    names = (*table.fixed, *table.others)
    places = [names.index(column) for column in table.key]
    done = 0
    for rows in _blocks(db, table):
        done += len(rows)
        log.info("sealing an earlier version's store: %d rows of %s", done, table.name)
        db.executemany(
            update,
            ((seal, *(row[place] for place in places)) for seal, row in zip(table.seals(db, rows), rows, strict=True)),
        )


def _blocks(db: sqlite3.Connection, table: Sealed) -> Iterator[list[tuple[Any, ...]]]:
    """All rows, in order of rowid, while they are being updated."""
    last = -1
    while True:
        cursor = db.execute(
            f"SELECT rowid, {table.columns} FROM {table.name} WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (last, _ROWS_AT_ONCE),
        )
        cursor.row_factory = None
        rows = cursor.fetchall()
        if not rows:
            return
        last = rows[-1][0]
        yield [row[1:] for row in rows]


def check_contents(db: sqlite3.Connection) -> None:
    """What a gallery says of itself, and what an encoding or a negative must be. Raises StoreDamaged."""
    for broken in islice(db.execute("PRAGMA foreign_key_check"), 1):
        raise damaged(db, f"row {broken['rowid']} of {broken['table']} belongs to nothing")
    wrong = db.execute(
        "SELECT g.number AS number FROM galleries AS g WHERE"
        " (SELECT COUNT(*) FROM generations WHERE gallery = g.number AND state = 'active') != 1"
        " OR g.subjects != (SELECT COUNT(*) FROM subjects WHERE gallery = g.number)"
        " OR g.encodings != (SELECT COUNT(*) FROM encodings AS e JOIN generations AS a"
        "  ON a.number = e.generation AND a.state = 'active' WHERE a.gallery = g.number)"
    ).fetchall()
    for row in wrong:
        raise damaged(db, f"gallery number {row['number']} doesn't hold what it counts")
    for table in (ENCODINGS, NEGATIVES):
        strays = db.execute(
            f"SELECT e.number FROM {table.name} AS e LEFT JOIN subjects AS s ON s.number = e.subject"
            " LEFT JOIN generations AS a ON a.number = e.generation"
            " WHERE s.gallery IS NOT a.gallery OR a.gallery IS NULL OR length(e.vector) != 4 * a.dimension LIMIT 1"
        ).fetchall()
        for row in strays:
            raise damaged(db, f"row {row['number']} of {table.name} is of the wrong size, or belongs to nothing")
        for rows in _blocks(db, table):
            for number, vector in ((row[0], row[-2]) for row in rows):
                if not usable_encodings(np.frombuffer(vector, "<f4")[None]).all():
                    raise damaged(db, f"row {number} of {table.name} has no usable distance")
