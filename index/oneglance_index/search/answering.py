"""From ranked subjects to the answer of a search: their ids, labels, probabilities, and which of them match."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from oneglance_core.pair_head import probabilities_of, scores_of
from oneglance_index.records import Candidate, Found, Search, Vectors
from oneglance_index.search.exact import Ranked
from oneglance_index.search.labelled import Concerns, HeldSubjects, Named


class Whole(NamedTuple):
    """The index that was searched, as Found tells it."""

    revision: int
    subjects: int
    encodings: int
    exact: bool
    kind: str
    device: str


def near_subjects(
    search: Search, ranked: Sequence[Ranked], vectors: Sequence[Vectors], named: Named, numbered: bool
) -> list[tuple[Candidate, ...]]:
    """The candidates that were ranked for each probe, whose rows are of these vectors; `numbered`: rows are
    encodings."""
    labels = named.labels if search.labels else None
    near = [_candidates(found, named.ids, numbered or search.singly, labels) for found in ranked]
    if search.head is None:
        return near
    return [
        _with_probabilities(search, candidates, search.head.logits(rows[found.rows], probe))
        for candidates, found, rows, probe in zip(near, ranked, vectors, search.probes, strict=True)
    ]


def who_is_told(
    held: HeldSubjects,
    searches: Sequence[Search],
    ranked: Sequence[Sequence[Ranked]],
    revision: int,
    concerns: Concerns,
) -> Named:
    """Who the subjects are that were ranked for the probes of each search. Raises as HeldSubjects.named()."""
    numbers: set[int] = set()
    labelled: set[int] = set()
    for search, of_probes in zip(searches, ranked, strict=True):
        for one in of_probes:
            numbers.update(one.subjects.tolist())
            if search.labels:
                labelled.update(one.subjects.tolist())
    return held.named(numbers, labelled, revision, concerns)


def answer(search: Search, near: Sequence[tuple[Candidate, ...]], whole: Whole, every_row: int = 0) -> Found:
    """What is asked for. `every_row`: see Found."""
    within = -np.inf if search.within is None else search.within
    counts = [bisect_right(found, within, key=_score) for found in near]
    return Found(
        tuple(found[: search.candidates] for found in near),
        tuple(found[: min(count, search.limit)] for found, count in zip(near, counts, strict=True)),
        tuple(count > search.limit for count in counts),
        *(whole.revision, whole.subjects, whole.encodings),
        *(whole.exact, whole.kind, whole.device),
        every_row=every_row,
    )


_score = attrgetter("score")


def _with_probabilities(search: Search, found: Sequence[Candidate], logits: Vectors) -> tuple[Candidate, ...]:
    scores = scores_of(logits).tolist() if search.by_probability else [one.score for one in found]
    return tuple(
        replace(one, score=score, probability=probability)
        for one, score, probability in zip(found, scores, probabilities_of(logits).tolist(), strict=True)
    )


def _candidates(
    found: Ranked, ids: Mapping[int, str], numbered: bool, labels: Mapping[int, Mapping[str, str]] | None
) -> tuple[Candidate, ...]:
    columns = (found.subjects.tolist(), found.numbers.tolist(), found.distances.tolist())
    return tuple(
        Candidate(
            *(ids[subject], str(number) if numbered else "", distance, distance),
            labels=None if labels is None else labels[subject],
            number=subject,
        )
        for subject, number, distance in zip(*columns, strict=True)
    )
