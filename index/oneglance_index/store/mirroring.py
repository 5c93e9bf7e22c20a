"""What is done to a gallery that moves to another encoder is done to the one that waits, in the same transaction.

So nothing that was deleted comes back with the cut-over, nor with a roll-back, and what is enrolled meanwhile is in
both. Where the other gallery can't have the same, since an example isn't there by its encoder, or one encoding of
several goes, whose counterpart nobody knows, its whole subject goes: it is left to be moved then, and told as such.

Whether pictures are kept is the same in both, too, and set in the one that answers.

What is done to the gallery that waits concerns that alone. Its subjects are those of the other one: they are renamed,
relabelled, merged and kept for longer there only. But for those that were left at a cut-over, or at a roll-back: only
the one that waits has these, until they are deleted, under either name, or it answers again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from oneglance_core.names import composed
from oneglance_index.errors import (
    DimensionMismatch,
    EncoderMismatch,
    EncodingInvalid,
    EncodingKeyExists,
    GalleryNotFound,
    GalleryWaits,
    LimitExceeded,
    NegativeEnrolled,
    NegativeOfTheOther,
)
from oneglance_index.store import queries
from oneglance_index.store.crops import SetKeepCrops
from oneglance_index.store.enrolling import Enroll
from oneglance_index.store.following import Follow, Following
from oneglance_index.store.managing import MergeSubjects, MoveEncodings, RenameSubject, UpdateLabels
from oneglance_index.store.mutations import (
    AddNegative,
    Applied,
    DeleteEncodings,
    DeleteGallery,
    DeleteNegative,
    Mutation,
    SetRetention,
    made_for,
)
from oneglance_index.store.queries import Place, StoredSubject
from oneglance_index.store.succession import without_move

T = TypeVar("T")

# Why a mutation can't be had in the other gallery, too. Each is raised before anything is written.
_CANT = (
    DimensionMismatch,
    EncoderMismatch,
    EncodingInvalid,
    EncodingKeyExists,
    LimitExceeded,
    NegativeEnrolled,
    NegativeOfTheOther,
)
# Of subjects of the gallery that waits, and whether pictures of them are kept.
_ELSEWHERE = (RenameSubject, UpdateLabels, MergeSubjects, MoveEncodings, SetRetention, SetKeepCrops)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """The gallery that waits, beside the one `at`, which answers and where it is done already. `ids`: what the subjects
    that the mutation names were called before it, `result` what came of it there."""

    db: sqlite3.Connection
    at: Place
    place: Place
    ids: Sequence[str]
    result: Any

    @property
    def id(self) -> str:
        return self.place.gallery_id

    def find(self, subject_id: str) -> StoredSubject | None:
        """By this very id."""
        return queries.find_subject(self.db, self.place.number, subject_id, exactly=True)

    def all_there(self) -> bool:
        return all(self.find(one) is not None for one in self.ids)

    def without(self, ids: Sequence[str]) -> list[Mutation[Any]]:
        """Those of the subjects go that are there."""
        return [DeleteEncodings(self.id, one, None) for one in ids if self.find(one) is not None]

    def subject(self, subject_id: str) -> StoredSubject:
        """Of the gallery that answers, by its id there."""
        found = queries.find_subject(self.db, self.at.number, subject_id)
        assert found is not None
        return found


def _enroll(one: Enroll, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    created = waiting.result.created
    vectors = made_for(waiting.place, one.encodings, one.encoder_digest or waiting.at.encoder_digest, one.others)
    (subject_id,) = waiting.ids
    (row,) = waiting.db.execute(
        "SELECT created FROM encodings WHERE number = ?", (int(waiting.result.encoding_ids[0]),)
    ).fetchall()
    return [
        replace(
            one,
            created=row["created"],  # so that they are known to be of the same examples
            gallery_id=waiting.id,
            subject_id=waiting.subject(subject_id).id,
            encodings=vectors,
            encoder_digest=waiting.place.encoder_digest,
            others={},
            labels={} if created else one.labels,  # None: it has the same already
            on_existing="replace" if one.on_existing == "replace" else "add",
            doubting=None,
            checked=False,
            answered=waiting.result,
        )
    ]


def _delete(_: DeleteEncodings, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    return waiting.without(waiting.ids)


def _rename(one: RenameSubject, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    new = composed(one.new_id)
    if waiting.find(new) is not None and new not in waiting.ids:  # left at the cut-over: the id is somebody else's now
        return waiting.without([*waiting.ids, new])
    return [RenameSubject(waiting.id, waiting.ids[0], new)] if waiting.all_there() else []


def _relabel(_: UpdateLabels, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    if not waiting.all_there():
        return []
    labels = json.loads(queries.labels(waiting.db, waiting.subject(waiting.ids[0])))
    return [UpdateLabels(waiting.id, waiting.ids[0], labels, (), clear=True)]


def _retain(one: SetRetention, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    return [SetRetention(waiting.id, waiting.ids[0], one.retention)] if waiting.all_there() else []


def _merge(one: MergeSubjects, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    if not waiting.all_there():
        return waiting.without(waiting.ids)
    source, target = waiting.ids
    return [MergeSubjects(waiting.id, source, target, one.max_encodings, one.max_negatives)]


def _hand_over(_: MoveEncodings, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    return waiting.without(waiting.ids[:1])  # the other one lacks an encoding, but has none that isn't its own


def _negate(one: AddNegative, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    if not waiting.all_there():
        return []
    vector = made_for(waiting.place, one.vector, one.encoder_digest or waiting.at.encoder_digest, one.others)
    digest = waiting.place.encoder_digest
    return [AddNegative(waiting.id, waiting.ids[0], vector, digest, one.max_negatives)]


def _forgive(_: DeleteNegative, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    subject = waiting.find(waiting.ids[0])
    if subject is None or not queries.subject_negatives(waiting.db, waiting.place.generation, subject):
        return []
    return waiting.without(waiting.ids)


def _follow(one: Follow, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    return [replace(one, gallery_id=waiting.id)]


def _keep_crops(one: SetKeepCrops, waiting: _Waiting) -> Sequence[Mutation[Any]]:
    return [replace(one, gallery_id=waiting.id)]


_MIRRORED: Mapping[type[object], Callable[[Any, _Waiting], Sequence[Mutation[Any]]]] = {
    Enroll: _enroll,
    DeleteEncodings: _delete,
    RenameSubject: _rename,
    UpdateLabels: _relabel,
    SetRetention: _retain,
    MergeSubjects: _merge,
    MoveEncodings: _hand_over,
    AddNegative: _negate,
    DeleteNegative: _forgive,
    Follow: _follow,
    SetKeepCrops: _keep_crops,
}


def carried_out(db: sqlite3.Connection, mutation: Mutation[T]) -> Applied[T]:
    """Runs a mutation, and what it means for the other gallery where its own one moves to another encoder. Raises
    GalleryWaits, and what the mutation raises."""
    made: Any = mutation.mutation if isinstance(mutation, Following) else mutation
    if isinstance(made, DeleteGallery):
        return _deleted(db, made)
    if type(made) not in _MIRRORED:
        return mutation.run(db)
    at = _moving(db, made.gallery_id)
    if at is None or at.move is None:
        return mutation.run(db)
    if not at.move.answers:
        if isinstance(made, _ELSEWHERE):
            raise GalleryWaits(at.gallery_id, at.move.other)
        return mutation.run(db)
    ids, other = _named(db, at, made), queries.place(db, at.move.other)
    if isinstance(made, DeleteEncodings) and made.whole and _only_in(db, other, at, made.subject_id):
        return _alike(mutation, replace(made, gallery_id=other.gallery_id)).run(db)  # left at a cut-over
    applied = mutation.run(db)
    if applied.effect is None and not isinstance(made, Follow):
        return applied
    waiting = _Waiting(db, at, queries.place(db, at.move.other), ids, applied.result)
    try:
        done = [_alike(mutation, one).run(db) for one in _MIRRORED[type(made)](made, waiting)]
    except _CANT:
        done = [_alike(mutation, one).run(db) for one in waiting.without(ids)]
    return _with(applied, done)


def _deleted(db: sqlite3.Connection, made: DeleteGallery) -> Applied[Any]:
    """The gallery that waits goes with the other one; without it that is one as all others."""
    move = queries.gallery(db, made.gallery_id).gallery.move
    applied = made.run(db)
    if move is None:
        return applied
    other = DeleteGallery(move.other).run(db) if move.answers else without_move(db, queries.gallery(db, move.other))
    return _with(applied, [other])


def _moving(db: sqlite3.Connection, gallery_id: str) -> Place | None:
    """The gallery, with its move; None where there is none of this id, which running the mutation tells."""
    try:
        return queries.place(db, gallery_id, unfinished=True)
    except GalleryNotFound:
        return None


def _only_in(db: sqlite3.Connection, one: Place, other: Place, subject_id: str) -> bool:
    there, elsewhere = (queries.has_subject(db, each.number, subject_id) for each in (one, other))
    return there and not elsewhere


def _named(db: sqlite3.Connection, at: Place, made: Any) -> Sequence[str]:
    """The ids of the subjects that a mutation names, as they are spelled there."""
    given = (getattr(made, name, None) for name in ("subject_id", "into_id", "to_id"))
    found = ((one, queries.find_subject(db, at.number, one)) for one in given if one is not None)
    return [composed(one) if subject is None else subject.id for one, subject in found]


def _alike(mutation: Mutation[Any], other: Mutation[Any]) -> Mutation[Any]:
    """With τ following, if it follows the first."""
    return replace(mutation, mutation=other) if isinstance(mutation, Following) else other


def _with(applied: Applied[T], others: Sequence[Applied[Any]]) -> Applied[T]:
    also = tuple(effect for one in others for effect in one.effects)
    keys = tuple(key for one in others for key in one.destroyed)
    return replace(applied, also=applied.also + also, destroyed=applied.destroyed + keys)
