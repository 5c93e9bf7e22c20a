"""The key of a subject's contents: a new one for a new subject, and each time that some of its contents are to go."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oneglance_index.store import ciphers, queries
from oneglance_index.store.ledger import Ledger
from oneglance_index.store.queries import StoredSubject
from oneglance_index.store.seals import SEALED


@dataclass(frozen=True, slots=True)
class Destroyed:
    """Keys that are to be destroyed once a transaction is committed: of a gallery's slots, or (slots None) the
    gallery's."""

    gallery: int
    slots: tuple[int, ...] | None


NOTHING_DESTROYED: tuple[Destroyed, ...] = ()


def destroyed(gallery: int, *slots: int) -> tuple[Destroyed, ...]:
    return (Destroyed(gallery, slots),) if slots else NOTHING_DESTROYED


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """A key, and the slot that it is in."""

    slot: int
    key: AESGCM

    def labels(self, gallery: int, subject: int, labels: str) -> bytes:
        """Encrypted."""
        return ciphers.encrypt(self.key, labels.encode(), ciphers.labels_identity(gallery, subject))


def new_key(db: sqlite3.Connection, gallery: int) -> SubjectKey:
    return SubjectKey(*ciphers.slots_of(db, gallery).take())


def rekey(ledger: Ledger, subject: StoredSubject) -> SubjectKey:
    """Encrypts the encodings and negatives that a subject still has, and the answers about it, with a new key. The
    caller writes the subject itself, and destroys its former key."""
    db = ledger.db
    former, fresh = queries.subject_key(db, subject), new_key(db, subject.gallery)
    for name, column, _, identity in ciphers.CONTENTS:
        (table,) = (table for table in SEALED if table.name == name)
        place = table.columns.split(", ").index(column)
        cursor = db.execute(f"SELECT {table.columns} FROM {table.name} WHERE subject = ?", (subject.number,))
        cursor.row_factory = None
        for row in cursor.fetchall():
            table.check(db, row)
            whose = identity(row[1], row[0])
            content = queries.decrypted(db, subject, former, row[place], whose)
            ledger.update(table, row, **{column: ciphers.encrypt(fresh.key, content, whose)})
    return fresh
