"""Which subjects are nearest, when the rows are at Milvus and the last changes here: exactly, as in search/exact.py.

Milvus's float32 distances only choose rows; its answer has their vectors, which are measured again in float64. How far
Milvus may be off is bounded as for a scan by matrix products, whatever order it sums in (bounds.py). Where the rows
that it proposed aren't surely enough, all rows within the distance that matters, and that bound, are fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oneglance_index.records import Integers, Vectors
from oneglance_index.search.bounds import ROUNDING, ByProduct
from oneglance_index.search.exact import (
    FIRST_MATCH_ROWS,
    GROWTH,
    SLACK_ROWS,
    Ranked,
    Table,
    Wanted,
    measure,
    only,
    rank,
)
from oneglance_index.search.labelled import LetThrough
from oneglance_index.search.milvus.engine import MARK, Hits, most_rows

# Subjects named in one expression.
_SUBJECTS_AT_ONCE = 8192
# With more subjects than this let through, all are searched, and those that aren't are left out here.
_FEW_SUBJECTS = 4 * _SUBJECTS_AT_ONCE

# probes, most rows, expression, reach: the rows nearest to each.
Ask = Callable[[Vectors, int, str, float | None], Hits]


@dataclass(frozen=True, slots=True)
class Local:
    """What is here instead of at Milvus: `masked`, int64 [m] ascending, the numbers of rows there that don't count;
    and rows that do, as of Rows."""

    masked: Integers
    numbers: Integers
    subjects: Integers
    vectors: Vectors


class Finder:
    """Finds the nearest subjects of some that are `live` in number, in the mean with `rows_each` rows; `through`: only
    of these. `ask` asks Milvus."""

    def __init__(
        self, ask: Ask, dimension: int, local: Local, through: LetThrough | None, live: int, rows_each: int
    ) -> None:
        self._ask = ask
        self._dimension, self._most = dimension, most_rows(dimension)
        self._through = through
        self._live, self._rows_each = live, rows_each
        if through is not None:
            passing = through.of(local.subjects)
            local = Local(local.masked, local.numbers[passing], local.subjects[passing], local.vectors[passing])
        self._local = local

    def nearest(self, probes: Vectors, wanted: Wanted) -> list[tuple[Table, Ranked]]:
        """For each probe float32 [q, D] its nearest subjects, as nearest_subjects(), and the table that they are of."""
        answers: dict[int, tuple[Table, Ranked]] = {}
        if self._live == 0:
            none = np.empty(0, np.int64)
            nobody = Ranked(np.empty(0, np.float32), none, none, none)
            table = Table(np.empty((0, self._dimension), np.float32), none, none, np.inf, 0)
            return [(table, nobody)] * len(probes)
        wanted = wanted._replace(candidates=np.minimum(wanted.candidates, self._live))
        few = wanted.candidates * self._rows_each + SLACK_ROWS + len(self._local.masked)
        needs = np.minimum(np.where(wanted.candidates > 0, few, FIRST_MATCH_ROWS), self._most)
        waiting = np.arange(len(probes))
        while len(waiting):
            together = waiting[needs[waiting] <= GROWTH * needs[waiting].min()]
            fetch = int(needs[together].max())
            step = max(1, 2 * self._most // fetch - 1)
            for start in range(0, len(together), step):
                batch = together[start : start + step]
                asked = Wanted(wanted.candidates[batch], wanted.within[batch], wanted.matches[batch])
                hits = self._hits(probes[batch], fetch)
                table, ranked, cuts = self._ranked(probes[batch], hits, asked)
                sure = hits.all | (self._floors(hits, probes[batch], cuts) > cuts)
                for at, which in enumerate(batch.tolist()):
                    if sure[at]:
                        answers[which] = table, ranked(at)
                    elif np.isfinite(cuts[at]) or fetch == self._most:
                        one = slice(which, which + 1)
                        answers[which] = self._far(probes[one], only(asked, at), float(cuts[at]), hits, at)
            needs[together] = np.minimum(fetch * GROWTH, self._most)
            waiting = np.array([one for one in waiting.tolist() if one not in answers], np.int64)
        return [answers[at] for at in range(len(probes))]

    def _parts(self) -> list[str]:
        """Expressions that together let through whom the filter lets through, and perhaps others."""
        if self._through is None or self._through.count > _FEW_SUBJECTS:
            return [""]
        return [_among(part) for part in _slices(self._through.numbers())]

    def _hits(self, probes: Vectors, most: int, parts: Sequence[str] | None = None) -> Hits:
        return _joined([self._ask(probes, most, part, None) for part in parts or self._parts()])

    def _ranked(self, probes: Vectors, hits: Hits, wanted: Wanted) -> tuple[Table, Callable[[int], Ranked], np.ndarray]:
        """The subjects among these rows and those that are here."""
        local, found = self._local, hits.numbers.size
        subjects = hits.subjects.copy()
        subjects[np.isin(hits.numbers, local.masked)] = MARK
        if self._through is not None:
            subjects[~self._through.of(subjects)] = MARK
        table = Table(
            np.concatenate([hits.vectors.reshape(-1, self._dimension), local.vectors]),
            np.concatenate([hits.numbers.ravel(), local.numbers]),
            np.concatenate([subjects.ravel(), local.subjects]),
            np.inf,
            self._live,
        )
        of_hits = np.arange(found).reshape(hits.numbers.shape)
        here = np.broadcast_to(np.arange(found, found + len(local.numbers)), (len(probes), len(local.numbers)))
        at = np.concatenate([of_hits, here], axis=1)
        if not at.shape[1]:  # nothing anywhere: a row of nobody
            nobody = np.full(1, MARK)
            table = Table(np.zeros((1, self._dimension), np.float32), nobody, nobody, np.inf, self._live)
            at = np.zeros((len(probes), 1), np.int64)
        ranked, cuts = rank(table, at, measure(table.vectors, at, probes), wanted)
        return table, ranked, cuts

    def _bounds(self) -> ByProduct:
        return ByProduct(self._dimension, np.inf)

    def _floors(self, hits: Hits, probes: Vectors, cuts: np.ndarray) -> np.ndarray:
        largest = np.where(np.isfinite(hits.distances), hits.distances, -np.inf).max(axis=1, initial=-np.inf)
        with np.errstate(invalid="ignore"):
            floors = self._bounds().floors(largest.astype(np.float64), probes, cuts)
        return np.where(np.isfinite(floors), floors, -np.inf)

    def _far(self, probe: Vectors, wanted: Wanted, cut: float, hits: Hits, at: int) -> tuple[Table, Ranked]:
        """Of a probe whose first rows weren't enough: first enough subjects, then all rows that could matter."""
        one = hits.of(at)
        while not np.isfinite(cut):
            live = one.subjects[0][(one.subjects[0] >= 0) & ~np.isin(one.numbers[0], self._local.masked)]
            known = [f"subject not in {part.tolist()}" for part in _slices(np.unique(live))]
            masked = [f"number not in {part.tolist()}" for part in _slices(self._local.masked)]
            parts = [" and ".join(filter(None, [part, *known, *masked])) for part in self._parts()]
            more = self._hits(probe, self._most, parts)
            one = _joined([one, more])
            table, ranked, cuts = self._ranked(probe, one, wanted)
            if more.all[0] and not np.isfinite(cuts[0]):  # all subjects that there are: all their rows
                cut = float(measure(table.vectors, np.arange(len(table.numbers))[None], probe).max())
            else:
                cut = float(cuts[0])
        reach = self._reach(probe, cut)
        parts_found = [found for part in self._parts() for found in self._within(probe, part, reach)]
        table, ranked, _ = self._ranked(probe, _joined(parts_found), wanted)
        return table, ranked(0)

    def _reach(self, probe: Vectors, cut: float) -> float:
        """No row within the cut has more by Milvus."""
        unit = (self._dimension + 16) * ROUNDING
        longest = 2 * float(np.linalg.norm(probe.astype(np.float64))) + cut**0.5
        return float(np.nextafter(np.float32(cut * (1 + 1e-6) + 2 * unit * longest**2 + 1e-30), np.float32(np.inf)))

    def _within(self, probe: Vectors, part: str, reach: float, more: str = "") -> list[Hits]:
        """All rows up to a distance: where they are too many, by halves of their numbers."""
        where = " and ".join(filter(None, [part, more]))
        hits = self._ask(probe, self._most, where, reach)
        if hits.all[0]:
            return [hits]
        numbers = hits.numbers[0][hits.numbers[0] > MARK]
        middle, least = int(np.median(numbers)), int(numbers.min())
        middle = middle if middle > least else least + 1
        halves = f"number < {middle}", f"number >= {middle}"
        return [
            found
            for half in halves
            for found in self._within(probe, part, reach, " and ".join(filter(None, [more, half])))
        ]


def _joined(parts: Sequence[Hits]) -> Hits:
    """The rows of all parts, which share none but by chance. The largest distance is told so that no row that wasn't
    proposed has less."""
    if len(parts) == 1:
        return parts[0]
    every = np.logical_and.reduce([part.all for part in parts])
    floors = np.min([np.where(part.all, np.inf, part.distances.max(axis=1, initial=-np.inf)) for part in parts], axis=0)
    distances = np.concatenate([part.distances for part in parts], axis=1)
    distances = np.minimum(distances, np.where(every, np.inf, floors)[:, None].astype(np.float32))
    numbers = np.concatenate([part.numbers for part in parts], axis=1)
    subjects = np.concatenate([part.subjects for part in parts], axis=1)
    return Hits(distances, numbers, subjects, np.concatenate([part.vectors for part in parts], axis=1), every)


def _slices(numbers: Integers) -> list[Integers]:
    return [numbers[start : start + _SUBJECTS_AT_ONCE] for start in range(0, len(numbers), _SUBJECTS_AT_ONCE)]


def _among(subjects: Integers) -> str:
    return f"subject in {subjects.tolist()}"
