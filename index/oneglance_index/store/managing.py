"""Mutations of subjects that are there: another id, other labels, two that become one, an encoding that goes elsewhere.

Rows name a subject by its number, and what is encrypted is authenticated by numbers: so another id is one row written
anew. An encoding that goes to another subject is stored anew, with a new number and the other's key; its former row
goes as by a deletion, and the key that it was encrypted with is destroyed.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oneglance_core.distance import squared_l2
from oneglance_core.names import composed
from oneglance_index.errors import LimitExceeded, NegativeOfTheOther, SameSubject, SubjectExists, SubjectNotFound
from oneglance_index.records import Change, Gallery, Integers, Moved, Vectors
from oneglance_index.store import queries
from oneglance_index.store.ciphers import encoding_identity, encrypt, negative_identity, request_identity
from oneglance_index.store.crops import crop_rows
from oneglance_index.store.enrolling import labels_as_json
from oneglance_index.store.ledger import Ledger
from oneglance_index.store.mutations import (
    NOBODY,
    NOTHING_REMOVED,
    Applied,
    Effect,
    bare_change,
    chosen,
    kept_of,
    log_deletions,
    without_former_key,
    without_mapped,
)
from oneglance_index.store.queries import Place, StoredEncoding, StoredSubject
from oneglance_index.store.rekeying import SubjectKey, destroyed, rekey
from oneglance_index.store.seals import CROPS, ENCODINGS, NEGATIVES, REQUESTS, SUBJECTS

MAX_LABELS = 64


@dataclass(frozen=True, slots=True)
class RenameSubject:
    """The result is the gallery as it is then."""

    gallery_id: str
    subject_id: str
    new_id: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        at = queries.place(db, self.gallery_id)
        subject, name = _found(db, at, self.subject_id), composed(self.new_id)
        other = queries.find_subject(db, at.number, name)
        if other is not None and other.number != subject.number:
            raise SubjectExists(self.gallery_id, name)
        if name == subject.id:
            return Applied(queries.gallery(db, self.gallery_id).gallery)
        ledger = Ledger(db, at)
        ledger.update(SUBJECTS, subject, id=name, updated=time.time())
        return _described(ledger, subject, subject_id=name)


@dataclass(frozen=True, slots=True)
class UpdateLabels:
    """Sets labels, and takes some away, or (`clear`) all others. The result is the gallery as it is then."""

    gallery_id: str
    subject_id: str
    labels: Mapping[str, str]
    removed: Collection[str]
    clear: bool

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        at = queries.place(db, self.gallery_id)
        subject = _found(db, at, self.subject_id)
        before = json.loads(queries.labels(db, subject))
        kept = {} if self.clear else {key: value for key, value in before.items() if key not in self.removed}
        after = {**kept, **self.labels}
        if after == before:
            return Applied(queries.gallery(db, self.gallery_id).gallery)
        _check_labels(after)
        ledger = Ledger(db, at)
        goes = any(after.get(key) != value for key, value in before.items())
        key = rekey(ledger, subject) if goes else _key_of(db, subject)
        text = labels_as_json(after)
        sealed = key.labels(at.number, subject.number, text)
        ledger.update(SUBJECTS, subject, updated=time.time(), slot=key.slot, labels=sealed)
        gone = (subject.slot,) if goes else ()
        return _described(ledger, subject, gone, subject_id=subject.id, labels=text.encode())


@dataclass(frozen=True, slots=True)
class MergeSubjects:
    """All encodings and negatives of a subject go to another one, which keeps its id, its retention and its own labels,
    and gets those labels whose keys it hasn't."""

    gallery_id: str
    subject_id: str
    into_id: str
    max_encodings: int
    max_negatives: int

    def run(self, db: sqlite3.Connection) -> Applied[Moved]:
        at = queries.place(db, self.gallery_id)
        source, target = _pair(db, at, self.subject_id, self.into_id)
        own = json.loads(queries.labels(db, target))
        labels = {**json.loads(queries.labels(db, source)), **own}
        _check_labels(labels)
        comes, makes_room = _meet(db, source, target)
        rows = queries.subject_encodings(db, at.generation, source) if comes else []
        _check_encodings(target, rows, self.max_encodings, makes_room)
        _check_apart(db, at, source, target)
        ledger = Ledger(db, at)
        negatives = self._merge_negatives(ledger, source, target)
        target, removed, slots = without_mapped(ledger, target) if makes_room else (target, NOTHING_REMOVED, [])
        text = labels_as_json(labels)
        sealed = target.labels if labels == own else _key_of(db, target).labels(at.number, target.number, text)
        # In this order: the index of single encodings never misses one that is moved.
        told = None if labels == own else text.encode()
        come = _give(ledger, source, target, rows, removed, labels=sealed, told=told)
        _hand_over_answers(ledger, source, target, come.ids)
        gone, others = _remove(ledger, source)
        revision = ledger.close(subjects=-1, encodings=len(rows) - source.encodings - len(removed))
        effect = Effect(
            *(at.generation, at.gallery_id, (come.change, gone)),
            negatives=(target.number, negatives > 0),
            no_longer_mapped=frozenset({target.number}) if makes_room else NOBODY,
        )
        return Applied(Moved(come.ids, True, revision), effect, destroyed(at.number, *slots, *others))

    def _merge_negatives(self, ledger: Ledger, source: StoredSubject, target: StoredSubject) -> int:
        """Those of `source` become those of `target`, but what that has already. How many it has then."""
        db, at = ledger.db, ledger.at
        numbers, own = queries.negative_vectors(db, at, target)
        _, others = queries.negative_vectors(db, at, source)
        rows = queries.subject_negatives(db, at.generation, source)
        new = [row for row, vector in zip(rows, others, strict=True) if not (own == vector).all(axis=1).any()]
        total = len(numbers) + len(new)
        if total > self.max_negatives:
            raise LimitExceeded("max_negatives_per_subject", self.max_negatives, total)
        former, key = queries.subject_key(db, source), queries.subject_key(db, target)
        for row in new:
            identity = negative_identity(row.generation, row.number)
            content = queries.decrypted(db, source, former, row.vector, identity)
            ledger.update(NEGATIVES, row, subject=target.number, vector=encrypt(key, content, identity))
        return total


