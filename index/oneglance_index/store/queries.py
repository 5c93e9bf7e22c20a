"""What can be read: plain functions over one SQLite connection, shared by the readers and the writer.

Rows are believed if their seals are right (seals.py).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oneglance_core.fusion import has_template
from oneglance_core.names import composed
from oneglance_index.errors import GalleryNotFound, GalleryUnfinished
from oneglance_index.records import (
    IMPORTING,
    NO_NOTE,
    Checksum,
    Expired,
    Followed,
    Gallery,
    Generation,
    Integers,
    MapLoss,
    Mapped,
    Move,
    Note,
    Retention,
    Rows,
    SubjectFilter,
    Vectors,
    is_importing,
    keeps_crops,
    move_of,
    whole_subjects,
)
from oneglance_index.store import ciphers, notes
from oneglance_index.store.seals import (
    CROPS,
    ENCODINGS,
    GALLERIES,
    GENERATIONS,
    MAPPED,
    MAPS,
    MODULUS,
    NEGATIVES,
    SUBJECTS,
    THRESHOLDS,
    Sealed,
    Total,
    damaged,
    root_seal,
)
from oneglance_index.store.slots import KeyDestroyed

# The id of a deleted gallery begins with it: others have no control characters.
TOMBSTONE = "\0"
# Beside the fields of a MapLoss, in its JSON.
_MADE = "made"
# More at once are slower: they leave the processor's cache before they are used.
_ROWS_AT_ONCE = 512
_GALLERY = f"""
    SELECT
        {", ".join(f"g.{name}" for name in GALLERIES.columns.split(", "))},
        g.revision, g.subjects, g.encodings, g.sealed_rows, g.sealed_digest, g.root,
        {", ".join(f"a.{name} AS a_{name}" for name in GENERATIONS.columns.split(", "))},
        (SELECT count(*) FROM negatives WHERE generation = a.number) AS negatives
    FROM galleries AS g JOIN generations AS a ON a.gallery = g.number AND a.state = 'active'
"""
_ENCODINGS_AND_SLOTS = ", ".join(f"e.{name}" for name in ENCODINGS.columns.split(", ")) + ", s.slot"
GALLERIES_AFTER = f"{_GALLERY} WHERE ? IS NULL OR g.id > ? ORDER BY g.id"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gallery is in this store: its number, that of its active generation, and what encodings this takes; and
    its revision, its sizes, and what it knows of its sealed rows. `last_subject` and `last_encoding` are the highest
    numbers that the store ever gave, `move` the move that it has a part in, and `keep_crops` whether it keeps crops;
    known only where place() read it."""

    gallery_id: str
    number: int
    generation: int
    encoder_digest: str
    dimension: int
    fusion: str
    revision: int
    subjects: int
    encodings: int
    total: Total
    last_subject: int = 0
    last_encoding: int = 0
    move: Move | None = None
    keep_crops: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A gallery, where it is, and the rows of `galleries` and `generations` that it is made of."""

    place: Place
    gallery: Gallery
    gallery_row: tuple[Any, ...]
    generation_row: tuple[Any, ...]


class StoredSubject(NamedTuple):
    """A row of `subjects`. `encodings` counts those of the active generation; `labels` are encrypted."""

    number: int
    gallery: int
    encodings: int
    slot: int
    created: float
    updated: float
    id: str
    labels: bytes
    expires: float | None
    purpose: str | None
    consent: str | None
    seal: int

    @property
    def retention(self) -> Retention:
        return Retention(self.expires, self.purpose, self.consent)


def stored_gallery(db: sqlite3.Connection, row: sqlite3.Row) -> Stored:
    """Of a row that _GALLERY gives. Raises StoreDamaged."""
    gallery_row = GALLERIES.row(row)
    generation_row = tuple(row[f"a_{name}"] for name in GENERATIONS.columns.split(", "))
    GALLERIES.check(db, gallery_row)
    GENERATIONS.check(db, generation_row)
    known = [row[name] for name in ("revision", "subjects", "encodings", "sealed_rows", "sealed_digest", "root")]
    total = _known_total(db, row["number"], known)
    at = Place(
        *(row["id"], row["number"], row["a_number"], row["a_encoder_digest"], row["a_dimension"], row["a_fusion"]),
        *(*known[:3], total),
    )
    newest = threshold(db, at.generation, row["a_threshold_revision"])
    calibrated = _newest_calibrated(db, at.generation)
    generation = Generation(
        encoder_digest=at.encoder_digest,
        dimension=at.dimension,
        kind=row["a_kind"],
        fusion=at.fusion,
        state=row["a_state"],
        threshold=row["a_threshold"],
        threshold_revision=row["a_threshold_revision"],
        threshold_since=newest["since"] if newest else None,
        calibration=calibrated["calibration"] if calibrated else None,
        calibration_revision=calibrated["version"] if calibrated else 0,
        quality=row["a_quality"],
        created=row["a_created"],
        least_gap=row["a_least_gap"],
        followed=followed_by(newest, row["target_fpir"]),
        doubt=row["a_doubt"],
        decided_by=row["a_decided_by"],
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
        revision=at.revision,
        subjects=at.subjects,
        encodings=at.encodings,
        negatives=row["negatives"],
        uid=uid(db, at.number),
        mapped=mapped_in(db, at.generation),
    )
    return Stored(at, gallery, gallery_row, generation_row)


class NewestMap(NamedTuple):
    """A row of `maps`, `row`, and what is in it. `made`: of how many subjects each version made the encodings; None: it
    isn't counted there."""

    row: tuple[Any, ...]
    version: int
    created: float
    loss: MapLoss
    made: Mapping[int, int] | None


