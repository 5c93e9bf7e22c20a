"""What can be written: each mutation is one object that the writer runs inside a transaction.

A mutation only touches the database it is given, so that the writer may run it again after a rollback. It
returns its result and the Effect that an index has to follow once the transaction is committed.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Generic, Protocol, TypeVar, get_args

import numpy as np

from oneglance_core.distance import squared_l2
from oneglance_core.fusion import DecidedBy, has_template
from oneglance_core.names import composed
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
    SubjectNotFound,
)
from oneglance_index.records import (
    EVERYBODY,
    AddedNegative,
    Change,
    Deleted,
    Gallery,
    Integers,
    Retention,
    SubjectFilter,
    Vectors,
    retention_of,
)
from oneglance_index.store import queries
from oneglance_index.store.ciphers import encrypt, keys_of, negative_identity, slots_of
from oneglance_index.store.ledger import Ledger, bury_gallery, insert_gallery, next_number, update_gallery
from oneglance_index.store.notes import content
from oneglance_index.store.queries import NewSnapshot, Place, StoredSubject
from oneglance_index.store.rekeying import NOTHING_DESTROYED, Destroyed, destroyed, rekey
from oneglance_index.store.seals import (
    ENCODINGS,
    GALLERIES,
    GENERATIONS,
    MAPPED,
    NEGATIVES,
    NO_ROWS,
    SUBJECTS,
    THRESHOLDS,
)

T = TypeVar("T")

NOTHING_REMOVED: Integers = np.empty(0, np.int64)
NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Effect:
    """What a committed mutation means for the index of a generation: to make it, to change it, or to drop it.

    `changes` are of one transaction, and those of one revision each of another subject. `updated` is the gallery after
    its own settings changed; `kind_set` says that its kind of index was set, to the same perhaps; `remade` says that
    its rule of fusion changed, so that the index is made anew from the store. `negatives` is the number of a subject
    whose negatives changed, and whether it has any now; `having_negatives`, of one that is remade, the numbers of all
    that have some, where these changed, too. `swapped`: this gallery and another one have each other's former id, and
    are so now; `gallery_id` is the present one. `mapped`: the numbers of subjects that have mapped encodings now,
    `no_longer_mapped`: of those that are there, but haven't any more.
    """

    generation: int
    gallery_id: str
    changes: tuple[Change, ...] = ()
    created: Gallery | None = None
    updated: Gallery | None = None
    kind_set: bool = False
    remade: bool = False
    dropped: bool = False
    negatives: tuple[int, bool] | None = None
    having_negatives: frozenset[int] | None = None
    swapped: tuple[Gallery, Gallery] | None = None
    mapped: frozenset[int] = NOBODY
    no_longer_mapped: frozenset[int] = NOBODY

    @property
    def only_changes(self) -> bool:
        settings = (self.created, self.updated, self.negatives, self.having_negatives)
        others = self.remade or self.dropped or self.mapped or self.no_longer_mapped
        return not others and all(one is None for one in settings)


def joined(effects: Iterable[Effect]) -> Iterator[Effect]:
    """The same, where those that follow one another and only change one index are one: an index takes over all changes
    of a transaction in less time than one by one."""
    for (generation, only_changes), some in itertools.groupby(effects, lambda one: (one.generation, one.only_changes)):
        if only_changes:
            first, *others = some
            changes = itertools.chain(first.changes, *(other.changes for other in others))
            yield Effect(generation, first.gallery_id, tuple(changes))
        else:
            yield from some


@dataclass(frozen=True, slots=True)
class Applied(Generic[T]):
    """`destroyed`: the keys of what is deleted. They go once the transaction is committed; the result waits for it.
    `also`: what it meant for other galleries, in this order, after `effect`."""

    result: T
    effect: Effect | None = None
    destroyed: tuple[Destroyed, ...] = NOTHING_DESTROYED
    also: tuple[Effect, ...] = ()

    @property
    def effects(self) -> tuple[Effect, ...]:
        return self.also if self.effect is None else (self.effect, *self.also)


class Mutation(Protocol[T]):
    def run(self, db: sqlite3.Connection) -> Applied[T]: ...


def made_for(at: Place, vectors: Vectors, encoder_digest: str | None, others: Mapping[str, Vectors]) -> Vectors:
    """Those of a gallery's encoder: `vectors` are of `encoder_digest` (None: of whichever it has), `others` of others.
    Raises EncoderMismatch."""
    if encoder_digest in (None, at.encoder_digest):
        return vectors
    if at.encoder_digest in others:
        return others[at.encoder_digest]
    raise EncoderMismatch(at.gallery_id, at.encoder_digest, encoder_digest or "")


def bare_change(revision: int, dimension: int, **fields: object) -> Change:
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
    keep_crops: bool = False

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        self.check_free(db)
        return self.made(db, time.time(), time.time())

    def check_free(self, db: sqlite3.Connection) -> None:
        """Raises GalleryExists."""
        if queries.find_gallery(db, self.gallery_id) is not None:
            raise GalleryExists(self.gallery_id)

    def made(
        self, db: sqlite3.Connection, created: float, generation_created: float, policies: str | None = None
    ) -> Applied[Gallery]:
        """Created at these times."""
        number, generation = next_number(db, GALLERIES), next_number(db, GENERATIONS)
        row: tuple[object, ...] = (self.gallery_id, self.description, self.target_fpir, policies, None)
        row = (*row, retention_of(keep_crops=self.keep_crops))
        insert_gallery(db, (number, created, *row))
        before = Place(
            *(self.gallery_id, number, generation, self.encoder_digest, self.dimension, self.fusion),
            *(-1, 0, 0, NO_ROWS),
        )
        keys_of(db).make(number)
        ledger = Ledger(db, before)
        row = (generation, number, self.dimension, 0, generation_created, self.least_gap, "active")
        ledger.insert(
            GENERATIONS,
            (*row, self.encoder_digest, self.kind, self.fusion, self.quality, None, self.doubt, self.decided_by),
        )
        ledger.close()
        stored = queries.gallery(db, self.gallery_id)
        return Applied(stored.gallery, Effect(stored.place.generation, self.gallery_id, created=stored.gallery))


@dataclass(frozen=True, slots=True)
class DeleteGallery:
    """The gallery is in no answer from here on, and its id is free; its rows go slice by slice (purging.py)."""

    gallery_id: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.gallery(db, self.gallery_id)
        bury_gallery(db, stored)
        effect = Effect(stored.place.generation, self.gallery_id, dropped=True)
        return Applied(stored.gallery, effect, (Destroyed(stored.place.number, None),))


@dataclass(frozen=True, slots=True)
class SetThreshold:
    gallery_id: str
    threshold: float | None
    calibration: str | None
    of: Gallery | None = None

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        if self.of is not None:
            if stored.gallery.created != self.of.created:  # another one of the same name
                raise GalleryNotFound(self.gallery_id)
            if stored.gallery.active.fusion != self.of.active.fusion:
                raise FusionChanged(self.gallery_id, self.of.active.fusion, stored.gallery.active.fusion)
            if stored.gallery.active.decided_by != self.of.active.decided_by:
                raise DecidedByChanged(self.gallery_id, self.of.active.decided_by, stored.gallery.active.decided_by)
        if self.threshold is not None and self.threshold < 0 and stored.place.fusion != "margin":
            raise ValueError(f"a threshold on distances is a finite number >= 0, got {self.threshold}")
        return _changed(db, stored, _NewThreshold(self.threshold, self.calibration))


@dataclass(frozen=True, slots=True)
class SetTargetFpir:
    """The gallery's own threshold is cleared: it would hide the target."""

    gallery_id: str
    target_fpir: float | None

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        active = stored.gallery.active
        update_gallery(db, stored.gallery_row, target_fpir=self.target_fpir)
        clear = active.threshold is not None or (self.target_fpir is None and active.followed is not None)
        return _changed(db, stored, _CLEARED if clear else None)


