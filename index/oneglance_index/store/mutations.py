"""What can be written: each mutation is one object that the writer runs inside a transaction.

A mutation only touches the database it is given, so that the writer may run it again after a rollback. It
returns its result and the Effect that an index has to follow once the transaction is committed.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar, get_args

import numpy as np

from oneglance_core.distance import squared_l2
from oneglance_core.fusion import DecidedBy, has_template
from oneglance_index.encodings import check_encodings
from oneglance_index.errors import (
    DecidedByChanged,
    EncoderMismatch,
    EncodingNotFound,
    FusionChanged,
    GalleryExists,
    GalleryNotFound,
    LimitExceeded,
    NegativeEnrolled,
    NegativeNotFound,
    RulesConflict,
    SubjectExists,
    SubjectNotFound,
)
from oneglance_index.records import (
    AddedNegative,
    Change,
    Deleted,
    Doubt,
    Doubting,
    Enrolled,
    Gallery,
    Integers,
    Neighbour,
    OnExisting,
    Vectors,
)
from oneglance_index.store import queries
from oneglance_index.store.doubting import doubt
from oneglance_index.store.queries import SnapshotRecord
from oneglance_index.store.recent import Recent

T = TypeVar("T")

NOTHING_REMOVED: Integers = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a committed mutation means for the index of a generation: to make it, to change it, or to drop it.

    `updated` is the gallery after its own settings changed; `remade` says that its rule of fusion did, so that the
    index is made anew from the store. `negatives` is a subject whose negatives changed, and whether it has any now.
    """

    generation: int
    gallery_id: str
    change: Change | None = None
    created: Gallery | None = None
    updated: Gallery | None = None
    remade: bool = False
    dropped: bool = False
    negatives: tuple[str, bool] | None = None


@dataclass(frozen=True, slots=True)
class Applied(Generic[T]):
    result: T
    effect: Effect | None = None


class Mutation(Protocol[T]):
    def run(self, db: sqlite3.Connection) -> Applied[T]: ...


def oldest_request(ttl_seconds: float) -> float:
    """When a request must have been made at the earliest to be remembered, seconds since the epoch."""
    return time.time() - ttl_seconds


def _bump(db: sqlite3.Connection, gallery: int, subjects: int = 0, encodings: int = 0) -> int:
    """Counts one more revision, and by how much the gallery grew. Returns the new revision."""
    row = db.execute(
        "UPDATE galleries SET revision = revision + 1, subjects = subjects + ?, encodings = encodings + ?"
        " WHERE number = ? RETURNING revision",
        (subjects, encodings, gallery),
    ).fetchall()[0]
    return int(row["revision"])


def _unchanged(revision: int, dimension: int, **fields: object) -> Change:
    """A change that adds and removes nothing, with some fields replaced."""
    empty = Change(revision, NOTHING_REMOVED, np.empty((0, dimension), np.float32), 0, "", NOTHING_REMOVED)
    return replace(empty, **fields)  # type: ignore[arg-type]  # a dataclass's own fields, by name


@dataclass(frozen=True, slots=True)
class CreateGallery:
    gallery_id: str
    encoder_digest: str
    dimension: int
    description: str
    kind: str
    fusion: str
    target_fpir: float | None
    quality: str | None = None
    least_gap: float = 0.0
    doubt: str | None = None
    decided_by: str = "distance"

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        if queries.find_gallery(db, self.gallery_id) is not None:
            raise GalleryExists(self.gallery_id)
        now = time.time()
        number = db.execute(
            "INSERT INTO galleries (id, description, created, target_fpir) VALUES (?, ?, ?, ?)",
            (self.gallery_id, self.description, now, self.target_fpir),
        ).lastrowid
        db.execute(
            "INSERT INTO generations"
            " (gallery, state, encoder_digest, dimension, kind, fusion, quality, created, least_gap, doubt, decided_by)"
            " VALUES (?, 'active', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(number, self.encoder_digest, self.dimension, self.kind, self.fusion, self.quality, now),
                *(self.least_gap, self.doubt, self.decided_by),
            ),
        )
        stored = queries.gallery(db, self.gallery_id)
        return Applied(stored.gallery, Effect(stored.place.generation, self.gallery_id, created=stored.gallery))


