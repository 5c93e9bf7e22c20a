"""FusedIndex: probes are compared with one template for each subject, made of all its encodings.

The templates are rows of an ExactIndex, which finds the nearest exactly. The encodings themselves are in memory for
subjects that have several only (singles.py), to be searched one by one.

When a subject's encodings change, the store says which it has then, and its template gets a new value. So a
template follows from the encodings that the store holds, in their order, and from nothing else.

The rule "margin" ranks as "mean" does, and then scores each subject against the others that are nearest to the probe.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from oneglance_core.fusion import MARGIN_OTHERS, farthest_margin_match, margin_scores, template, templates
from oneglance_index.approximation import Approximation, ApproximationState
from oneglance_index.errors import GalleryError
from oneglance_index.records import Candidate, Change, Checksum, Found, Integers, Rows, Search, Vectors
from oneglance_index.search.flat import worth_compacting
from oneglance_index.search.kinds import IndexInfo, RowIndex
from oneglance_index.search.labelled import Directory
from oneglance_index.search.singles import NONE, Singles


class FusedIndex:
    """`templates` must be an ExactIndex of templates, `singles` one that takes rows in any order; `margin` says that
    scores are by that rule. Safe for any thread."""

    exact = True

    def __init__(self, templates: RowIndex, singles: RowIndex, margin: bool) -> None:
        self.kind = templates.kind
        self.dimension = templates.dimension
        self._templates = templates
        self._singles = Singles(singles, templates)
        self._margin = margin
        self._searching = threading.Lock()
        # Guards what is below, for moments. The checksum is of the encodings that the templates are made of.
        self._lock = threading.Lock()
        self._checksum = Checksum(0, 0)
        # Encodings deleted since the last compaction.
        self._gone = 0
        # (revision, encodings at it), for the revision of the last search and all later ones.
        self._sizes = deque([(0, 0)])

    @property
    def device(self) -> str:
        return self._templates.device

    def load(self, revision: int, subjects: Mapping[int, str] | Directory, capacity: int) -> None:
        self._templates.load(revision, subjects, len(subjects))
        # No more than these can be of subjects with several: for each of them one more than one at least.
        self._singles.load(revision, subjects, min(capacity, 2 * (capacity - len(subjects))))
        self._sizes = deque([(revision, 0)])

    def append(self, rows: Rows) -> None:
        """All encodings of some subjects, ordered by the subjects' numbers."""
        subjects, starts, counts = np.unique(rows.subjects, return_index=True, return_counts=True)
        made = rows.vectors[starts]
        for count in np.unique(counts[counts > 1]):
            same = np.flatnonzero(counts == count)
            made[same] = templates(rows.vectors[starts[same, None] + np.arange(count)])
        self._templates.append(Rows(subjects, subjects, made))
        self._singles.append(rows, counts)
        with self._lock:
            revision, encodings = self._sizes.pop()
            self._sizes.append((revision, encodings + len(rows.numbers)))
            self._checksum = _with(self._checksum, rows.numbers, NONE)

    def reserve(self, encodings: int, subjects: int) -> None:
        self._templates.reserve(encodings, subjects)
        self._singles.reserve(encodings, subjects)

    def checksum(self) -> Checksum:
        for part in (self._templates, self._singles):
            part.checksum()  # each learns that it has all rows
        with self._lock:
            return self._checksum

    def apply(self, *changes: Change) -> None:
        with self._lock:
            for change in changes:
                self._checksum = _with(self._checksum, change.added, change.removed)
                self._gone += len(change.removed)
            self._sizes.append((changes[-1].revision, self._checksum.encodings))
        for change in changes:
            self._singles.apply(change)
        self._templates.apply(*map(_of_template, changes))

    def search(self, searches: Sequence[Search]) -> list[Found | GalleryError]:
        by_rule = [search for search in searches if not search.singly]
        singly = [search for search in searches if search.singly]
        with self._searching:
            of_rule = iter(self._all_sized(self._by_rule(by_rule) if by_rule else []))
            of_singles = iter(self._all_sized(self._singles.search(singly) if singly else []))
            return [next(of_singles if search.singly else of_rule) for search in searches]

    def _all_sized(self, found: Sequence[Found | GalleryError]) -> list[Found | GalleryError]:
        return [self._sized(one) if isinstance(one, Found) else one for one in found]

    def _by_rule(self, searches: Sequence[Search]) -> list[Found | GalleryError]:
        if not self._margin:
            return self._templates.search(searches)
        by_margin = [search for search in searches if not search.by_probability]
        others = [search for search in searches if search.by_probability]
        scored = iter(self._by_margin(by_margin) if by_margin else [])
        found = iter(self._templates.search(others) if others else [])
        return [next(found if search.by_probability else scored) for search in searches]

    def _sized(self, found: Found) -> Found:
        """With the number of encodings at its revision."""
        with self._lock:
            while len(self._sizes) > 1 and self._sizes[1][0] <= found.revision:
                self._sizes.popleft()
            return replace(found, encodings=self._sizes[0][1])

    def _by_margin(self, searches: Sequence[Search]) -> list[Found | GalleryError]:
        """First the nearest subjects, which tell how far a match may be; then, where matches are asked for, those too.

        All answers are of the last search. Where the gallery changed meanwhile so that matches may be farther, again.
        """
        nearest = [
            replace(search, candidates=max(search.candidates, MARGIN_OTHERS + 1), within=None, limit=0)
            for search in searches
        ]
        found = self._templates.search(nearest)
        if all(search.within is None for search in searches):
            return [_scored(*each) for each in zip(searches, found, strict=True)]
        reaches = [_reaches(*each) for each in zip(searches, found, strict=True)]
        while True:
            asked = [
                replace(search, probes=search.probes[i : i + 1], within=_asked(reach), limit=wanted.limit + 1)
                if wanted.within is not None
                else replace(search, probes=search.probes[i : i + 1])
                for wanted, search, of_probes in zip(searches, nearest, reaches, strict=True)
                for i, reach in enumerate(of_probes)
            ]
            parts = iter(self._templates.search(asked))
            found = [_joined([next(parts) for _ in of_probes]) for of_probes in reaches]
            needed = [_reaches(*each) for each in zip(searches, found, strict=True)]
            if all(new <= old for pair in zip(needed, reaches, strict=True) for new, old in zip(*pair, strict=True)):
                return [_scored(*each) for each in zip(searches, found, strict=True)]
            reaches = needed

    def info(self) -> IndexInfo:
        with self._lock:
            encodings = self._checksum.encodings
        templates, singles = self._templates.info(), self._singles.info()
        return replace(
            templates,
            encodings=encodings,
            dead_rows=templates.dead_rows + singles.dead_rows,
            memory_bytes=templates.memory_bytes + singles.memory_bytes,
        )

    def freeze(self) -> None:
        """Not all encodings are here."""

    def improve(self) -> bool:
        return self._templates.improve()

    def retire(self, drop: bool) -> None:
        self._templates.retire(drop)
        self._singles.retire(drop)

    def approximate(self, wanted: Approximation | None) -> None:
        self._templates.approximate(wanted)

    def approximation(self) -> ApproximationState | None:
        return self._templates.approximation()

    def alarm(self, stay_exact: bool) -> None:
        self._templates.alarm(stay_exact)

    def wants_tending(self) -> bool:
        return self._templates.wants_tending()

    def tend(self, ended: Callable[[], bool]) -> None:
        self._templates.tend(ended)

    def wants_compaction(self) -> bool:
        # Where a subject's only encoding was replaced it left nothing here, but perhaps in the snapshot.
        return worth_compacting(self._gone, self._checksum.encodings)

    def compact(self) -> None:
        gone = self._gone
        self._templates.compact()
        self._singles.compact()
        with self._lock:
            self._gone -= gone


