"""Negatives: a probe that is nearer to one of a subject's negatives than to the subject is not given that subject.

Nearer means: to the nearest of the negatives than to the nearest of the subject's encodings, by squared L2, whatever
the rule of fusion; as near is not nearer. The encodings are read from the store, for the candidates that have negatives
only: they are those of the revision that was searched, or of a later one.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace

from oneglance_core.distance import squared_l2
from oneglance_index.errors import GalleryError
from oneglance_index.records import Candidate, Found, Integers, NearerNegative, Search, Vectors
from oneglance_index.store import queries

# So many candidates more are asked for at first, in place of those that have a nearer negative; then times as many.
_FIRST_MORE = 8
_GROWTH = 4

Ask = Callable[[Sequence[Search]], Sequence[Found | GalleryError]]
_Marking = Callable[[sqlite3.Connection], list[Found | GalleryError]]
Read = Callable[[_Marking], list[Found | GalleryError]]
_Subject = tuple[Vectors, Integers, Vectors]  # encodings; numbers of negatives, and these


class SubjectGone(Exception):
    """A candidate was deleted, merged into another, or got its first negative, since it was found: search again."""


def nearer_negative(own: Vectors, numbers: Integers, negatives: Vectors, probe: Vectors) -> NearerNegative | None:
    """Of a subject with encodings `own`, float32 [n, D], and negatives [m, D] of these numbers, oldest first."""
    if not len(negatives):
        return None
    distances = squared_l2(negatives, probe)
    best = int(distances.argmin())
    if distances[best] >= squared_l2(own, probe).min():
        return None
    return NearerNegative(str(numbers[best]), float(distances[best]))


def search(
    ask: Ask, searches: Sequence[Search], gallery_id: str, having: Set[int], read: Read
) -> list[Found | GalleryError]:
    """Answers the searches by `ask`, which knows no negatives; `having` are the numbers of the subjects that have some.
    Raises SubjectGone."""
    more = min(_FIRST_MORE, len(having))
    while True:
        found = ask([_asking_for(one, more) for one in searches])
        marked = read(functools.partial(_marked, searches, found, gallery_id, having))
        # No more than all of these can be in the way.
        if more == len(having) or all(_enough(*each, more) for each in zip(searches, marked, strict=True)):
            return [_cut(*each) for each in zip(searches, marked, strict=True)]
        more = min(_GROWTH * more, len(having))


def _marked(
    searches: Sequence[Search],
    found: Sequence[Found | GalleryError],
    gallery_id: str,
    having: Set[int],
    db: sqlite3.Connection,
) -> list[Found | GalleryError]:
    marks = _Marks(db, gallery_id, having)
    return [
        one if search.singly or isinstance(one, GalleryError) else marks.mark(search, one)
        for search, one in zip(searches, found, strict=True)
    ]


class _Marks:
    """Marks the candidates of several searches."""

    def __init__(self, db: sqlite3.Connection, gallery_id: str, having: Set[int]) -> None:
        self._db = db
        self._having = having
        self._known: dict[int, _Subject] = {}
        self._at = queries.place(db, gallery_id)

    def mark(self, search: Search, found: Found) -> Found:
        probes = list(search.probes)
        return replace(
            found,
            candidates=tuple(self._marked(*each) for each in zip(found.candidates, probes, strict=True)),
            matches=tuple(self._marked(*each) for each in zip(found.matches, probes, strict=True)),
        )

    def _marked(self, candidates: Iterable[Candidate], probe: Vectors) -> tuple[Candidate, ...]:
        marked = []
        for one in candidates:
            if one.number in self._having:
                one = replace(one, negative=nearer_negative(*self._subject(one.number), probe))
            marked.append(one)
        return tuple(marked)

    def _subject(self, number: int) -> _Subject:
        if number not in self._known:
            self._known[number] = self._read(number)
        return self._known[number]

    def _read(self, number: int) -> _Subject:
        subject = queries.subject_numbered(self._db, number)
        if subject is None or subject.gallery != self._at.number:  # another gallery has the name by now
            raise SubjectGone
        own = queries.subject_vectors(self._db, self._at, subject)[1]
        return own, *queries.negative_vectors(self._db, self._at, subject)


def _asking_for(search: Search, more: int) -> Search:
    """The same with room for so many subjects that have a nearer negative."""
    if search.singly:
        return search
    candidates = search.candidates + more if search.candidates else 0
    return replace(search, candidates=candidates, limit=search.limit + more if search.within is not None else 0)


def _enough(search: Search, found: Found | GalleryError, more: int) -> bool:
    """Whether the answer has all that was asked for, or there is no more."""
    if search.singly or isinstance(found, GalleryError):
        return True
    candidates = all(
        len(near) < search.candidates + more or _given(near) >= search.candidates for near in found.candidates
    )
    return candidates and all(
        not truncated or _given(near) >= search.limit
        for near, truncated in zip(found.matches, found.truncated, strict=True)
    )


def _cut(search: Search, found: Found | GalleryError) -> Found | GalleryError:
    """What was asked for, of what was found."""
    if search.singly or isinstance(found, GalleryError):
        return found
    candidates = tuple(_up_to(near, search.candidates) for near in found.candidates)
    matches = [tuple(one for one in near if one.negative is None) for near in found.matches]
    truncated = tuple(more or len(near) > search.limit for near, more in zip(matches, found.truncated, strict=True))
    limit = search.limit
    return replace(found, candidates=candidates, matches=tuple(near[:limit] for near in matches), truncated=truncated)


def _given(near: Iterable[Candidate]) -> int:
    return sum(one.negative is None for one in near)


def _up_to(near: Sequence[Candidate], count: int) -> tuple[Candidate, ...]:
    """The first candidates, to the one that is the `count`-th without a nearer negative."""
    given = 0
    for end, one in enumerate(near):
        if given == count:
            return tuple(near[:end])
        given += one.negative is None
    return tuple(near)