@dataclass(frozen=True, slots=True)
class DeleteGallery:
    gallery_id: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        db.execute("DELETE FROM galleries WHERE number = ?", (stored.place.number,))
        return Applied(stored.gallery, Effect(stored.place.generation, self.gallery_id, dropped=True))


@dataclass(frozen=True, slots=True)
class SetThreshold:
    gallery_id: str
    threshold: float | None
    calibration: str | None
    of: Gallery | None = None

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        if self.of is not None:
            if stored.gallery.created != self.of.created:  # another one of the same name
                raise GalleryNotFound(self.gallery_id)
            if stored.gallery.active.fusion != self.of.active.fusion:
                raise FusionChanged(self.gallery_id, self.of.active.fusion, stored.gallery.active.fusion)
            if stored.gallery.active.decided_by != self.of.active.decided_by:
                raise DecidedByChanged(self.gallery_id, self.of.active.decided_by, stored.gallery.active.decided_by)
        if self.threshold is not None and self.threshold < 0 and stored.place.fusion != "margin":
            raise ValueError(f"a threshold on distances is a finite number >= 0, got {self.threshold}")
        _set_threshold(db, stored, self.threshold, self.calibration)
        return _updated(db, stored)


@dataclass(frozen=True, slots=True)
class SetTargetFpir:
    """The gallery's own threshold is cleared: it would hide the target."""

    gallery_id: str
    target_fpir: float | None

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        active = stored.gallery.active
        db.execute("UPDATE galleries SET target_fpir = ? WHERE number = ?", (self.target_fpir, stored.place.number))
        if active.threshold is not None or (self.target_fpir is None and active.followed is not None):
            _set_threshold(db, stored, None, None)
        return _updated(db, stored)


@dataclass(frozen=True, slots=True)
class SetFusion:
    """The gallery's own threshold is cleared: it was for scores by the former rule."""

    gallery_id: str
    fusion: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        if stored.place.fusion == self.fusion:
            return Applied(stored.gallery)
        check_decidable(self.gallery_id, self.fusion, stored.gallery.active.decided_by)
        generation = stored.place.generation
        db.execute("UPDATE generations SET fusion = ? WHERE number = ?", (self.fusion, generation))
        # By a rule that has templates a snapshot has another order.
        db.execute("DELETE FROM snapshots WHERE generation = ?", (generation,))
        db.execute("DELETE FROM deletions WHERE generation = ?", (generation,))
        if stored.gallery.active.threshold is not None or stored.gallery.active.followed is not None:
            _set_threshold(db, stored, None, None)
        applied = _updated(db, stored)
        assert applied.effect is not None
        return replace(applied, effect=replace(applied.effect, remade=True))


@dataclass(frozen=True, slots=True)
class SetDecidedBy:
    """The gallery's own threshold is cleared: it was for what decided before."""

    gallery_id: str
    decided_by: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        active = stored.gallery.active
        if active.decided_by == self.decided_by:
            return Applied(stored.gallery)
        check_decidable(self.gallery_id, active.fusion, self.decided_by)
        db.execute("UPDATE generations SET decided_by = ? WHERE number = ?", (self.decided_by, stored.place.generation))
        if active.threshold is not None or active.followed is not None:
            _set_threshold(db, stored, None, None)
        return _updated(db, stored)


def check_decidable(gallery_id: str, fusion: str, decided_by: str) -> None:
    """Raises RulesConflict: the rule "margin" is for distances."""
    if decided_by not in get_args(DecidedBy):
        raise ValueError(f"what decides is distance or probability, not {decided_by}")
    if fusion == "margin" and decided_by == "probability":
        raise RulesConflict(gallery_id, fusion, decided_by)