@dataclass(frozen=True, slots=True)
class SetFusion:
    """The gallery's own threshold is cleared: it was for scores by the former rule."""

    gallery_id: str
    fusion: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        if stored.place.fusion == self.fusion:
            return Applied(stored.gallery)
        check_decidable(self.gallery_id, self.fusion, stored.gallery.active.decided_by)
        generation = stored.place.generation
        # By a rule that has templates a snapshot has another order. The log of deletions stays: one may be under way.
        slots = [block.slot for block in queries.blocks(db, generation)]
        for table in ("snapshots", "blocks"):
            db.execute(f"DELETE FROM {table} WHERE generation = ?", (generation,))
        clear = stored.gallery.active.threshold is not None or stored.gallery.active.followed is not None
        applied = _changed(db, stored, _CLEARED if clear else None, fusion=self.fusion)
        assert applied.effect is not None
        gone = destroyed(stored.place.number, *slots)
        return replace(applied, effect=replace(applied.effect, remade=True), destroyed=gone)


@dataclass(frozen=True, slots=True)
class SetDecidedBy:
    """The gallery's own threshold is cleared: it was for what decided before."""

    gallery_id: str
    decided_by: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        active = stored.gallery.active
        if active.decided_by == self.decided_by:
            return Applied(stored.gallery)
        check_decidable(self.gallery_id, active.fusion, self.decided_by)
        clear = active.threshold is not None or active.followed is not None
        return _changed(db, stored, _CLEARED if clear else None, decided_by=self.decided_by)


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
        stored = queries.finished(db, self.gallery_id)
        return _changed(db, stored, quality=self.quality)