def newest_map(db: sqlite3.Connection, generation: int) -> NewestMap | None:
    """A generation's, if there was a map. Raises StoreDamaged."""
    rows = db.execute(f"SELECT {MAPS.columns} FROM maps WHERE generation = ?", (generation,)).fetchall()
    if not rows:
        return None
    row = tuple(rows[0])
    MAPS.check(db, row)
    _, version, created, text, _ = row
    told = json.loads(text)
    made = told.pop(_MADE, None)
    counted = None if made is None else {int(each): count for each, count in made.items()}
    return NewestMap(row, version, created, MapLoss(**told), counted)


def map_text(loss: MapLoss, made: Mapping[int, int] | None) -> str:
    """Of `maps.loss`, as newest_map() reads it."""
    return json.dumps(asdict(loss) | ({} if made is None else {_MADE: made}))


def count_mapped(db: sqlite3.Connection, generation: int) -> dict[int, int]:
    """Of how many subjects each version of a map made the encodings. It looks at all of them."""
    rows = db.execute("SELECT version, COUNT(*) FROM mapped WHERE generation = ? GROUP BY version", (generation,))
    return dict(tuple(row) for row in rows.fetchall())


def mapped_in(db: sqlite3.Connection, generation: int) -> Mapped | None:
    """What of a generation is mapped. Raises StoreDamaged."""
    newest = newest_map(db, generation)
    if newest is None:
        return None
    made = count_mapped(db, generation) if newest.made is None else newest.made
    subjects = sum(made.values())
    return Mapped(subjects, subjects - made.get(newest.version, 0), newest.loss, newest.created) if subjects else None


def is_mapped(db: sqlite3.Connection, subject: int) -> bool:
    """Whether a map made the encodings of the subject of this number. Raises StoreDamaged."""
    rows = db.execute(f"SELECT {MAPPED.columns} FROM mapped WHERE subject = ?", (subject,)).fetchall()
    for row in rows:
        MAPPED.check(db, tuple(row))
    return bool(rows)


def mapped_subjects(db: sqlite3.Connection, at: Place) -> frozenset[int]:
    """Their numbers."""
    rows = db.execute("SELECT subject FROM mapped WHERE generation = ?", (at.generation,)).fetchall()
    return frozenset(row["subject"] for row in rows)


def uid(db: sqlite3.Connection, gallery: int) -> str:
    """Of the gallery of this number: 16 hexadecimal digits, like no other's of any store."""
    store_id = db.execute("SELECT id FROM store").fetchall()[0]["id"]
    return hashlib.sha256(f"{store_id}/{gallery}".encode()).hexdigest()[:16]


def threshold(db: sqlite3.Connection, generation: int, version: int) -> sqlite3.Row | None:
    """None for version 0. Raises StoreDamaged."""
    if version == 0:
        return None
    rows = db.execute(
        f"SELECT {THRESHOLDS.columns} FROM thresholds WHERE generation = ? AND version = ?", (generation, version)
    ).fetchall()
    if not rows:
        raise damaged(db, f"threshold {version} of generation {generation} is missing")
    THRESHOLDS.check(db, tuple(rows[0]))
    return cast(sqlite3.Row, rows[0])


