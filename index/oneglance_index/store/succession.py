"""A gallery moves to another encoder: it is paired with a successor of that encoder, which takes its place at once.

Both are galleries as all others, each with its own generation, threshold and index. Their rows say that they are a pair
(records.Move). One of them answers under the name that moves, the other one waits; what is done to the one that answers
is done to the other in the same transaction (mirroring.py), so that the subjects of the one that waits are some of the
other's, but for those that were left at a cut-over. To cut over, and to roll back, is to swap the two ids: one commit,
as every step is.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import asdict, dataclass, replace

from oneglance_index.errors import MoveConflict, MoveIncomplete, MoveNotFound
from oneglance_index.records import Gallery, Left, LeftCropsPage, LeftPage, Move, MoveState
from oneglance_index.store import filling, queries
from oneglance_index.store.ledger import Ledger, update_gallery
from oneglance_index.store.mutations import Applied, CreateGallery, DeleteGallery, Effect, unchanged, updated_by
from oneglance_index.store.queries import TOMBSTONE, Place, Stored

_ID_BYTES = 64  # of a message, besides its text
# Subjects of the first gallery that the second one hasn't.
_LEFT = (
    "SELECT COUNT(*) AS found FROM subjects AS s WHERE gallery = ? AND NOT EXISTS"
    " (SELECT 1 FROM subjects WHERE gallery = ? AND id = s.id)"
)


@dataclass(frozen=True, slots=True)
class StartMove:
    """Makes the successor, empty and with the settings of the gallery, as far as they aren't of one encoder. The result
    is the successor."""

    gallery_id: str
    successor_id: str
    encoder_digest: str
    dimension: int
    decided_by: str
    compare_share: float

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored = queries.finished(db, self.gallery_id)
        gallery, active = stored.gallery, stored.gallery.active
        if gallery.move is not None:
            raise MoveConflict(gallery.id, f"it moves already, together with {gallery.move.other!r}")
        if active.encoder_digest == self.encoder_digest:
            raise MoveConflict(gallery.id, "it has this encoder already")
        create = CreateGallery(
            *(self.successor_id, self.encoder_digest, self.dimension, gallery.description, active.kind, active.fusion),
            *(gallery.target_fpir, active.quality, 0.0, active.doubt, self.decided_by),
            keep_crops=gallery.keep_crops,
        )
        create.check_free(db)
        now = time.time()
        successor = Move(gallery.id, False, now, self.compare_share)
        origin = replace(successor, other=self.successor_id, origin=True)
        created = create.made(db, now, now, _policies(successor))
        update_gallery(db, stored.gallery_row, policies=_policies(origin))
        updated = updated_by(db, Ledger(db, stored.place))
        return replace(created, also=updated.effects)


@dataclass(frozen=True, slots=True)
class CutOver:
    """The successor has the name of the origin from here on. The result is the gallery that has the name then."""

    gallery_id: str
    leave: bool

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        return _swapped(db, self.gallery_id, self.leave, time.time())


@dataclass(frozen=True, slots=True)
class RollBack:
    """The origin has its name again. As CutOver."""

    gallery_id: str
    leave: bool

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        return _swapped(db, self.gallery_id, self.leave, None)


@dataclass(frozen=True, slots=True)
class EndMove:
    """The two galleries have nothing to do with each other any more; the one that waits is deleted, unless it is to be
    kept. The result is the other one."""

    gallery_id: str
    keep: bool

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        stored, move = answering(db, self.gallery_id)
        ended = without_move(db, stored)
        waiting = queries.gallery(db, move.other)
        other = without_move(db, waiting) if self.keep else DeleteGallery(move.other).run(db)
        return replace(ended, also=other.effects, destroyed=other.destroyed)


@dataclass(frozen=True, slots=True)
class EndBrokenMove:
    """Of a gallery whose counterpart an earlier version deleted, which knows no moves."""

    gallery_id: str

    def run(self, db: sqlite3.Connection) -> Applied[Gallery]:
        return without_move(db, queries.finished(db, self.gallery_id))


def without_move(db: sqlite3.Connection, stored: Stored) -> Applied[Gallery]:
    update_gallery(db, stored.gallery_row, policies=None)
    return updated_by(db, Ledger(db, stored.place))


def _swapped(db: sqlite3.Connection, gallery_id: str, leave: bool, cut_over: float | None) -> Applied[Gallery]:
    """`cut_over`: when, or None to roll back."""
    one, move = answering(db, gallery_id)
    if (move.cut_over is None) == (cut_over is None):
        raise MoveConflict(gallery_id, "it isn't cut over" if cut_over is None else "it is cut over already")
    other = queries.gallery(db, move.other)
    assert other.gallery.move is not None
    left, without_negatives = _left(db, one.place, other.place)
    if (left or without_negatives) and not leave:
        raise MoveIncomplete(gallery_id, left, without_negatives)
    name, other_name = one.gallery.id, other.gallery.id
    update_gallery(db, one.gallery_row, id=TOMBSTONE, policies=_policies(replace(move, other=name, cut_over=cut_over)))
    policies = _policies(replace(other.gallery.move, other=other_name, cut_over=cut_over))
    update_gallery(db, other.gallery_row, id=name, policies=policies)
    update_gallery(db, queries.gallery(db, TOMBSTONE).gallery_row, id=other_name)
    changes = [unchanged(Ledger(db, each.place)) for each in (one, other)]
    now, other_now = (queries.gallery(db, each).gallery for each in (other_name, name))
    effect = Effect(one.place.generation, now.id, (changes[0],), updated=now, swapped=(now, other_now))
    follows = Effect(other.place.generation, other_now.id, (changes[1],), updated=other_now)
    return Applied(other_now, effect, also=(follows,))


def answering(db: sqlite3.Connection, gallery_id: str) -> tuple[Stored, Move]:
    """Raises MoveNotFound; MoveConflict for the one that waits."""
    stored = queries.finished(db, gallery_id)
    move = stored.gallery.move
    if move is None:
        raise MoveNotFound(gallery_id)
    if not move.answers:
        raise MoveConflict(gallery_id, f"it waits: this is asked of {move.other!r}")
    return stored, move


def _policies(move: Move) -> str:
    return json.dumps({"move": asdict(move)})


def state(db: sqlite3.Connection, gallery_id: str) -> MoveState:
    """Of either gallery. Raises MoveNotFound."""
    answers, waits = pair(db, gallery_id)
    left, without_negatives = _left(db, answers.place, waits.place)
    fewer = _count(
        db,
        "SELECT COUNT(*) AS found FROM subjects AS s JOIN subjects AS w ON w.gallery = ? AND w.id = s.id"
        " WHERE s.gallery = ? AND w.encodings < s.encodings",
        (waits.place.number, answers.place.number),
    )
    with_crops = 0
    if answers.gallery.keep_crops:
        having = f"{_LEFT} AND EXISTS (SELECT 1 FROM crops WHERE subject = s.number)"
        with_crops = _count(db, having, (answers.place.number, waits.place.number))
    mapped = by_age((answers, waits))[1].gallery.mapped
    mapped_subjects = 0 if mapped is None else mapped.subjects
    return MoveState(answers.gallery, waits.gallery, left, without_negatives, fewer, mapped_subjects, with_crops)


def list_left(db: sqlite3.Connection, gallery_id: str, size: int, max_bytes: int, after: str | None) -> LeftPage:
    """The next `size` subjects that are left or mapped, of either gallery; a page holds at most so many bytes, but one
    subject. Raises MoveNotFound."""
    answers, waits = pair(db, gallery_id)
    successors = "s" if by_age((answers, waits))[1] is answers else "w"
    rows = db.execute(
        "SELECT id, lacks, mapped FROM (SELECT s.id, w.number IS NULL AS absent,"
        "  w.number IS NOT NULL AND (SELECT COUNT(*) FROM negatives WHERE subject = s.number)"
        "   > (SELECT COUNT(*) FROM negatives WHERE subject = w.number) AS lacks,"
        f"  EXISTS (SELECT 1 FROM mapped WHERE subject = {successors}.number) AS mapped"
        "  FROM subjects AS s LEFT JOIN subjects AS w ON w.gallery = ? AND w.id = s.id"
        "  WHERE s.gallery = ? AND s.id > ?)"
        " WHERE absent OR lacks OR mapped ORDER BY id LIMIT ?",
        (waits.place.number, answers.place.number, after or "", size + 1),
    ).fetchall()
    page: list[Left] = []
    for subject_id, lacks, mapped in rows:
        max_bytes -= _ID_BYTES + len(subject_id.encode())
        if page and (len(page) == size or max_bytes < 0):
            return LeftPage(tuple(page), page[-1].subject_id)
        page.append(Left(subject_id, bool(lacks), bool(mapped)))
    return LeftPage(tuple(page), None)


def list_left_crops(
    db: sqlite3.Connection, gallery_id: str, size: int, max_bytes: int, after: str | None
) -> LeftCropsPage:
    """Of either gallery. Raises MoveNotFound."""
    answers, waits = pair(db, gallery_id)
    own, other = (queries.place(db, one.gallery.id) for one in (answers, waits))
    return filling.list_left_crops(db, own, other, size, max_bytes, after)


def pair(db: sqlite3.Connection, gallery_id: str) -> tuple[Stored, Stored]:
    """The gallery that answers, and the one that waits. Raises MoveNotFound."""
    stored = queries.finished(db, gallery_id)
    move = stored.gallery.move
    if move is None:
        raise MoveNotFound(gallery_id)
    other = queries.gallery(db, move.other)
    return (stored, other) if move.answers else (other, stored)


def by_age(galleries: tuple[Stored, Stored]) -> tuple[Stored, Stored]:
    """Of the two of a move, the origin, and its successor."""
    first, second = galleries
    assert first.gallery.move is not None
    return (first, second) if first.gallery.move.origin else (second, first)


def _left(db: sqlite3.Connection, answers: Place, waits: Place) -> tuple[int, int]:
    """How many subjects are left, and how many more lack negatives."""
    lacking = _count(
        db,
        "SELECT COUNT(*) AS found FROM"
        " (SELECT subject, COUNT(*) AS count FROM negatives WHERE generation = ? GROUP BY subject) AS n"
        " JOIN subjects AS s ON s.number = n.subject JOIN subjects AS w ON w.gallery = ? AND w.id = s.id"
        " WHERE n.count > (SELECT COUNT(*) FROM negatives WHERE subject = w.number)",
        (answers.generation, waits.number),
    )
    return _count(db, _LEFT, (answers.number, waits.number)), lacking


def _count(db: sqlite3.Connection, query: str, arguments: tuple[int, ...]) -> int:
    return int(db.execute(query, arguments).fetchall()[0]["found"])
