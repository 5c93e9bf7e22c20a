"""What can be read: plain functions over one SQLite connection, shared by the readers and the writer."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from oneglance_index.errors import GalleryNotFound, RequestConflict
from oneglance_index.records import (
    Checksum,
    Doubt,
    Enrolled,
    Followed,
    Gallery,
    Generation,
    Integers,
    Neighbour,
    Rows,
    Vectors,
    whole_subjects,
)

# More at once are slower: they leave the processor's cache before they are used.
_ROWS_AT_ONCE = 512
_GALLERY = """
    SELECT
        g.number, g.id, g.description, g.target_fpir, g.policies, g.rights, g.retention, g.created,
        g.revision, g.subjects, g.encodings,
        a.number AS generation, a.encoder_digest, a.dimension, a.kind, a.fusion, a.state, a.quality, a.least_gap,
        a.doubt, a.decided_by,
        a.created AS generation_created, a.threshold, a.threshold_revision,
        (SELECT since FROM thresholds WHERE generation = a.number AND version = a.threshold_revision)
            AS threshold_since,
        (SELECT followed FROM thresholds WHERE generation = a.number AND version = a.threshold_revision
            AND target_fpir = g.target_fpir) AS followed,
        (SELECT threshold FROM thresholds WHERE generation = a.number AND version = a.threshold_revision)
            AS newest_threshold,
        (SELECT calibration FROM thresholds WHERE generation = a.number AND calibration IS NOT NULL
            ORDER BY version DESC LIMIT 1) AS calibration,
        coalesce((SELECT max(version) FROM thresholds WHERE generation = a.number AND calibration IS NOT NULL), 0)
            AS calibration_revision,
        (SELECT count(*) FROM negatives WHERE generation = a.number) AS negatives
    FROM galleries AS g JOIN generations AS a ON a.gallery = g.number AND a.state = 'active'
"""
GALLERIES_AFTER = f"{_GALLERY} WHERE ? IS NULL OR g.id > ? ORDER BY g.id"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gallery is in this store: its number, that of its active generation, and what encodings this takes."""

    gallery_id: str
    number: int
    generation: int
    encoder_digest: str
    dimension: int
    fusion: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A gallery, and where it is."""

    place: Place
    gallery: Gallery


def stored_gallery(row: sqlite3.Row) -> Stored:
    """Of a row that _GALLERY gives."""
    generation = Generation(
        encoder_digest=row["encoder_digest"],
        dimension=row["dimension"],
        kind=row["kind"],
        fusion=row["fusion"],
        state=row["state"],
        threshold=row["threshold"],
        threshold_revision=row["threshold_revision"],
        threshold_since=row["threshold_since"],
        calibration=row["calibration"],
        calibration_revision=row["calibration_revision"],
        quality=row["quality"],
        created=row["generation_created"],
        least_gap=row["least_gap"],
        followed=None if row["followed"] is None else Followed(row["newest_threshold"], row["followed"]),
        doubt=row["doubt"],
        decided_by=row["decided_by"],
    )
    gallery = Gallery(
        id=row["id"],
        description=row["description"],
        active=generation,
        target_fpir=row["target_fpir"],
        policies=row["policies"],
        rights=row["rights"],
        retention=row["retention"],
        created=row["created"],
        revision=row["revision"],
        subjects=row["subjects"],
        encodings=row["encodings"],
        negatives=row["negatives"],
    )
    return Stored(_place(row), gallery)


def _place(row: sqlite3.Row) -> Place:
    return Place(row["id"], row["number"], row["generation"], row["encoder_digest"], row["dimension"], row["fusion"])


def place(db: sqlite3.Connection, gallery_id: str) -> Place:
    """Raises GalleryNotFound."""
    rows = db.execute(
        "SELECT g.id, g.number, a.number AS generation, a.encoder_digest, a.dimension, a.fusion"
        " FROM galleries AS g JOIN generations AS a ON a.gallery = g.number AND a.state = 'active' WHERE g.id = ?",
        (gallery_id,),
    ).fetchall()
    if not rows:
        raise GalleryNotFound(gallery_id)
    return _place(rows[0])


def find_gallery(db: sqlite3.Connection, gallery_id: str) -> Stored | None:
    # fetchall, here and below: it steps the statement to its end, so that no read lock outlives the call.
    rows = db.execute(f"{_GALLERY} WHERE g.id = ?", (gallery_id,)).fetchall()
    return stored_gallery(rows[0]) if rows else None


def gallery(db: sqlite3.Connection, gallery_id: str) -> Stored:
    """As find_gallery; raises GalleryNotFound."""
    found = find_gallery(db, gallery_id)
    if found is None:
        raise GalleryNotFound(gallery_id)
    return found


def of_generation(db: sqlite3.Connection, generation: int) -> Stored | None:
    """The gallery whose active generation has this number; None where it is gone."""
    rows = db.execute(f"{_GALLERY} WHERE a.number = ?", (generation,)).fetchall()
    return stored_gallery(rows[0]) if rows else None


def all_galleries(db: sqlite3.Connection) -> list[Stored]:
    return [stored_gallery(row) for row in db.execute(f"{_GALLERY} ORDER BY g.number").fetchall()]


def find_subject(db: sqlite3.Connection, gallery: int, subject_id: str) -> int | None:
    rows = db.execute("SELECT number FROM subjects WHERE gallery = ? AND id = ?", (gallery, subject_id)).fetchall()
    return int(rows[0]["number"]) if rows else None


def encoding_numbers(db: sqlite3.Connection, generation: int, subject: int) -> Integers:
    """The numbers of a subject's encodings, ascending, int64 [n]."""
    rows = db.execute(
        "SELECT number FROM encodings WHERE subject = ? AND generation = ? ORDER BY number", (subject, generation)
    ).fetchall()
    return _integers(rows, "number")