@dataclass(frozen=True, slots=True)
class SetQuality:
    gallery_id: str
    quality: str | None

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        db.execute("UPDATE generations SET quality = ? WHERE number = ?", (self.quality, stored.place.generation))
        return _updated(db, stored)


@dataclass(frozen=True, slots=True)
class SetLeastGap:
    gallery_id: str
    least_gap: float

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        db.execute("UPDATE generations SET least_gap = ? WHERE number = ?", (self.least_gap, stored.place.generation))
        return _updated(db, stored)


@dataclass(frozen=True, slots=True)
class SetDoubt:
    gallery_id: str
    doubt: str | None

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        db.execute("UPDATE generations SET doubt = ? WHERE number = ?", (self.doubt, stored.place.generation))
        return _updated(db, stored)


def _set_threshold(
    db: sqlite3.Connection, stored: queries.Stored, threshold: float | None, calibration: str | None
) -> None:
    gallery, generation = stored.gallery, stored.place.generation
    version = gallery.active.threshold_revision + 1
    db.execute(
        "UPDATE generations SET threshold = ?, threshold_revision = ? WHERE number = ?",
        (threshold, version, generation),
    )
    db.execute(
        "INSERT INTO thresholds (generation, version, threshold, calibration, since, subjects, encodings)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (generation, version, threshold, calibration, time.time(), gallery.subjects, gallery.encodings),
    )


def count_revision(db: sqlite3.Connection, at: queries.Place) -> Change:
    """One more revision, in which no encodings come or go."""
    return _unchanged(_bump(db, at.number), at.dimension)


def _updated(db: sqlite3.Connection, stored: queries.Stored) -> Applied[Gallery]:
    """The gallery's own settings changed: one more revision."""
    place = stored.place
    change = count_revision(db, place)
    updated = queries.gallery(db, place.gallery_id).gallery
    return Applied(updated, Effect(place.generation, place.gallery_id, change, updated=updated))


@dataclass(frozen=True, slots=True)
class Enroll:
    gallery_id: str
    subject_id: str
    encodings: Vectors
    encoder_digest: str | None
    labels: Mapping[str, str] | None
    on_existing: OnExisting
    request_id: str | None
    request_digest: bytes
    max_encodings: int
    request_ttl_seconds: float
    recent: Recent
    doubting: Doubting | None = None

    def run(self, db: sqlite3.Connection) -> Applied[Enrolled]:
        at = queries.place(db, self.gallery_id)
        gallery, generation = at.number, at.generation
        if self.encoder_digest not in (None, at.encoder_digest):
            raise EncoderMismatch(self.gallery_id, at.encoder_digest, self.encoder_digest or "")
        now = time.time()
        if self.request_id is not None:
            oldest = oldest_request(self.request_ttl_seconds)
            answered = queries.find_request(db, at, self.request_id, self.request_digest, oldest)
            if answered is not None:
                return Applied(answered)
            db.execute("DELETE FROM requests WHERE created < ?", (oldest,))
        vectors = check_encodings(self.encodings, at.dimension)
        found = queries.find_subject(db, gallery, self.subject_id)
        if found is not None and self.on_existing == "fail":
            raise SubjectExists(self.gallery_id, self.subject_id)
        held = queries.encoding_numbers(db, generation, found) if found is not None else NOTHING_REMOVED
        removed = held if self.on_existing == "replace" else NOTHING_REMOVED
        total = len(held) - len(removed) + len(vectors)
        if total > self.max_encodings:
            raise LimitExceeded("max_encodings_per_subject", self.max_encodings, total)

        revision = _bump(db, gallery, subjects=found is None, encodings=len(vectors) - len(removed))
        nearest_other: Neighbour | None = None
        doubts: tuple[Doubt, ...] = ()
        if self.doubting is not None:
            kept_from = found if self.on_existing == "add" else None
            nearest_other, doubts = doubt(
                *(db, at, self.doubting, self.subject_id, found, kept_from, vectors, revision, self.recent)
            )
        subject = self._write_subject(db, gallery, found, now)
        if len(removed):
            db.execute("DELETE FROM encodings WHERE subject = ? AND generation = ?", (subject, generation))
            _log_deletions(db, at, revision, removed)
        kept_numbers, kept = _kept(db, at, found if self.on_existing == "add" else None)
        numbers = [
            db.execute(
                "INSERT INTO encodings (generation, subject, vector, created, revision) VALUES (?, ?, ?, ?, ?)",
                (generation, subject, vector.astype("<f4", copy=False).tobytes(), now, revision),
            ).lastrowid
            for vector in vectors
        ]
        ids = tuple(map(str, numbers))
        enrolled = Enrolled(self.subject_id, ids, found is None, False, revision, nearest_other, doubts)
        if self.request_id is not None:
            db.execute(
                "INSERT INTO requests (gallery, id, digest, response, created) VALUES (?, ?, ?, ?, ?)",
                (gallery, self.request_id, self.request_digest, queries.dump_response(enrolled), now),
            )
        change = Change(
            *(revision, np.array(numbers, np.int64), vectors, subject, self.subject_id, removed),
            kept=kept,
            kept_numbers=kept_numbers,
        )
        return Applied(enrolled, Effect(generation, self.gallery_id, change))

    def _write_subject(self, db: sqlite3.Connection, gallery: int, found: int | None, now: float) -> int:
        labels = None if self.labels is None else json.dumps(dict(self.labels), ensure_ascii=False)
        if found is None:
            subject = db.execute(
                "INSERT INTO subjects (gallery, id, labels, created, updated) VALUES (?, ?, ?, ?, ?)",
                (gallery, self.subject_id, labels or "{}", now, now),
            ).lastrowid
            assert subject is not None
            return subject
        db.execute(
            "UPDATE subjects SET updated = ?, labels = coalesce(?, labels) WHERE number = ?",
            (now, labels, found),
        )
        return found


