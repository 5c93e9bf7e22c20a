"""From the rows that a scan proposes to the subjects that are certainly nearest.

FAISS computes in float32, and on its matrix path as ||x||^2 + ||q||^2 - 2xq, which cancels: near 0 nothing of
the value may be left. So its distances only choose rows; the proposed rows are measured again by
distance.squared_l2. A row that was not proposed could still belong in the answer if FAISS's error was larger
than the gap. With u = 2^-24 and any order of summation, fused or not (Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1),

    |FAISS's d - d|  <=  gamma * (||x|| + ||q||)^2,    gamma = (D + 3) u / (1 - (D + 3) u)

for both paths, since each is a sum of products whose absolute values sum up to at most (||x|| + ||q||)^2. A
row not proposed has FAISS's d >= F, the largest proposed. A row with d <= c has ||x|| <= ||q|| + sqrt(c). So
when F - gamma * (2 ||q|| + sqrt(c))^2 > c, no row that was left out has d <= c; else more rows are fetched.
What is wanted decides c: the distance of the last candidate or of the last match, whichever is farther, so that one
scan answers both.
In the end the answer equals that of brute force in float64, boundary, ties and all, for any data; how many
rows had to be fetched is all that depends on them.

Rows in half precision (on a GPU, `gpu_rows` = float16). x' and q', the float16 values nearest to x and q, are compared
instead. With h = 2^-11, and no value above HALF_MOST,

    ||x - x'|| <= h ||x|| + 2^-25 sqrt(D)

where the last term is for values below the smallest normal one, 2^-14. So, with e the sum of that for x and for q, by
the triangle inequality

    |sqrt(d') - sqrt(d)| <= e <= h (||x|| + ||q||) + 2^-24 sqrt(D)

A product of two float16 values is exact in float32. They are summed by tensor cores, which cut off where float32 would
round, and do so after every few products (Fasi, Higham, Mikaitis, Pranesh: Numerical behavior of NVIDIA tensor cores,
2021): u = 2^-22 covers it. FAISS sums ||q'||^2 of squares that it rounds to float16: that is off by
h ||q'||^2 + 2^-25 D at most. So for FAISS's d

    |FAISS's d - d'|  <=  (gamma + h) (||x'|| + ||q'||)^2 + 2^-25 D

and when sqrt(F - that) - e > sqrt(c), no row that was left out has d <= c. Squares of more than HALF_MOST have no
float16: such values are cut down to it, which keeps everything finite, and where a probe or a row that matters could
have one, all rows are fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oneglance_core.distance import squared_l2, squared_norms
from oneglance_index.records import Integers, Search, Vectors

Nearest = Callable[[Vectors, int], tuple[Vectors, Integers]]

HALF_ROUNDING = 2.0**-11
HALF_MOST = 255.0  # the square of 256 is beyond float16

# More than k, because some of the nearest rows may be of one subject, or dead, or too close to the cut to
# tell.
_SLACK_ROWS = 16
# Where only matches are asked for: few subjects lie within a threshold that identifies.
_FIRST_MATCH_ROWS = 32
# How many times as many rows the next try fetches; and how much more than it needs a probe may get with others.
_GROWTH = 4
# Bounds the memory of one fetch: FAISS gives 12 bytes for each of these, measuring again takes 8 D.
_FETCH_AT_ONCE = 1 << 20
_MEASURE_VALUES_AT_ONCE = 1 << 22


class Table(NamedTuple):
    """The rows of an index: vectors float32 [n, D], numbers int64 [n] by which equal distances are ordered, subject
    numbers int64 [n] with -1 for a dead row; `max_norm` is at least the largest ||x||; `live_subjects` counts the
    distinct ones. `rounding` is the scan's."""

    vectors: Vectors
    numbers: Integers
    subjects: Integers
    max_norm: float
    live_subjects: int
    rounding: float


class Ranked(NamedTuple):
    """The nearest subjects of one probe, nearest first, and which row of the table each is nearest by: all [m]."""

    distances: Vectors
    subjects: Integers
    numbers: Integers
    rows: Integers


class Wanted(NamedTuple):
    """What is asked about each probe: its nearest `candidates` subjects, int64 [q]; and of the subjects whose distance
    is at most `within`, float64 [q] (-inf: of none), the nearest `matches`, int64 [q]."""

    candidates: Integers
    within: NDArray[np.float64]
    matches: Integers


def as_halves(vectors: Vectors) -> NDArray[np.float16]:
    """Vectors as a scan with HALF_ROUNDING compares them."""
    halves: NDArray[np.float16] = np.clip(vectors, -HALF_MOST, HALF_MOST).astype(np.float16)
    return halves


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


