"""Singles: probes are compared with single encodings, where the rule of fusion compares them with templates.

A subject with one encoding has it as its template, so the index of templates finds it. The encodings of subjects that
have, or had, several are kept here, in an index of their own, in the memory of the host. An answer takes both: the
nearest of the templates that are encodings, and the nearest of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from oneglance_index.errors import GalleryError
from oneglance_index.records import Candidate, Change, Checksum, Found, Integers, Rows, Search
from oneglance_index.search.kinds import IndexInfo, RowIndex
from oneglance_index.search.labelled import Directory

NONE: Integers = np.empty(0, np.int64)
# So many more of the nearest templates are looked at first, since some are no encodings; then times as many.
_MORE_TEMPLATES = 16
_GROWTH = 4


class Singles:
    """`rows` must be an empty ExactIndex that takes rows in any order; `templates` is the index of templates.

    A change must come here before it comes to `templates`. Safe for any thread.
    """

    def __init__(self, rows: RowIndex, templates: RowIndex) -> None:
        self._rows = rows
        self._templates = templates
        # The numbers of the subjects whose encodings are here. None ever leaves: else the template of a subject that
        # was deleted a moment ago could be taken for an encoding.
        self._several: set[int] = set()

    def load(self, revision: int, subjects: Mapping[int, str] | Directory, capacity: int) -> None:
        self._rows.load(revision, subjects, capacity)

    def append(self, rows: Rows, counts: Integers) -> None:
        """All encodings of some subjects, one subject after the other, who have `counts` of them, int64 [s]."""
        here = np.repeat(counts > 1, counts)
        if here.any():
            self._rows.append(rows.at(here))
            self._several.update(rows.subjects[here].tolist())

    def reserve(self, encodings: int, subjects: int) -> None:
        self._rows.reserve(encodings, subjects)

    def apply(self, change: Change) -> None:
        self._apply(change)
        self._rows.pass_over(change.revision)

    def _apply(self, change: Change) -> None:
        if change.subject in self._several:
            self._rows.apply(replace(change, kept=None, kept_numbers=None))
            return
        if change.kept is None or change.kept_numbers is None or not len(change.added):
            return
        if len(change.kept) + len(change.added) > 1:
            added = np.concatenate([change.kept_numbers, change.added])
            vectors = np.concatenate([change.kept, change.vectors])
            self._rows.apply(replace(change, added=added, vectors=vectors, removed=NONE, kept=None, kept_numbers=None))
            self._several.add(change.subject)

    def search(self, searches: Sequence[Search]) -> list[Found | GalleryError]:
        """The nearest subjects by single encodings. `encoding_id` is "" where the subject has only that one."""
        more = _MORE_TEMPLATES
        while True:
            asked = [replace(search, candidates=search.candidates + more) for search in searches]
            # In this order: which templates are encodings is looked up once they are found, then come the rows.
            found = self._templates.search(asked)
            alone = [self._encodings(one) for one in found]
            joined = [_joined(*each) for each in zip(alone, self._rows.search(searches), strict=True)]
            if all(_whole(*each) for each in zip(searches, asked, found, joined, strict=True)):
                return [_first(*each) for each in zip(searches, joined, strict=True)]
            more *= _GROWTH

    def _encodings(self, found: Found | GalleryError) -> Found | GalleryError:
        """Those of the templates that are encodings."""
        if isinstance(found, GalleryError):
            return found
        return replace(
            found,
            candidates=tuple(
                tuple(replace(one, encoding_id="") for one in near if int(one.encoding_id) not in self._several)
                for near in found.candidates
            ),
        )

    def retire(self, drop: bool) -> None:
        self._rows.retire(drop)

    def checksum(self) -> Checksum:
        return self._rows.checksum()

    def info(self) -> IndexInfo:
        return self._rows.info()

    def compact(self) -> None:
        self._rows.compact()


def _joined(alone: Found | GalleryError, several: Found | GalleryError) -> Found | GalleryError:
    if isinstance(alone, GalleryError):
        return alone
    if isinstance(several, GalleryError):
        return several
    return replace(alone, candidates=tuple(map(_merged, alone.candidates, several.candidates)))


def _merged(alone: Sequence[Candidate], several: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Nearest first, each subject once: one may have got its second encoding between the two searches."""
    best: dict[int, Candidate] = {}
    for one in sorted((*alone, *several), key=lambda one: one.distance):
        best.setdefault(one.number, one)
    return tuple(best.values())


def _whole(search: Search, asked: Search, templates: Found | GalleryError, joined: Found | GalleryError) -> bool:
    """Whether no template that wasn't looked at can be among the nearest."""
    if isinstance(templates, GalleryError) or isinstance(joined, GalleryError):
        return True
    return all(
        len(looked_at) < asked.candidates
        or (len(near) >= search.candidates and near[search.candidates - 1].distance <= looked_at[-1].distance)
        for looked_at, near in zip(templates.candidates, joined.candidates, strict=True)
    )


def _first(search: Search, found: Found | GalleryError) -> Found | GalleryError:
    if isinstance(found, GalleryError):
        return found
    return replace(found, candidates=tuple(near[: search.candidates] for near in found.candidates))