@dataclass(frozen=True, slots=True)
class SetLeastGap:
    gallery_id: str
    least_gap: float

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        return _changed(db, stored, least_gap=self.least_gap)


@dataclass(frozen=True, slots=True)
class SetKind:
    gallery_id: str
    kind: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        applied = _changed(db, stored, kind=self.kind)
        assert applied.effect is not None
        return replace(applied, effect=replace(applied.effect, kind_set=True))


@dataclass(frozen=True, slots=True)
class SetDoubt:
    gallery_id: str
    doubt: str | None

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        return _changed(db, stored, doubt=self.doubt)


@dataclass(frozen=True, slots=True)
class _NewThreshold:
    threshold: float | None
    calibration: str | None


_CLEARED = _NewThreshold(None, None)


def _changed(
    db: sqlite3.Connection, stored: queries.Stored, new: _NewThreshold | None = None, **columns: object
) -> Applied[Gallery]:
    """The gallery has a new threshold, or other `columns` of its generation change: one more revision."""
    ledger = Ledger(db, stored.place)
    if new is not None:
        gallery = stored.gallery
        version = gallery.active.threshold_revision + 1
        row = (stored.place.generation, version, new.threshold, new.calibration, time.time(), None, None)
        ledger.insert(THRESHOLDS, (*row, gallery.subjects, gallery.encodings))
        columns = {**columns, "threshold": new.threshold, "threshold_revision": version}
    if columns:
        ledger.update(GENERATIONS, stored.generation_row, **columns)
    return updated_by(db, ledger)


def unchanged(ledger: Ledger) -> Change:
    """One more revision, in which no encodings come or go."""
    return bare_change(ledger.close(), ledger.at.dimension)


def updated_by(db: sqlite3.Connection, ledger: Ledger) -> Applied[Gallery]:
    """The gallery's own settings changed: one more revision."""
    place = ledger.at
    change = unchanged(ledger)
    updated = queries.gallery(db, place.gallery_id).gallery
    return Applied(updated, Effect(place.generation, place.gallery_id, (change,), updated=updated))


