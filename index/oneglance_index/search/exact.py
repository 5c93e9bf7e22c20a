"""From the rows that a scan proposes to the subjects that are certainly nearest.

The distances that FAISS computes in float32 only choose rows; the proposed rows are measured again by
distance.squared_l2. A row that was not proposed could still belong in the answer if FAISS's error was larger than the
gap: bounds.py says how large it can be. What is wanted decides the cut: the distance of the last candidate or of the
last match, whichever is farther, so that one scan answers both. Where the bound lies above the cut, no row was missed.

Else, if as many subjects were found as are wanted, FAISS's distance to every row is looked at, summed row by row: it is
off by a share of itself only. The rows that could matter are measured in the order of it: nearly always a few, and
all of them once in the worst case. If not as many subjects were found, or all that was found matches and more matches
are wanted, more rows are fetched.

Of rows that are equal to the bit one is proposed for all, once they are known (twins.py); those that aren't are looked
for where a scan wasn't enough and has proposed many of them.

In the end the answer equals that of brute force in float64, boundary, ties and all, for any data; how many
rows had to be measured is all that depends on them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oneglance_core.distance import squared_l2
from oneglance_index.records import Integers, Search, Vectors
from oneglance_index.search.bounds import ByRow
from oneglance_index.search.scan import Proposed
from oneglance_index.search.twins import NO_TWINS, Twins, often

Nearest = Callable[[Vectors, int, float], Proposed]
# FAISS's distance, row by row, of every row of a matrix to a probe float32 [D]: float32 [n].
Every = Callable[[Vectors, Vectors], Vectors]
# Looks for the twins of some rows; the scan hides them from here on. All that are known then.
Look = Callable[[Integers], Twins]

# More than k, because some of the nearest rows may be of one subject, or dead, or too close to the cut to
# tell.
SLACK_ROWS = 16
# Where only matches are asked for: few subjects lie within a threshold that identifies.
FIRST_MATCH_ROWS = 32
# How many times as many rows the next try fetches; and how much more than it needs a probe may get with others.
GROWTH = 4
# What was seen last counts for so much where it is less than before; and for so many probes it is enough.
_FORGETS, _FOR_MOST = 1 / 8, 0.9
# To look for more matches than these every row is looked at instead.
_MOST_FETCHED = 4096
# Bounds the memory of one fetch: FAISS gives 12 bytes for each of these, measuring again takes 8 D.
_FETCH_AT_ONCE = 1 << 20
_MEASURE_VALUES_AT_ONCE = 1 << 16  # half a megabyte in float64, which stays in a core's cache


class Table(NamedTuple):
    """The rows of an index: vectors float32 [n, D], numbers int64 [n] by which equal distances are ordered, subject
    numbers int64 [n] with -1 for a dead row; `max_norm` is at least the largest ||x||; `live_subjects` counts the
    distinct ones; `twins`: those that scans hide."""

    vectors: Vectors
    numbers: Integers
    subjects: Integers
    max_norm: float
    live_subjects: int
    twins: Twins = NO_TWINS

    @property
    def shown(self) -> int:
        """How many rows scans can propose."""
        return len(self.numbers) - len(self.twins.hidden)


class Ranked(NamedTuple):
    """The nearest subjects of one probe, nearest first, and which row of the table each is nearest by: all [m].
    `every_row`: every row was looked at for it."""

    distances: Vectors
    subjects: Integers
    numbers: Integers
    rows: Integers
    every_row: bool = False


class Wanted(NamedTuple):
    """What is asked about each probe: its nearest `candidates` subjects, int64 [q]; and of the subjects whose distance
    is at most `within`, float64 [q] (-inf: of none), the nearest `matches`, int64 [q]."""

    candidates: Integers
    within: NDArray[np.float64]
    matches: Integers


def wanted_by(searches: Sequence[Search]) -> Wanted:
    """What is asked about each probe of all searches, one after the other."""
    probes = [len(search.probes) for search in searches]
    ranged = [search.within is not None for search in searches]
    return Wanted(
        np.repeat([search.candidates for search in searches], probes),
        # No distance is below 0; a threshold on scores may be.
        np.repeat([-np.inf if search.within is None else max(search.within, 0.0) for search in searches], probes),
        # One more than the limit, to see whether it cut something off.
        np.repeat([(search.limit + 1) * asked for search, asked in zip(searches, ranged, strict=True)], probes),
    )


class RowsEach:
    """How many of the rows that are nearest to a probe are one subject's, by what was found. It decides no more than
    how many rows are fetched at first: where subjects have many encodings each, the nearest ones may be of many
    subjects, or nearly all of one."""

    def __init__(self) -> None:
        self._usual = math.inf

    def usual(self, most: int) -> int:
        """At most `most`, as many as a subject has."""
        return math.ceil(min(self._usual, most))

    def saw(self, near: Integers, candidates: Integers) -> None:
        """Of some probes how many rows were as near as the last candidate, and how many those were, int64 [q] both."""
        if len(near):
            seen = float(np.quantile(near / candidates, _FOR_MOST))
            lower = math.isfinite(self._usual) and seen < self._usual
            self._usual = self._usual + (seen - self._usual) * _FORGETS if lower else seen


def nearest_subjects(
    table: Table, nearest: Nearest, every: Every, look: Look, each: RowsEach, probes: Vectors, wanted: Wanted
) -> list[Ranked]:
    """For each probe float32 [q, D] its nearest subjects: as many as it takes to answer what is wanted of it."""
    none = np.empty(0, np.int64)
    answers = [Ranked(np.empty(0, np.float32), none, none, none)] * len(probes)
    if table.live_subjects == 0 or len(probes) == 0:
        return answers
    wanted = wanted._replace(candidates=np.minimum(wanted.candidates, table.live_subjects))
    rows_per_subject = -(-table.shown // table.live_subjects)
    few = wanted.candidates * each.usual(rows_per_subject) + SLACK_ROWS
    needs = np.where(wanted.candidates > 0, few, FIRST_MATCH_ROWS)
    open_probes = np.arange(len(probes))
    while len(open_probes):
        # A probe that needs many rows isn't worth as many for the others: it waits for a scan of its own.
        together = open_probes[needs[open_probes] <= GROWTH * needs[open_probes].min()]
        most = int(needs[together].max())
        settled = np.zeros(len(probes), np.bool_)
        step = max(1, _FETCH_AT_ONCE // min(most, table.shown))
        for start in range(0, len(together), step):
            batch = together[start : start + step]
            fetch = min(most, table.shown)
            asked = Wanted(wanted.candidates[batch], wanted.within[batch], wanted.matches[batch])
            found = nearest(probes[batch], fetch, table.max_norm)
            measured = measure(table.vectors, found.rows, probes[batch])
            ranked, cuts = rank(table, found.rows, measured, asked)
            floors = found.bounds.floors(found.distances.max(axis=1).astype(np.float64), probes[batch], cuts)
            sure = (floors > cuts) | (fetch == table.shown)
            for at in np.flatnonzero(sure):
                answers[batch[at]] = ranked(int(at))
            settled[batch] = sure
            told = sure & (asked.candidates > 0)
            each.saw((measured[told] <= cuts[told, None]).sum(axis=1), asked.candidates[told])
            if len(met := often(table.vectors, found.rows[~sure])):
                known, table = table.twins, table._replace(twins=look(met))
                if known is not table.twins:
                    continue  # the same probes are open yet, and need no more than before
            needs[batch] = fetch * GROWTH
            # All that were proposed match, and more are wanted.
            short = (cuts == asked.within) & (measured.max(axis=1) <= asked.within) & (fetch < _MOST_FETCHED)
            enough = np.flatnonzero(~sure & np.isfinite(cuts) & ~short)
            for at in enough:
                one = only(asked, int(at))
                answers[batch[at]] = _of_every_row(table, every, probes[batch[at]], one, float(cuts[at]), fetch)
            settled[batch[enough]] = True
        open_probes = open_probes[~settled[open_probes]]
    return answers


def only(wanted: Wanted, at: int) -> Wanted:
    one = slice(at, at + 1)
    return Wanted(wanted.candidates[one], wanted.within[one], wanted.matches[one])


def _of_every_row(table: Table, every: Every, probe: Vectors, wanted: Wanted, cut: float, fetch: int) -> Ranked:
    """The ranked subjects of one probe, whose cut isn't beyond this one; `fetch` rows were not enough to be sure."""
    by_row = ByRow(len(probe))
    away = every(table.vectors, probe)
    away[table.twins.hidden] = np.inf
    rows = np.flatnonzero(away <= by_row.reach(cut))
    # In the order of FAISS's distance, as far as it matters: the first of these, then times as many.
    ends = [0, fetch]
    while ends[-1] < len(rows):
        ends.append(ends[-1] * GROWTH)
    order = np.argpartition(away[rows], [end - 1 for end in ends[1:-1]]) if len(ends) > 2 else np.arange(len(rows))
    rows, near = rows[order], np.empty(0, np.int64)
    distances = np.empty(0, np.float32)
    for start, end in itertools.pairwise(ends):
        more = measure(table.vectors, rows[None, start:end], probe[None])[0]
        within = more <= np.float32(cut)
        near = np.concatenate([near, rows[start:end][within]])
        distances = np.concatenate([distances, more[within]])
        ranked, cuts = rank(table, near[None], distances[None], wanted)
        if end < len(rows) and by_row.floors(away[rows[end - 1 : end]].astype(np.float64), probe[None], cuts) > cuts:
            break
    return ranked(0)._replace(every_row=True)