def _kept(db: sqlite3.Connection, at: queries.Place, subject: int | None) -> tuple[Integers | None, Vectors | None]:
    """The encodings that a subject has now, numbers int64 [k] and vectors float32 [k, D], where the rule of fusion has
    templates; else None.

    subject: None for one that has none.
    """
    if not has_template(at.fusion):
        return None, None
    if subject is None:
        return NOTHING_REMOVED, np.empty((0, at.dimension), np.float32)
    return queries.subject_vectors(db, at, subject)


def _log_deletions(db: sqlite3.Connection, at: queries.Place, revision: int, numbers: Integers) -> None:
    """For snapshots."""
    db.executemany(
        "INSERT INTO deletions (generation, revision, encoding) VALUES (?, ?, ?)",
        ((at.generation, revision, int(number)) for number in numbers),
    )


@dataclass(frozen=True, slots=True)
class DeleteEncodings:
    """Deletes one encoding of a subject, or (encoding_id None) the subject with all of them."""

    gallery_id: str
    subject_id: str
    encoding_id: str | None

    def run(self, db: sqlite3.Connection) -> Applied[Deleted]:
        at = queries.place(db, self.gallery_id)
        subject = queries.find_subject(db, at.number, self.subject_id)
        if subject is None:
            raise SubjectNotFound(self.gallery_id, self.subject_id)
        held = queries.encoding_numbers(db, at.generation, subject)
        # Compared as text: " 1", "01" and "+1" are no ids, though int() would take them.
        removed = held if self.encoding_id is None else held[held.astype(str) == self.encoding_id]
        if self.encoding_id is not None and not len(removed):
            raise EncodingNotFound(self.gallery_id, self.subject_id, self.encoding_id)
        last = len(removed) == len(held)
        revision = _bump(db, at.number, subjects=-last, encodings=-len(removed))
        if last:
            db.execute("DELETE FROM subjects WHERE number = ?", (subject,))
        else:
            db.execute("DELETE FROM encodings WHERE number = ?", (int(removed[0]),))
            db.execute("UPDATE subjects SET updated = ? WHERE number = ?", (time.time(), subject))
        _log_deletions(db, at, revision, removed)
        kept_numbers, kept = _kept(db, at, subject)
        change = _unchanged(
            revision,
            at.dimension,
            subject=subject,
            subject_id=self.subject_id,
            removed=removed,
            kept=kept,
            kept_numbers=kept_numbers,
            removed_subject=subject if last else None,
        )
        return Applied(Deleted(len(removed), last, revision), Effect(at.generation, self.gallery_id, change))


