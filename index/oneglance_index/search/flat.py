"""ExactIndex: a gallery's encodings in memory, searched exactly.

A cache of the store: it is told of every committed Change, in order. Rows are appended; a deleted row is marked dead,
which works on a GPU too (no GPU index removes rows, and one silently ignores an IDSelector), and leaves when compact()
builds the arrays anew. A template gets its new value where it lies, so that a deletion takes no room.

Room for a change is made by reserve() before it is committed; what apply() takes over fits.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TypeVar

import numpy as np

from oneglance_core.distance import squared_l2, squared_norms
from oneglance_core.pair_head import probabilities_of, scores_of
from oneglance_index.errors import DeviceLost, GalleryError, OutOfMemory
from oneglance_index.records import Candidate, Change, Checksum, Found, Rows, Search, Vectors
from oneglance_index.search.by_head import likeliest_rows
from oneglance_index.search.exact import Ranked, Table, nearest_subjects, wanted_by
from oneglance_index.search.kinds import IndexInfo
from oneglance_index.search.rows import FrozenRows, RowArrays, SubjectIds
from oneglance_index.search.scan import Scan

T = TypeVar("T")
log = logging.getLogger(__name__)

# apply() tries to work off what is pending from this many rows on, so that a bulk load without searches
# doesn't leave it all to the first search.
_PENDING_ROWS = 2048
# What is pending is copied so much at a time.
_STEP_BYTES = 4 << 20
# Dead rows beyond this, or this share of the rows, are worth a compaction.
_MIN_DEAD_ROWS = 64
_DEAD_SHARE = 0.01


class ExactIndex:
    """`scan` does the searching; `spare`, if any, does it once the device of `scan` fails for good. `ordered` says that
    rows come in the order of their numbers.

    With `templates` a row is a subject's template, not an encoding: its number is that of the subject, and so are the
    `added` and `removed` of a Change; one that is in both gets a new value. To a search that asks `singly` the number
    is told as `encoding_id`. freeze() and checksum() are of no use then.

    Safe for any thread: one search at a time, and apply() never waits for it.
    """

    kind = "flat"
    exact = True

    def __init__(
        self,
        dimension: int,
        scan: Scan,
        spare: Scan | None = None,
        *,
        templates: bool = False,
        ordered: bool = True,
    ) -> None:
        self.dimension = dimension
        self._ordered = ordered
        self._templates = templates
        self._scan = scan
        self._spare = spare
        self._held = RowArrays.empty(0, dimension)
        self._rows = 0
        self._dead = 0
        self._max_norm = 0.0
        self._subject_ids = SubjectIds({})
        self._revision = 0
        # Rows with a new value that the scan doesn't have yet; and all since a compaction began, None without one.
        self._stale: set[int] = set()
        self._rewritten: set[int] | None = None
        # What freeze() gave out and somebody still has.
        self._frozen: weakref.WeakSet[FrozenRows] = weakref.WeakSet()
        # Guards everything above; held during a search.
        self._lock = threading.Lock()
        self._compacting = threading.Lock()
        # Guards what is below only; held for moments.
        self._pending_lock = threading.Lock()
        self._pending: deque[Change] = deque()
        self._pending_rows = 0
        self._pending_removals = 0
        # `_told`: rows held or pending; `_promised`: rows there is room for. `_room`: arrays to grow into, if any.
        self._told = 0
        self._promised = 0
        self._room: RowArrays | None = None

    @property
    def device(self) -> str:
        return self._scan.device

    def load(self, revision: int, subject_ids: dict[int, str], capacity: int) -> None:
        self._revision = revision
        self._subject_ids = SubjectIds(subject_ids)
        self._held = RowArrays.empty(capacity, self.dimension)
        self._reserve(capacity)

    def append(self, rows: Rows, subject_ids: Mapping[int, str] | None = None) -> None:
        """`subject_ids`: of subjects that load() wasn't told of."""
        with self._lock:
            for number, subject_id in (subject_ids or {}).items():
                self._subject_ids.add(number, subject_id)
            self._rows, self._max_norm = self._write(rows)
            with self._pending_lock:
                self._told += len(rows.numbers)
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

    def apply(self, change: Change) -> None:
        """Takes over a committed change. Searches that start afterwards see it. Never waits for a search."""
        with self._pending_lock:
            self._pending.append(change)
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

    def search(self, searches: Sequence[Search]) -> list[Found | GalleryError]:
        """One scan answers them all, from one revision; where there is no memory for that, one scan each."""
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

    def _extend(self) -> None:
        """The scan has all rows now, as they are; the lock is held. MemoryError, DeviceLost."""
        if self._scan.rows < self._rows:
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
        rows = slice(0, self._rows)
        table = Table(
            self._held.vectors[rows],
            self._held.numbers[rows],
            self._held.subjects[rows],
            self._max_norm,
            len(self._subject_ids),
            self._scan.rounding,
        )
        by_distance = [search for search in searches if not search.by_probability]
        ranked: Iterator[Ranked] = iter(())
        if by_distance:
            probes = np.concatenate([search.probes for search in by_distance])
            ranked = iter(nearest_subjects(table, self._scan.nearest, probes, wanted_by(by_distance)))
        return [
            self._found(
                search,
                table,
                [_likeliest(table, search, probe) for probe in search.probes]
                if search.by_probability
                else list(itertools.islice(ranked, len(search.probes))),
            )
            for search in searches
        ]

    def _found(self, search: Search, table: Table, ranked: Sequence[Ranked]) -> Found:
        """What the ranked subjects of each probe answer; the lock is held."""
        numbered = search.singly or not self._templates
        near = [_candidates(found, self._subject_ids, numbered) for found in ranked]
        if search.head is not None:
            near = [
                _with_probabilities(search, candidates, search.head.logits(table.vectors[found.rows], probe))
                for candidates, found, probe in zip(near, ranked, search.probes, strict=True)
            ]
        within = -np.inf if search.within is None else search.within
        counts = [bisect_right(found, within, key=_score) for found in near]
        return Found(
            tuple(found[: search.candidates] for found in near),
            tuple(found[: min(count, search.limit)] for found, count in zip(near, counts, strict=True)),
            tuple(count > search.limit for count in counts),
            self._revision,
            len(self._subject_ids),
            self._rows - self._dead,
            self.exact,
            self.kind,
            self.device,
        )

    def subject_ids(self, numbers: Sequence[int]) -> dict[int, str]:
        """Of subjects that load() or append() told."""
        with self._lock:
            return {number: self._subject_ids[number] for number in numbers}

    def info(self) -> IndexInfo:
        with self._lock:
            self._drain()
            with self._pending_lock:
                memory = self._held.memory_bytes + (self._room.memory_bytes if self._room else 0)
            live = self._rows - self._dead
            subjects = len(self._subject_ids)
            return IndexInfo(self.kind, self.device, self.exact, self._revision, subjects, live, self._dead, memory)

    def freeze(self) -> FrozenRows:
        """The present state, at the cost of a copy of the subject numbers; searches go on meanwhile."""
        with self._lock:
            self._drain()
            # Rows are append-only and compaction makes new arrays, so views of the others stay as they are.
            held, rows = self._held, slice(0, self._rows)
            frozen = FrozenRows(self._revision, held.numbers[rows], held.subjects[rows].copy(), held.vectors[rows])
            self._frozen.add(frozen)
            return frozen

    def wants_compaction(self) -> bool:
        return worth_compacting(self._dead + self._pending_removals, self._rows)

    def compact(self) -> None:
        """Forgets dead rows. Searches wait for moments only, but on a GPU that has no room for all rows twice the next
        one brings them there."""
        with self._compacting:
            with self._lock:
                self._rewritten = set()
            try:
                self._compact()
            finally:
                with self._lock:
                    self._rewritten = None

    def _compact(self) -> None:
        frozen = self.freeze()
        keep = frozen.subjects >= 0
        kept = int(keep.sum())
        if kept == len(keep):
            return
        with self._pending_lock:
            capacity = max(kept + kept // 8 + _MIN_DEAD_ROWS, self._promised - (len(keep) - kept))
        fresh = RowArrays.empty(capacity, self.dimension)
        np.compress(keep, frozen.vectors, axis=0, out=fresh.vectors[:kept])
        fresh.norms[:kept] = squared_norms(fresh.vectors[:kept])
        scan = self._filled(fresh, kept, capacity)
        with self._lock:
            self._drain()
            # What can run out of memory comes first, here too.
            old, late = slice(0, len(keep)), slice(len(keep), self._rows)
            rows, gone = kept + self._rows - len(keep), len(keep) - kept
            if rows > fresh.capacity:
                larger = self._larger(rows)
                larger.copy_from(fresh, kept)
                fresh = larger
            fresh.vectors[kept:rows], fresh.norms[kept:rows] = self._held.vectors[late], self._held.norms[late]
            # Rows that got a new value while they were copied, and their places now.
            again = np.array([row for row in self._rewritten or () if row < len(keep) and keep[row]], np.int64)
            places = np.cumsum(keep)[again] - 1
            fresh.vectors[places], fresh.norms[places] = self._held.vectors[again], self._held.norms[again]
            fresh.numbers[:rows] = np.concatenate([self._held.numbers[old][keep], self._held.numbers[late]])
            # The present subjects, not the frozen ones: some rows may have died since.
            fresh.subjects[:rows] = np.concatenate([self._held.subjects[old][keep], self._held.subjects[late]])
            dead = int((fresh.subjects[:rows] < 0).sum())
            largest = float(np.sqrt(fresh.norms[:rows].max(initial=0.0)))
            with self._pending_lock:
                promised = self._promised - gone
                self._room = self._larger(promised) if promised > fresh.capacity else None
                self._held = fresh
                self._told, self._promised = self._told - gone, promised
                self._scan = scan
                with contextlib.suppress(MemoryError, DeviceLost):  # the next enrollment meets it again
                    scan.reserve(promised)
            self._rows, self._dead, self._max_norm, self._stale = rows, dead, largest, set(places.tolist())

    def _filled(self, rows: RowArrays, count: int, capacity: int) -> Scan:
        """A fresh scan with room for so many rows, and the first `count` of these; an empty one where that takes more
        memory than there is while the other one is in use. DeviceLost."""
        scan = self._scan.fresh()
        try:
            scan.reserve(capacity)
            scan.extend(rows.vectors, rows.norms, count)
        except MemoryError:
            return self._scan.fresh()
        return scan

    def _drain(self) -> None:
        """Works off what is pending, step by step: the memory that it takes doesn't grow with what waits."""
        while changes := self._first_pending():
            self._work_off(changes)

    def _first_pending(self) -> list[Change]:
        """The first pending changes, with so many vectors at most; a single one may have more."""
        changes: list[Change] = []
        size = 0
        with self._pending_lock:
            for change in self._pending:
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
        for change in adding:
            self._subject_ids.add(change.subject, change.subject_id)
        end, largest = self._rows, self._max_norm
        if adding:
            end, largest = self._write(
                Rows(
                    np.concatenate([change.added for change in adding]),
                    np.repeat([change.subject for change in adding], [len(change.added) for change in adding]),
                    np.concatenate([change.vectors for change in adding]),
                )
            )
        numbers = self._held.numbers[:end]
        removing = [change.removed for change in changes if not _in_place(change)]
        removed = np.concatenate([*removing, np.empty(0, np.int64)])
        if self._ordered or not len(removed):
            gone = np.searchsorted(numbers, removed)
        else:
            gone = np.flatnonzero(np.isin(numbers, removed))
        # The last new value of each subject counts.
        rewriting = list({change.subject: change for change in changes if _in_place(change)}.values())
        if rewriting:
            rows = np.searchsorted(numbers, np.concatenate([change.added for change in rewriting]))
            vectors = np.concatenate([change.vectors for change in rewriting])
            norms = squared_norms(vectors)
            largest = max(largest, float(np.sqrt(norms.max())))
            self._stale.update(rows.tolist())
            if self._rewritten is not None:
                self._rewritten.update(rows.tolist())
            self._held.vectors[rows], self._held.norms[rows] = vectors, norms
        self._held.subjects[gone] = -1
        with self._pending_lock:
            for change in changes:
                self._pending.popleft()
                self._pending_rows -= len(change.added)
                if not _in_place(change):
                    self._pending_removals -= len(change.removed)
        self._rows, self._max_norm = end, largest
        self._dead += len(gone)
        for change in changes:
            if change.removed_subject is not None:
                self._subject_ids.remove(change.removed_subject)
        self._revision = changes[-1].revision

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


_score = attrgetter("score")


def _likeliest(table: Table, search: Search, probe: Vectors) -> Ranked:
    """As nearest_subjects(), by the head of the search."""
    assert search.head is not None
    # One more than the limit, to see whether it cut something off.
    rows = likeliest_rows(table, search.head, probe, search.candidates, search.within, search.limit + 1)
    return Ranked(squared_l2(table.vectors[rows], probe), table.subjects[rows], table.numbers[rows], rows)


def _with_probabilities(search: Search, found: Sequence[Candidate], logits: Vectors) -> tuple[Candidate, ...]:
    scores = scores_of(logits).tolist() if search.by_probability else [one.score for one in found]
    return tuple(
        replace(one, score=score, probability=probability)
        for one, score, probability in zip(found, scores, probabilities_of(logits).tolist(), strict=True)
    )


def _candidates(found: Ranked, ids: SubjectIds, numbered: bool) -> tuple[Candidate, ...]:
    columns = (found.subjects.tolist(), found.numbers.tolist(), found.distances.tolist())
    return tuple(
        Candidate(ids[subject], str(number) if numbered else "", distance, distance)
        for subject, number, distance in zip(*columns, strict=True)
    )
