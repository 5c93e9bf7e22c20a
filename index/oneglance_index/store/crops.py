"""Crops: what is kept of the pictures that encodings were made of, so that another encoder can be run on them later.

Only a gallery that was told to keeps any (Gallery.keep_crops). A crop belongs to one encoding, is encrypted with the
key of its subject, and goes with either. What is in it is the caller's affair. Nothing reads one but the move of a
gallery to another encoder (filling.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oneglance_index.records import Gallery, retention_of
from oneglance_index.store import queries
from oneglance_index.store.ciphers import OVERHEAD_BYTES, crop_identity, encrypt
from oneglance_index.store.ledger import Ledger, update_gallery
from oneglance_index.store.mutations import Applied, updated_by, without_former_key
from oneglance_index.store.queries import Place
from oneglance_index.store.rekeying import destroyed
from oneglance_index.store.seals import CROPS, damaged

# Of one subject, encrypted: when something of it is deleted the rest is written anew, also on a full disk (reserve.py).
MAX_SUBJECT_BYTES = 4 << 20


def crop_rows(
    db: sqlite3.Connection, at: Place, subject: int, key: AESGCM, numbers: Iterable[int], crops: Iterable[bytes]
) -> list[tuple[Any, ...]]:
    """What is to be inserted for the encodings of these numbers, of a subject with this key; b"": no crop. Nothing
    where the gallery keeps none, and no more than one subject may have."""
    if not at.keep_crops:
        return []
    rows = []
    room = MAX_SUBJECT_BYTES - _held(db, subject)
    for number, crop in zip(numbers, crops, strict=True):
        size = len(crop) + OVERHEAD_BYTES
        if crop and size <= room:
            room -= size
            sealed = encrypt(key, crop, crop_identity(at.generation, number))
            rows.append((number, at.generation, subject, sealed))
    return rows


def _held(db: sqlite3.Connection, subject: int) -> int:
    """The bytes of all crops of a subject; none of them is read for that."""
    rows = db.execute("SELECT COALESCE(SUM(LENGTH(picture)), 0) FROM crops WHERE subject = ?", (subject,)).fetchall()
    return int(rows[0][0])


@dataclass(frozen=True, slots=True)
class SetKeepCrops:
    """Whether the gallery keeps crops from now on. If not, those that there are go, and the keys that they were
    encrypted with: each subject that had one gets another key. The result is the gallery as it is then."""

    gallery_id: str
    keep: bool

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        at = stored.place
        update_gallery(db, stored.gallery_row, retention=retention_of(keep_crops=self.keep))
        ledger = Ledger(db, at)
        gone = [] if self.keep else _remove_all(ledger)
        return replace(updated_by(db, ledger), destroyed=destroyed(at.number, *gone))


def _remove_all(ledger: Ledger) -> list[int]:
    """The slots of the keys that the crops of a gallery were encrypted with."""
    db, generation = ledger.db, ledger.at.generation
    having = db.execute("SELECT DISTINCT subject FROM crops WHERE generation = ?", (generation,)).fetchall()
    ledger.remove(CROPS, "generation = ?", (generation,))
    slots = []
    for (number,) in having:
        subject = queries.subject_numbered(db, number)
        if subject is None:
            raise damaged(db, f"there are crops of subject number {number}, which isn't there")
        without_former_key(ledger, subject)
        slots.append(subject.slot)
    return slots
