"""ExactIndex: a gallery's encodings in memory, searched exactly.

A cache of the store: it is told of every committed Change, in order. Rows are appended; a deleted row is marked dead,
which works on a GPU too (no GPU index removes rows, and one silently ignores an IDSelector), and leaves when compact()
moves those behind it up. A template gets its new value where it lies, so that a deletion takes no room.

Room for a change is made by reserve() before it is committed; what apply() takes over fits.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from oneglance_core.distance import squared_l2, squared_norms
from oneglance_core.error_words import in_words
from oneglance_index.approximation import Approximation, ApproximationState
from oneglance_index.errors import DeviceLost, GalleryError, OutOfMemory
from oneglance_index.records import (
    EVERYBODY,
    Change,
    Checksum,
    Found,
    Integers,
    Rows,
    Search,
    Vectors,
)
from oneglance_index.search.answering import Whole, answer, near_subjects, who_is_told
from oneglance_index.search.approximate import NEARLY, Approximate, to_come
from oneglance_index.search.arrivals import Arrivals
from oneglance_index.search.by_head import likeliest_rows
from oneglance_index.search.exact import Every, Look, Nearest, Ranked, RowsEach, Table, nearest_subjects, wanted_by
from oneglance_index.search.filtered import filtered
from oneglance_index.search.kinds import IndexInfo
from oneglance_index.search.labelled import Directory, HeldSubjects, read_everybody
from oneglance_index.search.rows import FrozenRows, RowArrays, pause
from oneglance_index.search.scan import Scan
from oneglance_index.search.twins import NO_TWINS, Twins, equal_rows, find_twins

T = TypeVar("T")
log = logging.getLogger(__name__)

# apply() tries to work off what is pending from this many rows on, so that a bulk load without searches
# doesn't leave it all to the first search.
_PENDING_ROWS = 2048
# What is pending is copied so much at a time, and so much is moved up by a step of a compaction.
_STEP_BYTES = 4 << 20
# To look for the rows of more values one by one takes longer than to look for all twins.
_FEW_VALUES = 16
# Dead rows beyond this, or this share of the rows, are worth a compaction.
_MIN_DEAD_ROWS = 64
_DEAD_SHARE = 0.01


class ExactIndex:
    """`scan` does the searching; `spare`, if any, does it once the device of `scan` fails for good. `every` measures
    every row where a scan isn't sure. `ordered` says that rows come in the order of their numbers.

    With `templates` a row is a subject's template, not an encoding: its number is that of the subject, and so are the
    `added` and `removed` of a Change; one that is in both gets a new value. To a search that asks `singly` the number
    is told as `encoding_id`. freeze() and checksum() are of no use then.

    With `pool`, whose threads are for FAISS, its answers may be approximate, where that is asked for.

    Safe for any thread: one search at a time, and apply() never waits for it.
    """

    kind = "flat"
    exact = True

    def __init__(
        self,
        dimension: int,
        scan: Scan,
        every: Every,
        spare: Scan | None = None,
        *,
        templates: bool = False,
        ordered: bool = True,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self.dimension = dimension
        self._pool = pool
        self._ordered = ordered
        self._templates = templates
        self._scan = scan
        self._every = every
        self._spare = spare
        self._held = RowArrays.empty(0, dimension)
        self._rows = 0
        self._dead = 0
        self._max_norm = 0.0
        self._subjects = HeldSubjects({})
        self._revision = 0
        # Those whose norms are inf; and how often rows moved or got another value.
        self._twins = NO_TWINS
        self._rows_each = RowsEach()
        self._moves = 0
        # How many append() is to bring.
        self._expected = 0
        # What answers may lose, and since the last search what sees to that.
        self._may_lose: Approximation | None = None
        self._approximate: Approximate | None = None
        self._anew = False
        # Rows with a new value that the scan doesn't have yet.
        self._stale: set[int] = set()
        # While a compaction is under way: dead rows, whose numbers are out of order. Those behind haven't moved yet.
        self._gap: range | None = None
        # What freeze() gave out and somebody still has.
        self._frozen: weakref.WeakSet[FrozenRows] = weakref.WeakSet()
        # Guards everything above; held during a search.
        self._lock = threading.Lock()
        # Held while a compaction moves rows, step by step.
        self._compacting = threading.Lock()
        # One at a time reads everybody.
        self._reading = threading.Lock()
        # Guards what is below only; held for moments.
        self._pending_lock = threading.Lock()
        self._arrivals = Arrivals(self._pending_lock)
        self._pending_rows = 0
        self._pending_removals = 0
        # `_told`: rows held or pending; `_promised`: rows there is room for. `_room`: arrays to grow into, if any.
        self._told = 0
        self._promised = 0
        self._room: RowArrays | None = None

    @property
    def device(self) -> str:
        return self._scan.device

    def load(self, revision: int, subjects: Mapping[int, str] | Directory, capacity: int) -> None:
        self._revision = revision
        self._arrivals.reached(revision)
        self._subjects = HeldSubjects(subjects, some=not self._ordered)
        self._held = RowArrays.empty(capacity, self.dimension)
        self._expected = capacity
        self._reserve(capacity)

    def append(self, rows: Rows) -> None:
        with self._lock:
            self._subjects.came(rows.subjects)
            self._rows, self._max_norm = self._write(rows)
            if self._approximate is not None:
                self._approximate.has(self._rows)
            with self._pending_lock:
                self._told += len(rows.numbers)
        if self._rows == self._expected:
            self._look_for_all_twins()
        with self._lock:
            self._extend()

    def reserve(self, encodings: int, subjects: int) -> None:
        with self._pending_lock:
            self._promised = self._told + (subjects if self._templates else encodings)
            room = self._held.capacity if self._room is None else self._room.capacity
            if self._promised > room:
                self._room = self._larger(self._promised)
            self._reserve(self._promised)

    def _reserve(self, rows: int) -> None:
        try:
            self._scan.reserve(rows)
        except DeviceLost:
            if self._spare is None:  # else the next search goes on with that
                raise

    def _larger(self, rows: int) -> RowArrays:
        """Room for so many rows; where there is memory for it a quarter more, so that it isn't copied too often."""
        try:
            return RowArrays.empty(rows + rows // 4 + _PENDING_ROWS, self.dimension)
        except MemoryError:
            return RowArrays.empty(rows, self.dimension)

    def checksum(self) -> Checksum:
        with self._lock:
            self._drain()
            live = self._held.subjects[: self._rows] >= 0
            return Checksum(int(live.sum()), int(self._held.numbers[: self._rows].sum(where=live)))

    def apply(self, *changes: Change) -> None:
        """Takes over changes of a committed transaction. Searches that start afterwards see all of them. Never
        waits for a search."""
        with self._pending_lock:
            self._arrivals.add(changes)
            for change in changes:
                self._pending_rows += len(change.added)
                if not _in_place(change):
                    self._pending_removals += len(change.removed)
                    self._told += len(change.added)
            many = self._pending_rows >= _PENDING_ROWS
        if many and self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(MemoryError):  # it stays pending, and the next search tries again
                    self._drain()
            finally:
                self._lock.release()

    def pass_over(self, revision: int) -> None:
        self._arrivals.reached(revision)

    def search(self, searches: Sequence[Search]) -> list[Found | GalleryError]:
        """One scan answers them all, from one revision; where there is no memory for that, one scan each."""
        if any(search.among != EVERYBODY for search in searches):
            read_everybody(self._reading, self._drained, self._arrivals)
        with self._lock:
            try:
                self._drain()
                self._extend()
            except MemoryError:
                raise OutOfMemory("to search what was enrolled last") from None
            try:
                return self._or_spare(lambda _: list(self._answers(searches)))
            except MemoryError:
                return [self._alone(search) for search in searches]

    @contextlib.contextmanager
    def _drained(self) -> Iterator[HeldSubjects]:
        """The subjects as they are; the lock is held meanwhile."""
        with self._lock:
            self._drain()
            yield self._subjects

    def _extend(self) -> None:
        """The scan has all rows now, as they are; the lock is held. MemoryError, DeviceLost."""
        if self._scan.rows != self._rows:
            self._or_spare(lambda scan: scan.extend(self._held.vectors, self._held.norms, self._rows))
        if self._stale:
            self._or_spare(lambda scan: scan.rewrite(self._held.vectors, self._held.norms, self._stale))
            self._stale = set()

    def _or_spare(self, use: Callable[[Scan], T]) -> T:
        """`use`, given the scan; where its device fails for good, once more with the spare one in its place.

        The lock is held.
        """
        try:
            return use(self._scan)
        except DeviceLost:
            if self._spare is None:
                raise
            log.exception("%s is lost: searches go on on the %s", self.device, self._spare.device)
            spare, self._spare = self._spare, None
            spare.extend(self._held.vectors, self._held.norms, self._rows)
            self._scan = spare
            return use(spare)

    def _alone(self, search: Search) -> Found | GalleryError:
        try:
            return self._or_spare(lambda _: self._answers([search])[0])
        except MemoryError:
            return OutOfMemory("for this search")

    def _answers(self, searches: Sequence[Search]) -> list[Found]:
        """One scan; the lock is held. MemoryError."""
        table = self._table()
        for within in {search.within for search in searches if search.within is not None}:
            if self._approximate is not None:
                self._approximate.asked(within)
        answers: dict[int, Found] = {}
        for among in dict.fromkeys(search.among for search in searches):
            asked = [(at, search) for at, search in enumerate(searches) if search.among == among]
            table = table._replace(twins=self._twins)  # the search before may have found more
            if among == EVERYBODY:
                whole = table, self._scan.nearest, self._look_for_twins
                found = self._among(*whole, [search for _, search in asked], whole=True)
            else:
                through = self._subjects.let_through(among)
                part = filtered(table, through, self._scan.nearest, self._every, self._look_for_twins)
                all_rows = part[0].vectors is table.vectors
                found = [
                    replace(one, among=through.count)
                    for one in self._among(*part, [search for _, search in asked], whole=all_rows)
                ]
            answers |= {at: one for (at, _), one in zip(asked, found, strict=True)}
        return [answers[at] for at in range(len(searches))]

    def _table(self) -> Table:
        rows = slice(0, self._rows)
        held = self._held
        return Table(held.vectors[rows], held.numbers[rows], held.subjects[rows], self._max_norm, len(self._subjects))

    def _look_for_twins(self, met: Integers) -> Twins:
        """Where the scan hides some: with those of these rows. Without memory for that, it is done without."""
        rows = slice(0, self._rows)
        if not self._scan.hides:
            return self._twins
        with contextlib.suppress(MemoryError):
            if len(met) > _FEW_VALUES:
                self._hide(find_twins(self._held.vectors[rows], self._held.numbers[rows]))
                return self._twins
            for row in met.tolist():
                equal = equal_rows(self._held.vectors[rows], self._held.norms[rows], row)
                if len(equal) > 1:
                    known, self._twins = self._twins, self._twins.with_class(equal, self._held.numbers[rows])
                    self._held.norms[self._twins.hidden[len(known.hidden) :]] = np.inf
        return self._twins

    def _look_for_all_twins(self) -> None:
        """So that the first search needn't; others go on meanwhile. Not while a compaction moves rows."""
        with self._lock:
            held, rows, moves = self._held, slice(0, self._rows), self._moves
        if self._scan.hides:
            with contextlib.suppress(MemoryError):
                found = find_twins(held.vectors[rows], held.numbers[rows])
                with self._lock:
                    if self._moves == moves:
                        self._hide(found)

    def _hide(self, found: Twins) -> None:
        """Of these twins scans propose one of each class, and every other row. The lock is held."""
        self._show_twins()
        self._held.norms[found.hidden] = np.inf
        self._twins = found

    def _show_twins(self) -> None:
        """Scans propose every row again. Raises MemoryError before anything is changed."""
        self._held.norms[self._twins.hidden] = self._held.norms[self._twins.equal_to]
        self._twins = NO_TWINS

    def _among(
        self, table: Table, nearest: Nearest, look: Look, searches: Sequence[Search], *, whole: bool
    ) -> list[Found]:
        """Of the subjects that are alive in a table; `whole`: its rows are all there are."""
        near = self._nearly(table, searches) if whole and self._approximate is not None else {}
        by_distance = [search for i, search in enumerate(searches) if not search.by_probability and i not in near]
        ranked: Iterator[Ranked] = iter(())
        if by_distance:
            probes = np.concatenate([search.probes for search in by_distance])
            ranked = iter(
                nearest_subjects(table, nearest, self._every, look, self._rows_each, probes, wanted_by(by_distance))
            )
        found = [
            near[i] if i in near else self._surely(search, table, ranked, of_all=whole)
            for i, search in enumerate(searches)
        ]
        named = who_is_told(self._subjects, searches, found, self._revision, self._arrivals.concern)
        return [
            answer(
                search,
                near_subjects(search, each, [table.vectors] * len(each), named, not self._templates),
                self._whole(exact=i not in near),
                sum(one.every_row for one in each),
            )
            for i, (search, each) in enumerate(zip(searches, found, strict=True))
        ]

    def _surely(self, search: Search, table: Table, ranked: Iterator[Ranked], *, of_all: bool) -> list[Ranked]:
        """Who is certainly nearest; `ranked` has next what ranks the search's probes by distance."""
        if search.by_probability:
            return [_likeliest(table, search, probe) for probe in search.probes]
        found = list(itertools.islice(ranked, len(search.probes)))
        if self._approximate is not None and of_all:
            self._approximate.saw(search, found, table.vectors)
        return found

    def _whole(self, *, exact: bool) -> Whole:
        kind, encodings = self.kind if exact else NEARLY, self._rows - self._dead
        return Whole(self._revision, len(self._subjects), encodings, exact, kind, self.device)

    def _nearly(self, table: Table, searches: Sequence[Search]) -> dict[int, list[Ranked]]:
        """What seems nearest to the probes of those searches for which that will do, by their places."""
        assert self._approximate is not None
        served = [i for i, search in enumerate(searches) if self._approximate.serves(search)]
        if not served:
            return {}
        probes = np.concatenate([searches[i].probes for i in served])
        wanted = wanted_by([searches[i] for i in served])
        try:
            found = iter(self._approximate.nearest_subjects(table, self._held.norms, probes, wanted))
        except (MemoryError, RuntimeError) as error:  # an exact search says what is the matter, if it meets it
            log.warning("a search that may lose something failed, and is exact instead: %s", in_words(error))
            return {}
        ranked = {i: list(itertools.islice(found, len(searches[i].probes))) for i in served}
        return {i: sure for i, all_of in ranked.items() if len(sure := [one for one in all_of if one]) == len(all_of)}

    def approximate(self, wanted: Approximation | None) -> None:
        self._anew = self._anew or wanted is None
        self._may_lose = wanted

    def approximation(self) -> ApproximationState | None:
        near, wanted = self._approximate, self._may_lose
        if wanted is None:
            return None
        if self._pool is None:
            return ApproximationState("exact", "device")
        return to_come(self._told) if near is None or self._anew or near.wanted != wanted else near.state()

    def alarm(self, stay_exact: bool) -> None:
        with self._lock:
            if self._approximate is not None and stay_exact:
                self._approximate.stay_exact("alarm")
            elif self._approximate is not None:
                self._approximate.read_more()

    def wants_tending(self) -> bool:
        near, wanted = self._approximate, self._may_lose
        if wanted is None or self._pool is None:
            return False
        return near is None or near.wanted != wanted or near.due()

    def tend(self, ended: Callable[[], bool]) -> None:
        with self._looking():
            near = self._approximate
        if near is not None:
            near.tend(
                self._looking, lambda: ended() or self._arrivals.retired or self._anew or self._approximate is not near
            )

    @contextlib.contextmanager
    def _looking(self) -> Iterator[Table]:
        """The rows as they are; the lock is held meanwhile."""
        with self._lock:
            self._drain()
            yield self._table()

    def info(self) -> IndexInfo:
        with self._lock:
            self._drain()
            with self._pending_lock:
                memory = self._held.memory_bytes + (self._room.memory_bytes if self._room else 0)
                memory += self._scan.memory_bytes + (self._approximate.memory_bytes if self._approximate else 0)
            live = self._rows - self._dead
            subjects = len(self._subjects)
            return IndexInfo(self.kind, self.device, self.exact, self._revision, subjects, live, self._dead, memory)

    def freeze(self) -> FrozenRows:
        """The present state, at the cost of a copy of the subject numbers; searches go on meanwhile. Waits for a
        compaction."""
        with self._compacting, self._lock:
            self._drain()
            # Else rows are append-only, and a compaction takes new arrays while these are looked at.
            held, rows = self._held, slice(0, self._rows)
            frozen = FrozenRows(self._revision, held.numbers[rows], held.subjects[rows].copy(), held.vectors[rows])
            self._frozen.add(frozen)
            return frozen

    def improve(self) -> bool:
        with self._lock:
            self._drain()
            self._extend()
            better = self._scan.improvement()
            if better is None:
                return False
            held, rows = self._held, slice(0, self._rows)
            kept = FrozenRows(self._revision, held.numbers[rows], held.subjects[rows], held.vectors[rows])
            self._frozen.add(kept)  # so that the rows stay where they are
        better.make()
        with self._lock:
            better.take()
            self._frozen.discard(kept)
        return True

    def retire(self, drop: bool) -> None:
        """It holds nothing elsewhere; it is told nothing any more."""
        self._arrivals.retire()

    def wants_compaction(self) -> bool:
        return worth_compacting(self._dead + self._pending_removals, self._rows)

    def compact(self) -> None:
        """Forgets dead rows: the live ones behind them move up, some at a time. Searches wait for moments only, and no
        memory is taken but where somebody still looks at what freeze() gave out. Raises MemoryError and DeviceLost;
        the next one goes on from there."""
        with self._compacting:
            twins = len(self._twins.shown) > 0
            for _ in range(2 if self._gap else 1):
                if self._begin_compaction():
                    while self._move_up():
                        pause()
            if twins:
                self._look_for_all_twins()

    def _begin_compaction(self) -> bool:
        """Whether there is anything to do."""
        with self._lock:
            self._drain()
            if self._frozen:
                self._grow(self._rows)
            if self._gap is None:
                dead = np.flatnonzero(self._held.subjects[: self._rows] < 0)[:1].tolist()
                self._gap = range(dead[0], dead[0]) if dead else None
            return self._gap is not None

    def _move_up(self) -> bool:
        """Some rows from the end of the gap move to its start. Whether there are more."""
        step = max(1, _STEP_BYTES // (4 * self.dimension))
        with self._lock:
            self._drain()
            self._extend()
            assert self._gap is not None
            self._show_twins()
            self._moves += 1
            start, stop = self._gap.start, min(self._gap.stop + step, self._rows)
            first = self._gap.stop
            live = np.flatnonzero(self._held.subjects[first:stop] >= 0) + first
            end = self._held.move_up(slice(first, stop), start)
            if self._approximate is not None:
                self._approximate.moved(first, live, stop, start)
            self._gap = range(end, stop)
            self._stale.update(range(start, end))
            self._extend()
            if stop < self._rows:
                return True
            self._forget_behind(end)
            return False

    def _forget_behind(self, rows: int) -> None:
        """No live row is behind these; the lock is held."""
        gone = self._rows - rows
        with self._pending_lock:
            self._told, self._promised = self._told - gone, self._promised - gone
            self._held.shrink(max(rows + rows // 8 + _MIN_DEAD_ROWS, self._promised))
            if self._room is not None and self._promised <= self._held.capacity:
                self._room = None
        self._held.vectors[rows : self._rows] = 0  # so much as there is of them yet
        self._rows, self._dead, self._gap = rows, self._dead - gone, None
        self._max_norm = float(np.sqrt(self._held.norms[:rows].max(initial=0.0)))
        self._scan.extend(self._held.vectors, self._held.norms, rows)
        if self._approximate is not None:
            self._approximate.has(rows)
            self._approximate.compacted()
        with self._pending_lock, contextlib.suppress(MemoryError, DeviceLost):  # the next enrollment meets it again
            self._scan.reserve(self._promised)

    def _drain(self) -> None:
        """Works off what is pending, step by step: the memory that it takes doesn't grow with what waits. What answers
        may lose is followed, too."""
        while changes := self._first_pending():
            self._work_off(changes)
        anew, self._anew = self._anew, False
        near, wanted = self._approximate, self._may_lose
        if (anew or (None if near is None else near.wanted) != wanted) and self._pool is not None:
            self._approximate = None if wanted is None else Approximate(wanted, self.dimension, self._pool)
            if self._approximate is not None:
                self._approximate.has(self._rows)

    def _first_pending(self) -> list[Change]:
        """The first pending changes, with so many vectors at most; a single one may have more."""
        changes: list[Change] = []
        size = 0
        with self._pending_lock:
            for change in self._arrivals.pending:
                size += change.vectors.nbytes
                if changes and size > _STEP_BYTES:
                    break
                changes.append(change)
        return changes

    def _work_off(self, changes: Sequence[Change]) -> None:
        """All additions, then all new values, then all removals: numbers are never used twice, so order between them
        doesn't matter, and one large block is much cheaper than many small ones."""
        # What can run out of memory comes first, while everything is still pending and can be tried again.
        adding = [change for change in changes if len(change.added) and not _in_place(change)]
        for change in changes:
            if change.subject_id and change.removed_subject is None:
                self._subjects.put(change.subject, change.subject_id, change.labels)
        end, largest = self._rows, self._max_norm
        if adding:
            end, largest = self._write(
                Rows(
                    np.concatenate([change.added for change in adding]),
                    np.repeat([change.subject for change in adding], [len(change.added) for change in adding]),
                    np.concatenate([change.vectors for change in adding]),
                )
            )
        removing = [change.removed for change in changes if not _in_place(change)]
        gone = self._places(np.concatenate([*removing, np.empty(0, np.int64)]), end)
        # The last new value of each subject counts.
        rewriting = list({change.subject: change for change in changes if _in_place(change)}.values())
        if rewriting:
            rows = self._places(np.concatenate([change.added for change in rewriting]), end)
            if np.isinf(self._held.norms[rows]).any() or np.isin(rows, self._twins.shown).any():
                self._show_twins()
            self._moves += 1
            vectors = np.concatenate([change.vectors for change in rewriting])
            norms = squared_norms(vectors)
            largest = max(largest, float(np.sqrt(norms.max())))
            self._stale.update(rows.tolist())
            self._held.vectors[rows], self._held.norms[rows] = vectors, norms
            if self._approximate is not None:
                self._approximate.rewritten(rows)
        self._held.subjects[gone] = -1
        with self._pending_lock:
            for change in changes:
                self._arrivals.pending.popleft()
                self._pending_rows -= len(change.added)
                if not _in_place(change):
                    self._pending_removals -= len(change.removed)
        self._rows, self._max_norm = end, largest
        if self._approximate is not None:
            self._approximate.has(end)
        self._dead += len(gone)
        for change in changes:
            if change.removed_subject is not None:
                self._subjects.remove(change.removed_subject)
        self._revision = changes[-1].revision

    def _places(self, numbers: Integers, end: int) -> Integers:
        """Where live rows of these numbers are among the first `end`."""
        held = self._held.numbers[:end]
        if not self._ordered and len(numbers):
            return np.flatnonzero(np.isin(held, numbers) & (self._held.subjects[:end] >= 0))
        if self._gap is None:
            return np.searchsorted(held, numbers)
        places = np.searchsorted(held[: self._gap.start], numbers)
        behind = self._gap.stop + np.searchsorted(held[self._gap.stop :], numbers)
        return np.where(places < self._gap.start, places, behind)

    def _write(self, new: Rows) -> tuple[int, float]:
        """Writes rows behind those that are in, where they don't count yet. Returns what `_rows` and `_max_norm` are
        with them."""
        end = self._rows + len(new.numbers)
        norms = squared_norms(new.vectors)
        if end > self._held.capacity:
            self._grow(end)
        held, rows = self._held, slice(self._rows, end)
        held.vectors[rows], held.norms[rows] = new.vectors, norms
        held.numbers[rows], held.subjects[rows] = new.numbers, new.subjects
        return end, max(self._max_norm, float(np.sqrt(norms.max(initial=0.0))))

    def _grow(self, rows: int) -> None:
        room = self._room
        if room is None or room.capacity < rows:
            room = self._larger(rows)
        self._moves += 1
        self._scan.extend(room.vectors, room.norms, self._scan.rows)  # else it would keep the former arrays in memory
        if self._frozen:  # somebody looks at them yet
            room.copy_from(self._held, self._rows)
        else:
            room.take_over(self._held, self._rows)
        with self._pending_lock:
            self._held = room
            if self._room is not None and self._room.capacity <= room.capacity:
                self._room = None


def worth_compacting(dead: int, rows: int) -> bool:
    """Whether so many rows are dead, among so many."""
    return dead > max(_MIN_DEAD_ROWS, _DEAD_SHARE * rows)


def _in_place(change: Change) -> bool:
    """Whether it gives a row a new value, instead of adding and removing any. Only those of templates do."""
    return len(change.added) == len(change.removed) == 1 and bool(change.added[0] == change.removed[0])


def _likeliest(table: Table, search: Search, probe: Vectors) -> Ranked:
    """As nearest_subjects(), by the head of the search."""
    assert search.head is not None
    # One more than the limit, to see whether it cut something off.
    rows = likeliest_rows(table, search.head, probe, search.candidates, search.within, search.limit + 1)
    return Ranked(squared_l2(table.vectors[rows], probe), table.subjects[rows], table.numbers[rows], rows)
