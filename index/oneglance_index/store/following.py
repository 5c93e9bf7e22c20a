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
from oneglance_index.store.mutations import Applied, Effect, Mutation, count_revision

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
    if active.threshold is not None or gallery.target_fpir is None:
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

    def run(self, db: sqlite3.Connection) -> Applied[T]:
        applied = self.mutation.run(db)
        effect = applied.effect
        if effect is None or effect.dropped:
            return applied
        found = _read(db, effect.generation)
        if found is None:
            return applied
        made = self.rule(replace(found, followed=None) if self.anew else found)
        if made is None or not _record(db, effect.generation, found, made):
            return applied
        gallery = queries.gallery(db, effect.gallery_id).gallery
        told = replace(effect, created=gallery) if effect.created is not None else replace(effect, updated=gallery)
        result = cast(T, gallery) if isinstance(applied.result, Gallery) else applied.result
        return Applied(result, told)


@dataclass(frozen=True, slots=True)
class Follow:
    """Moves the τ of a gallery that nothing else changes, if it has to move."""

    gallery_id: str
    rule: TauRule

    def run(self, db: sqlite3.Connection) -> Applied[None]:
        at = queries.place(db, self.gallery_id)
        found = _read(db, at.generation)
        made = None if found is None else self.rule(found)
        if found is None or made is None or not _record(db, at.generation, found, made):
            return Applied(None)
        change = count_revision(db, at)
        updated = queries.gallery(db, self.gallery_id).gallery
        return Applied(None, Effect(at.generation, self.gallery_id, change, updated=updated))


def _read(db: sqlite3.Connection, generation: int) -> Followable | None:
    """As followable(), of what every enrollment has to know only."""
    rows = db.execute(
        "SELECT a.encoder_digest, a.fusion, a.decided_by, g.target_fpir, g.subjects, g.encodings,"
        " t.threshold, t.followed"
        " FROM generations AS a JOIN galleries AS g ON g.number = a.gallery"
        " LEFT JOIN thresholds AS t ON t.generation = a.number AND t.version = a.threshold_revision"
        " AND t.target_fpir = g.target_fpir"
        " WHERE a.number = ? AND a.threshold IS NULL AND g.target_fpir IS NOT NULL",
        (generation,),
    ).fetchall()
    if not rows:
        return None
    row = rows[0]
    followed = None if row["followed"] is None else Followed(row["threshold"], row["followed"])
    return Followable(
        *(row["encoder_digest"], row["fusion"], row["target_fpir"], row["subjects"], row["encodings"]),
        *(followed, row["decided_by"]),
    )


def _record(db: sqlite3.Connection, generation: int, found: Followable, made: Followed) -> bool:
    """Writes one more version, and forgets what is too much. False where it would be the same again."""
    row = db.execute(
        "SELECT a.threshold_revision, t.threshold, t.followed, t.target_fpir FROM generations AS a"
        " LEFT JOIN thresholds AS t ON t.generation = a.number AND t.version = a.threshold_revision"
        " WHERE a.number = ?",
        (generation,),
    ).fetchall()[0]
    if (row["threshold"], row["followed"], row["target_fpir"]) == (made.tau, made.id, found.target_fpir):
        return False
    version = row["threshold_revision"] + 1
    db.execute("UPDATE generations SET threshold_revision = ? WHERE number = ?", (version, generation))
    db.execute(
        "INSERT INTO thresholds (generation, version, threshold, since, followed, target_fpir, subjects, encodings)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (generation, version, made.tau, time.time(), made.id, found.target_fpir, found.subjects, found.encodings),
    )
    _forget(db, generation)
    return True


def _forget(db: sqlite3.Connection, generation: int) -> None:
    """The oldest version of a τ that a newer one has, too, where there are too many."""
    kept = db.execute(
        "SELECT COUNT(*) AS count FROM thresholds WHERE generation = ? AND followed IS NOT NULL", (generation,)
    ).fetchall()[0]["count"]
    if kept > MOST_VERSIONS:
        db.execute(
            "DELETE FROM thresholds WHERE generation = ? AND version = ("
            " SELECT MIN(version) FROM ("
            "  SELECT version, MAX(version) OVER (PARTITION BY followed, threshold, target_fpir) AS newest"
            "  FROM thresholds WHERE generation = ? AND followed IS NOT NULL"
            " ) WHERE version < newest)",
            (generation, generation),
        )