def kept_of(db: sqlite3.Connection, at: Place, subject: StoredSubject | None) -> tuple[Integers | None, Vectors | None]:
    """The encodings that a subject has now, numbers int64 [k] and vectors float32 [k, D], where the rule of fusion has
    templates; else None.

    subject: None for one that has none.
    """
    if not has_template(at.fusion):
        return None, None
    if subject is None:
        return NOTHING_REMOVED, np.empty((0, at.dimension), np.float32)
    return queries.subject_vectors(db, at, subject)


def log_deletions(db: sqlite3.Connection, at: Place, revision: int, subject: int, numbers: Integers) -> list[int]:
    """Of a subject's encodings, for snapshots. Returns the slots of the blocks of the present one that these encodings
    are in."""
    db.executemany(
        "INSERT INTO deletions (generation, revision, encoding, subject) VALUES (?, ?, ?, ?)",
        ((at.generation, revision, int(number), subject) for number in numbers),
    )
    return _drop_blocks(db, at.generation, [subject] if has_template(at.fusion) else numbers.tolist())


def chosen(
    db: sqlite3.Connection, at: Place, subject: StoredSubject, encoding_id: str | None, encoding_key: str | None
) -> Integers:
    """The numbers of the encodings of a subject that have this id, or this key. Raises EncodingNotFound."""
    if encoding_key is None:
        held = queries.encoding_numbers(db, at.generation, subject)
        # Compared as text: " 1", "01" and "+1" are no ids, though int() would take them.
        found: Integers = held[held.astype(str) == encoding_id]
    else:
        notes = queries.subject_notes(db, at, subject)
        found = np.array([number for number, note in notes.items() if note.key == composed(encoding_key)], np.int64)
    if not len(found):
        raise EncodingNotFound(at.gallery_id, subject.id, encoding_id or encoding_key or "")
    return found


def _drop_blocks(db: sqlite3.Connection, generation: int, gone: Iterable[int]) -> list[int]:
    """Forgets the blocks of the snapshot that these encodings, or all those of these subjects, are in. Returns the
    slots of their keys."""
    slots = []
    for number in gone:
        block = queries.block_of(db, generation, number)
        if block is not None:
            db.execute("DELETE FROM blocks WHERE generation = ? AND first = ?", (generation, block.first))
            slots.append(block.slot)
    return slots


@dataclass(frozen=True, slots=True)
class DeleteEncodings:
    """Deletes one encoding of a subject, or all that have one key, or (both None) the subject with all of them.

    `expired_by`: only a subject whose time is over at that time; `among`: only one that this lets through.
    """

    gallery_id: str
    subject_id: str
    encoding_id: str | None
    expired_by: float | None = None
    encoding_key: str | None = None
    among: SubjectFilter = EVERYBODY

    @property
    def whole(self) -> bool:
        """Whether the subject is meant, not one encoding."""
        return self.encoding_id is None and self.encoding_key is None

    def run(self, db: sqlite3.Connection) -> Applied[Deleted]:
        at = queries.place(db, self.gallery_id)
        subject = queries.find_subject(db, at.number, self.subject_id)
        if subject is None or not self._is_due(subject) or not queries.passes(db, subject, self.among):
            raise SubjectNotFound(self.gallery_id, self.subject_id)
        held = queries.encoding_numbers(db, at.generation, subject)
        removed = held
        if not self.whole:
            removed = chosen(db, at, subject, self.encoding_id, self.encoding_key)
        left = len(held) - len(removed)
        ledger = Ledger(db, at)
        now_stored = subject._replace(encodings=left)
        if left:
            for number in removed.tolist():
                ledger.remove(ENCODINGS, "number = ?", (number,))
            now_stored = without_former_key(ledger, subject, encodings=left)
        else:
            ledger.remove_subject(subject.number)
        gone = [subject.slot, *log_deletions(db, at, ledger.revision, subject.number, removed)]
        revision = ledger.close(subjects=-(not left), encodings=-len(removed))
        kept_numbers, kept = kept_of(db, at, now_stored)
        change = bare_change(
            revision,
            at.dimension,
            subject=subject.number,
            subject_id=subject.id,
            removed=removed,
            kept=kept,
            kept_numbers=kept_numbers,
            removed_subject=None if left else subject.number,
        )
        effect = Effect(at.generation, self.gallery_id, (change,))
        return Applied(Deleted(len(removed), not left, revision), effect, destroyed(at.number, *gone))

    def _is_due(self, subject: StoredSubject) -> bool:
        return self.expired_by is None or (subject.expires is not None and subject.expires <= self.expired_by)