def rank(
    table: Table, at: Integers, distances: Vectors, wanted: Wanted
) -> tuple[Callable[[int], Ranked], NDArray[np.float64]]:
    """Ranks the subjects among the rows `at` of each probe, int64 [q, f], whose distances are float32 [q, f], and among
    their twins.

    Returns what ranks the i-th probe's, and the cut that decides it, float64 [q] (inf: fewer candidates than wanted are
    among them).
    """
    most = np.maximum(wanted.candidates, wanted.matches)
    at, distances = table.twins.added_to(at, distances, table.subjects, int(most.max(initial=0)))
    numbers, subjects = table.numbers[at], table.subjects[at]
    distances = np.where(subjects < 0, np.float32(np.inf), distances)
    order = np.lexsort((numbers, distances), axis=1)
    distances = np.take_along_axis(distances, order, 1)
    numbers, subjects = np.take_along_axis(numbers, order, 1), np.take_along_axis(subjects, order, 1)
    first = _first_of_each(subjects) & (subjects >= 0)
    ranks = np.cumsum(first, axis=1, dtype=np.int64)

    farthest_match = np.minimum(_distance_at(distances, ranks, wanted.matches), wanted.within)
    cuts = np.maximum(_distance_at(distances, ranks, wanted.candidates), farthest_match)
    kept = first & (ranks <= most[:, None]) & (distances.astype(np.float64) <= cuts[:, None])

    def ranked(i: int) -> Ranked:
        keep = kept[i]
        return Ranked(distances[i, keep], subjects[i, keep], numbers[i, keep], at[i, order[i, keep]])

    return ranked, cuts


