"""The lists, page by page: bounded in count and in bytes, before the rows are in memory.

A page ends before the entry that would make it larger than `max_bytes`; its first entry may be larger by itself. Bytes
are those of the texts, and an upper bound for the rest of the entry's message.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from oneglance_core.fusion import has_template, template
from oneglance_index.errors import SubjectNotFound
from oneglance_index.records import (
    EVERYBODY,
    Encoding,
    Gallery,
    GalleryPage,
    Likeness,
    LikenessPage,
    Negative,
    Subject,
    SubjectFilter,
    SubjectPage,
    ThresholdPage,
    ThresholdVersion,
)
from oneglance_index.store import queries
from oneglance_index.store.seals import SUBJECTS, THRESHOLDS

T = TypeVar("T")

# Upper bounds of what an entry takes in a message besides its texts.
_ENTRY_BYTES = 512
_ENCODING_BYTES = 48
_LABEL_BYTES = 16
# Subjects that a page looks at for those whom its filter lets through, at most: about 50 ms.
_LOOKED_AT = 5000


def list_galleries(db: sqlite3.Connection, page_size: int, max_bytes: int, after: str | None) -> GalleryPage:
    page, more = _page(db, queries.GALLERIES_AFTER, (after, after), page_size, max_bytes, lambda row: _gallery(db, row))
    return GalleryPage(page, page[-1].id if more else None)


def list_thresholds(
    db: sqlite3.Connection, gallery_id: str, page_size: int, max_bytes: int, after: int | None
) -> ThresholdPage:
    """The newest first."""
    statement = (
        f"SELECT {THRESHOLDS.columns} FROM thresholds"
        " WHERE generation = ? AND (? IS NULL OR version < ?) ORDER BY version DESC"
    )
    generation = queries.place(db, gallery_id).generation
    page, more = _page(db, statement, (generation, after, after), page_size, max_bytes, lambda row: _threshold(db, row))
    return ThresholdPage(page, page[-1].version if more else None)


def list_subjects(
    db: sqlite3.Connection,
    gallery_id: str,
    page_size: int,
    max_bytes: int,
    after: str | None,
    among: SubjectFilter = EVERYBODY,
) -> SubjectPage:
    at = queries.place(db, gallery_id)
    # "" sorts before every id, and no id is empty. What begins with a prefix stands together, and not before it.
    last, prefix = after or "", among.id_prefix
    begin, first = ("id >= ?", prefix) if prefix > last else ("id > ?", last)
    page: list[Subject] = []
    size = looked_at = 0
    statement = f"SELECT {SUBJECTS.columns} FROM subjects WHERE gallery = ? AND {begin} ORDER BY id"
    with contextlib.closing(db.execute(statement, (at.number, first))) as rows:
        for row in rows:
            stored = queries.StoredSubject(*row)
            if not stored.id.startswith(prefix):
                break
            if len(page) == page_size or looked_at == _LOOKED_AT:
                return SubjectPage(tuple(page), last)
            SUBJECTS.check(db, stored)
            looked_at += 1
            if queries.passes(db, stored, among):
                made, its_size = _subject(db, at, stored)
                size += its_size
                if page and size > max_bytes:
                    return SubjectPage(tuple(page), last)
                page.append(made)
            last = stored.id
    return SubjectPage(tuple(page), None)


def list_likenesses(
    db: sqlite3.Connection, gallery_id: str, page_size: int, max_bytes: int, after: str | None
) -> LikenessPage:
    at = queries.place(db, gallery_id)
    statement = f"SELECT {SUBJECTS.columns} FROM subjects WHERE gallery = ? AND id > ? ORDER BY id"
    page, more = _page(
        db, statement, (at.number, after or ""), page_size, max_bytes, lambda row: _likeness(db, at, row)
    )
    return LikenessPage(page, page[-1].subject_id if more else None)


def subject(db: sqlite3.Connection, gallery_id: str, subject_id: str) -> Subject:
    """Raises GalleryNotFound, SubjectNotFound."""
    at = queries.place(db, gallery_id)
    found = queries.find_subject(db, at.number, subject_id)
    if found is None:
        raise SubjectNotFound(gallery_id, subject_id)
    return _subject(db, at, found)[0]


def _page(
    db: sqlite3.Connection,
    statement: str,
    arguments: Sequence[object],
    page_size: int,
    max_bytes: int,
    entry: Callable[[sqlite3.Row], tuple[T, int]],
) -> tuple[tuple[T, ...], bool]:
    """The entries of the page, and whether there are more. `entry` makes one of a row, and says its bytes."""
    page: list[T] = []
    size = 0
    # Row by row, never all; closed at the end, so that no read lock outlives the call.
    with contextlib.closing(db.execute(f"{statement} LIMIT ?", (*arguments, page_size + 1))) as rows:
        for row in rows:
            if len(page) == page_size:
                return tuple(page), True
            made, its_size = entry(row)
            size += its_size
            if page and size > max_bytes:
                return tuple(page), True
            page.append(made)
    return tuple(page), False


def _gallery(db: sqlite3.Connection, row: sqlite3.Row) -> tuple[Gallery, int]:
    gallery = queries.stored_gallery(db, row).gallery
    texts = (gallery.id, gallery.description, gallery.active.calibration)
    return gallery, _ENTRY_BYTES + sum(_bytes(text) for text in texts)


def threshold_version(db: sqlite3.Connection, row: sqlite3.Row) -> ThresholdVersion:
    """Of a row of `thresholds`. Raises StoreDamaged."""
    THRESHOLDS.check(db, tuple(row))
    return ThresholdVersion(**{field.name: row[field.name] for field in dataclasses.fields(ThresholdVersion)})


def _threshold(db: sqlite3.Connection, row: sqlite3.Row) -> tuple[ThresholdVersion, int]:
    return threshold_version(db, row), _ENTRY_BYTES + _bytes(row["calibration"]) + _bytes(row["followed"])


def _subject(db: sqlite3.Connection, at: queries.Place, stored: queries.StoredSubject) -> tuple[Subject, int]:
    rows = queries.subject_encodings(db, at.generation, stored)
    notes = queries.subject_notes(db, at, stored)
    encodings = tuple(Encoding(str(one.number), one.created, notes[one.number]) for one in rows)
    negatives = tuple(
        Negative(str(one.number), one.created) for one in queries.subject_negatives(db, at.generation, stored)
    )
    written = queries.labels(db, stored)
    labels: dict[str, Any] = json.loads(written)
    size = _bytes(stored.id) + _bytes(written) + _LABEL_BYTES * len(labels)
    size += _ENCODING_BYTES * (len(encodings) + len(negatives))
    size += sum(_bytes(note.key) + _bytes(note.source) for note in notes.values())
    size += _bytes(stored.purpose) + _bytes(stored.consent)
    told = (stored.id, labels, stored.created, stored.updated, encodings, negatives, stored.retention)
    return Subject(*told, mapped=queries.is_mapped(db, stored.number)), _ENTRY_BYTES + size


def _likeness(db: sqlite3.Connection, at: queries.Place, row: Sequence[Any]) -> tuple[Likeness, int]:
    stored = queries.StoredSubject(*row)
    SUBJECTS.check(db, stored)
    numbers, vectors = queries.subject_vectors(db, at, stored)
    if has_template(at.fusion):
        likeness = Likeness(stored.id, (), template(vectors)[None])
    else:
        likeness = Likeness(stored.id, tuple(map(str, numbers.tolist())), vectors)
    return likeness, _ENTRY_BYTES + likeness.vectors.nbytes


def _bytes(text: str | None) -> int:
    return 0 if text is None else len(text.encode())