def followed_by(version: sqlite3.Row | None, target_fpir: float | None) -> Followed | None:
    """The τ that follows a gallery with this target, if the version of a threshold is one."""
    if version is None or version["followed"] is None or version["target_fpir"] != target_fpir:
        return None
    return Followed(version["threshold"], version["followed"])


def _newest_calibrated(db: sqlite3.Connection, generation: int) -> sqlite3.Row | None:
    """Raises StoreDamaged."""
    rows = db.execute(
        f"SELECT {THRESHOLDS.columns} FROM thresholds WHERE generation = ? AND calibration IS NOT NULL"
        " ORDER BY version DESC LIMIT 1",
        (generation,),
    ).fetchall()
    if not rows:
        return None
    THRESHOLDS.check(db, tuple(rows[0]))
    return cast(sqlite3.Row, rows[0])


def _known_total(db: sqlite3.Connection, number: int, known: Sequence[Any]) -> Total:
    """What a gallery knows of its rows: `known` are its revision, subjects, encodings, sealed_rows, sealed_digest and
    root. Raises StoreDamaged."""
    revision, subjects, encodings, rows, digest, root = known
    try:
        total = Total(rows, digest % MODULUS)
        if root_seal(db, number, revision, subjects, encodings, total) == root:
            return total
    except (struct.error, TypeError):
        pass
    raise damaged(db, f"what gallery number {number} knows of its rows was changed")


def place(db: sqlite3.Connection, gallery_id: str, *, unfinished: bool = False) -> Place:
    """By the very id, else by its composed form. Raises GalleryNotFound, StoreDamaged, and unless `unfinished`
    GalleryUnfinished."""
    for name in dict.fromkeys((gallery_id, composed(gallery_id))):
        found = _place(db, name, unfinished)
        if found is not None:
            return found
    raise GalleryNotFound(gallery_id)


def _place(db: sqlite3.Connection, gallery_id: str, unfinished: bool) -> Place | None:
    rows = db.execute(
        "SELECT g.policies, g.retention, g.id, g.number, g.revision, g.subjects, g.encodings, g.sealed_rows,"
        " g.sealed_digest, g.root, a.number, a.encoder_digest, a.dimension, a.fusion,"
        " (SELECT seq FROM sqlite_sequence WHERE name = 'subjects'),"
        " (SELECT seq FROM sqlite_sequence WHERE name = 'encodings')"
        " FROM galleries AS g JOIN generations AS a ON a.gallery = g.number AND a.state = 'active' WHERE g.id = ?",
        (gallery_id,),
    ).fetchall()
    if not rows:
        return None
    policies, retention, name, number, *known, generation, encoder, dimension, fusion, subject, encoding = rows[0]
    if not unfinished and is_importing(policies):
        raise GalleryUnfinished(gallery_id)
    total = _known_total(db, number, known)
    sizes = (*known[:3], total, subject or 0, encoding or 0, move_of(policies), keeps_crops(retention))
    return Place(name, number, generation, encoder, dimension, fusion, *sizes)


def knowledge_of(db: sqlite3.Connection, gallery: int) -> Total | None:
    """What a gallery of this number knows of its rows; None for one that is deleted. Raises StoreDamaged."""
    known = _knowledge(db, gallery)
    return None if known is None else known[1]


def revision_of(db: sqlite3.Connection, gallery: int) -> int | None:
    """Of a gallery of this number; None for one that is deleted. Raises StoreDamaged."""
    known = _knowledge(db, gallery)
    return None if known is None else known[0]


def _knowledge(db: sqlite3.Connection, gallery: int) -> tuple[int, Total] | None:
    rows = db.execute(
        "SELECT id, revision, subjects, encodings, sealed_rows, sealed_digest, root FROM galleries WHERE number = ?",
        (gallery,),
    ).fetchall()
    if not rows or str(rows[0]["id"]).startswith(TOMBSTONE):
        return None
    known = tuple(rows[0])[1:]
    return known[0], _known_total(db, gallery, known)


def all_rows(db: sqlite3.Connection, table: Sealed) -> sqlite3.Cursor:
    cursor = db.execute(f"SELECT {table.columns} FROM {table.name} NOT INDEXED")
    cursor.row_factory = None
    return cursor


def find_gallery(db: sqlite3.Connection, gallery_id: str) -> Stored | None:
    """By the very id, else by its composed form: as find_subject()."""
    # fetchall, here and below: it steps the statement to its end, so that no read lock outlives the call.
    for name in dict.fromkeys((gallery_id, composed(gallery_id))):
        rows = db.execute(f"{_GALLERY} WHERE g.id = ?", (name,)).fetchall()
        if rows:
            return stored_gallery(db, rows[0])
    return None