@dataclass(frozen=True, slots=True)
class SetRetention:
    gallery_id: str
    subject_id: str
    retention: Retention

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        subject = queries.find_subject(db, stored.place.number, self.subject_id)
        if subject is None:
            raise SubjectNotFound(self.gallery_id, self.subject_id)
        ledger = Ledger(db, stored.place)
        ledger.update(SUBJECTS, subject, updated=time.time(), **asdict(self.retention))
        return updated_by(db, ledger)


def without_former_key(ledger: Ledger, subject: StoredSubject, encodings: int | None = None) -> StoredSubject:
    """A subject of which some contents went, with a new key, and so many encodings left. Destroy the former one."""
    labels = queries.labels(ledger.db, subject)
    key = rekey(ledger, subject)
    sealed = key.labels(subject.gallery, subject.number, labels)
    encodings = subject.encodings if encodings is None else encodings
    now = subject._replace(encodings=encodings, updated=time.time(), slot=key.slot, labels=sealed)
    ledger.update(SUBJECTS, subject, encodings=encodings, updated=now.updated, slot=now.slot, labels=sealed)
    return now


def without_mapped(ledger: Ledger, subject: StoredSubject) -> tuple[StoredSubject, Integers, list[int]]:
    """A subject whose encodings are mapped, without any: give it others. The numbers of those that went, and the slots
    of the keys that are to be destroyed."""
    at = ledger.at
    held = queries.encoding_numbers(ledger.db, at.generation, subject)
    ledger.remove(ENCODINGS, "subject = ? AND generation = ?", (subject.number, at.generation))
    ledger.remove(MAPPED, "subject = ?", (subject.number,))
    without_former_key(ledger, subject, encodings=0)
    gone = [subject.slot, *log_deletions(ledger.db, at, ledger.revision, subject.number, held)]
    now = queries.subject_numbered(ledger.db, subject.number)
    assert now is not None
    return now, held, gone


@dataclass(frozen=True, slots=True)
class AddNegative:
    """`others`: the same example by other encoders, by digest."""

    gallery_id: str
    subject_id: str
    vector: Vectors
    encoder_digest: str | None
    max_negatives: int
    others: Mapping[str, Vectors] = field(default_factory=dict)

    def run(self, db: sqlite3.Connection) -> Applied[AddedNegative]:
        stored = queries.finished(db, self.gallery_id)
        at = stored.place
        mine = made_for(at, self.vector, self.encoder_digest, self.others)
        subject = queries.find_subject(db, at.number, self.subject_id)
        if subject is None:
            raise SubjectNotFound(self.gallery_id, self.subject_id)
        (vector,) = check_encodings(mine[None], at.dimension)
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
        ledger = Ledger(db, at)
        number = next_number(db, NEGATIVES)
        identity = negative_identity(at.generation, number)
        sealed = encrypt(queries.subject_key(db, subject), content(vector), identity)
        ledger.insert(NEGATIVES, (number, at.generation, subject.number, time.time(), sealed))
        applied = updated_by(db, ledger)
        effect = replace(applied.effect, negatives=(subject.number, True)) if applied.effect else None
        return Applied(AddedNegative(str(number), True, applied.result.revision), effect)