def subject_vectors(db: sqlite3.Connection, at: Place, subject: int) -> tuple[Integers, Vectors]:
    """A subject's encodings, oldest first: numbers int64 [n], vectors float32 [n, D]."""
    rows = db.execute(
        "SELECT number, vector FROM encodings WHERE subject = ? AND generation = ? ORDER BY number",
        (subject, at.generation),
    ).fetchall()
    return _integers(rows, "number"), _vectors([row["vector"] for row in rows], at.dimension)


def negative_vectors(db: sqlite3.Connection, at: Place, subject: int) -> tuple[Integers, Vectors]:
    """A subject's negatives, oldest first: numbers int64 [n], vectors float32 [n, D]."""
    rows = db.execute(
        "SELECT number, vector FROM negatives WHERE subject = ? AND generation = ? ORDER BY number",
        (subject, at.generation),
    ).fetchall()
    return _integers(rows, "number"), _vectors([row["vector"] for row in rows], at.dimension)


def subjects_with_negatives(db: sqlite3.Connection, at: Place) -> frozenset[str]:
    """Their ids."""
    rows = db.execute(
        "SELECT DISTINCT s.id FROM negatives AS n JOIN subjects AS s ON s.number = n.subject WHERE n.generation = ?",
        (at.generation,),
    ).fetchall()
    return frozenset(row["id"] for row in rows)


def subject_id(db: sqlite3.Connection, subject: int) -> str:
    """Of a subject that there is."""
    return str(db.execute("SELECT id FROM subjects WHERE number = ?", (subject,)).fetchall()[0]["id"])


def find_request(db: sqlite3.Connection, at: Place, request_id: str, digest: bytes, oldest: float) -> Enrolled | None:
    """The answer that a request of this id got since `oldest`, marked as replayed. Raises RequestConflict."""
    rows = db.execute(
        "SELECT digest, response FROM requests WHERE gallery = ? AND id = ? AND created >= ?",
        (at.number, request_id, oldest),
    ).fetchall()
    if not rows:
        return None
    if rows[0]["digest"] != digest:
        raise RequestConflict(at.gallery_id, request_id)
    answer = json.loads(rows[0]["response"])
    nearest = answer.get("nearest_other")  # stores of earlier versions didn't keep it
    return Enrolled(
        answer["subject_id"],
        tuple(answer["encoding_ids"]),
        answer["created"],
        True,
        answer["revision"],
        None if nearest is None else Neighbour(**nearest),
        tuple(Doubt(**doubt) for doubt in answer.get("doubts", ())),
    )


