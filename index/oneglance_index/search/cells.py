"""Rows sorted into cells, to look for the nearest in a few cells only; those that came since are known apart.

Of a row there is a bit for each number in its cell, and what it is worth: 24 bytes for 128 numbers, and 16 to say which
row it is. Codes are told of what the rows are: they are as secret, and go when those go.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oneglance_core.distance import squared_norms
from oneglance_index.records import Integers, Vectors
from oneglance_index.search import faiss_calls as engine

# A bit says most where numbers spread alike, so vectors are turned at random; beyond this it would take too long.
_MOST_TURNED = 1024
# So many cells for n rows: times the root of n. And how their centres are found: from so many rows each, in some steps.
_CELLS, _SAMPLE, _STEPS = 4, 48, 6
# Sorted in at a time, about; and looked for by a thread at a time.
_COPY_BYTES = 1 << 20
_PROBES_AT_ONCE = 32
# So many codes are of values that there aren't any more, at most; to remove a million takes a second.
_MANY_GONE = 8192


class Copy(NamedTuple):
    """Rows to be sorted in: row numbers int64 [n], and what they were, turned, float32 [n, D]. With them all are sorted
    in that are before row `end`, but for loose ones other than `loose`. `fresh`, bool [n]: not rewritten since."""

    rows: Integers
    vectors: Vectors
    end: int
    loose: Integers
    fresh: NDArray[np.bool_]


# Instead of the row, of a number that the cells know yet, and of one that they don't know any more.
_GONE, _FREE = -1, -2


class Sorted:
    """Some rows of a matrix, of which the caller tells what has changed; calls must not overlap, but met_at() and
    cells_of() may be under way."""

    def __init__(self, centres: Vectors, turn: Vectors | None) -> None:
        self._turn = turn
        self._centres = centres
        self._cells = engine.Cells(centres)
        self.count = len(centres)  # of cells
        self.end = 0
        # Before `end`, but not sorted in: their values are new.
        self._loose: set[int] = set()
        # Of each number that the cells know the row; and of each row the number, -1 where it isn't sorted in.
        self._row_of = np.empty(0, np.int64)
        self._number_of = np.empty(0, np.int64)
        self._gone = 0  # numbers
        # What first_recent() gave last, until rows move.
        self._copy: Copy | None = None

    @property
    def memory_bytes(self) -> int:
        return self._cells.memory_bytes + self._row_of.nbytes + self._number_of.nbytes

    @property
    def sorted_in(self) -> int:
        return len(self._cells)

    def recent(self, rows: int) -> int:
        """How many of so many rows aren't sorted in."""
        return rows - self.end + len(self._loose)

    def loose(self) -> Integers:
        return np.array(sorted(self._loose), np.int64)

    def first_recent(self, vectors: Vectors, subjects: Integers) -> Copy | None:
        """Of rows float32 [n, D] some that aren't sorted in, without dead ones. None: there are none."""
        step = step_of(vectors.shape[1])
        end = min(self.end + step, len(vectors))
        loose = self.loose()[: step if end == self.end else 0]
        rows = np.concatenate([np.arange(self.end, end), loose])
        if not len(rows):
            return None
        rows = rows[subjects[rows] >= 0]
        fresh = np.ones(len(rows), np.bool_)
        self._copy = Copy(rows, turned(vectors[rows], self._turn), end, loose, fresh)
        return self._copy

    def cells_of(self, copy: Copy) -> Integers:
        return self._cells.cells_of(copy.vectors)

    def met_at(self, probes: Vectors, matches: Vectors) -> Integers:
        """How many cells a search for each probe has to look at to come to the one that its match is of; both
        float32 [n, D], result int64 [n]."""
        asked, cells = turned(probes, self._turn), self._cells.cells_of(turned(matches, self._turn))
        met = np.empty(len(asked), np.int64)
        half = squared_norms(self._centres) / 2
        for start in range(0, len(asked), _PROBES_AT_ONCE):
            part = slice(start, start + _PROBES_AT_ONCE)
            away = half - asked[part] @ self._centres.T
            met[part] = (away <= np.take_along_axis(away, cells[part, None], 1)).sum(axis=1)
        return met

    def add(self, copy: Copy, cells: Integers) -> None:
        """Sorts rows in, but for those that were rewritten since they were copied; none where rows moved."""
        if copy is not self._copy:
            return
        self._copy = None
        rows = copy.rows[copy.fresh]
        self._number_of = _longer(self._number_of, copy.end, -1)
        numbers = self._unused(len(rows))
        self._row_of[numbers] = _GONE
        self._gone += len(numbers)
        # What fails in the middle may leave some behind: gone ones.
        self._cells.add(np.ascontiguousarray(copy.vectors[copy.fresh]), cells[copy.fresh], numbers)
        self._gone -= len(numbers)
        self._row_of[numbers], self._number_of[rows] = rows, numbers
        self._loose.difference_update(copy.loose.tolist())
        self._loose.update(copy.rows[~copy.fresh].tolist())
        self.end = copy.end
        if self._gone > _MANY_GONE:
            self.forget()

    def _unused(self, count: int) -> Integers:
        """So many numbers that the cells don't know."""
        free = np.flatnonzero(self._row_of == _FREE)
        if len(free) < count:
            self._row_of = _longer(self._row_of, len(self._row_of) - len(free) + count, _FREE)
            free = np.flatnonzero(self._row_of == _FREE)
        return free[:count]

    def rewritten(self, rows: Integers) -> None:
        """These rows have new values."""
        old = rows[rows < self.end]
        if self._copy is not None:
            self._copy.fresh[np.isin(self._copy.rows, rows)] = False
        self._leave(self._number_of[old])
        self._number_of[old] = -1
        self._loose.update(old.tolist())

    def moved(self, first: int, live: Integers, stop: int, to: int) -> None:
        """Of the rows from `first` to `stop` these, int64 [n] ascending, are at `to` and on now; others are gone, and
        so are all from `to` to `first`."""
        self._copy = None
        numbers = self._number_of[live[live < len(self._number_of)]]
        known = np.flatnonzero(numbers >= 0)
        self._leave(self._number_of[first:stop])
        self._number_of[to:stop] = -1
        self._number_of[to : to + len(numbers)] = numbers
        self._row_of[numbers[known]] = to + known
        self._gone -= len(known)
        loose = self._loose.intersection(range(first, stop))
        if loose:
            places = np.full(stop - first, -1, np.int64)
            places[live - first] = np.arange(to, to + len(live))
            self._loose.difference_update(loose)
            self._loose.update({int(places[row - first]) for row in loose} - {-1})
        if to <= self.end <= stop:
            self.end = to + int(np.searchsorted(live, self.end))
        if self._gone > _MANY_GONE:
            self.forget()

    def _leave(self, numbers: Integers) -> None:
        """These are gone, those that aren't -1."""
        numbers = numbers[numbers >= 0]
        self._row_of[numbers] = _GONE
        self._gone += len(numbers)

    def forget(self) -> None:
        """The codes of rows that are gone, or have others, go."""
        gone = self._row_of == _GONE
        self._cells.remove(gone)
        self._row_of[gone] = _FREE
        self._gone = 0

    def nearest(self, pool: ThreadPoolExecutor, probes: Vectors, k: int, cells: int) -> tuple[Vectors, Integers]:
        """What seem to be the k nearest of the rows sorted in to each probe float32 [q, D], in that many cells: about
        the squared L2 float32 [q, k] ascending, row numbers int64 [q, k], -1 where there are fewer, or of one that is
        gone."""
        asked = turned(probes, self._turn)
        few = min(len(asked), engine.cores())
        parts = np.array_split(asked, max(few, -(-len(asked) // _PROBES_AT_ONCE)))
        found = list(pool.map(lambda part: self._cells.nearest(part, k, cells), parts))
        numbers = np.concatenate([numbers for _, numbers in found])
        known, rows = numbers >= 0, np.full(numbers.shape, -1, np.int64)
        rows[known] = self._row_of[numbers[known]]
        return np.concatenate([about for about, _ in found]), rows


def _longer(array: Integers, size: int, rest: int) -> Integers:
    """Of that size at least; what is new is `rest`."""
    if len(array) >= size:
        return array
    longer = np.full(size + size // 8, rest, np.int64)
    longer[: len(array)] = array
    return longer


def turn_of(dimension: int) -> Vectors | None:
    """A turn at random, orthogonal float32 [D, D]; None where it would take too long to turn by it."""
    if dimension > _MOST_TURNED:
        return None
    drawn = np.random.default_rng(0).standard_normal((dimension, dimension))
    turn: Vectors = np.linalg.qr(drawn)[0].astype(np.float32)
    return turn


def turned(vectors: Vectors, turn: Vectors | None) -> Vectors:
    return np.ascontiguousarray(vectors, np.float32) if turn is None else np.ascontiguousarray(vectors @ turn)


def step_of(dimension: int) -> int:
    """So many rows are copied at a time."""
    return max(1, _COPY_BYTES // (4 * dimension))


def sample_size(rows: int) -> int:
    """From how many of so many rows centres are found."""
    return min(rows, _SAMPLE * cells_for(rows))


def cells_for(rows: int) -> int:
    return max(1, int(_CELLS * rows**0.5))


def centres_of(sample: Vectors, cells: int, ended: Callable[[], bool]) -> Vectors | None:
    """The centres of so many cells, from rows float32 [n, D] that were drawn, and turned. None once `ended` says so."""
    centres = sample[:: max(1, len(sample) // cells)][:cells].copy()
    for _ in itertools.repeat(None, _STEPS):
        if ended():
            return None
        centres = engine.centres_of(sample, centres)
    return centres