@dataclass(frozen=True, slots=True)
class MoveEncodings:
    """The encoding of this id, or those of this key, go to another subject. The last one takes its subject with it, and
    that one's labels and negatives."""

    gallery_id: str
    subject_id: str
    encoding_id: str | None
    encoding_key: str | None
    to_id: str
    max_encodings: int

    def run(self, db: sqlite3.Connection) -> Applied[Moved]:
        at = queries.place(db, self.gallery_id)
        source, target = _pair(db, at, self.subject_id, self.to_id)
        numbers = chosen(db, at, source, self.encoding_id, self.encoding_key)
        given = [one for one in queries.subject_encodings(db, at.generation, source) if one.number in numbers]
        comes, makes_room = _meet(db, source, target)
        rows = given if comes else []
        _check_encodings(target, rows, self.max_encodings, makes_room)
        _check_apart(db, at, source, target, numbers)
        ledger = Ledger(db, at)
        target, removed, slots = without_mapped(ledger, target) if makes_room else (target, NOTHING_REMOVED, [])
        come = _give(ledger, source, target, rows, removed)
        left = source.encodings - len(given)
        if left:
            gone, others = _take(ledger, source, target, numbers, come.ids)
        else:
            _hand_over_answers(ledger, source, target, come.ids)
            gone, others = _remove(ledger, source)
        revision = ledger.close(subjects=-(not left), encodings=len(rows) - len(given) - len(removed))
        effect = Effect(
            *(at.generation, at.gallery_id, (come.change, gone)),
            no_longer_mapped=frozenset({target.number}) if makes_room else NOBODY,
        )
        return Applied(Moved(come.ids, not left, revision), effect, destroyed(at.number, *slots, *others))


