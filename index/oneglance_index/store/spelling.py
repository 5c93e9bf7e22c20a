"""Ids that stores of earlier versions hold: brought to the composed form (core's names.py), but never two to one.

Where two ids of one gallery, or of two galleries, have the same composed form, both stay as they are, and are found by
that very spelling; `oneglance check` lists them.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from oneglance_core.names import composed
from oneglance_index.store.ledger import Ledger, update_gallery
from oneglance_index.store.queries import TOMBSTONE, all_galleries
from oneglance_index.store.seals import SUBJECTS


def compose_names(db: sqlite3.Connection) -> None:
    """In the transaction that is open."""
    ids = [stored.gallery.id for stored in all_galleries(db)]
    spelled = _by_spelling(ids)
    for stored in all_galleries(db):
        name = composed(stored.gallery.id)
        if name != stored.gallery.id and len(spelled[name]) == 1:
            update_gallery(db, stored.gallery_row, id=name)
    for stored in all_galleries(db):
        at = stored.place
        others = _by_spelling(one for (one,) in _ids(db, at.number))
        wrong = [name for name, ids in others.items() if len(ids) == 1 and ids != [name]]
        if wrong:
            ledger = Ledger(db, at)
            for name in wrong:
                columns = f"SELECT {SUBJECTS.columns} FROM subjects WHERE gallery = ? AND id = ?"
                cursor = db.execute(columns, (at.number, others[name][0]))
                cursor.row_factory = None
                (row,) = cursor.fetchall()
                SUBJECTS.check(db, row)
                ledger.update(SUBJECTS, row, id=name)
            ledger.close()


def same_names(db: sqlite3.Connection) -> Iterator[str]:
    """Ids that differ only in how they are spelled, a line for each name."""
    galleries = db.execute("SELECT number, id FROM galleries ORDER BY number").fetchall()
    there = [(number, name) for number, name in map(tuple, galleries) if not name.startswith(TOMBSTONE)]
    for name, ids in _by_spelling(name for _, name in there).items():
        if len(ids) > 1:
            yield f"galleries that are all called {name!r}: {_told(ids)}"
    for number, gallery in there:
        for name, ids in _by_spelling(one for (one,) in _ids(db, number)).items():
            if len(ids) > 1:
                yield f"gallery {gallery!r}: subjects that are all called {name!r}: {_told(ids)}"


def _ids(db: sqlite3.Connection, gallery: int) -> Any:
    cursor = db.execute("SELECT id FROM subjects WHERE gallery = ? ORDER BY id", (gallery,))
    cursor.row_factory = None
    return cursor


def _by_spelling(ids: Any) -> dict[str, list[str]]:
    """The ids by their composed form, of those that aren't all ASCII."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for one in ids:
        if not one.isascii():
            found[composed(one)].append(one)
    return found


def _told(ids: list[str]) -> str:
    """So that one sees the difference."""
    return ", ".join(ascii(one) for one in ids)