def gallery(db: sqlite3.Connection, gallery_id: str) -> Stored:
    """As find_gallery; raises GalleryNotFound."""
    found = find_gallery(db, gallery_id)
    if found is None:
        raise GalleryNotFound(gallery_id)
    return found


def finished(db: sqlite3.Connection, gallery_id: str) -> Stored:
    """As gallery(); raises GalleryUnfinished."""
    found = gallery(db, gallery_id)
    if found.gallery.unfinished:
        raise GalleryUnfinished(gallery_id)
    return found


def of_generation(db: sqlite3.Connection, generation: int) -> Stored | None:
    """The gallery whose active generation has this number; None where it is gone."""
    rows = db.execute(f"{_GALLERY} WHERE a.number = ?", (generation,)).fetchall()
    return stored_gallery(db, rows[0]) if rows else None


def all_galleries(db: sqlite3.Connection) -> list[Stored]:
    return [stored_gallery(db, row) for row in db.execute(f"{_GALLERY} ORDER BY g.number").fetchall()]


def last_gallery(db: sqlite3.Connection) -> int:
    """The highest number that a gallery ever had, 0 before the first."""
    return _last_number(db, "galleries")


def last_generation(db: sqlite3.Connection) -> int:
    """The highest number that a generation ever had, 0 before the first."""
    return _last_number(db, "generations")


def _last_number(db: sqlite3.Connection, table: str) -> int:
    rows = db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchall()
    return int(rows[0]["seq"]) if rows else 0


def snapshot_revisions(db: sqlite3.Connection) -> dict[int, int]:
    """Of the snapshots that there are, by generation."""
    return dict(map(tuple, db.execute("SELECT generation, revision FROM snapshots").fetchall()))


class StoredEncoding(NamedTuple):
    """A row of `encodings`."""

    number: int
    generation: int
    subject: int
    revision: int
    created: float
    vector: bytes
    seal: int


def find_subject(db: sqlite3.Connection, gallery: int, subject_id: str, exactly: bool = False) -> StoredSubject | None:
    """By the very id; else, unless `exactly`, by its composed form (core's names.py), which all ids have but those that
    stores of earlier versions hold beside their composed form. Raises StoreDamaged."""
    for name in dict.fromkeys((subject_id, subject_id if exactly else composed(subject_id))):
        rows = db.execute(
            f"SELECT {SUBJECTS.columns} FROM subjects WHERE gallery = ? AND id = ?", (gallery, name)
        ).fetchall()
        if rows:
            subject = StoredSubject(*rows[0])
            SUBJECTS.check(db, subject)
            return subject
    return None


def has_subject(db: sqlite3.Connection, gallery: int, subject_id: str) -> bool:
    """As find_subject()."""
    names = (gallery, subject_id, composed(subject_id))
    return bool(db.execute("SELECT 1 FROM subjects WHERE gallery = ? AND id IN (?, ?)", names).fetchall())


def has_request(db: sqlite3.Connection, gallery: int, request_id: str) -> bool:
    """Whether there is one, over or not."""
    return bool(db.execute("SELECT 1 FROM requests WHERE gallery = ? AND id = ?", (gallery, request_id)).fetchall())


def expired(db: sqlite3.Connection, now: float, most: int, after: tuple[float, int] | None) -> list[Expired]:
    """Subjects whose time is over, those that have waited longest first. Raises StoreDamaged."""
    columns = ", ".join(f"s.{name}" for name in SUBJECTS.columns.split(", "))
    rows = db.execute(
        f"SELECT g.id, {columns} FROM subjects AS s JOIN galleries AS g ON g.number = s.gallery"
        " JOIN generations AS a ON a.gallery = g.number AND a.state = 'active'"
        " WHERE s.expires <= ? AND (s.expires, s.number) > (?, ?)"
        " AND (g.policies IS NULL OR instr(g.policies, ?) != 1)"
        " ORDER BY s.expires, s.number LIMIT ?",
        (now, *(after or (-1.0, 0)), IMPORTING, most),
    ).fetchall()
    found = []
    for gallery_id, *row in rows:
        subject = StoredSubject(*row)
        SUBJECTS.check(db, subject)
        found.append(Expired(gallery_id, subject.id, subject.retention, subject.number))
    return found


