"""What can be read: plain functions over one SQLite connection, shared by the readers and the writer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from oneglance_index.errors import GalleryNotFound, RequestConflict, SubjectNotFound
from oneglance_index.records import (
    Encoding,
    Enrolled,
    Gallery,
    GalleryPage,
    Integers,
    Subject,
    SubjectPage,
    ThresholdVersion,
    Vectors,
)

_GALLERY = """
    number, id, encoder_digest, dimension, description, threshold, threshold_revision,
    (SELECT since FROM thresholds WHERE gallery = number AND version = threshold_revision),
    (SELECT calibration FROM thresholds WHERE gallery = number AND calibration IS NOT NULL
        ORDER BY version DESC LIMIT 1),
    coalesce((SELECT max(version) FROM thresholds WHERE gallery = number AND calibration IS NOT NULL), 0),
    created, revision, subjects, encodings
"""


def find_gallery(db: sqlite3.Connection, gallery_id: str) -> tuple[int, Gallery] | None:
    """The gallery's number in this store, and the gallery."""
    # fetchall, here and below: it steps the statement to its end, so that no read lock outlives the call.
    rows = db.execute(f"SELECT {_GALLERY} FROM galleries WHERE id = ?", (gallery_id,)).fetchall()
    return (rows[0][0], Gallery(*rows[0][1:])) if rows else None


def gallery(db: sqlite3.Connection, gallery_id: str) -> tuple[int, Gallery]:
    """As find_gallery; raises GalleryNotFound."""
    found = find_gallery(db, gallery_id)
    if found is None:
        raise GalleryNotFound(gallery_id)
    return found


def list_galleries(db: sqlite3.Connection, page_size: int, after: str | None) -> GalleryPage:
    rows = db.execute(
        f"SELECT {_GALLERY} FROM galleries WHERE ? IS NULL OR id > ? ORDER BY id LIMIT ?",
        (after, after, page_size + 1),
    ).fetchall()
    page = tuple(Gallery(*row[1:]) for row in rows[:page_size])
    return GalleryPage(page, page[-1].id if len(rows) > page_size else None)


def all_galleries(db: sqlite3.Connection) -> list[tuple[int, Gallery]]:
    rows = db.execute(f"SELECT {_GALLERY} FROM galleries ORDER BY number").fetchall()
    return [(row[0], Gallery(*row[1:])) for row in rows]


def list_thresholds(db: sqlite3.Connection, gallery_id: str) -> tuple[ThresholdVersion, ...]:
    """The newest first."""
    rows = db.execute(
        "SELECT version, threshold, calibration, since FROM thresholds WHERE gallery = ? ORDER BY version DESC",
        (gallery(db, gallery_id)[0],),
    ).fetchall()
    return tuple(ThresholdVersion(*row) for row in rows)


def find_subject(db: sqlite3.Connection, gallery: int, subject_id: str) -> int | None:
    rows = db.execute("SELECT number FROM subjects WHERE gallery = ? AND id = ?", (gallery, subject_id)).fetchall()
    return int(rows[0][0]) if rows else None


def subject(db: sqlite3.Connection, gallery_id: str, subject_id: str) -> Subject:
    number = _subject_number(db, gallery_id, subject_id)
    row = db.execute("SELECT id, labels, created, updated, number FROM subjects WHERE number = ?", (number,))
    return _subject(db, row.fetchall()[0])


def _subject_number(db: sqlite3.Connection, gallery_id: str, subject_id: str) -> int:
    number = find_subject(db, gallery(db, gallery_id)[0], subject_id)
    if number is None:
        raise SubjectNotFound(gallery_id, subject_id)
    return number


def _subject(db: sqlite3.Connection, row: tuple[str, str, float, float, int]) -> Subject:
    subject_id, labels, created, updated, number = row
    rows = db.execute("SELECT number, created FROM encodings WHERE subject = ? ORDER BY number", (number,)).fetchall()
    encodings = tuple(Encoding(str(encoding), at) for encoding, at in rows)
    return Subject(subject_id, json.loads(labels), created, updated, encodings)


def list_subjects(db: sqlite3.Connection, gallery_id: str, page_size: int, after: str | None) -> SubjectPage:
    number = gallery(db, gallery_id)[0]
    # "" sorts before every id, and no id is empty.
    rows = db.execute(
        "SELECT id, labels, created, updated, number FROM subjects WHERE gallery = ? AND id > ? ORDER BY id LIMIT ?",
        (number, after or "", page_size + 1),
    ).fetchall()
    page = tuple(_subject(db, row) for row in rows[:page_size])
    return SubjectPage(page, page[-1].id if len(rows) > page_size else None)


