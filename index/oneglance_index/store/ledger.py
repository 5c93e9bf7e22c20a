"""Writing sealed rows: what a mutation does to a gallery's rows, and what the gallery then knows of them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from oneglance_index.store.queries import TOMBSTONE, Place, Stored, count_mapped, map_text, newest_map
from oneglance_index.store.seals import (
    CROPS,
    ENCODINGS,
    GALLERIES,
    GENERATIONS,
    MAPPED,
    MAPS,
    MODULUS,
    NO_ROWS,
    OF_SUBJECTS,
    SUBJECTS,
    TOTAL,
    Sealed,
    Total,
    of_seals,
    root_seal,
    signed,
    store_seal,
    total_of,
)
from oneglance_index.store.store_row import store_content, store_row


class Ledger:
    """One mutation's changes of a gallery's rows. Nothing is right before close().

    `at` is where the gallery is, read in this transaction. `revisions`: 0 where another change of the same transaction
    has counted its revision already.
    """

    def __init__(self, db: sqlite3.Connection, at: Place, revisions: int = 1) -> None:
        self.db = db
        self.at = at
        self._rows, self._digest = at.total
        self.revision = at.revision + revisions  # that close() gives the gallery
        self._made = Counter[int]()  # so many more subjects have encodings that this version of a map made

    def insert(self, table: Sealed, values: Sequence[Any]) -> None:
        """`values`: as Sealed.seal() takes them."""
        self._rows += 1
        self._digest += insert(self.db, table, values)
        if table is MAPPED:
            self._made[values[table.fixed.index("version")]] += 1

    def insert_all(self, table: Sealed, rows: Sequence[Sequence[Any]]) -> None:
        seals = list(table.seals(self.db, rows))
        self._rows += len(rows)
        self._digest += sum(seals)
        self.db.executemany(table.insertion, [(*row, seal) for row, seal in zip(rows, seals, strict=True)])

    def update(self, table: Sealed, row: Sequence[Any], **changes: Any) -> None:
        """`row`: as it is now, its seal included."""
        self._digest += update(self.db, table, row, **changes) - row[-1]

    def remove(self, table: Sealed, condition: str, arguments: Sequence[Any]) -> None:
        """Deletes the rows of an SQL condition, and of encodings their crops; no other sealed rows may go with them."""
        if table is ENCODINGS:
            self.remove(CROPS, f"encoding IN (SELECT number FROM encodings WHERE {condition})", arguments)
        self._subtract(table, condition, arguments)
        with encrypted_only(self.db) if table in OF_SUBJECTS else contextlib.nullcontext():
            self.db.execute(f"DELETE FROM {table.name} WHERE {condition}", arguments)

    def remove_subject(self, subject: int) -> None:
        """Deletes a subject, and all rows of it."""
        self.remove(CROPS, "subject = ?", (subject,))
        for table in OF_SUBJECTS:
            self._subtract(table, "subject = ?", (subject,))
        self.remove(SUBJECTS, "number = ?", (subject,))

    def _subtract(self, table: Sealed, condition: str, arguments: Sequence[Any]) -> None:
        rows = self.db.execute(f"SELECT {TOTAL} FROM {table.name} WHERE {condition}", arguments).fetchall()
        gone = total_of(rows[0])
        self._rows -= gone.rows
        self._digest -= gone.digest
        if table is MAPPED and gone.rows:
            versions = self.db.execute(f"SELECT version FROM mapped WHERE {condition}", arguments).fetchall()
            self._made.subtract(row["version"] for row in versions)

    def _count_mapped(self) -> None:
        """Reading a gallery doesn't count them: there may be a million."""
        generation = self.at.generation
        newest = newest_map(self.db, generation)
        if newest is None:  # the first one is recorded after what it made
            return
        made = Counter(count_mapped(self.db, generation) if newest.made is None else newest.made)
        if newest.made is not None:
            made.update(self._made)
        text = map_text(newest.loss, {version: count for version, count in sorted(made.items()) if count})
        self.update(MAPS, newest.row, loss=text)

    def close(self, subjects: int = 0, encodings: int = 0) -> int:
        """The gallery has its new revision, and so many more subjects and encodings. Returns the revision."""
        if any(self._made.values()):
            self._count_mapped()
        at, total = self.at, Total(self._rows, self._digest % MODULUS)
        write_root(self.db, at.number, self.revision, at.subjects + subjects, at.encodings + encodings, total)
        return self.revision


