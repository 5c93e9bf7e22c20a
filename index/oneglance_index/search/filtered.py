"""The part of an index that a filter lets through, for an exact search of it alone.

Where few rows pass they are copied, and measured by themselves: 1/16 of them takes about as long as a scan of all. Else
all are scanned, and those that don't pass count as dead; the fewer pass, the more of the nearest are fetched.
"""

from __future__ import annotations

import numpy as np

from oneglance_index.records import Vectors
from oneglance_index.search.bounds import ByRow
from oneglance_index.search.exact import Every, Nearest, Table
from oneglance_index.search.labelled import LetThrough
from oneglance_index.search.scan import Proposed

_FEW = 16


def filtered(table: Table, through: LetThrough, nearest: Nearest, every: Every) -> tuple[Table, Nearest]:
    """The rows of these subjects as a table, and what proposes the nearest of them; `nearest` does so of all rows."""
    passing = through.of(table.subjects)
    rows = np.flatnonzero(passing)
    if _FEW * len(rows) > len(passing):
        subjects = np.where(passing, table.subjects, -1)
        return table._replace(subjects=subjects, live_subjects=through.count), nearest
    few = table._replace(
        vectors=table.vectors[rows],
        numbers=table.numbers[rows],
        subjects=table.subjects[rows],
        live_subjects=through.count,
    )

    def nearest_of_few(probes: Vectors, count: int, _: float) -> Proposed:
        distances, at = np.empty((len(probes), count), np.float32), np.empty((len(probes), count), np.int64)
        for i, probe in enumerate(probes):
            found = every(few.vectors, probe)
            at[i] = np.argpartition(found, count - 1)[:count]
            distances[i] = found[at[i]]
        return Proposed(distances, at, ByRow(few.vectors.shape[1]))

    return few, nearest_of_few
