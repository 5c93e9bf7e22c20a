"""The τ that follows a gallery's size, moved in the very transaction that changes what it depends on.

What τ there is to be, and when it has to move, is said by a TauRule, which knows the encoders. Each move is a version
beside those that were set by hand. So the τ of every answer is found again, however often it has moved since.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

from oneglance_index.records import Followed, Gallery
from oneglance_index.store import queries
from oneglance_index.store.enrolling import Enroll
from oneglance_index.store.gathering import Gathering
from oneglance_index.store.ledger import Ledger
from oneglance_index.store.mutations import Applied, Effect, Mutation, unchanged
from oneglance_index.store.seals import GENERATIONS, THRESHOLDS

T = TypeVar("T")

MOST_VERSIONS = 1_000
"""Of one generation, as many versions that followed are kept, but never fewer than there were different τ."""


@dataclass(frozen=True, slots=True)
class Followable:
    """What a τ depends on that follows a gallery, and the one in force; None where there is none yet, or none that may
    stay."""

    encoder_digest: str
    fusion: str
    target_fpir: float
    subjects: int
    encodings: int
    followed: Followed | None
    decided_by: str = "distance"


# The τ that takes the place of the one in force; None where that stays, or where there can be none.
TauRule = Callable[[Followable], Followed | None]


def followable(gallery: Gallery) -> Followable | None:
    """None where τ doesn't follow: the gallery has its own, or no target."""
    active = gallery.active
    if active.threshold is not None or gallery.target_fpir is None or gallery.unfinished:
        return None
    return Followable(
        active.encoder_digest,
        active.fusion,
        gallery.target_fpir,
        gallery.subjects,
        gallery.encodings,
        active.followed,
        active.decided_by,
    )


@dataclass(frozen=True, slots=True)
class Following(Generic[T]):
    """A mutation, and what it makes of the τ that follows. With `anew` τ is made anew, whatever its size was."""

    mutation: Mutation[T]
    rule: TauRule
    anew: bool = False

    def gather(self, db: sqlite3.Connection, gathering: Gathering) -> Applied[T] | None:
        """As Enroll.gather(): where τ stays."""
        if not isinstance(self.mutation, Enroll):
            return None
        applied = self.mutation.gather(db, gathering)
        if applied is None or applied.effect is None:
            return applied
        new = gathering.of(self.mutation.gallery_id)
        found = _read(db, applied.effect.generation, (new.subjects, new.encodings))
        if found is None or self.rule(found) is None:
            return applied
        gathering.undo()
        return None

    def run(self, db: sqlite3.Connection) -> Applied[T]:
        applied = self.mutation.run(db)
        effect = applied.effect
        if effect is None or effect.dropped:
            return applied
        found = _read(db, effect.generation)
        if found is None:
            return applied
        made = self.rule(replace(found, followed=None) if self.anew else found)
        if made is None:
            return applied
        stored = queries.gallery(db, effect.gallery_id)
        if made == stored.gallery.active.followed:
            return applied
        ledger = Ledger(db, stored.place, revisions=0)
        _record(ledger, stored, made)
        ledger.close()
        gallery = queries.gallery(db, effect.gallery_id).gallery
        told = replace(effect, created=gallery) if effect.created is not None else replace(effect, updated=gallery)
        result = cast(T, gallery) if isinstance(applied.result, Gallery) else applied.result
        return replace(applied, result=result, effect=told)


@dataclass(frozen=True, slots=True)
class Follow:
    """Moves the τ of a gallery that nothing else changes, if it has to move."""

    gallery_id: str
    rule: TauRule

    def run(self, db: sqlite3.Connection) -> Applied[None]:
        found = _read(db, queries.place(db, self.gallery_id).generation)
        made = None if found is None else self.rule(found)
        if made is None:
            return Applied(None)
        stored = queries.gallery(db, self.gallery_id)
        if made == stored.gallery.active.followed:
            return Applied(None)
        ledger = Ledger(db, stored.place)
        _record(ledger, stored, made)
        change = unchanged(ledger)
        updated = queries.gallery(db, self.gallery_id).gallery
        return Applied(None, Effect(stored.place.generation, self.gallery_id, (change,), updated=updated))


def _read(db: sqlite3.Connection, generation: int, sizes: tuple[int, int] | None = None) -> Followable | None:
    """As followable(), of what every enrollment has to know only. `sizes`: how many subjects and encodings there are,
    where the store doesn't know yet."""
    rows = db.execute(
        "SELECT a.encoder_digest, a.fusion, a.decided_by, a.threshold_revision, g.target_fpir, g.subjects, g.encodings"
        " FROM generations AS a JOIN galleries AS g ON g.number = a.gallery"
        " WHERE a.number = ? AND a.threshold IS NULL AND g.target_fpir IS NOT NULL",
        (generation,),
    ).fetchall()
    if not rows:
        return None
    row = rows[0]
    subjects, encodings = sizes or (row["subjects"], row["encodings"])
    followed = queries.followed_by(queries.threshold(db, generation, row["threshold_revision"]), row["target_fpir"])
    return Followable(
        *(row["encoder_digest"], row["fusion"], row["target_fpir"], subjects, encodings),
        *(followed, row["decided_by"]),
    )


def _record(ledger: Ledger, stored: queries.Stored, made: Followed) -> None:
    """Writes one more version, and forgets what is too much."""
    gallery, generation = stored.gallery, stored.place.generation
    version = gallery.active.threshold_revision + 1
    ledger.update(GENERATIONS, stored.generation_row, threshold_revision=version)
    row = (generation, version, made.tau, None, time.time(), made.id, gallery.target_fpir)
    ledger.insert(THRESHOLDS, (*row, gallery.subjects, gallery.encodings))
    _forget(ledger, generation)


def _forget(ledger: Ledger, generation: int) -> None:
    """The oldest version of a τ that a newer one has, too, where there are too many."""
    kept = ledger.db.execute(
        "SELECT COUNT(*) AS count FROM thresholds WHERE generation = ? AND followed IS NOT NULL", (generation,)
    ).fetchall()[0]["count"]
    if kept > MOST_VERSIONS:
        ledger.remove(
            THRESHOLDS,
            "generation = ? AND version = ("
            " SELECT MIN(version) FROM ("
            "  SELECT version, MAX(version) OVER (PARTITION BY followed, threshold, target_fpir) AS newest"
            "  FROM thresholds WHERE generation = ? AND followed IS NOT NULL"
            " ) WHERE version < newest)",
            (generation, generation),
        )
