"""New subjects of the transaction under way, gathered so that they are encrypted, sealed and written together: for
each by itself that takes several times as long."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from oneglance_index.records import Retention
from oneglance_index.store import queries
from oneglance_index.store.ciphers import encoding_identity, encrypt, labels_identity, slots_of
from oneglance_index.store.crops import crop_rows
from oneglance_index.store.ledger import Ledger
from oneglance_index.store.queries import Place
from oneglance_index.store.requests import Remembered
from oneglance_index.store.seals import CROPS, ENCODINGS, SUBJECTS


class NewSubject(NamedTuple):
    """A subject, its labels as JSON, its encodings as the store keeps them, the first with number `first`, what is to
    be remembered of the request, and the crops of the encodings, b"" for none, or nothing."""

    number: int
    id: str
    labels: bytes
    retention: Retention
    now: float
    revision: int
    first: int
    vectors: list[bytes]
    remembered: Remembered | None
    crops: Sequence[bytes] = ()


@dataclass(slots=True)
class NewSubjects:
    """Those of a gallery: what is to be written, and what the gallery has with it."""

    at: Place
    revision: int
    subjects: int
    encodings: int
    listed: list[NewSubject] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)


class Gathering:
    """Belongs to the writer. Nothing is gathered outside of a transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._galleries: dict[str, NewSubjects] = {}
        self._next_subject = self._next_encoding = 0
        self._last: NewSubjects | None = None

    def begin(self) -> None:
        """A transaction begins; what was gathered for the former one is written or void."""
        self._galleries.clear()

    def of(self, gallery_id: str) -> NewSubjects:
        """Raises GalleryNotFound, StoreDamaged."""
        new = self._galleries.get(gallery_id)
        if new is None:
            at = queries.place(self._db, gallery_id)
            if not self._galleries:  # else these are known, and more than the store has
                self._next_subject, self._next_encoding = at.last_subject + 1, at.last_encoding + 1
            new = self._galleries[gallery_id] = NewSubjects(at, at.revision, at.subjects, at.encodings)
        return new

    def is_new_request(self, new: NewSubjects, request_id: str) -> bool:
        """Whether no request of this id is remembered, nor one that is over."""
        return request_id not in new.requests and not queries.has_request(self._db, new.at.number, request_id)

    def is_new_subject(self, new: NewSubjects, subject_id: str) -> bool:
        return subject_id not in new.ids and not queries.has_subject(self._db, new.at.number, subject_id)

    def numbers(self, encodings: int) -> tuple[int, range]:
        """Those that the next subject gets, and its encodings."""
        return self._next_subject, range(self._next_encoding, self._next_encoding + encodings)

    def add(self, new: NewSubjects, subject: NewSubject) -> None:
        new.listed.append(subject)
        new.ids.add(subject.id)
        if subject.remembered is not None:
            new.requests.add(subject.remembered.id)
        self._count(new, subject, 1)
        self._last = new

    def undo(self) -> None:
        """Takes back the last one that was added."""
        assert self._last is not None
        subject = self._last.listed.pop()
        self._last.ids.remove(subject.id)
        if subject.remembered is not None:
            self._last.requests.remove(subject.remembered.id)
        self._count(self._last, subject, -1)

    def _count(self, new: NewSubjects, subject: NewSubject, sign: int) -> None:
        new.revision += sign
        new.subjects += sign
        new.encodings += sign * len(subject.vectors)
        self._next_subject += sign
        self._next_encoding += sign * len(subject.vectors)

    def flush(self) -> None:
        """Writes what was gathered. Raises StoreError; then the transaction is void."""
        for new in self._galleries.values():
            if new.listed:
                self._write(new)
        self._galleries.clear()

    def _write(self, new: NewSubjects) -> None:
        gallery, generation = new.at.number, new.at.generation
        ledger = Ledger(self._db, new.at, revisions=len(new.listed))
        subjects, encodings, crops = [], [], []
        keys = slots_of(self._db, gallery).take_some(len(new.listed))
        for one, (slot, key) in zip(new.listed, keys, strict=True):
            labels = encrypt(key, one.labels, labels_identity(gallery, one.number))
            row = (one.number, gallery, len(one.vectors), slot, one.now, one.now, one.id, labels)
            subjects.append((*row, one.retention.expires, one.retention.purpose, one.retention.consent))
            for number, vector in enumerate(one.vectors, one.first):
                content = encrypt(key, vector, encoding_identity(generation, number))
                encodings.append((number, generation, one.number, one.revision, one.now, content))
            if one.crops:
                crops += crop_rows(
                    self._db, new.at, one.number, key, range(one.first, one.first + len(one.vectors)), one.crops
                )
        ledger.insert_all(SUBJECTS, subjects)
        ledger.insert_all(ENCODINGS, encodings)
        if crops:
            ledger.insert_all(CROPS, crops)
        remembered = [
            (one.remembered, key) for one, (_, key) in zip(new.listed, keys, strict=True) if one.remembered is not None
        ]
        if remembered:
            remembered[0][0].memory.remember(self._db, ledger, remembered)
        ledger.close(subjects=len(subjects), encodings=len(encodings))
