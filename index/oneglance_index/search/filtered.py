"""The part of an index that a filter lets through, for an exact search of it alone.

Where few rows pass they are copied, and measured by themselves: 1/16 of them takes about as long as a scan of all. Else
all are scanned, and those that don't pass count as dead; the fewer pass, the more of the nearest are fetched.
"""

from __future__ import annotations

import numpy as np

from oneglance_index.records import Integers, Vectors
from oneglance_index.search.bounds import ByRow
from oneglance_index.search.exact import Every, Look, Nearest, Table
from oneglance_index.search.labelled import LetThrough
from oneglance_index.search.scan import Proposed
from oneglance_index.search.twins import NO_TWINS, Twins, find_twins

_FEW = 16


def filtered(
    table: Table, through: LetThrough, nearest: Nearest, every: Every, look: Look
) -> tuple[Table, Nearest, Look]:
    """The rows of these subjects as a table, what proposes the nearest of them, and what looks for twins among them;
    `nearest` and `look` do so of all rows."""
    passing = through.of(table.subjects)
    rows = np.flatnonzero(passing)
    if _FEW * len(rows) > len(passing):
        subjects = np.where(passing, table.subjects, -1)
        return table._replace(subjects=subjects, live_subjects=through.count), nearest, look
    few = table._replace(
        vectors=table.vectors[rows],
        numbers=table.numbers[rows],
        subjects=table.subjects[rows],
        live_subjects=through.count,
        twins=NO_TWINS,
    )
    scan = _Few(few, every)
    return few, scan.nearest, scan.look


class _Few:
    """The scan of a table of few rows."""

    def __init__(self, table: Table, every: Every) -> None:
        self._table = table
        self._every = every
        self._twins: Twins | None = None

    def nearest(self, probes: Vectors, count: int, _: float) -> Proposed:
        distances, at = np.empty((len(probes), count), np.float32), np.empty((len(probes), count), np.int64)
        for i, probe in enumerate(probes):
            found = self._every(self._table.vectors, probe)
            if self._twins is not None:
                found[self._twins.hidden] = np.inf
            at[i] = np.argpartition(found, count - 1)[:count]
            distances[i] = found[at[i]]
        return Proposed(distances, at, ByRow(self._table.vectors.shape[1]))

    def look(self, _: Integers) -> Twins:
        if self._twins is None:
            self._twins = find_twins(self._table.vectors, self._table.numbers)
        return self._twins
