"""The rows of subjects: added up for a start, and read for who the subjects are."""

from __future__ import annotations

import itertools
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from oneglance_index.records import Integers, ToldSubjects
from oneglance_index.store import ciphers, queries
from oneglance_index.store.queries import Stored
from oneglance_index.store.seals import MODULUS, SUBJECTS, Total, damaged, gallery_total

# More at once are slower: they leave the processor's cache before they are used.
_ROWS_AT_ONCE = 512
# The bytes of no labels, "{}", as they are encrypted.
_NO_LABELS = ciphers.OVERHEAD_BYTES + 2


class Subjects:
    """The subjects of a gallery, added up: the slots of their keys, and the sum of their rows' seals."""

    def __init__(self) -> None:
        self._slots = array("q")
        self._digest = 0

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows of `subjects`."""
        self._slots.extend([row[3] for row in rows])
        self._digest += sum(row[-1] for row in rows)

    @property
    def slots(self) -> Integers:
        """int64 [n]."""
        return np.array(self._slots, np.int64)

    @property
    def total(self) -> Total:
        return Total(len(self._slots), self._digest % MODULUS)


def all_subjects(db: sqlite3.Connection, go_on: Callable[[], None] = lambda: None) -> dict[int, Subjects]:
    """Of all galleries, by number. Raises StoreDamaged where a row isn't sound, and what `go_on` raises, which is
    called now and then."""
    found: defaultdict[int, Subjects] = defaultdict(Subjects)
    for rows in _sound_subjects(db, queries.all_rows(db, SUBJECTS)):
        go_on()
        for gallery, own in itertools.groupby(rows, key=itemgetter(1)):
            found[gallery].add(list(own))
    return found


def check_counts(db: sqlite3.Connection, stored: Stored, subjects: Subjects) -> None:
    """That a gallery has the rows that it counts; `subjects` are its own. Raises StoreDamaged."""
    gallery = stored.gallery
    if gallery_total(db, stored.place.number, subjects.total) != stored.place.total:
        raise damaged(db, f"gallery {gallery.id!r} doesn't have the rows that it counts: `oneglance check` says which")
    if subjects.total.rows != gallery.subjects:
        raise damaged(db, f"gallery {gallery.id!r} counts {gallery.subjects} subjects, holds {subjects.total.rows}")


def subjects_in(db: sqlite3.Connection, gallery: int) -> Subjects:
    """Of one gallery. Raises StoreDamaged where a row isn't sound."""
    found = Subjects()
    for rows in _sound_subjects(db, _rows_of_subjects(db, gallery)):
        found.add(rows)
    return found


def _sound_subjects(db: sqlite3.Connection, cursor: sqlite3.Cursor) -> Iterator[list[tuple[Any, ...]]]:
    # Few at once: a list of as many rows as a large gallery has subjects keeps the garbage collector busy.
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        SUBJECTS.check_all(db, rows)
        yield rows


def _rows_of_subjects(db: sqlite3.Connection, gallery: int) -> sqlite3.Cursor:
    """Of a gallery of this number. Where many are its own, by reading all, which is several times quicker for each."""
    (counts,) = db.execute(
        "SELECT (SELECT subjects FROM galleries WHERE number = ?), (SELECT MAX(number) FROM subjects)", (gallery,)
    ).fetchall()
    own, all_there_were = counts
    by_index = "" if 4 * (own or 0) < (all_there_were or 0) else "NOT INDEXED"
    cursor = db.execute(f"SELECT {SUBJECTS.columns} FROM subjects {by_index} WHERE gallery = ?", (gallery,))
    cursor.row_factory = None
    return cursor


def told_subjects(
    db: sqlite3.Connection, gallery: int, numbers: Collection[int] | None, labelled: Collection[int] = ()
) -> ToldSubjects | None:
    """The subjects of these numbers that a gallery has, and the labels of some; None: all, with all labels. None for a
    gallery that is deleted. Raises KeyDestroyed, StoreDamaged."""
    revision = queries.revision_of(db, gallery)
    if revision is None:
        return None
    ids: dict[int, str] = {}
    labels: dict[int, bytes] = {}
    slots = ciphers.slots_of(db, gallery)
    for rows in _numbered(db, numbers) if numbers is not None else _sound_subjects(db, _rows_of_subjects(db, gallery)):
        for row in itertools.starmap(queries.StoredSubject, rows):
            if row.gallery != gallery:
                continue
            ids[row.number] = row.id
            if (numbers is None or row.number in labelled) and len(row.labels) > _NO_LABELS:
                content = ciphers.decrypt(
                    slots.read(row.slot), row.labels, ciphers.labels_identity(gallery, row.number)
                )
                if content is None:
                    raise queries.undecryptable(db, gallery, row.number, row.slot)
                labels[row.number] = content
    return ToldSubjects(revision, ids, labels)


def _numbered(db: sqlite3.Connection, numbers: Collection[int]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of subjects of these numbers. Raises StoreDamaged where one isn't sound."""
    left = iter(sorted(numbers))
    while some := list(itertools.islice(left, _ROWS_AT_ONCE)):
        places = ", ".join("?" * len(some))
        cursor = db.execute(f"SELECT {SUBJECTS.columns} FROM subjects WHERE number IN ({places})", some)
        cursor.row_factory = None
        yield from _sound_subjects(db, cursor)