def _with(checksum: Checksum, added: Integers, removed: Integers) -> Checksum:
    return Checksum(
        checksum.encodings + len(added) - len(removed), checksum.total + int(added.sum()) - int(removed.sum())
    )


def _of_template(change: Change) -> Change:
    """The change of the subject's template that a change of its encodings makes: one that is in `added` and in
    `removed` gets a new value."""
    subject = np.array([change.subject], np.int64)
    if change.removed_subject is not None:
        return replace(change, removed=np.array([change.removed_subject], np.int64))
    if not len(change.added) and not len(change.removed):
        return change
    assert change.kept is not None
    made = template(np.concatenate([change.kept, change.vectors]))
    removed = NONE if adds_template(change) else subject
    return replace(change, added=subject, vectors=made[None], removed=removed, kept=None, kept_numbers=None)


def adds_template(change: Change) -> bool:
    """Whether it is of a subject that had no encodings before. `kept` must be there."""
    return bool(len(change.added) and not len(change.removed)) and change.kept is not None and not len(change.kept)


def _joined(parts: Sequence[Found | GalleryError]) -> Found | GalleryError:
    """The answers to the probes of one search, of one revision, as one; or the first error."""
    found = []
    for part in parts:
        if isinstance(part, GalleryError):
            return part
        found.append(part)
    return replace(
        found[0],
        candidates=tuple(one.candidates[0] for one in found),
        matches=tuple(one.matches[0] for one in found),
        truncated=tuple(one.truncated[0] for one in found),
        exact=all(one.exact for one in found),
        every_row=sum(one.every_row for one in found),
    )


def _reaches(search: Search, found: Found | GalleryError) -> list[float]:
    """For each probe a distance beyond which nobody matches; `found` has its nearest subjects."""
    if search.within is None or isinstance(found, GalleryError):
        return [-math.inf] * len(search.probes)
    return [farthest_margin_match(_distances(near), search.within) for near in found.candidates]


def _asked(reach: float) -> float:
    """This or up to a fifth more, of few values: what may be lost is learnt for the usual ones. What is farther away
    than the reach has no score that counts."""
    return 0.0 if reach <= 0 else max(reach, 2.0 ** (math.ceil(4 * math.log2(reach)) / 4))


def _scored(search: Search, found: Found | GalleryError) -> Found | GalleryError:
    """What was searched for, of what was found: each with its score."""
    if isinstance(found, GalleryError):
        return found
    candidates: list[tuple[Candidate, ...]] = []
    matches: list[tuple[Candidate, ...]] = []
    truncated: list[bool] = []
    for near, within in zip(found.candidates, found.matches, strict=True):
        candidates.append(_with_scores(near, near)[: search.candidates])
        if search.within is None:
            matches.append(())
            truncated.append(False)
            continue
        scored = tuple(one for one in _with_scores(within, near) if one.score <= search.within)
        matches.append(scored[: search.limit])
        truncated.append(len(scored) > search.limit)
    return replace(found, candidates=tuple(candidates), matches=tuple(matches), truncated=tuple(truncated))


def _with_scores(ranked: Sequence[Candidate], nearest: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The first subjects in order of distance, of whom `nearest` has those that count as others."""
    longer = ranked if len(ranked) > len(nearest) else nearest
    scores = margin_scores(_distances(longer)).tolist()
    return tuple(replace(one, score=score) for one, score in zip(ranked, scores, strict=False))


def _distances(ranked: Sequence[Candidate]) -> Vectors:
    return np.array([one.distance for one in ranked], np.float32)