def subjects_of(db: sqlite3.Connection, gallery: int) -> Iterator[StoredSubject]:
    """All subjects of a gallery, by its number. Their seals aren't checked."""
    cursor = db.execute(f"SELECT {SUBJECTS.columns} FROM subjects WHERE gallery = ?", (gallery,))
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        yield from itertools.starmap(StoredSubject, rows)


def subject_id(db: sqlite3.Connection, number: int) -> str:
    """Of a subject that there is. Raises StoreDamaged."""
    subject = subject_numbered(db, number)
    if subject is None:
        raise damaged(db, f"subject number {number} is missing")
    return subject.id


def subject_numbered(db: sqlite3.Connection, number: int) -> StoredSubject | None:
    """Raises StoreDamaged."""
    rows = db.execute(f"SELECT {SUBJECTS.columns} FROM subjects WHERE number = ?", (number,)).fetchall()
    if not rows:
        return None
    subject = StoredSubject(*rows[0])
    SUBJECTS.check(db, subject)
    return subject


def check_answers(db: sqlite3.Connection, subject: StoredSubject) -> None:
    """That the answers about a subject can be read. Raises StoreDamaged, KeyDestroyed."""
    rows = db.execute("SELECT number, gallery, answer FROM requests WHERE subject = ?", (subject.number,)).fetchall()
    key = subject_key(db, subject)
    for number, gallery, answer in rows:
        decrypted(db, subject, key, answer, ciphers.request_identity(gallery, number))


def encoding_numbers(db: sqlite3.Connection, generation: int, subject: StoredSubject) -> Integers:
    """The numbers of a subject's encodings, ascending, int64 [n]. Raises StoreDamaged."""
    rows = db.execute(
        "SELECT number FROM encodings WHERE subject = ? AND generation = ? ORDER BY number",
        (subject.number, generation),
    ).fetchall()
    _check_count(db, subject, len(rows))
    return _integers(db, rows, "number")


def subject_encodings(db: sqlite3.Connection, generation: int, subject: StoredSubject) -> list[StoredEncoding]:
    """The rows of a subject's encodings, oldest first. Raises StoreDamaged."""
    cursor = db.execute(
        f"SELECT {ENCODINGS.columns} FROM encodings WHERE subject = ? AND generation = ? ORDER BY number",
        (subject.number, generation),
    )
    rows = [StoredEncoding(*row) for row in cursor.fetchall()]
    _check_count(db, subject, len(rows))
    ENCODINGS.check_all(db, rows)
    return rows


def subject_vectors(db: sqlite3.Connection, at: Place, subject: StoredSubject) -> tuple[Integers, Vectors]:
    """A subject's encodings, oldest first: numbers int64 [n], vectors float32 [n, D]. Raises StoreDamaged."""
    return _decrypted(db, at, subject, subject_encodings(db, at.generation, subject), ciphers.encoding_identity)


def _decrypted(
    db: sqlite3.Connection,
    at: Place,
    subject: StoredSubject,
    rows: Sequence[StoredEncoding | StoredNegative],
    identity: ciphers.Identity,
) -> tuple[Integers, Vectors]:
    numbers = np.array([row.number for row in rows], np.int64)
    if not rows:
        return numbers, np.empty((0, at.dimension), np.float32)
    key = subject_key(db, subject)
    vectors = [decrypted(db, subject, key, row.vector, identity(row.generation, row.number)) for row in rows]
    return numbers, vectors_in(db, vectors, at.dimension)


def subject_notes(db: sqlite3.Connection, at: Place, subject: StoredSubject) -> dict[int, Note]:
    """What a subject's encodings are called, by number, oldest first. Raises KeyDestroyed, StoreDamaged."""
    rows = subject_encodings(db, at.generation, subject)
    if not any(notes.has_note(row.vector, at.dimension) for row in rows):
        return dict.fromkeys((row.number for row in rows), NO_NOTE)
    key = subject_key(db, subject)
    identity = ciphers.encoding_identity
    contents = [decrypted(db, subject, key, row.vector, identity(row.generation, row.number)) for row in rows]
    return {row.number: notes.note_in(db, one, at.dimension) for row, one in zip(rows, contents, strict=True)}


def crops(db: sqlite3.Connection, subject: StoredSubject) -> dict[int, bytes]:
    """What is kept of the pictures of a subject's encodings, by number. Raises KeyDestroyed, StoreDamaged."""
    cursor = db.execute(f"SELECT {CROPS.columns} FROM crops WHERE subject = ? ORDER BY encoding", (subject.number,))
    cursor.row_factory = None
    rows = cursor.fetchall()
    if not rows:
        return {}
    CROPS.check_all(db, rows)
    key = subject_key(db, subject)
    return {
        number: decrypted(db, subject, key, sealed, ciphers.crop_identity(generation, number))
        for number, generation, _, sealed, _ in rows
    }


