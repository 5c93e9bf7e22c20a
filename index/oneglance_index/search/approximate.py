"""Answers that may lose some mates within τ, as many as the operator says, for a look at a few of the rows.

Rows are sorted into cells in the background (cells.py), and a search looks at the cells whose centres are nearest to
its probe. How many, live probes say: of each that has a match by exact search it is known at how many cells a search
would have met that. What covers the share of them that the operator wants, with 95 % confidence, is looked at. Before
enough have come, mates are made of the gallery's own encodings, from one towards another one at random, by any distance
within τ alike, which is harder than what real ones are; where that takes too many cells answers are exact until then.

What came since is compared exactly. What seems nearest is measured as ever, so that a distance that is told is right,
and whoever is within τ is; somebody nearer may have been missed. Searches within more than the usual τ are exact.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oneglance_core.distance import squared_norms
from oneglance_core.intervals import clopper_pearson
from oneglance_index.approximation import Approximation, ApproximationState, Because
from oneglance_index.records import Integers, Search, Vectors
from oneglance_index.search.cells import Copy, Sorted, cells_for, centres_of, sample_size, step_of, turn_of, turned
from oneglance_index.search.exact import SLACK_ROWS, Ranked, Table, Wanted, measure, rank
from oneglance_index.search.recent import RecentRows
from oneglance_index.search.rows import pause
from oneglance_index.search.twins import NO_TWINS

NEARLY = "ivf"
"""The kind of index that such an answer tells: an inverted file."""

# Fewer rows are searched exactly in about the same time.
LEAST_ROWS = 20_000
# Cells are made anew when the rows have become so many times as many.
_GROWN = 2
# Rows that are sorted in once there are so many.
_MANY_RECENT = 2048
# Of each probe so many rows are measured at least, and at most.
_FETCH, _MOST_FETCHED = 32, 1024
# To look at more of the cells than this takes as long as an exact search.
_MOST_READ = 0.2
# So many mates are made that about so many may be missed.
_MISSED = 8
# Of the last searches that asked for matches, the largest τ that so many had is the usual one.
_LAST_TAUS, _USUALLY = 64, 8
# What FAISS says of rows that there aren't.
_NOTHING = np.finfo(np.float32).max
# From how many live mates is told, the last ones; so many new ones are worth a look, and so many wait at most.
_LAST_MATES, _MANY_MATES, _WAITING = 20_000, 64, 4096


Looking = Callable[[], AbstractContextManager[Table]]


class Reach(NamedTuple):
    """How far a search looks: at so many cells, and of each probe at so many rows at least; for mates within `tau`.
    `live`: live probes said so."""

    cells: int
    fetch: int
    tau: float
    live: bool


class _Mate(NamedTuple):
    """A live probe that was searched within `within`, and its match, float32 [D] each; how far apart they are."""

    probe: Vectors
    match: Vectors
    within: float
    distance: float


class _Met(NamedTuple):
    """At how many cells a search for a live probe met its match."""

    cells: int
    within: float
    distance: float


class Approximate:
    """Of one index, whose lock is held by every caller of what doesn't say otherwise."""

    def __init__(self, wanted: Approximation, dimension: int, pool: ThreadPoolExecutor) -> None:
        self.wanted = wanted
        self._pool = pool
        self._dimension = dimension
        self._turn = turn_of(dimension)
        self._sorted: Sorted | None = None
        self._coming: Sorted | None = None
        self._reach: Reach | None = None
        self._stays: Because = ""
        self._taus: deque[float] = deque(maxlen=_LAST_TAUS)
        self._rows = 0
        # Live mates, until it is known at how many cells they are met; and that of the last ones.
        self._mates: deque[_Mate] = deque(maxlen=_WAITING)
        self._met: deque[_Met] = deque(maxlen=_LAST_MATES)
        self._tried_tau: float | None = None
        self._more = 1

    def state(self) -> ApproximationState:
        """Needs no lock."""
        because, known, reach = self._why_exact(), self._sorted, self._reach
        if because or known is None or reach is None:
            return ApproximationState("exact", because or "being built")
        return ApproximationState("approximate", "", reach.tau, reach.cells / known.count, known.recent(self._rows))

    @property
    def memory_bytes(self) -> int:
        return sum(one.memory_bytes for one in (self._sorted, self._coming) if one is not None)

    def _why_exact(self) -> Because:
        if self._stays:
            return self._stays
        if self._rows < LEAST_ROWS:
            return "few subjects"
        if self._tau() is None:
            return "no threshold yet"
        if self._ready():
            return ""
        return "being built" if self._sorted is None or self._untuned() else "too few mates yet"

    def _ready(self) -> bool:
        return self._sorted is not None and self._reach is not None

    def _tau(self) -> float | None:
        """The usual one."""
        taus = Counter(tuple(self._taus))  # searches may be under way
        usually = min(_USUALLY, max(taus.values(), default=0))
        return max((tau for tau, times in taus.items() if times >= usually), default=None)

    # What happens to the rows.

    def moved(self, first: int, live: Integers, stop: int, to: int) -> None:
        self._follow(lambda one: one.moved(first, live, stop, to))

    def rewritten(self, rows: Integers) -> None:
        self._follow(lambda one: one.rewritten(rows))

    def compacted(self) -> None:
        self._mates.clear()  # their matches may be gone
        self._follow(Sorted.forget)

    def _follow(self, change: Callable[[Sorted], None]) -> None:
        try:
            for one in (self._sorted, self._coming):
                if one is not None:
                    change(one)
        except (MemoryError, RuntimeError):  # the rows changed nevertheless: all are sorted anew
            self._sorted = self._coming = self._reach = None

    def has(self, rows: int) -> None:
        """There are so many rows now."""
        self._rows = rows

    # What searches tell.

    def asked(self, within: float) -> None:
        self._taus.append(within)

    def saw(self, search: Search, ranked: Sequence[Ranked], vectors: Vectors) -> None:
        """What an exact search found; vectors: of all rows."""
        if search.within is None or search.singly or self._sorted is None or self._stays or self._rows < LEAST_ROWS:
            return
        for probe, found in zip(search.probes, ranked, strict=True):
            if len(found.rows) and found.distances[0] <= search.within:
                match = vectors[found.rows[0]].copy()
                self._mates.append(_Mate(probe.copy(), match, search.within, float(found.distances[0])))

    def stay_exact(self, because: Because) -> None:
        self._stays = because
        self._mates.clear()

    def read_more(self) -> None:
        """Looks at twice as many cells, and rows, from now on."""
        self._more *= 2
        if self._reach is not None:
            self._look_at(self._reach.cells * 2, self._reach.tau, self._reach.live)

    def _look_at(self, cells: int, tau: float, live: bool) -> None:
        assert self._sorted is not None
        far = cells > _MOST_READ * self._sorted.count
        self._reach = None if far else Reach(cells, min(_FETCH * self._more, _MOST_FETCHED), tau, live)

    # Searching.

    def serves(self, search: Search) -> bool:
        if search.exact or search.by_probability or search.singly or self._stays or not self._ready():
            return False
        assert self._reach is not None
        return search.within is None or search.within <= self._reach.tau

    def nearest_subjects(self, table: Table, norms: Vectors, probes: Vectors, wanted: Wanted) -> list[Ranked | None]:
        """As exact.nearest_subjects, of what seems nearest. None for a probe that needs an exact search: not as many
        subjects were found as are wanted."""
        assert self._sorted is not None
        assert self._reach is not None
        answers: list[Ranked | None] = [None] * len(probes)
        if not table.live_subjects:
            return answers
        table = table._replace(twins=NO_TWINS)  # the cells know all of them
        wanted = wanted._replace(candidates=np.minimum(wanted.candidates, table.live_subjects))
        recent = RecentRows(table, norms, self._sorted, self._pool)
        rows_per_subject = -(-len(table.numbers) // table.live_subjects)
        needs = np.where(wanted.candidates > 1, wanted.candidates * rows_per_subject + SLACK_ROWS, 1)
        open_probes, fetch = np.arange(len(probes)), max(self._reach.fetch, int(needs.max(initial=1)))
        while len(open_probes):
            asked = Wanted(wanted.candidates[open_probes], wanted.within[open_probes], wanted.matches[open_probes])
            of = probes[open_probes]
            about, rows = self._sorted.nearest(self._pool, of, fetch, self._reach.cells)
            ended = about[:, -1] >= _NOTHING
            ranked, cuts = _ranked(table, np.concatenate([rows, recent.nearest(of, fetch)], axis=1), of, asked)
            done = np.isfinite(cuts) & (ended | (about[:, -1] > cuts) | (fetch >= _MOST_FETCHED))
            for at in np.flatnonzero(done):
                answers[open_probes[at]] = ranked(int(at))
            open_probes = open_probes[~done & ~ended]
            if fetch >= _MOST_FETCHED:
                break
            fetch *= 4
        return answers

    # What is done in the background.

    def tend(self, looking: Looking, ended: Callable[[], bool]) -> None:
        """Does what is due. `looking` holds the lock; in between it is given back, for searches."""
        if self._coming is None and (self._sorted is None or self._outgrown(self._sorted)):
            centres = self._centres(looking, ended)
            if centres is None:
                return
            self._coming = Sorted(centres, self._turn)
        while not ended() and self._sort_in(looking):
            pause()
        if not ended() and self._sorted is not None:
            self._tune(self._sorted, looking)

    def _sort_in(self, looking: Looking) -> bool:
        """Some more rows. Whether there were any."""
        with looking() as table:
            todo = self._first_recent(table.vectors, table.subjects)
        if todo is None:
            return False
        where, copy = todo
        cells = where.cells_of(copy)
        with looking():
            where.add(copy, cells)
        return True

    def due(self) -> bool:
        """Whether there is anything to do. Needs no lock."""
        if self._stays or self._rows < LEAST_ROWS or not self._taus:
            return False
        if self._sorted is None or self._coming is not None:
            return True
        recent = self._sorted.recent(self._rows)
        return (
            self._outgrown(self._sorted) or recent > _MANY_RECENT or self._untuned() or len(self._mates) >= _MANY_MATES
        )

    def _outgrown(self, one: Sorted) -> bool:
        return one.count < cells_for(self._rows // _GROWN)

    def _untuned(self) -> bool:
        tau = self._tau()
        return tau is not None and tau != self._tried_tau and (self._reach is None or tau > self._reach.tau)

    def _centres(self, looking: Looking, ended: Callable[[], bool]) -> Vectors | None:
        """Of cells for the rows that there are. None once `ended`, and where there are none."""
        rng = np.random.default_rng(self._rows)
        rows = np.sort(rng.choice(self._rows, sample_size(self._rows), replace=False))
        sample = self._copied(rows, looking, self._turn)
        return centres_of(sample, min(cells_for(self._rows), len(sample)), ended) if len(sample) else None

    def _copied(self, rows: Integers, looking: Looking, turn: Vectors | None = None) -> Vectors:
        """The live ones of these rows, turned, float32 [n, D]; some at a time, so that nobody waits long."""
        copied, end, step = np.empty((len(rows), self._dimension), np.float32), 0, step_of(self._dimension)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            with looking() as table:
                some = some[some < len(table.subjects)]
                vectors = table.vectors[some[table.subjects[some] >= 0]]
            copied[end : end + len(vectors)] = turned(vectors, turn)
            end += len(vectors)
            pause()
        return copied[:end]

    def _first_recent(self, vectors: Vectors, subjects: Integers) -> tuple[Sorted, Copy] | None:
        """What is to be sorted in next, and where; None: nothing that is worth it now."""
        if self._coming is not None and self._coming.recent(len(vectors)) <= _MANY_RECENT:
            self._sorted, self._coming, self._reach, self._tried_tau = self._coming, None, None, None
            self._met.clear()
        where = self._coming or self._sorted
        if where is None or where.recent(len(vectors)) <= _MANY_RECENT:
            return None
        copy = where.first_recent(vectors, subjects)
        return None if copy is None else (where, copy)

    def _tune(self, known: Sorted, looking: Looking) -> None:
        """Finds how far to look for the usual τ, where live mates came, or that is another one."""
        new = self._new_mates(known, looking)
        tau = self._tau()
        if tau is None or not (new or self._untuned()):
            return
        # Those who were met within less tell nothing of those who are farther away.
        cells = self._covering([met.cells for met in self._met if met.distance <= tau <= met.within])
        live = cells is not None
        if cells is None and not self._untuned():
            return
        if cells is None:
            cells = self._covering(known.met_at(*self._made_mates(tau, looking)).tolist())
        with looking():
            if self._sorted is known:
                self._tried_tau, self._reach = tau, None
                if cells is not None:
                    self._look_at(cells * self._more, tau, live)

    def _new_mates(self, known: Sorted, looking: Looking) -> bool:
        """Counts the live mates that came, where they are worth it. Whether they are."""
        with looking():
            if len(self._mates) < _MANY_MATES:
                return False
            mates = list(self._mates)
            self._mates.clear()
        met_at = known.met_at(np.array([mate.probe for mate in mates]), np.array([mate.match for mate in mates]))
        self._met.extend(_Met(at, mate.within, mate.distance) for at, mate in zip(met_at.tolist(), mates, strict=True))
        return True

    def _made_mates(self, tau: float, looking: Looking) -> tuple[Vectors, Vectors]:
        """Probes and their matches within τ, both float32 [n, D], that are made."""
        count = min(_LAST_MATES, math.ceil(_MISSED / (1 - self.wanted.mates_found)))
        rng = np.random.default_rng(0)
        of, towards = (self._copied(rng.integers(max(1, self._rows), size=count), looking) for _ in range(2))
        count = min(len(of), len(towards))
        of = of[:count]
        step = towards[:count] - of
        lengths = np.sqrt(squared_norms(step))
        away = np.sqrt(tau * (1 - rng.random(count)))
        share = np.divide(away, lengths, out=np.zeros(count), where=lengths > 0)
        return of + (step * share[:, None]).astype(np.float32), of

    def _covering(self, met_at: Sequence[int]) -> int | None:
        """How many cells have to be looked at for mates that were met at so many; None: too few mates to tell."""
        missed = most_missed(len(met_at), 1 - self.wanted.mates_found)
        return sorted(met_at, reverse=True)[missed] if missed >= 0 else None


def _ranked(
    table: Table, rows: Integers, probes: Vectors, wanted: Wanted
) -> tuple[Callable[[int], Ranked], NDArray[np.float64]]:
    """As exact.rank, of the rows int64 [q, f], -1 for none."""
    any_row = rows.max(axis=1)
    rows = np.where(rows >= 0, rows, np.maximum(any_row, 0)[:, None])  # one twice is as good as once
    ranked, cuts = rank(table, rows, measure(table.vectors, rows, probes), wanted)
    cuts[any_row < 0] = np.inf
    return ranked, cuts


def to_come(rows: int) -> ApproximationState:
    """How answers of an index of so many rows come about before anything else is known."""
    return ApproximationState("exact", "few subjects" if rows < LEAST_ROWS else "no threshold yet")


def most_missed(count: int, share: float) -> int:
    """Of so many how many may be missed, for all to miss at most this share, with 95 % confidence; -1: so few don't
    tell even where none is missed."""
    return bisect_right(range(count), share, key=lambda missed: clopper_pearson(missed, count)[1]) - 1