def nearest_subjects(table: Table, nearest: Nearest, probes: Vectors, wanted: Wanted) -> list[Ranked]:
    """For each probe float32 [q, D] its nearest subjects: as many as it takes to answer what is wanted of it."""
    rows = len(table.numbers)
    answers: list[Ranked] = [Ranked(np.empty(0, np.float32), *[np.empty(0, np.int64)] * 3)] * len(probes)
    if table.live_subjects == 0 or len(probes) == 0:
        return answers
    wanted = wanted._replace(candidates=np.minimum(wanted.candidates, table.live_subjects))
    norms = np.sqrt(squared_norms(probes))
    rows_per_subject = -(-rows // table.live_subjects)
    few = wanted.candidates * rows_per_subject + _SLACK_ROWS
    needs = np.where(wanted.candidates > 0, few, _FIRST_MATCH_ROWS)
    open_probes = np.arange(len(probes))
    while len(open_probes):
        # A probe that needs many rows isn't worth as many for the others: it waits for a scan of its own.
        together = open_probes[needs[open_probes] <= _GROWTH * needs[open_probes].min()]
        fetch = min(int(needs[together].max()), rows)
        needs[together] = fetch * _GROWTH
        settled = np.zeros(len(probes), np.bool_)
        step = max(1, _FETCH_AT_ONCE // fetch)
        for start in range(0, len(together), step):
            batch = together[start : start + step]
            asked = Wanted(wanted.candidates[batch], wanted.within[batch], wanted.matches[batch])
            ranked, cuts, floors = _rank(table, nearest, probes[batch], norms[batch], asked, fetch)
            settled[batch] = (floors > cuts) | (fetch == rows)
            for at in np.flatnonzero(settled[batch]):
                answers[batch[at]] = ranked(int(at))
        open_probes = open_probes[~settled[open_probes]]
    return answers


def _rank(
    table: Table, nearest: Nearest, probes: Vectors, norms: NDArray[np.float64], wanted: Wanted, fetch: int
) -> tuple[Callable[[int], Ranked], NDArray[np.float64], NDArray[np.float64]]:
    """Ranks the subjects among `fetch` proposed rows.

    Returns what ranks the i-th probe's, the cut c that decides it, float64 [q] (inf: fewer candidates than wanted
    were proposed), and a lower bound of the distance of every row not proposed, float64 [q].
    """
    proposed, at = nearest(probes, fetch)
    distances = _measure(table.vectors, at, probes)
    numbers, subjects = table.numbers[at], table.subjects[at]
    distances[subjects < 0] = np.inf
    order = np.lexsort((numbers, distances), axis=1)
    distances = np.take_along_axis(distances, order, 1)
    numbers, subjects = np.take_along_axis(numbers, order, 1), np.take_along_axis(subjects, order, 1)
    first = _first_of_each(subjects) & (subjects >= 0)
    rank = np.cumsum(first, axis=1, dtype=np.int64)

    farthest_match = np.minimum(_distance_at(distances, rank, wanted.matches), wanted.within)
    cuts = np.maximum(_distance_at(distances, rank, wanted.candidates), farthest_match)
    floors = _floors(proposed.max(axis=1), norms, cuts, table)
    most = np.maximum(wanted.candidates, wanted.matches)
    kept = first & (rank <= most[:, None]) & (distances.astype(np.float64) <= cuts[:, None])

    def ranked(i: int) -> Ranked:
        keep = kept[i]
        return Ranked(distances[i, keep], subjects[i, keep], numbers[i, keep], at[i, order[i, keep]])

    return ranked, cuts, floors


def _distance_at(distances: Vectors, rank: Integers, wanted: Integers) -> NDArray[np.float64]:
    """The distance of each probe's subject of the wanted rank, float64 [q]: -inf for rank 0, inf where none has it."""
    at = np.argmax(rank >= wanted[:, None], axis=1)
    found = np.where(rank[:, -1] >= wanted, distances[np.arange(len(at)), at].astype(np.float64), np.inf)
    return np.where(wanted > 0, found, -np.inf)


def _measure(vectors: Vectors, at: Integers, probes: Vectors) -> Vectors:
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


def _floors(
    proposed: Vectors, norms: NDArray[np.float64], cuts: NDArray[np.float64], table: Table
) -> NDArray[np.float64]:
    """The lower bound of the docstring, float64 [q], rounded to float32 as the distances are.

    13 more than its D + 3 covers norms that were rounded to float32 and this computation itself; the last
    term covers products that underflow, should the hardware flush them to 0.
    """
    dimension = table.vectors.shape[1]
    unit = (dimension + 16) * 2.0 ** (-22 if table.rounding else -24)
    gamma = unit / (1 - unit) + table.rounding
    reach = norms + np.minimum(table.max_norm, norms + np.sqrt(cuts) * (1 + 1e-6))
    away = table.rounding * reach + (2.0**-24 * np.sqrt(dimension) if table.rounding else 0.0)
    least = 2.0**-25 if table.rounding else 2.0**-124
    floors = proposed.astype(np.float64) - gamma * (reach + away) ** 2 - dimension * least
    if table.rounding:
        floors = np.maximum(np.sqrt(np.maximum(floors, 0.0)) - away, 0.0) ** 2
        floors[~(reach <= HALF_MOST)] = -np.inf
    rounded: NDArray[np.float64] = floors.astype(np.float32).astype(np.float64)
    return rounded