def subject_key(db: sqlite3.Connection, subject: StoredSubject) -> AESGCM:
    return ciphers.slots_of(db, subject.gallery).read(subject.slot)


def decrypted(db: sqlite3.Connection, subject: StoredSubject, key: AESGCM, sealed: bytes, identity: bytes) -> bytes:
    """What is encrypted with the key of a subject. Raises KeyDestroyed, StoreDamaged."""
    content = ciphers.decrypt(key, sealed, identity)
    if content is None:
        raise undecryptable(db, subject.gallery, subject.number, subject.slot)
    return content


def undecryptable(db: sqlite3.Connection, gallery: int, subject: int, slot: int) -> Exception:
    """The error where something doesn't decrypt: KeyDestroyed or StoreDamaged."""
    if ciphers.slots_of(db, gallery).was_destroyed(slot, ciphers.read_since(db)):
        return KeyDestroyed()
    return damaged(db, f"what is encrypted of subject number {subject} doesn't fit its key")


def labels(db: sqlite3.Connection, subject: StoredSubject) -> str:
    """Of a subject, as JSON. Raises KeyDestroyed, StoreDamaged."""
    identity = ciphers.labels_identity(subject.gallery, subject.number)
    return decrypted(db, subject, subject_key(db, subject), subject.labels, identity).decode()


def passes(db: sqlite3.Connection, subject: StoredSubject, among: SubjectFilter) -> bool:
    """Whether a filter lets a subject through. Raises KeyDestroyed, StoreDamaged."""
    if not subject.id.startswith(among.id_prefix):
        return False
    return not among.labels or among.labels_pass(read_labels(labels(db, subject)))


def read_labels(text: str) -> dict[str, str]:
    """From JSON, composed."""
    return {composed(key): composed(value) for key, value in json.loads(text).items()}


def _check_count(db: sqlite3.Connection, subject: StoredSubject, found: int) -> None:
    if found != subject.encodings:
        raise damaged(db, f"subject number {subject.number} has {subject.encodings} encodings, found {found}")


class StoredNegative(NamedTuple):
    """A row of `negatives`."""

    number: int
    generation: int
    subject: int
    created: float
    vector: bytes
    seal: int


def subject_negatives(db: sqlite3.Connection, generation: int, subject: StoredSubject) -> list[StoredNegative]:
    """The rows of a subject's negatives, oldest first. Raises StoreDamaged."""
    cursor = db.execute(
        f"SELECT {NEGATIVES.columns} FROM negatives WHERE subject = ? AND generation = ? ORDER BY number",
        (subject.number, generation),
    )
    rows = [StoredNegative(*row) for row in cursor.fetchall()]
    for row in rows:
        NEGATIVES.check(db, row)
    return rows


def negative_vectors(db: sqlite3.Connection, at: Place, subject: StoredSubject) -> tuple[Integers, Vectors]:
    """A subject's negatives, oldest first: numbers int64 [n], vectors float32 [n, D]. Raises StoreDamaged."""
    return _decrypted(db, at, subject, subject_negatives(db, at.generation, subject), ciphers.negative_identity)


def subjects_with_negatives(db: sqlite3.Connection, at: Place) -> frozenset[int]:
    """Their numbers."""
    rows = db.execute("SELECT DISTINCT subject FROM negatives WHERE generation = ?", (at.generation,)).fetchall()
    return frozenset(row["subject"] for row in rows)


def encodings_since(db: sqlite3.Connection, at: Place, revision: int, block: int) -> Iterator[Rows]:
    """The encodings that came after a revision (-1: all), in blocks of at most `block` rows. Raises StoreDamaged."""
    # Numbers and revisions rise together, so this order is the index's order and the order of numbers.
    cursor = db.execute(
        f"SELECT {_ENCODINGS_AND_SLOTS} FROM encodings AS e LEFT JOIN subjects AS s ON s.number = e.subject"
        " WHERE e.generation = ? AND e.revision > ? ORDER BY e.revision, e.number",
        (at.generation, revision),
    )
    return _in_blocks(db, at, cursor, block)


