"""The rows that aren't sorted into cells yet, compared one by one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from oneglance_core.distance import squared_norms
from oneglance_index.records import Integers, Vectors
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.cells import Sorted
from oneglance_index.search.exact import Table
from oneglance_index.search.scan import CpuScan


class RecentRows:
    """Of a table whose rows have these squared norms, float32 [>= n], what `known` hasn't sorted in."""

    def __init__(self, table: Table, norms: Vectors, known: Sorted, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        loose, end = known.loose(), known.end
        self._parts = [(np.arange(end, len(table.numbers)), table.vectors[end:], _shown(table.vectors, norms, end))]
        if len(loose):
            vectors = table.vectors[loose]
            self._parts.append((loose, vectors, squared_norms(vectors).astype(np.float32)))

    def nearest(self, probes: Vectors, k: int) -> Integers:
        """The k nearest to each probe, at most: row numbers int64 [q, any]."""
        found = [np.empty((len(probes), 0), np.int64)]
        for rows, vectors, norms in self._parts:
            if len(rows) <= k:
                found.append(np.broadcast_to(rows, (len(probes), len(rows))))
            else:
                scan = CpuScan(self._pool, engine.cores())
                scan.extend(vectors, norms, len(rows))
                found.append(rows[scan.nearest(probes, k, float(np.sqrt(norms.max()))).rows])
        return np.concatenate(found, axis=1)


def _shown(vectors: Vectors, norms: Vectors, start: int) -> Vectors:
    """The squared norms of the rows from `start` on, those that scans hide included."""
    shown = norms[start : len(vectors)]
    hidden = np.flatnonzero(np.isinf(shown))
    if len(hidden):
        shown = shown.copy()
        shown[hidden] = squared_norms(vectors[start + hidden])
    return shown