def encoding_numbers(db: sqlite3.Connection, subject: int) -> Integers:
    """The numbers of a subject's encodings, ascending, int64 [n]."""
    rows = db.execute("SELECT number FROM encodings WHERE subject = ? ORDER BY number", (subject,)).fetchall()
    return np.array([row[0] for row in rows], np.int64)


def subject_vectors(db: sqlite3.Connection, gallery_id: str, subject_id: str) -> tuple[Integers, Vectors]:
    """A subject's encodings, oldest first: numbers int64 [n], vectors float32 [n, D]."""
    number = _subject_number(db, gallery_id, subject_id)
    rows = db.execute("SELECT number, vector FROM encodings WHERE subject = ? ORDER BY number", (number,)).fetchall()
    numbers = np.array([row[0] for row in rows], np.int64)
    vectors = np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), -1)
    return numbers, vectors.astype(np.float32)


def find_request(
    db: sqlite3.Connection, gallery: int, gallery_id: str, request_id: str, digest: bytes, oldest: float
) -> Enrolled | None:
    """The answer that a request of this id got since `oldest`, marked as replayed. Raises RequestConflict."""
    rows = db.execute(
        "SELECT digest, response FROM requests WHERE gallery = ? AND id = ? AND created >= ?",
        (gallery, request_id, oldest),
    ).fetchall()
    if not rows:
        return None
    if rows[0][0] != digest:
        raise RequestConflict(gallery_id, request_id)
    stored = json.loads(rows[0][1])
    return Enrolled(stored["subject_id"], tuple(stored["encoding_ids"]), stored["created"], True, stored["revision"])


def dump_response(enrolled: Enrolled) -> str:
    return json.dumps(
        {
            "subject_id": enrolled.subject_id,
            "encoding_ids": enrolled.encoding_ids,
            "created": enrolled.created,
            "revision": enrolled.revision,
        },
        ensure_ascii=False,
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """Encodings of a gallery in order of number: numbers and subjects int64 [n], vectors float32 [n, D]."""

    numbers: Integers
    subjects: Integers
    vectors: Vectors


def encodings_since(db: sqlite3.Connection, gallery: int, dimension: int, revision: int, block: int) -> Iterator[Rows]:
    """The encodings that came after a revision (-1: all), in blocks of at most `block` rows."""
    # Numbers and revisions rise together, so this order is the index's order and the order of numbers.
    cursor = db.execute(
        "SELECT number, subject, vector FROM encodings WHERE gallery = ? AND revision > ? ORDER BY revision, number",
        (gallery, revision),
    )
    while rows := cursor.fetchmany(block):
        vectors = np.frombuffer(b"".join(row[2] for row in rows), "<f4").reshape(len(rows), dimension)
        yield Rows(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            vectors.astype(np.float32, copy=False),
        )


def deletions_since(db: sqlite3.Connection, gallery: int, revision: int) -> Integers:
    """The numbers of encodings deleted after a revision, ascending, int64 [n]."""
    rows = db.execute(
        "SELECT encoding FROM deletions WHERE gallery = ? AND revision > ? ORDER BY encoding",
        (gallery, revision),
    ).fetchall()
    return np.array([row[0] for row in rows], np.int64)


def encoding_checksum(db: sqlite3.Connection, gallery: int) -> tuple[int, int]:
    """How many encodings a gallery holds, and the sum of their numbers."""
    row = db.execute("SELECT COUNT(*), COALESCE(SUM(number), 0) FROM encodings WHERE gallery = ?", (gallery,))
    count, total = row.fetchall()[0]
    return int(count), int(total)


def subject_ids(db: sqlite3.Connection, gallery: int) -> dict[int, str]:
    return dict(db.execute("SELECT number, id FROM subjects WHERE gallery = ?", (gallery,)).fetchall())


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    revision: int
    sha256: str
    size: int


def snapshot_record(db: sqlite3.Connection, gallery: int) -> SnapshotRecord | None:
    rows = db.execute("SELECT revision, sha256, bytes FROM snapshots WHERE gallery = ?", (gallery,)).fetchall()
    return SnapshotRecord(*rows[0]) if rows else None
