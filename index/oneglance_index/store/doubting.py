"""What is doubtful about an enrollment, judged in the transaction that carries it out.

The nearest other subjects were searched before, as of a revision. What came since is compared here, encoding by
encoding: so of two callers who enroll one person under two names at the same moment, the later is told of the other.
Every distance is that of two single encodings, whatever the gallery's rule of fusion.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from oneglance_core.distance import squared_l2
from oneglance_index.errors import LikeAnother, NeighbourGone, UnlikeOwn
from oneglance_index.records import Doubt, Doubting, Neighbour, Vectors
from oneglance_index.store import queries
from oneglance_index.store.recent import Recent

_BLOCK_ROWS = 512


def doubt(
    db: sqlite3.Connection,
    at: queries.Place,
    doubting: Doubting,
    subject_id: str,
    subject: int | None,
    kept: int | None,
    vectors: Vectors,
    revision: int,
    recent: Recent,
) -> tuple[Neighbour | None, tuple[Doubt, ...]]:
    """The nearest other subject, and what is doubtful about enrolling `vectors`, float32 [n, D], which are not in yet.

    `subject` is the number of subject `subject_id`, `kept` that of the subject whose encodings stay, None: there is
    none. `revision` is the one that the enrollment makes; `recent` knows what the writer did last. Raises LikeAnother,
    UnlikeOwn where doubts are to be refused, NeighbourGone.
    """
    neighbours = _neighbours(db, at, doubting, subject, vectors, revision, recent)
    doubts = [
        Doubt("like_another", one.example, one.subject_id, one.distance, doubting.like_another)
        for one in neighbours
        if doubting.like_another is not None and one.distance <= doubting.like_another
    ]
    if doubting.unlike_own is not None:
        own = np.empty((0, at.dimension), np.float32) if kept is None else queries.subject_vectors(db, at, kept)[1]
        doubts += [
            Doubt("unlike_own", example, subject_id, distance, doubting.unlike_own)
            for example, distance in enumerate(_from_own(vectors, own))
            if distance is not None and distance > doubting.unlike_own
        ]
    if doubting.refuse and doubts:
        kind = LikeAnother if doubts[0].kind == "like_another" else UnlikeOwn
        raise kind(at.gallery_id, subject_id, doubts)
    return min(neighbours, key=lambda one: one.distance, default=None), tuple(doubts)


def _neighbours(
    db: sqlite3.Connection,
    at: queries.Place,
    doubting: Doubting,
    subject: int | None,
    vectors: Vectors,
    revision: int,
    recent: Recent,
) -> Sequence[Neighbour]:
    """The neighbours of the examples that have one, in their order. Raises NeighbourGone."""
    found, since = list(doubting.neighbours), doubting.revision
    if since >= revision:  # the gallery was deleted and made anew
        raise NeighbourGone(at.gallery_id)
    known = recent.since(at.generation, since, revision - 1, at.dimension)
    if since < revision - 1:  # in a gallery that was made anew, too
        _check_present(db, at, vectors, doubting.neighbours)
    nearest = [np.inf if one is None else one.distance for one in found]
    newer: dict[int, int] = {}
    for rows in [known] if known is not None else queries.encodings_since(db, at, since, _BLOCK_ROWS):
        subjects, others = rows.subjects, rows.vectors
        if subject is not None and subject in subjects:
            subjects, others = subjects[subjects != subject], others[subjects != subject]
        if not len(subjects):
            continue
        for example, vector in enumerate(vectors):
            distances = squared_l2(others, vector)
            best = int(distances.argmin())
            if distances[best] < nearest[example]:
                nearest[example], newer[example] = float(distances[best]), int(subjects[best])
    for example, number in newer.items():
        found[example] = Neighbour(example, queries.subject_id(db, number), nearest[example])
    return [one for one in found if one is not None]


def _check_present(
    db: sqlite3.Connection, at: queries.Place, vectors: Vectors, neighbours: Sequence[Neighbour | None]
) -> None:
    """Raises NeighbourGone where one was found by an encoding that was deleted since."""
    for one in neighbours:
        if one is not None:
            number = queries.find_subject(db, at.number, one.subject_id)
            held = None if number is None else queries.subject_vectors(db, at, number)[1]
            if held is None or one.distance not in squared_l2(held, vectors[one.example]).tolist():
                raise NeighbourGone(at.gallery_id)


def _from_own(vectors: Vectors, own: Vectors) -> Sequence[float | None]:
    """How far each example is from the nearest of the others and of `own`; None where there are none."""
    if len(vectors) + len(own) == 1:
        return [None]
    distances: list[float | None] = []
    for example, vector in enumerate(vectors):
        others = np.concatenate([own, np.delete(vectors, example, axis=0)])
        distances.append(float(squared_l2(others, vector).min()))
    return distances