@dataclass(frozen=True, slots=True)
class DeleteNegative:
    """The result is the gallery as it is then."""

    gallery_id: str
    subject_id: str
    negative_id: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        subject = queries.find_subject(db, stored.place.number, self.subject_id)
        if subject is None:
            raise SubjectNotFound(self.gallery_id, self.subject_id)
        numbers, _ = queries.negative_vectors(db, stored.place, subject)
        gone = numbers[numbers.astype(str) == self.negative_id]  # as text, as DeleteEncodings does
        if not len(gone):
            raise NegativeNotFound(self.gallery_id, self.subject_id, self.negative_id)
        ledger = Ledger(db, stored.place)
        ledger.remove(NEGATIVES, "number = ?", (int(gone[0]),))
        without_former_key(ledger, subject)
        applied = updated_by(db, ledger)
        effect = replace(applied.effect, negatives=(subject.number, len(numbers) > 1)) if applied.effect else None
        return Applied(applied.result, effect, destroyed(subject.gallery, subject.slot))


@dataclass(slots=True)
class VouchForSnapshot:
    """Records that a snapshot file is whole. False where it is of no use any more. No revision of the gallery.

    The keys of its blocks come into slots here, but those of blocks of which something was deleted meanwhile.
    """

    generation: int
    snapshot: NewSnapshot

    def run(self, db: sqlite3.Connection) -> Applied[bool]:
        number, new = self.generation, self.snapshot
        rows = db.execute("SELECT gallery, fusion FROM generations WHERE number = ?", (number,)).fetchall()
        if not rows or has_template(rows[0]["fusion"]) != new.by_subject:  # since the snapshot was begun
            return Applied(False)
        present = queries.snapshot_record(db, number)
        if present is not None and present.revision > new.revision:
            return Applied(False)
        gallery = rows[0]["gallery"]
        gone = [block.slot for block in queries.blocks(db, number)]
        db.execute("DELETE FROM blocks WHERE generation = ?", (number,))
        since = queries.subjects_deleted_since if new.by_subject else queries.deletions_since
        alive = _without(new, since(db, number, new.revision))
        slots = slots_of(db, gallery).put([key for _, key in alive])
        db.executemany(
            "INSERT INTO blocks (generation, first, last, slot) VALUES (?, ?, ?, ?)",
            ((number, *bounds, slot) for (bounds, _), slot in zip(alive, slots, strict=True)),
        )
        db.execute(
            "INSERT OR REPLACE INTO snapshots (generation, revision, sha256, bytes) VALUES (?, ?, ?, ?)",
            (number, new.revision, new.sha256, new.size),
        )
        db.execute("DELETE FROM deletions WHERE generation = ? AND revision <= ?", (number, new.revision))
        return Applied(True, destroyed=destroyed(gallery, *gone))


def _without(new: NewSnapshot, deleted: Integers) -> list[tuple[tuple[int, int], bytes]]:
    """The blocks of a snapshot, and their keys, that have none of these numbers."""
    if not new.bounds:
        return []
    firsts = np.array([first for first, _ in new.bounds], np.int64)
    places = np.unique(np.searchsorted(firsts, deleted, side="right") - 1).tolist()
    gone = set(places)
    blocks = zip(new.bounds, new.keys, strict=True)
    return [block for place, block in enumerate(blocks) if place not in gone]


@dataclass(frozen=True, slots=True)
class ForgetSnapshot:
    """The snapshot of a generation is of no use. Its keys are to be destroyed by the caller. No revision of the
    gallery."""

    generation: int

    def run(self, db: sqlite3.Connection) -> Applied[None]:
        for table in ("snapshots", "blocks"):
            db.execute(f"DELETE FROM {table} WHERE generation = ?", (self.generation,))
        return Applied(None)