def encodings_between(db: sqlite3.Connection, at: Place, first: int, last: int) -> Rows:
    """The encodings of these numbers, and all between. Raises StoreDamaged."""
    cursor = db.execute(
        f"SELECT {_ENCODINGS_AND_SLOTS} FROM encodings AS e LEFT JOIN subjects AS s ON s.number = e.subject"
        " WHERE e.number BETWEEN ? AND ? AND e.generation = ? ORDER BY e.number",
        (first, last, at.generation),
    )
    cursor.row_factory = None
    return _rows(db, at, cursor.fetchall())


def encodings_of_subjects(db: sqlite3.Connection, at: Place, first: int, last: int, revision: int) -> Rows:
    """The encodings of the subjects of these numbers, and all between, that came no later than a revision: those of one
    subject together, oldest first. Raises StoreDamaged."""
    cursor = db.execute(
        f"SELECT {_ENCODINGS_AND_SLOTS}"
        " FROM subjects AS s CROSS JOIN encodings AS e INDEXED BY encodings_by_subject"
        " ON e.subject = s.number AND e.generation = ?"
        " WHERE s.number BETWEEN ? AND ? AND s.gallery = ? AND e.revision <= ? ORDER BY s.number, e.number",
        (at.generation, first, last, at.number, revision),
    )
    cursor.row_factory = None
    return _rows(db, at, cursor.fetchall())


def last_of(db: sqlite3.Connection, gallery: int, first: int, count: int) -> int | None:
    """The number of the last of the next `count` subjects of a gallery, from number `first` on; None: there is none."""
    rows = db.execute(
        "SELECT MAX(number) AS last FROM"
        " (SELECT number FROM subjects NOT INDEXED WHERE number >= ? AND gallery = ? ORDER BY number LIMIT ?)",
        (first, gallery, count),
    ).fetchall()
    return None if rows[0]["last"] is None else int(rows[0]["last"])


def encodings_by_subject(db: sqlite3.Connection, at: Place, block: int) -> Iterator[Rows]:
    """All encodings, those of one subject together, oldest first, in blocks of about `block` rows: none ends within a
    subject. Raises StoreDamaged."""
    # CROSS JOIN: in this order. Else all vectors are sorted.
    cursor = db.execute(
        f"SELECT {_ENCODINGS_AND_SLOTS}"
        " FROM subjects AS s CROSS JOIN encodings AS e INDEXED BY encodings_by_subject"
        " ON e.subject = s.number AND e.generation = ? WHERE s.gallery = ? ORDER BY s.number, e.number",
        (at.generation, at.number),
    )
    return whole_subjects(_in_blocks(db, at, cursor, block))