def _meet(db: sqlite3.Connection, source: StoredSubject, target: StoredSubject) -> tuple[bool, bool]:
    """Whether encodings of `source` come to `target`, and whether those that it has make room: no subject has both
    mapped encodings and true ones, and true ones stay."""
    from_map, has_mapped = (queries.is_mapped(db, one.number) for one in (source, target))
    return has_mapped or not from_map, has_mapped and not from_map


@dataclass(frozen=True, slots=True)
class _Come:
    """What came to a subject: the new ids of encodings by their former ones, and the change of the subject."""

    ids: Mapping[str, str]
    change: Change


def _give(
    ledger: Ledger,
    source: StoredSubject,
    target: StoredSubject,
    rows: Sequence[StoredEncoding],
    removed: Integers,
    labels: bytes | None = None,
    told: bytes | None = None,
) -> _Come:
    """Stores encodings of `source` and their crops anew, as those of `target`, which lost `removed` and gets these
    labels: encrypted, and as the index is told them. What `source` has of them is left to the caller."""
    db, at = ledger.db, ledger.at
    kept_numbers, kept = kept_of(db, at, target)
    former, key = queries.subject_key(db, source), queries.subject_key(db, target)
    first = at.last_encoding + 1
    numbers = range(first, first + len(rows))
    contents = [
        queries.decrypted(db, source, former, row.vector, encoding_identity(row.generation, row.number)) for row in rows
    ]
    for number, row, content in zip(numbers, rows, contents, strict=True):
        sealed = encrypt(key, content, encoding_identity(at.generation, number))
        ledger.insert(ENCODINGS, (number, at.generation, target.number, ledger.revision, row.created, sealed))
    crops = queries.crops(db, source)
    for one in crop_rows(db, at, target.number, key, numbers, [crops.get(row.number, b"") for row in rows]):
        ledger.insert(CROPS, one)
    written = {} if labels is None else {"labels": labels}
    total = target.encodings + len(rows)
    ledger.update(SUBJECTS, target, updated=time.time(), encodings=total, **written)
    change = bare_change(
        ledger.revision,
        at.dimension,
        added=np.array(numbers, np.int64),
        vectors=queries.vectors_in(db, contents, at.dimension),
        subject=target.number,
        subject_id=target.id,
        removed=removed,
        kept=kept,
        kept_numbers=kept_numbers,
        labels=told,
    )
    return _Come({str(row.number): str(number) for row, number in zip(rows, numbers, strict=True)}, change)


def _remove(ledger: Ledger, subject: StoredSubject) -> tuple[Change, list[int]]:
    """A subject goes with what it still has. Its change, and the slots of the keys that are to be destroyed."""
    db, at = ledger.db, ledger.at
    held = queries.encoding_numbers(db, at.generation, subject)
    ledger.remove_subject(subject.number)
    slots = [subject.slot, *log_deletions(db, at, ledger.revision, subject.number, held)]
    return _gone(ledger, subject, None, held, removed_subject=subject.number), slots


def _take(
    ledger: Ledger, subject: StoredSubject, target: StoredSubject, numbers: Integers, ids: Mapping[str, str]
) -> tuple[Change, list[int]]:
    """Encodings of a subject that keeps others go to `target`. As _remove()."""
    for number in numbers.tolist():
        ledger.remove(ENCODINGS, "number = ?", (number,))
    now = without_former_key(ledger, subject, encodings=subject.encodings - len(numbers))
    _hand_over_answers(ledger, now, target, ids, all_of_them=False)
    slots = [subject.slot, *log_deletions(ledger.db, ledger.at, ledger.revision, subject.number, numbers)]
    return _gone(ledger, subject, now, numbers), slots


def _gone(
    ledger: Ledger, subject: StoredSubject, now: StoredSubject | None, removed: Integers, **more: object
) -> Change:
    at = ledger.at
    kept_numbers, kept = kept_of(ledger.db, at, now)
    fields = {"subject": subject.number, "subject_id": subject.id, "kept": kept, "kept_numbers": kept_numbers}
    return bare_change(ledger.revision, at.dimension, removed=removed, **fields, **more)