def _distance_at(distances: Vectors, rank: Integers, wanted: Integers) -> NDArray[np.float64]:
    """The distance of each probe's subject of the wanted rank, float64 [q]: -inf for rank 0, inf where none has it."""
    at = np.argmax(rank >= wanted[:, None], axis=1)
    found = np.where(rank[:, -1] >= wanted, distances[np.arange(len(at)), at].astype(np.float64), np.inf)
    return np.where(wanted > 0, found, -np.inf)


def measure(vectors: Vectors, at: Integers, probes: Vectors) -> Vectors:
    """The real distances of proposed rows: at int64 [q, f], probes float32 [q, D], result float32 [q, f]."""
    distances = np.empty(at.shape, np.float32)
    rows_at_once = max(1, _MEASURE_VALUES_AT_ONCE // vectors.shape[1])
    if at.size <= rows_at_once:
        return squared_l2(vectors[at], probes[:, None, :])
    for i, probe in enumerate(probes):
        for start in range(0, at.shape[1], rows_at_once):
            part = slice(start, start + rows_at_once)
            distances[i, part] = squared_l2(vectors[at[i, part]], probe)
    return distances


def _first_of_each(values: Integers) -> NDArray[np.bool_]:
    """Whether each value is the first of its kind in its line, bool [q, f]."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, 1)
    first = np.ones(values.shape, np.bool_)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    result = np.empty_like(first)
    np.put_along_axis(result, order, first, 1)
    return result