@dataclass(frozen=True, slots=True)
class AddNegative:
    gallery_id: str
    subject_id: str
    vector: Vectors
    encoder_digest: str | None
    max_negatives: int

    def run(self, db: sqlite3.Connection) -> Applied[AddedNegative]:
        stored = queries.gallery(db, self.gallery_id)
        at = stored.place
        if self.encoder_digest not in (None, at.encoder_digest):
            raise EncoderMismatch(self.gallery_id, at.encoder_digest, self.encoder_digest or "")
        subject = queries.find_subject(db, at.number, self.subject_id)
        if subject is None:
            raise SubjectNotFound(self.gallery_id, self.subject_id)
        (vector,) = check_encodings(self.vector[None], at.dimension)
        numbers, negatives = queries.negative_vectors(db, at, subject)
        same = numbers[(negatives == vector).all(axis=1)]
        if len(same):
            return Applied(AddedNegative(str(same[0]), False, stored.gallery.revision))
        encodings, vectors = queries.subject_vectors(db, at, subject)
        enrolled = encodings[squared_l2(vectors, vector) == 0]
        if len(enrolled):
            raise NegativeEnrolled(self.gallery_id, self.subject_id, str(enrolled[0]))
        if len(numbers) >= self.max_negatives:
            raise LimitExceeded("max_negatives_per_subject", self.max_negatives, len(numbers) + 1)
        number = db.execute(
            "INSERT INTO negatives (generation, subject, vector, created) VALUES (?, ?, ?, ?)",
            (at.generation, subject, vector.astype("<f4", copy=False).tobytes(), time.time()),
        ).lastrowid
        applied = _updated(db, stored)
        effect = replace(applied.effect, negatives=(self.subject_id, True)) if applied.effect else None
        return Applied(AddedNegative(str(number), True, applied.result.revision), effect)


@dataclass(frozen=True, slots=True)
class DeleteNegative:
    """The result is the gallery as it is then."""

    gallery_id: str
    subject_id: str
    negative_id: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        subject = queries.find_subject(db, stored.place.number, self.subject_id)
        if subject is None:
            raise SubjectNotFound(self.gallery_id, self.subject_id)
        numbers, _ = queries.negative_vectors(db, stored.place, subject)
        gone = numbers[numbers.astype(str) == self.negative_id]  # as text, as DeleteEncodings does
        if not len(gone):
            raise NegativeNotFound(self.gallery_id, self.subject_id, self.negative_id)
        db.execute("DELETE FROM negatives WHERE number = ?", (int(gone[0]),))
        applied = _updated(db, stored)
        effect = replace(applied.effect, negatives=(self.subject_id, len(numbers) > 1)) if applied.effect else None
        return Applied(applied.result, effect)


@dataclass(frozen=True, slots=True)
class VouchForSnapshot:
    """Records that a snapshot file is whole. False where the generation is gone. No revision of the gallery."""

    generation: int
    snapshot: SnapshotRecord

    def run(self, db: sqlite3.Connection) -> Applied[bool]:
        if not db.execute("SELECT 1 FROM generations WHERE number = ?", (self.generation,)).fetchall():
            return Applied(False)
        db.execute(
            "INSERT OR REPLACE INTO snapshots (generation, revision, sha256, bytes) VALUES (?, ?, ?, ?)",
            (self.generation, self.snapshot.revision, self.snapshot.sha256, self.snapshot.size),
        )
        db.execute(
            "DELETE FROM deletions WHERE generation = ? AND revision <= ?", (self.generation, self.snapshot.revision)
        )
        return Applied(True)