def dump_response(enrolled: Enrolled) -> str:
    return json.dumps(
        {
            "subject_id": enrolled.subject_id,
            "encoding_ids": enrolled.encoding_ids,
            "created": enrolled.created,
            "revision": enrolled.revision,
            "nearest_other": None if enrolled.nearest_other is None else asdict(enrolled.nearest_other),
            "doubts": list(map(asdict, enrolled.doubts)),
        },
        ensure_ascii=False,
    )


def encodings_since(db: sqlite3.Connection, at: Place, revision: int, block: int) -> Iterator[Rows]:
    """The encodings that came after a revision (-1: all), in blocks of at most `block` rows."""
    # Numbers and revisions rise together, so this order is the index's order and the order of numbers.
    return _in_blocks(
        db.execute(
            "SELECT number, subject, vector FROM encodings WHERE generation = ? AND revision > ?"
            " ORDER BY revision, number",
            (at.generation, revision),
        ),
        at.dimension,
        block,
    )


def encodings_by_subject(db: sqlite3.Connection, at: Place, block: int) -> Iterator[Rows]:
    """All encodings, those of one subject together, oldest first, in blocks of about `block` rows: none ends within a
    subject."""
    # CROSS JOIN: in this order. Else all vectors are sorted.
    cursor = db.execute(
        "SELECT e.number, e.subject, e.vector"
        " FROM subjects AS s CROSS JOIN encodings AS e INDEXED BY encodings_by_subject"
        " ON e.subject = s.number AND e.generation = ? WHERE s.gallery = ? ORDER BY s.number, e.number",
        (at.generation, at.number),
    )
    return whole_subjects(_in_blocks(cursor, at.dimension, block))


def _in_blocks(cursor: sqlite3.Cursor, dimension: int, block: int) -> Iterator[Rows]:
    some = min(block, _ROWS_AT_ONCE)
    fetches = iter(lambda: cursor.fetchmany(some), [])
    while parts := [_rows(rows, dimension) for rows in itertools.islice(fetches, block // some)]:
        yield Rows.joined(parts)


def _rows(rows: list[sqlite3.Row], dimension: int) -> Rows:
    # By column, not by row: quicker for many.
    columns = dict(zip(rows[0].keys(), zip(*rows, strict=True), strict=True))
    numbers, subjects = np.array(columns["number"], np.int64), np.array(columns["subject"], np.int64)
    return Rows(numbers, subjects, _vectors(columns["vector"], dimension))


def deletions_since(db: sqlite3.Connection, generation: int, revision: int) -> Integers:
    """The numbers of encodings deleted after a revision, ascending, int64 [n]."""
    rows = db.execute(
        "SELECT encoding FROM deletions WHERE generation = ? AND revision > ? ORDER BY encoding",
        (generation, revision),
    ).fetchall()
    return _integers(rows, "encoding")


def checksum(db: sqlite3.Connection, generation: int) -> Checksum:
    rows = db.execute(
        "SELECT COUNT(*) AS encodings, COALESCE(SUM(number), 0) AS total FROM encodings WHERE generation = ?",
        (generation,),
    ).fetchall()
    return Checksum(rows[0]["encodings"], rows[0]["total"])


def subject_ids(db: sqlite3.Connection, gallery: int) -> dict[int, str]:
    # One by one: a list of as many rows as a large gallery has subjects keeps the garbage collector busy.
    rows = db.execute("SELECT number, id FROM subjects WHERE gallery = ?", (gallery,))
    return {row["number"]: row["id"] for row in rows}


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """What the store knows of a snapshot's file: it is of this revision, and holds exactly these bytes."""

    revision: int
    sha256: str
    size: int


def snapshot_record(db: sqlite3.Connection, generation: int) -> SnapshotRecord | None:
    rows = db.execute("SELECT revision, sha256, bytes FROM snapshots WHERE generation = ?", (generation,)).fetchall()
    return SnapshotRecord(rows[0]["revision"], rows[0]["sha256"], rows[0]["bytes"]) if rows else None


def _integers(rows: list[sqlite3.Row], column: str) -> Integers:
    return np.array([row[column] for row in rows], np.int64)


def _vectors(blobs: Sequence[bytes], dimension: int) -> Vectors:
    return np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), dimension).astype(np.float32, copy=False)
