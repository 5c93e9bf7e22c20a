"""Rows that are equal to the bit: scans propose one of them only, and the others are added to what they propose.

Else a scan that proposes some rows more than are wanted may see nothing but one encoding that was enrolled a thousand
times, and every one of these would have to be measured to know what else there is.

All are looked for once an index is loaded, and after they moved: a hash tells which rows may be equal; their bytes
decide. Of those that came since, a value is looked for once a scan has proposed many rows of it.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oneglance_index.records import Integers, Vectors

# So few equal rows are no trouble: scans propose that many more than are wanted.
_LEAST = 8
# How many rows are compared at a time, and how many times as many members of a class are looked at next.
_COMPARED_AT_ONCE = 2048  # fit into the cache
_GROWTH = 4

Keys = NDArray[np.uint64]


class Twins(NamedTuple):
    """Classes of equal rows, dead ones included, all int64.

    shown [c]: the row of each class that scans propose, ascending. rows [m], starts [c + 1]: the rows of the i-th class
    are rows[starts[i]:starts[i + 1]], in the order of their numbers. hidden [m - c]: those that scans don't propose;
    equal_to [m - c]: the shown row that each of these equals.
    """

    shown: Integers
    rows: Integers
    starts: Integers
    hidden: Integers
    equal_to: Integers

    def first_of_subjects(self, classes: Integers, subjects: Integers, most: int) -> tuple[Integers, Integers]:
        """Of each of some classes the first row of every live subject, for the first `most` subjects at least:
        rows, class by class, and how many they are of each, int64 [classes]. subjects: of all rows, -1 for dead ones.
        """
        sizes = self.starts[classes + 1] - self.starts[classes]
        lengths = np.minimum(sizes, max(most, 1))
        found = [np.empty(0, np.int64)]
        of = [np.empty(0, np.int64)]
        left = np.arange(len(classes))
        while len(left):
            members = self.rows[_ranges(self.starts[classes[left]], lengths[left])]
            at, whose = np.repeat(left, lengths[left]), subjects[members]
            order = np.lexsort((whose, at))  # stable: of each subject the first row comes first
            first = np.append(True, (np.diff(whose[order]) != 0) | (np.diff(at[order]) != 0))[: len(order)]
            order = order[first & (whose[order] >= 0)]
            counts = np.bincount(at[order], minlength=len(classes))
            more = (counts[left] < most) & (lengths[left] < sizes[left])
            done = ~np.isin(at[order], left[more])
            found.append(members[order[done]])
            of.append(at[order[done]])
            left = left[more]
            lengths[left] = np.minimum(sizes[left], lengths[left] * _GROWTH)
        together = np.argsort(np.concatenate(of), kind="stable")
        counts = np.bincount(np.concatenate(of), minlength=len(classes))
        return np.concatenate(found)[together], counts

    def added_to(self, rows: Integers, distances: Vectors, subjects: Integers, most: int) -> tuple[Integers, Vectors]:
        """The rows [q, f] that were proposed to each probe, and their distances, with those of their twins that matter
        where the nearest `most` subjects are wanted: [q, more than f], where some rows may stand twice."""
        if not len(self.shown):
            return rows, distances
        classes = np.minimum(np.searchsorted(self.shown, rows), len(self.shown) - 1)
        shown = self.shown[classes] == rows
        if not shown.any():
            return rows, distances
        known, at = np.unique(classes[shown], return_inverse=True)
        members, counts = self.first_of_subjects(known, subjects, most)
        lengths, starts = np.zeros_like(rows), np.zeros_like(rows)
        lengths[shown], starts[shown] = counts[at], (np.cumsum(counts) - counts)[at]
        # Nothing farther than a class of enough subjects matters.
        enough = np.where(lengths >= most, distances, np.float32(np.inf)).min(axis=1, keepdims=True)
        lengths[distances > enough] = 0
        totals = lengths.sum(axis=1)
        columns = _ranges(np.zeros_like(totals), totals)
        probes = np.repeat(np.arange(len(rows)), totals)
        more_rows = np.repeat(rows[:, :1], totals.max(), axis=1)
        more_distances = np.repeat(distances[:, :1], totals.max(), axis=1)
        more_rows[probes, columns] = members[_ranges(starts.ravel(), lengths.ravel())]
        more_distances[probes, columns] = np.repeat(distances.ravel(), lengths.ravel())
        return np.concatenate([rows, more_rows], axis=1), np.concatenate([distances, more_distances], axis=1)

    def with_class(self, equal: Integers, numbers: Integers) -> Twins:
        """With one class more, or more rows of a known one. equal: rows that aren't hidden yet, all of one value.
        numbers: of all rows."""
        at = np.minimum(np.searchsorted(self.shown, equal), len(self.shown) - 1)
        known = equal[self.shown[at] == equal] if len(self.shown) else equal[:0]
        shown = known[:1] if len(known) else equal[:1]
        first = int(np.searchsorted(self.shown, shown[0]))
        behind = first + min(len(known), 1)
        start, end = self.starts[first], self.starts[behind]
        new = equal[~np.isin(equal, [*known, *shown])]
        rows = np.concatenate([self.rows[start:end] if len(known) else shown, new])
        rows = rows[np.argsort(numbers[rows])]
        return Twins(
            np.concatenate([self.shown[:first], shown, self.shown[behind:]]),
            np.concatenate([self.rows[:start], rows, self.rows[end:]]),
            np.concatenate([self.starts[: first + 1], self.starts[behind:] + len(rows) - (end - start)]),
            np.concatenate([self.hidden, new]),
            np.concatenate([self.equal_to, np.repeat(shown, len(new))]),
        )


_NONE = np.empty(0, np.int64)
NO_TWINS = Twins(_NONE, _NONE, np.zeros(1, np.int64), _NONE, _NONE)


def find_twins(vectors: Vectors, numbers: Integers) -> Twins:
    """Of rows float32 [n, D] and their numbers int64 [n]: the classes of several that are worth it. MemoryError."""
    if not len(vectors):
        return NO_TWINS
    keys = _keys(vectors)
    if not _many(np.sort(keys)).any():
        return NO_TWINS
    order = np.argsort(keys)
    begins = np.flatnonzero(np.append(True, np.diff(keys[order]) != 0))
    sizes = np.diff(np.append(begins, len(order)))
    large = sizes >= _LEAST
    rows, sizes = order[np.repeat(large, sizes)], sizes[large]
    shown = np.repeat(np.minimum.reduceat(rows, np.cumsum(sizes) - sizes), sizes)
    equal = np.empty(len(rows), np.bool_)  # but for rows of the same hash by chance
    for start in range(0, len(rows), _COMPARED_AT_ONCE):
        part = slice(start, start + _COMPARED_AT_ONCE)
        equal[part] = (_as_integers(vectors[rows[part]]) == _as_integers(vectors[shown[part]])).all(axis=1)
    rows, shown = rows[equal], shown[equal]
    order = np.lexsort((numbers[rows], shown))
    rows, shown = rows[order], shown[order]
    starts = np.flatnonzero(np.diff(shown, prepend=-1))
    hidden = rows != shown
    return Twins(shown[starts], rows, np.append(starts, len(rows)), rows[hidden], shown[hidden])


def equal_rows(vectors: Vectors, norms: Vectors, row: int) -> Integers:
    """The rows that equal a given one and have its norm, as a hidden row has not: ascending."""
    integers = _as_integers(vectors)
    rows = np.flatnonzero(norms == norms[row])
    rows = rows[integers[rows, 0] == integers[row, 0]]
    equal = np.empty(len(rows), np.bool_)
    for start in range(0, len(rows), _COMPARED_AT_ONCE):
        part = slice(start, start + _COMPARED_AT_ONCE)
        equal[part] = (integers[rows[part]] == integers[row]).all(axis=1)
    found: Integers = rows[equal]
    return found


def often(vectors: Vectors, rows: Integers) -> Integers:
    """Of the rows int64 [q, f] that were proposed to some probes: one of each value that one probe got many of."""
    if rows.shape[1] < _LEAST:
        return rows[:0, 0]
    keys = _keys(vectors[rows.ravel()]).reshape(rows.shape)
    order = np.argsort(keys, axis=1)
    keys, rows = np.take_along_axis(keys, order, 1), np.take_along_axis(rows, order, 1)
    many = _many(keys)
    _, at = np.unique(keys[:, _LEAST - 1 :][many], return_index=True)
    return rows[:, _LEAST - 1 :][many][at]


def _many(keys: Keys) -> NDArray[np.bool_]:
    """Of keys in order, from the first on that may be the last of so many equal ones: whether it is."""
    equal: NDArray[np.bool_] = keys[..., _LEAST - 1 :] == keys[..., : max(0, keys.shape[-1] - _LEAST + 1)]
    return equal


def _keys(vectors: Vectors) -> Keys:
    """A hash of the bytes of each row: sums of products with odd numbers that nobody can know."""
    integers = _as_integers(vectors)
    keys = np.empty(len(integers), np.uint64)
    for start in range(0, len(integers), _COMPARED_AT_ONCE):
        part = integers[start : start + _COMPARED_AT_ONCE]
        # Of a highest bit, as -0.0 has, a product knows no more than that it is there: it is told lower down, too.
        told = part if part.dtype == np.uint32 else part ^ (part >> np.uint64(29))
        keys[start : start + len(part)] = np.einsum("nd,d->n", told, _odd(integers.shape[1]))
    return keys


@functools.cache
def _odd(count: int) -> Keys:
    return np.random.default_rng().integers(1 << 63, size=count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def _as_integers(vectors: Vectors) -> Keys | NDArray[np.uint32]:
    """The bytes of rows float32 [n, D], C-contiguous, two numbers at a time where that is possible."""
    if vectors.shape[1] % 2:
        return vectors.view(np.uint32)
    return vectors.view(np.uint64)


def _ranges(starts: Integers, lengths: Integers) -> Integers:
    """The numbers from each start on, so many of each, one after the other."""
    first = np.cumsum(lengths) - lengths
    return np.repeat(starts - first, lengths) + np.arange(lengths.sum())
