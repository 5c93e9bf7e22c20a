"""The part of an index that a filter lets through, for an exact search of it alone.

Where few rows pass they are copied, and compared by themselves: 1/16 of them takes about as long as a scan of all. Else
all are scanned, and those that don't pass count as dead; the fewer pass, the more of the nearest are fetched.
"""

from __future__ import annotations

import numpy as np

from oneglance_core.distance import squared_norms
from oneglance_index.records import Integers, Vectors
from oneglance_index.search.exact import Nearest, Table
from oneglance_index.search.labelled import LetThrough

_FEW = 16
# Distances that are computed at a time.
_AT_ONCE = 1 << 22


def filtered(table: Table, norms: Vectors, through: LetThrough, nearest: Nearest) -> tuple[Table, Nearest]:
    """The rows of these subjects as a table, and what proposes the nearest of them; `nearest` does so of all rows,
    whose squared norms are `norms`, float32 [n]."""
    passing = through.of(table.subjects)
    rows = np.flatnonzero(passing)
    if _FEW * len(rows) > len(passing):
        subjects = np.where(passing, table.subjects, -1)
        return table._replace(subjects=subjects, live_subjects=through.count), nearest
    vectors, own = table.vectors[rows], norms[rows]

    def nearest_of_few(probes: Vectors, count: int) -> tuple[Vectors, Integers]:
        distances, at = np.empty((len(probes), count), np.float32), np.empty((len(probes), count), np.int64)
        step = max(1, _AT_ONCE // len(rows))
        for start in range(0, len(probes), step):
            part = slice(start, start + step)
            found = own + squared_norms(probes[part])[:, None].astype(np.float32) - 2 * (probes[part] @ vectors.T)
            best = np.argpartition(found, count - 1, axis=1)[:, :count]
            distances[part], at[part] = np.take_along_axis(found, best, 1), best
        return distances, at

    few = table._replace(vectors=vectors, numbers=table.numbers[rows], subjects=table.subjects[rows], rounding=0.0)
    return few._replace(live_subjects=through.count), nearest_of_few
