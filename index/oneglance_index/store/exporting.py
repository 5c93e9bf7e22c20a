"""Taking a gallery out of the store, while it changes: subject by subject, then at one revision what changed meanwhile.

Nothing holds a reading transaction for longer than a page, so the log of writes doesn't grow, and a subject that is
deleted meanwhile is in no later page. A subject's version tells whether it changed: the sum of the seals of its row and
of its negatives. Each change of its encodings changes the row, too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

import numpy as np

from oneglance_index.errors import GalleryNotFound, HoldsMapped
from oneglance_index.moved import ExportStep, KnownSubjects, MovedEncoding, MovedSubject
from oneglance_index.records import Integers, ThresholdVersion
from oneglance_index.store import pages, queries
from oneglance_index.store.ciphers import encoding_identity, negative_identity
from oneglance_index.store.notes import note_in
from oneglance_index.store.queries import Place, StoredSubject
from oneglance_index.store.seals import MODULUS, THRESHOLDS


def step(db: sqlite3.Connection, gallery_id: str, known: KnownSubjects, max_bytes: int) -> ExportStep:
    """What is to be taken yet; with the subjects themselves where their encodings have at most so many bytes. Raises
    GalleryNotFound, GalleryUnfinished, HoldsMapped, StoreDamaged, KeyDestroyed."""
    at = queries.place(db, gallery_id)
    gallery = queries.gallery(db, gallery_id).gallery
    if gallery.mapped is not None:
        raise HoldsMapped(gallery_id, gallery.mapped.subjects)
    now, sizes = _versions(db, at)
    places = np.searchsorted(known.numbers, now.numbers)
    inside = places < len(known.numbers)
    same = np.zeros(len(now.numbers), bool)
    same[inside] = (known.numbers[places[inside]] == now.numbers[inside]) & (
        known.versions[places[inside]] == now.versions[inside]
    )
    changed, gone = now.numbers[~same], np.setdiff1d(known.numbers, now.numbers, assume_unique=True)
    if int(sizes[~same].sum()) > max_bytes:
        return ExportStep(gallery, changed, gone, None, None)
    taken = tuple(_taken(db, at, one) for one in map(int, changed))
    return ExportStep(
        gallery, changed, gone, tuple(one for one in taken if one is not None), _thresholds(db, at.generation)
    )


def subjects(
    db: sqlite3.Connection, gallery_id: str, uid: str, numbers: Sequence[int], max_bytes: int
) -> tuple[list[MovedSubject], int]:
    """The first of the subjects of these numbers, as far as they are there and fit (one always does), and how many of
    the numbers that were. Raises as step(), also GalleryNotFound where the gallery is another one by now."""
    at = queries.place(db, gallery_id)
    if queries.uid(db, at.number) != uid:
        raise GalleryNotFound(gallery_id)
    page: list[MovedSubject] = []
    size = 0
    for place, number in enumerate(numbers):
        taken = _taken(db, at, number)
        if taken is None:
            continue
        size += taken.nbytes
        if page and size > max_bytes:
            return page, place
        page.append(taken)
    return page, len(numbers)


def _versions(db: sqlite3.Connection, at: Place) -> tuple[KnownSubjects, Integers]:
    """Of all subjects, and about how many bytes each takes, int64 [n]."""
    cursor = db.execute(
        "SELECT number, seal, encodings FROM subjects NOT INDEXED WHERE gallery = ? ORDER BY number", (at.number,)
    )
    cursor.row_factory = None
    rows = np.array(cursor.fetchall(), np.int64).reshape(-1, 3)
    seals = rows[:, 1].astype(np.uint64)
    cursor = db.execute("SELECT subject, seal FROM negatives WHERE generation = ?", (at.generation,))
    cursor.row_factory = None
    negatives = np.array(cursor.fetchall(), np.int64).reshape(-1, 2)
    np.add.at(seals, np.searchsorted(rows[:, 0], negatives[:, 0]), negatives[:, 1].astype(np.uint64))  # modulo 2**64
    return KnownSubjects(rows[:, 0].copy(), seals), (1 + rows[:, 2]) * (4 * at.dimension)


def _taken(db: sqlite3.Connection, at: Place, number: int) -> MovedSubject | None:
    """None where it is gone. Raises StoreDamaged, KeyDestroyed."""
    stored = queries.subject_numbered(db, number)
    if stored is None or stored.gallery != at.number:
        return None
    key = queries.subject_key(db, stored)
    encodings, negatives = [], []
    for row in queries.subject_encodings(db, at.generation, stored):
        content = queries.decrypted(db, stored, key, row.vector, encoding_identity(row.generation, row.number))
        (vector,) = queries.vectors_in(db, [content], at.dimension)
        encodings.append(MovedEncoding(row.number, row.created, vector, note_in(db, content, at.dimension)))
    rows = queries.subject_negatives(db, at.generation, stored)
    for one in rows:
        content = queries.decrypted(db, stored, key, one.vector, negative_identity(one.generation, one.number))
        (vector,) = queries.vectors_in(db, [content], at.dimension)
        negatives.append(MovedEncoding(one.number, one.created, vector))
    version = (stored.seal + sum(one.seal for one in rows)) % MODULUS
    return MovedSubject(
        *(number, version, stored.id, _labels(db, stored), stored.created, stored.updated, stored.retention),
        *(tuple(encodings), tuple(negatives)),
    )


def _labels(db: sqlite3.Connection, stored: StoredSubject) -> dict[str, str]:
    labels: dict[str, str] = json.loads(queries.labels(db, stored))
    return labels


def _thresholds(db: sqlite3.Connection, generation: int) -> tuple[ThresholdVersion, ...]:
    rows = db.execute(
        f"SELECT {THRESHOLDS.columns} FROM thresholds WHERE generation = ? ORDER BY version", (generation,)
    ).fetchall()
    return tuple(pages.threshold_version(db, row) for row in rows)