def _hand_over_answers(
    ledger: Ledger, source: StoredSubject, target: StoredSubject, ids: Mapping[str, str], *, all_of_them: bool = True
) -> None:
    """What is remembered of requests about `source` is about `target` from here on, with the encodings as they are
    called now: so a retry brings nobody back. Unless `all_of_them`, only of those whose encodings all went."""
    db, gallery = ledger.db, ledger.at.number
    former, key = queries.subject_key(db, source), queries.subject_key(db, target)
    cursor = db.execute(f"SELECT {REQUESTS.columns} FROM requests WHERE subject = ?", (source.number,))
    cursor.row_factory = None
    for row in cursor.fetchall():
        REQUESTS.check(db, row)
        number, answer = row[0], row[-2]
        identity = request_identity(gallery, number)
        told = json.loads(queries.decrypted(db, source, former, answer, identity))
        went = all_of_them or ids.keys() >= set(told["encoding_ids"])
        told["encoding_ids"] = [ids.get(one, one) for one in told["encoding_ids"]]
        sealed = encrypt(key if went else former, json.dumps(told, ensure_ascii=False).encode(), identity)
        ledger.update(REQUESTS, row, subject=target.number if went else source.number, answer=sealed)


def _found(db: sqlite3.Connection, at: Place, subject_id: str) -> StoredSubject:
    subject = queries.find_subject(db, at.number, subject_id)
    if subject is None:
        raise SubjectNotFound(at.gallery_id, subject_id)
    return subject


def _pair(db: sqlite3.Connection, at: Place, source_id: str, target_id: str) -> tuple[StoredSubject, StoredSubject]:
    source, target = _found(db, at, source_id), _found(db, at, target_id)
    if source.number == target.number:
        raise SameSubject(at.gallery_id, source.id)
    return source, target


def _key_of(db: sqlite3.Connection, subject: StoredSubject) -> SubjectKey:
    return SubjectKey(subject.slot, queries.subject_key(db, subject))


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise LimitExceeded("max_labels_per_subject", MAX_LABELS, len(labels))


def _check_encodings(target: StoredSubject, rows: Sequence[StoredEncoding], most: int, makes_room: bool) -> None:
    total = (0 if makes_room else target.encodings) + len(rows)
    if total > most:
        raise LimitExceeded("max_encodings_per_subject", most, total)


def _check_apart(
    db: sqlite3.Connection,
    at: Place,
    source: StoredSubject,
    target: StoredSubject,
    moved: Integers | None = None,
) -> None:
    """Raises NegativeOfTheOther where encodings that come to `target` are among its negatives; where all come (`moved`
    None), also where its encodings are among the negatives that come with them."""
    numbers, vectors = queries.subject_vectors(db, at, source)
    coming = vectors if moved is None else vectors[np.isin(numbers, moved)]
    _check_none_is(db, at, target, coming, source)
    if moved is None:
        _check_none_is(db, at, source, queries.subject_vectors(db, at, target)[1], target)


def _check_none_is(
    db: sqlite3.Connection, at: Place, subject: StoredSubject, vectors: Vectors, other: StoredSubject
) -> None:
    """None of these vectors, of `other`, is a negative of `subject`."""
    for number, negative in zip(*queries.negative_vectors(db, at, subject), strict=True):
        if (squared_l2(vectors, negative) == 0).any():
            raise NegativeOfTheOther(at.gallery_id, subject.id, str(number), other.id)


def _described(ledger: Ledger, subject: StoredSubject, gone: Sequence[int] = (), **fields: object) -> Applied[Gallery]:
    """A subject is called something else, or has other labels: one more revision, in which no encodings come or go."""
    at = ledger.at
    change = bare_change(ledger.close(), at.dimension, subject=subject.number, **fields)
    gallery = queries.gallery(ledger.db, at.gallery_id).gallery
    effect = Effect(at.generation, at.gallery_id, (change,))
    return Applied(gallery, effect, destroyed(at.number, *gone))
