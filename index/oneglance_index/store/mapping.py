"""Encodings of the origin of a move made into such as its successor has, by a map: for subjects of whom no picture is
left.

The map is fitted elsewhere, on pairs: encodings of one example by both encoders, as both galleries got them during the
move. A subject has either mapped encodings or true ones: whatever enrolls true ones removes the mapped ones in the same
transaction (enrolling.py, managing.py). The table `mapped` says who has mapped ones, `maps` what the newest map costs.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from oneglance_core.mapping import EncodingMap
from oneglance_index.errors import EncodingInvalid, LimitExceeded, MoveConflict
from oneglance_index.records import Enrolled, MapLoss, MappedStep, PairedPage, PairedSubject, Vectors
from oneglance_index.store import queries
from oneglance_index.store.enrolling import Enroll
from oneglance_index.store.ledger import Ledger
from oneglance_index.store.mutations import NOBODY, Applied, Effect, unchanged
from oneglance_index.store.queries import Place, StoredSubject
from oneglance_index.store.recent import Recent
from oneglance_index.store.requests import RequestMemory
from oneglance_index.store.seals import MAPS, SUBJECTS
from oneglance_index.store.succession import answering, by_age, pair


class _Example(NamedTuple):
    """What tells which example an encoding is of: its owner's name of it; else when it was enrolled, and the how
    manieth it was of how many. Where one of these went from one gallery alone, nobody knows which."""

    key: str
    created: float = 0.0
    place: int = 0
    of: int = 0


def list_pairs(
    db: sqlite3.Connection, gallery_id: str, page_size: int, max_bytes: int, after: str | None
) -> PairedPage:
    """Of either gallery of a move. Raises MoveNotFound, StoreDamaged, KeyDestroyed."""
    origin, successor = (one.place for one in by_age(pair(db, gallery_id)))
    rows = db.execute(
        "SELECT s.id FROM subjects AS s JOIN subjects AS w ON w.gallery = ? AND w.id = s.id"
        " WHERE s.gallery = ? AND s.id > ? AND NOT EXISTS (SELECT 1 FROM mapped WHERE subject IN (s.number, w.number))"
        " ORDER BY s.id LIMIT ?",
        (successor.number, origin.number, after or "", page_size + 1),
    ).fetchall()
    page: list[PairedSubject] = []
    for row in rows:
        if page and (len(page) == page_size or max_bytes < 0):
            return PairedPage(tuple(page), page[-1].subject_id)
        found = _paired(db, origin, successor, row["id"])
        max_bytes -= found.old.nbytes + found.new.nbytes + len(found.subject_id.encode())
        page.append(found)
    return PairedPage(tuple(page), None)


def _paired(db: sqlite3.Connection, origin: Place, successor: Place, subject_id: str) -> PairedSubject:
    old, new = (_examples(db, at, subject_id) for at in (origin, successor))
    both = [one for one in old if one in new]
    return PairedSubject(subject_id, _stacked(old, both, origin.dimension), _stacked(new, both, successor.dimension))


def _stacked(found: Mapping[_Example, Vectors], examples: Sequence[_Example], dimension: int) -> Vectors:
    if not examples:
        return np.empty((0, dimension), np.float32)
    return np.stack([found[one] for one in examples])


def _examples(db: sqlite3.Connection, at: Place, subject_id: str) -> dict[_Example, Vectors]:
    """The encodings of a subject, oldest first."""
    subject = queries.find_subject(db, at.number, subject_id, exactly=True)
    assert subject is not None
    times = [row.created for row in queries.subject_encodings(db, at.generation, subject)]
    keys = [note.key for note in queries.subject_notes(db, at, subject).values()]
    _, vectors = queries.subject_vectors(db, at, subject)
    together, places = Counter(times), Counter[float]()
    found = {}
    for key, created, vector in zip(keys, times, vectors, strict=True):
        found[_Example(key) if key else _Example("", created, places[created], together[created])] = vector
        places[created] += 1
    return found


@dataclass(frozen=True, slots=True)
class FillByMap:
    """Enrolls the next `most` subjects that are left into the successor, with the origin's encodings as `made` maps
    them; and those anew that an earlier map made. `after`: those that came before are done."""

    gallery_id: str
    made: EncodingMap
    loss: MapLoss
    after: str | None
    most: int
    max_encodings: int
    request_memory: RequestMemory
    recent: Recent

    def run(self, db: sqlite3.Connection) -> Applied[MappedStep]:
        answers, move = answering(db, self.gallery_id)
        if not move.origin:
            raise MoveConflict(answers.gallery.id, "it is cut over: roll back first")
        waits = queries.place(db, move.other)
        encoders = answers.place.encoder_digest, waits.encoder_digest
        if (self.loss.from_encoder, self.loss.to_encoder) != encoders:
            raise MoveConflict(answers.gallery.id, "the map is one between other encoders")
        version, known = self._version(db, waits)
        subjects = self._next(db, answers.place, waits, version)
        after = subjects[self.most - 1].id if len(subjects) > self.most else None
        made = [self._mapped(db, answers.place, one, move.other, version) for one in subjects[: self.most]]
        done = [one for one in made if one is not None]
        if not done:
            return Applied(MappedStep(0, len(made), after, waits.revision))
        changes = [*itertools.chain.from_iterable(effect.changes for one in done for effect in one.effects)]
        if not known:
            changes.append(unchanged(self._record(db, queries.place(db, move.other), version)))
        gallery = queries.gallery(db, move.other).gallery
        effect = Effect(
            *(waits.generation, move.other, tuple(changes)),
            updated=gallery,
            mapped=NOBODY.union(*(effect.mapped for one in done for effect in one.effects)),
        )
        step = MappedStep(len(done), len(made) - len(done), after, gallery.revision)
        return Applied(step, effect, tuple(itertools.chain.from_iterable(one.destroyed for one in done)))

    def _version(self, db: sqlite3.Connection, at: Place) -> tuple[int, bool]:
        """Of this map, and whether the store knows it as the newest one."""
        newest = queries.newest_map(db, at.generation)
        if newest is None:
            return 1, False
        known = newest.loss == self.loss
        return newest.version + (not known), known

    def _record(self, db: sqlite3.Connection, at: Place, version: int) -> Ledger:
        ledger = Ledger(db, at)
        newest = queries.newest_map(db, at.generation)
        told = queries.map_text(self.loss, queries.count_mapped(db, at.generation))
        if newest is None:
            ledger.insert(MAPS, (at.generation, version, time.time(), told))
        else:
            ledger.update(MAPS, newest.row, version=version, created=time.time(), loss=told)
        return ledger

    def _next(self, db: sqlite3.Connection, answers: Place, waits: Place, version: int) -> Sequence[StoredSubject]:
        """Who is to be mapped next, and one more."""
        columns = ", ".join(f"s.{name}" for name in SUBJECTS.columns.split(", "))
        rows = db.execute(
            f"SELECT {columns} FROM subjects AS s LEFT JOIN subjects AS w ON w.gallery = ? AND w.id = s.id"
            " LEFT JOIN mapped AS m ON m.subject = w.number"
            " WHERE s.gallery = ? AND s.id > ? AND (w.number IS NULL OR m.version != ?)"
            "  AND NOT EXISTS (SELECT 1 FROM mapped WHERE subject = s.number)"  # of an earlier move
            " ORDER BY s.id LIMIT ?",
            (waits.number, answers.number, self.after or "", version, self.most + 1),
        ).fetchall()
        found = [StoredSubject(*row) for row in rows]
        for one in found:
            SUBJECTS.check(db, one)
        return found

    def _mapped(
        self, db: sqlite3.Connection, answers: Place, subject: StoredSubject, successor_id: str, version: int
    ) -> Applied[Enrolled] | None:
        """None where the subject has nothing that can be mapped."""
        _, vectors = queries.subject_vectors(db, answers, subject)
        notes = tuple(queries.subject_notes(db, answers, subject).values())
        enroll = Enroll(
            *(successor_id, subject.id, self.made(vectors), self.loss.to_encoder, None, "replace", None, b""),
            *(self.max_encodings, self.request_memory, self.recent),
            notes=notes,
            mapped=version,
        )
        try:
            return enroll.run(db)
        except (EncodingInvalid, LimitExceeded):  # before anything of it is written
            return None