@contextlib.contextmanager
def encrypted_only(db: sqlite3.Connection) -> Iterator[None]:
    """What is deleted in the block is encrypted, and numbers: pages that it leaves free need no zeros, and no room in
    the log for these."""
    db.execute("PRAGMA secure_delete = FAST")
    try:
        yield
    finally:
        db.execute("PRAGMA secure_delete = ON")


def insert(db: sqlite3.Connection, table: Sealed, values: Sequence[Any]) -> int:
    """Returns the row's seal. For a gallery's rows use Ledger."""
    seal = table.seal(db, values)
    db.execute(table.insertion, (*values, seal))
    return seal


def update(db: sqlite3.Connection, table: Sealed, row: Sequence[Any], **changes: Any) -> int:
    """Writes a row anew, some columns changed. Returns its new seal. For a gallery's rows use Ledger."""
    names = (*table.fixed, *table.others)
    before = dict(zip(names, row, strict=False))
    seal = table.seal(db, [changes.get(name, before[name]) for name in names])
    written = {**changes, "seal": seal}
    db.execute(
        f"UPDATE {table.name} SET {', '.join(f'{name} = ?' for name in written)}"
        f" WHERE {' AND '.join(f'{name} = ?' for name in table.key)}",
        (*written.values(), *(before[name] for name in table.key)),
    )
    return seal


def write_root(
    db: sqlite3.Connection, gallery: int, revision: int, subjects: int, encodings: int, total: Total
) -> None:
    """What a gallery knows of its rows."""
    root, former = root_seal(db, gallery, revision, subjects, encodings, total), _root(db, gallery)
    db.execute(
        "UPDATE galleries SET revision = ?, subjects = ?, encodings = ?, sealed_rows = ?, sealed_digest = ?, root = ?"
        " WHERE number = ?",
        (revision, subjects, encodings, total.rows, signed(total.digest), root, gallery),
    )
    _add_to_roots(db, root - former)


def _add_to_roots(db: sqlite3.Connection, difference: int) -> None:
    roots = (store_row(db).roots + difference) % MODULUS
    db.execute("UPDATE store SET roots = ?", (signed(roots),))


def _root(db: sqlite3.Connection, gallery: int) -> int:
    return int(db.execute("SELECT root FROM galleries WHERE number = ?", (gallery,)).fetchall()[0]["root"])


def seal_store(db: sqlite3.Connection) -> None:
    """The last thing that a transaction does."""
    db.execute("UPDATE store SET seal = ?", (store_seal(db, store_content(db)),))


def insert_gallery(db: sqlite3.Connection, values: Sequence[Any]) -> None:
    """`values`: as GALLERIES.seal() takes them. A Ledger must then write what the gallery knows of its rows."""
    _count_galleries(db, NO_ROWS, of_seals([insert(db, GALLERIES, values)]))


def update_gallery(db: sqlite3.Connection, row: Sequence[Any], **changes: Any) -> None:
    """`row`: as it is now, its seal included."""
    _count_galleries(db, of_seals([row[-1]]), of_seals([update(db, GALLERIES, row, **changes)]))


def bury_gallery(db: sqlite3.Connection, stored: Stored) -> None:
    """A gallery without an active generation is in no answer. Its id is free, and its rows may go one after the
    other."""
    nothing = {"description": "", "target_fpir": None, "policies": None, "rights": None, "retention": None}
    update_gallery(db, stored.gallery_row, id=f"{TOMBSTONE}{stored.place.number}", **nothing)
    ledger = Ledger(db, stored.place)
    ledger.update(GENERATIONS, stored.generation_row, state="retired")
    ledger.close()


def delete_gallery(db: sqlite3.Connection, row: Sequence[Any]) -> None:
    _count_galleries(db, of_seals([row[-1]]), NO_ROWS)
    _add_to_roots(db, -_root(db, row[0]))
    db.execute("DELETE FROM galleries WHERE number = ?", (row[0],))


def _count_galleries(db: sqlite3.Connection, gone: Total, come: Total) -> None:
    total = store_row(db).galleries.minus(gone).plus(come)
    db.execute("UPDATE store SET galleries = ?, digest = ?", (total.rows, signed(total.digest)))


def next_number(db: sqlite3.Connection, table: Sealed) -> int:
    """The number for the next row: above all that there ever were."""
    rows = db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).fetchall()
    return int(rows[0]["seq"]) + 1 if rows else 1
