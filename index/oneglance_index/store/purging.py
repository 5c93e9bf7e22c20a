"""What deleted galleries leave behind goes slice by slice, so that no other write waits for long.

A deleted gallery is one without an active generation (Ledger's bury_gallery). It is in no answer, so its rows may go
one after the other, over restarts too; the row of the gallery itself goes last. Pages that are free then are given back
to the file system, slice by slice, too.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass

from oneglance_index.store.ledger import delete_gallery, encrypted_only
from oneglance_index.store.mutations import Applied
from oneglance_index.store.queries import TOMBSTONE
from oneglance_index.store.seals import GALLERIES, OF_SUBJECTS, damaged

_OF_GENERATIONS = "generation IN (SELECT number FROM generations WHERE gallery = ?)"
# Which rows go first, by table: a key, a condition, and the order of an index. What else belongs to a subject goes with
# it; what else belongs to a generation is little, and goes with the gallery.
_SLICES = (
    ("crops", "encoding", _OF_GENERATIONS, "generation, encoding"),
    ("encodings", "number", _OF_GENERATIONS, "generation, revision, number"),
    ("negatives", "number", _OF_GENERATIONS, "generation, number"),
    ("subjects", "number", "gallery = ?", "id"),
    ("requests", "number", "gallery = ?", "number"),
    ("deletions", "generation, revision, encoding", _OF_GENERATIONS, "generation, revision, encoding"),
    ("thresholds", "generation, version", _OF_GENERATIONS, "generation, version"),
)
_ENCRYPTED = {table.name for table in OF_SUBJECTS}
# Free pages up to so many stay for what is enrolled next.
KEPT_PAGES = 1024


@dataclass(frozen=True, slots=True)
class PurgeSlice:
    """Deletes `rows` rows, at most, of a deleted gallery. Whether there is more to do."""

    rows: int

    def run(self, db: sqlite3.Connection) -> Applied[bool]:
        found = db.execute(
            f"SELECT {GALLERIES.columns} FROM galleries WHERE NOT EXISTS"
            " (SELECT 1 FROM generations WHERE gallery = galleries.number AND state = 'active') LIMIT 1"
        ).fetchall()
        if not found:
            return Applied(False)
        row = GALLERIES.row(found[0])
        GALLERIES.check(db, row)
        if not str(found[0]["id"]).startswith(TOMBSTONE):
            raise damaged(db, f"gallery number {row[0]} has no active generation")
        left = self.rows
        for table, key, condition, order in _SLICES:
            with encrypted_only(db) if table in _ENCRYPTED else contextlib.nullcontext():
                left -= db.execute(
                    f"DELETE FROM {table} WHERE ({key}) IN"
                    f" (SELECT {key} FROM {table} WHERE {condition} ORDER BY {order} LIMIT ?)",
                    (row[0], left),
                ).rowcount
            if left <= 0:
                return Applied(True)
        delete_gallery(db, row)
        return Applied(True)


@dataclass(frozen=True, slots=True)
class GiveSpaceBack:
    """Gives `pages` free pages, at most, back to the file system. Whether there are more to give."""

    pages: int

    def run(self, db: sqlite3.Connection) -> Applied[bool]:
        spare = _free_pages(db) - KEPT_PAGES
        if spare > 0:
            db.execute(f"PRAGMA incremental_vacuum({min(spare, self.pages)})").fetchall()
        return Applied(0 < _free_pages(db) - KEPT_PAGES < spare)


def _free_pages(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA freelist_count").fetchall()[0]["freelist_count"])
