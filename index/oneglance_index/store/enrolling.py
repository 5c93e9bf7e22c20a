"""Enrolling: the one mutation that comes in great numbers."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oneglance_core.names import composed
from oneglance_index.encodings import as_encodings, check_encodings
from oneglance_index.errors import (
    EncodingKeyExists,
    LimitExceeded,
    NeighbourGone,
    SubjectChanged,
    SubjectExists,
    SubjectNotMoving,
)
from oneglance_index.records import (
    NO_NOTE,
    Change,
    Doubt,
    Doubting,
    Enrolled,
    Filling,
    Neighbour,
    Note,
    OnExisting,
    Retention,
    Vectors,
)
from oneglance_index.store import queries
from oneglance_index.store.ciphers import encoding_identity, encrypt
from oneglance_index.store.crops import crop_rows
from oneglance_index.store.doubting import doubt
from oneglance_index.store.filling import check_filling
from oneglance_index.store.gathering import Gathering, NewSubject
from oneglance_index.store.ledger import Ledger
from oneglance_index.store.mutations import NOBODY, NOTHING_REMOVED, Applied, Effect, kept_of, log_deletions, made_for
from oneglance_index.store.notes import content, contents
from oneglance_index.store.queries import Place, StoredSubject
from oneglance_index.store.recent import Recent
from oneglance_index.store.rekeying import destroyed, new_key, rekey
from oneglance_index.store.requests import Remembered, RequestMemory
from oneglance_index.store.seals import CROPS, ENCODINGS, MAPPED, SUBJECTS

_NO_RETENTION = Retention()
_encode = json.JSONEncoder(ensure_ascii=False).encode


def labels_as_json(labels: Mapping[str, str]) -> str:
    return _encode(dict(labels)) if labels else "{}"


@dataclass(frozen=True, slots=True)
class Enroll:
    """`others`: the same examples by other encoders, by digest. `crops`: of the pictures of the examples, b"" for none;
    those that the gallery keeps.

    In a gallery that waits (a Move) only those are enrolled who are enrolled in the other one: labels and retention are
    theirs there. `answered`: what that one answered, where the same is done here: it is remembered here, too, with the
    ids that the encodings have here. `created`: the time that the encodings have, in place of the present one.
    `filling`: what they are made of, where that is crops of the other one's.

    `mapped`: the version of the map that made the encodings; None: the encoder did. Mapped encodings of a subject make
    room for those of the encoder, which are all it has then.
    """

    gallery_id: str
    subject_id: str
    encodings: Vectors
    encoder_digest: str | None
    labels: Mapping[str, str] | None
    on_existing: OnExisting
    request_id: str | None
    request_digest: bytes
    max_encodings: int
    request_memory: RequestMemory
    recent: Recent
    doubting: Doubting | None = None
    retention: Retention | None = None
    notes: Sequence[Note] = ()
    checked: bool = False  # the values of the encodings, float32 [n, any]
    others: Mapping[str, Vectors] = field(default_factory=dict)
    answered: Enrolled | None = None
    created: float | None = None
    mapped: int | None = None
    crops: Sequence[bytes] = ()
    filling: Filling | None = None

    def gather(self, db: sqlite3.Connection, gathering: Gathering) -> Applied[Enrolled] | None:
        """Leaves it to `gathering` to write a new subject. None for one that is there, a request that isn't new, or a
        gallery that moves: nothing is done then."""
        new = gathering.of(self.gallery_id)
        at = new.at
        if at.move is not None or self.filling is not None:
            return None
        encodings = self._of_encoder(at)
        if self.request_id is not None and not gathering.is_new_request(new, self.request_id):
            return None
        vectors = (as_encodings if self.checked else check_encodings)(encodings, at.dimension)
        name = composed(self.subject_id)
        if not gathering.is_new_subject(new, name):
            return None
        self._check_number(len(vectors))
        self._check_keys(name, ())
        revision = new.revision + 1
        nearest_other: Neighbour | None = None
        doubts: tuple[Doubt, ...] = ()
        if self.doubting is not None:
            nearest_other, doubts = doubt(
                *(db, at, self.doubting, self.subject_id, None, None, vectors, revision),
                *(self.recent, gathering.flush),
            )
            new = gathering.of(self.gallery_id)
        kept_numbers, kept = kept_of(db, at, None)
        now = time.time()
        subject, numbers = gathering.numbers(len(vectors))
        ids = tuple(map(str, numbers))
        enrolled = Enrolled(name, ids, True, False, revision, nearest_other, doubts)
        remembered = None
        if self.request_id is not None:
            remembered = self._remembered(self.request_id, enrolled, subject, now)
        labels = labels_as_json(self.labels or {}).encode()
        kept_as = list(map(content, vectors, self.notes)) if self.notes else contents(vectors)
        kept_until = self.retention or _NO_RETENTION
        gathering.add(
            new,
            NewSubject(subject, name, labels, kept_until, now, revision, numbers[0], kept_as, remembered, self.crops),
        )
        change = Change(
            *(revision, np.array(numbers, np.int64), vectors, subject, name, NOTHING_REMOVED),
            kept=kept,
            kept_numbers=kept_numbers,
            labels=labels,
        )
        return Applied(enrolled, Effect(at.generation, self.gallery_id, (change,)))

    def run(self, db: sqlite3.Connection) -> Applied[Enrolled]:
        at = queries.place(db, self.gallery_id)
        encodings = self._of_encoder(at)
        now = time.time() if self.created is None else self.created
        if self.request_id is not None and self.answered is None:
            answered = self.request_memory.find(db, at, self.subject_id, self.request_id, self.request_digest, now)
            if answered is not None:
                return Applied(answered)
        if at.move is not None and not at.move.answers:
            named = self._as_in(db, at, at.move.other)
            found = queries.find_subject(db, at.number, named.subject_id, exactly=True)
            return named._run(db, at, encodings, now, found, named.subject_id)
        if self.filling is not None:  # it waits no more
            raise SubjectChanged(self.gallery_id, self.subject_id)
        found = queries.find_subject(db, at.number, self.subject_id)
        return self._run(db, at, encodings, now, found, composed(self.subject_id) if found is None else found.id)

    def _run(
        self, db: sqlite3.Connection, at: Place, encodings: Vectors, now: float, found: StoredSubject | None, name: str
    ) -> Applied[Enrolled]:
        """`found`: the subject, `name` its id, whether it is there or not."""
        gallery, generation = at.number, at.generation
        vectors = (as_encodings if self.checked else check_encodings)(encodings, at.dimension)
        was_mapped = found is not None and queries.is_mapped(db, found.number)
        waits = at.move is not None and not at.move.answers
        if found is not None and self.on_existing == "fail" and not (was_mapped and waits):
            raise SubjectExists(self.gallery_id, name)
        replaced = self.on_existing == "replace" or was_mapped
        held = queries.encoding_numbers(db, generation, found) if found is not None else NOTHING_REMOVED
        removed = held if replaced else NOTHING_REMOVED
        total = len(held) - len(removed) + len(vectors)
        self._check_number(total)

        ledger = Ledger(db, at)
        revision = ledger.revision
        staying = None if replaced else found
        named = any(note.key for note in self.notes) and staying is not None
        self._check_keys(name, queries.subject_notes(db, at, staying).values() if named and staying else ())
        nearest_other: Neighbour | None = None
        doubts: tuple[Doubt, ...] = ()
        if self.doubting is not None:
            nearest_other, doubts = doubt(
                *(db, at, self.doubting, self.subject_id, found, staying, vectors, revision),
                *(self.recent, lambda: None),
            )
        kept_numbers, kept = kept_of(db, at, staying)
        gone: list[int] = []
        if len(removed):
            ledger.remove(ENCODINGS, "subject = ? AND generation = ?", (found.number if found else 0, generation))
            gone = log_deletions(db, at, revision, found.number if found else 0, removed)
        subject, key = self._write_subject(ledger, found, name, now, total, gone, replaced)
        if was_mapped:
            ledger.remove(MAPPED, "subject = ?", (subject,))
        if self.mapped is not None:
            ledger.insert(MAPPED, (subject, generation, self.mapped))
        first = at.last_encoding + 1
        numbers = range(first, first + len(vectors))
        for number, vector, note in zip(numbers, vectors, self._notes(), strict=True):
            sealed = encrypt(key, content(vector, note), encoding_identity(generation, number))
            ledger.insert(ENCODINGS, (number, generation, subject, revision, now, sealed))
        for row in crop_rows(db, at, subject, key, numbers, self.crops) if self.crops else ():
            ledger.insert(CROPS, row)
        ids = tuple(map(str, numbers))
        enrolled = Enrolled(name, ids, found is None, False, revision, nearest_other, doubts)
        if self.request_id is not None:
            told = replace(self.answered or enrolled, encoding_ids=ids, revision=revision)
            remembered = self._remembered(self.request_id, told, subject, now)
            self.request_memory.remember(db, ledger, [(remembered, key)])
        ledger.close(subjects=found is None, encodings=len(vectors) - len(removed))
        change = Change(
            *(revision, np.array(numbers, np.int64), vectors, subject, name, removed),
            kept=kept,
            kept_numbers=kept_numbers,
            labels=None if self.labels is None and found is not None else labels_as_json(self.labels or {}).encode(),
        )
        effect = Effect(
            *(generation, self.gallery_id, (change,)),
            mapped=NOBODY if self.mapped is None else frozenset({subject}),
            no_longer_mapped=frozenset({subject}) if was_mapped and self.mapped is None else NOBODY,
        )
        return Applied(enrolled, effect, destroyed(gallery, *gone))

    def _of_encoder(self, at: Place) -> Vectors:
        """Raises EncoderMismatch; NeighbourGone where neighbours were found by those of another encoder."""
        encodings = made_for(at, self.encodings, self.encoder_digest, self.others)
        if encodings is not self.encodings and self.doubting is not None:
            raise NeighbourGone(self.gallery_id)
        return encodings

    def _as_in(self, db: sqlite3.Connection, at: Place, other_id: str) -> Enroll:
        """With the subject's id, labels and retention in the other gallery. Raises SubjectNotMoving, SubjectChanged."""
        other = queries.place(db, other_id)
        subject = queries.find_subject(db, other.number, self.subject_id)
        if subject is None:
            raise SubjectNotMoving(at.gallery_id, self.subject_id, other_id)
        if self.filling is not None:
            check_filling(db, at, subject, self.filling)
        known = self.labels is None and queries.find_subject(db, at.number, subject.id, exactly=True) is not None
        labels = None if known else json.loads(queries.labels(db, subject))
        return replace(self, subject_id=subject.id, labels=labels, retention=subject.retention)

    def _notes(self) -> Sequence[Note]:
        """One for each encoding."""
        return self.notes or [NO_NOTE] * len(self.encodings)

    def _check_keys(self, subject_id: str, held: Collection[Note]) -> None:
        """`held`: the notes of the encodings that stay."""
        if not self.notes:
            return
        known = {note.key for note in held}
        for key in filter(None, (note.key for note in self.notes)):
            if key in known:
                raise EncodingKeyExists(self.gallery_id, subject_id, key)
            known.add(key)

    def _check_number(self, encodings: int) -> None:
        if encodings > self.max_encodings:
            raise LimitExceeded("max_encodings_per_subject", self.max_encodings, encodings)

    def _remembered(self, request_id: str, enrolled: Enrolled, subject: int, now: float) -> Remembered:
        return Remembered(request_id, self.request_digest, enrolled, subject, now, self.request_memory)

    def _write_subject(
        self,
        ledger: Ledger,
        found: StoredSubject | None,
        name: str,
        now: float,
        total: int,
        gone: list[int],
        replaced: bool,
    ) -> tuple[int, AESGCM]:
        """Its number, and its key. `total`: the encodings that it will have; `replaced`: in place of all that it has.
        Where some contents are to go, the slot of its former key comes to `gone`."""
        labels = None if self.labels is None else labels_as_json(self.labels)
        db, at = ledger.db, ledger.at
        if found is None:
            number, key = at.last_subject + 1, new_key(db, at.number)
            sealed = key.labels(at.number, number, labels or "{}")
            row = (number, at.number, total, key.slot, now, now, name, sealed)
            kept = self.retention or Retention()
            ledger.insert(SUBJECTS, (*row, kept.expires, kept.purpose, kept.consent))
            return number, key.key
        kept_until = {} if self.retention is None else asdict(self.retention)
        if not replaced and labels is None:
            ledger.update(SUBJECTS, found, updated=now, encodings=total, **kept_until)
            return found.number, queries.subject_key(db, found)
        labels_now = queries.labels(db, found) if labels is None else labels
        key = rekey(ledger, found)
        sealed = key.labels(at.number, found.number, labels_now)
        ledger.update(SUBJECTS, found, updated=now, encodings=total, slot=key.slot, labels=sealed, **kept_until)
        gone.append(found.slot)
        return found.number, key.key