def _in_blocks(db: sqlite3.Connection, at: Place, cursor: sqlite3.Cursor, block: int) -> Iterator[Rows]:
    cursor.row_factory = None
    some = min(block, _ROWS_AT_ONCE)
    fetches = iter(lambda: cursor.fetchmany(some), [])
    while parts := [_rows(db, at, rows) for rows in itertools.islice(fetches, block // some)]:
        yield Rows.joined(parts)


def _rows(db: sqlite3.Connection, at: Place, rows: list[tuple[Any, ...]]) -> Rows:
    slots = ciphers.slots_of(db, at.number)
    vectors, last = [], -1
    ENCODINGS.check_all(db, [row[:-1] for row in rows])
    for row in rows:
        number, generation, subject, _, _, sealed, _, slot = row
        if slot is None:
            raise damaged(db, f"encoding {number} belongs to no subject")
        if slot != last:  # those of a subject stand together, mostly
            key, last = slots.read(slot), slot
        content = ciphers.decrypt(key, sealed, ciphers.encoding_identity(generation, number))
        if content is None:
            raise undecryptable(db, at.number, subject, slot)
        vectors.append(content)
    numbers = np.array([row[0] for row in rows], np.int64)
    subjects = np.array([row[2] for row in rows], np.int64)
    return Rows(numbers, subjects, vectors_in(db, vectors, at.dimension))


def deletions_since(db: sqlite3.Connection, generation: int, revision: int) -> Integers:
    """The numbers of encodings deleted after a revision, ascending, int64 [n]."""
    rows = db.execute(
        "SELECT encoding FROM deletions WHERE generation = ? AND revision > ? ORDER BY encoding",
        (generation, revision),
    ).fetchall()
    return _integers(db, rows, "encoding")


def subjects_deleted_since(db: sqlite3.Connection, generation: int, revision: int) -> Integers:
    """The numbers of subjects of which encodings were deleted after a revision, int64 [n]."""
    rows = db.execute(
        "SELECT DISTINCT subject FROM deletions WHERE generation = ? AND revision > ?", (generation, revision)
    ).fetchall()
    return _integers(db, rows, "subject")


def has_strays(db: sqlite3.Connection) -> bool:
    """Whether there are encodings of a subject that isn't there."""
    rows = db.execute(
        "SELECT 1 FROM encodings AS e INDEXED BY encodings_by_subject"
        " WHERE NOT EXISTS (SELECT 1 FROM subjects WHERE number = e.subject) LIMIT 1"
    )
    return bool(rows.fetchall())


def checksum(db: sqlite3.Connection, generation: int) -> Checksum:
    rows = db.execute(
        "SELECT COUNT(*) AS encodings, COALESCE(SUM(number), 0) AS total FROM encodings WHERE generation = ?",
        (generation,),
    ).fetchall()
    return Checksum(rows[0]["encodings"], rows[0]["total"])


class Block(NamedTuple):
    """Of a snapshot's file: the numbers of its first and its last encoding, or where the rule of fusion has templates
    of its first and its last subject; and the slot of its key."""

    first: int
    last: int
    slot: int


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """What the store knows of a snapshot's file: it is of this revision, and holds exactly these bytes, besides the
    encrypted ones. `blocks` are those whose keys are still there."""

    revision: int
    sha256: str
    size: int
    blocks: tuple[Block, ...]
    by_subject: bool


@dataclass(frozen=True, slots=True)
class NewSnapshot:
    """Of a snapshot's file that was just written: as SnapshotRecord, and the first and last numbers of all blocks with
    their keys, which are nowhere else."""

    revision: int
    sha256: str
    size: int
    bounds: Sequence[tuple[int, int]]
    keys: Sequence[bytes] = field(repr=False)
    by_subject: bool


def snapshot_record(db: sqlite3.Connection, generation: int) -> SnapshotRecord | None:
    rows = db.execute(
        "SELECT s.revision, s.sha256, s.bytes, a.fusion FROM snapshots AS s JOIN generations AS a"
        " ON a.number = s.generation WHERE s.generation = ?",
        (generation,),
    ).fetchall()
    if not rows:
        return None
    revision, sha256, size, fusion = rows[0]
    return SnapshotRecord(revision, sha256, size, blocks(db, generation), has_template(fusion))


def blocks(db: sqlite3.Connection, generation: int) -> tuple[Block, ...]:
    """Of a generation's snapshot, in order: those whose keys are still there."""
    rows = db.execute("SELECT first, last, slot FROM blocks WHERE generation = ? ORDER BY first", (generation,))
    return tuple(_block(db, row) for row in rows.fetchall())


def block_of(db: sqlite3.Connection, generation: int, number: int) -> Block | None:
    """The block of the snapshot that an encoding of this number, or a subject's, is in, if its key is still there."""
    rows = db.execute(
        "SELECT first, last, slot FROM blocks WHERE generation = ? AND first <= ? ORDER BY first DESC LIMIT 1",
        (generation, number),
    ).fetchall()
    block = _block(db, rows[0]) if rows else None
    return block if block is not None and block.last >= number else None


def gallery_of(db: sqlite3.Connection, generation: int) -> int | None:
    """The number of a generation's gallery."""
    rows = db.execute("SELECT gallery FROM generations WHERE number = ?", (generation,)).fetchall()
    return int(rows[0]["gallery"]) if rows else None


def _integers(db: sqlite3.Connection, rows: list[sqlite3.Row], column: str) -> Integers:
    values = [row[column] for row in rows]
    if not all(type(value) is int for value in values):
        raise damaged(db, f"among the numbers of a column ({column}) is something else")
    return np.array(values, np.int64)


def _block(db: sqlite3.Connection, row: sqlite3.Row) -> Block:
    if not all(type(value) is int for value in row):
        raise damaged(db, "a block of a snapshot without its numbers")
    return Block(*row)


def vectors_in(db: sqlite3.Connection, contents: Sequence[bytes], dimension: int) -> Vectors:
    """Of contents as notes.py makes them."""
    size = 4 * dimension
    blobs = [one if len(one) == size else one[:size] for one in contents]
    joined = b"".join(blobs)
    if len(joined) != size * len(blobs):
        raise damaged(db, f"an encoding that isn't of dimension {dimension}")
    return np.frombuffer(joined, "<f4").reshape(len(blobs), dimension).astype(np.float32, copy=False)
