"""ExactIndex: a gallery's encodings in memory, searched exactly.

A cache of the store: it is told of every committed Change, in order. Rows are only ever appended; a deleted
row is marked dead, which works on a GPU too (no GPU index removes rows, and one silently ignores an
IDSelector), and leaves when compact() builds the arrays anew.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from oneglance_core.distance import squared_norms
from oneglance_index.records import Candidate, Change, Checksum, Found, Integers, Rows, Search, Vectors
from oneglance_index.search.exact import Ranked, Table, nearest_subjects, wanted_by
from oneglance_index.search.kinds import IndexInfo
from oneglance_index.search.scan import CpuScan, Scan

_T = TypeVar("_T", bound=np.generic)

# apply() tries to work off what is pending from this many rows on, so that a bulk load without searches
# doesn't leave it all to the first search.
_PENDING_ROWS = 2048
# Dead rows beyond this, or this share of the rows, are worth a compaction.
_MIN_DEAD_ROWS = 64
_DEAD_SHARE = 0.01
# Bounds the copy that FrozenRows.blocks() makes.
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class FrozenRows:
    """The rows of an ExactIndex at a revision, dead ones included; nobody changes these arrays any more.

    numbers and subjects int64 [n], subjects -1 for a dead row; vectors float32 [n, D].
    """

    revision: int
    numbers: Integers
    subjects: Integers
    vectors: Vectors

    @property
    def encodings(self) -> int:
        return int((self.subjects >= 0).sum())

    def blocks(self) -> Iterator[Rows]:
        step = max(1, _BLOCK_BYTES // (4 * self.vectors.shape[1]))
        for start in range(0, len(self.numbers), step):
            part = slice(start, start + step)
            live = self.subjects[part] >= 0
            yield Rows(self.numbers[part][live], self.subjects[part][live], self.vectors[part][live])


class ExactIndex:
    """`scan` does the searching; `host` is a CpuScan of the same rows for searches too large for `scan`.

    Safe for any thread: one search at a time, and apply() never waits for it.
    """

    kind = "flat"
    exact = True

    def __init__(self, dimension: int, device: str, scan: Scan, host: CpuScan) -> None:
        self.dimension = dimension
        self.device = device
        self._scan = scan
        self._host = host
        self._vectors: Vectors = np.empty((0, dimension), np.float32)
        self._norms: Vectors = np.empty(0, np.float32)
        self._numbers: Integers = np.empty(0, np.int64)
        self._subjects: Integers = np.empty(0, np.int64)
        self._rows = 0
        self._dead = 0
        self._max_norm = 0.0
        self._subject_ids: dict[int, str] = {}
        self._revision = 0
        # Guards everything above; held during a search.
        self._lock = threading.Lock()
        self._compacting = threading.Lock()
        # Guards the three below only; held for moments.
        self._pending_lock = threading.Lock()
        self._pending: deque[Change] = deque()
        self._pending_rows = 0
        self._pending_removals = 0

    def load(self, revision: int, subject_ids: dict[int, str], capacity: int) -> None:
        """Starts from a known state, before any search: call once, then append() the rows of that state."""
        self._revision = revision
        self._subject_ids = subject_ids
        self._reserve(capacity)

    def append(self, rows: Rows) -> None:
        """Adds encodings, whose numbers are above all there are."""
        with self._lock:
            self._append(rows)

    def checksum(self) -> Checksum:
        with self._lock:
            self._drain()
            live = self._subjects[: self._rows] >= 0
            return Checksum(int(live.sum()), int(self._numbers[: self._rows].sum(where=live)))

    def apply(self, change: Change) -> None:
        """Takes over a committed change. Searches that start afterwards see it. Never waits for a search."""
        with self._pending_lock:
            self._pending.append(change)
            self._pending_rows += len(change.added)
            self._pending_removals += len(change.removed)
            many = self._pending_rows >= _PENDING_ROWS
        if many and self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(MemoryError):  # it stays pending, and the next search tries again
                    self._drain()
            finally:
                self._lock.release()

    def search(self, searches: Sequence[Search]) -> list[Found]:
        """One scan answers them all, from one revision."""
        probes = np.concatenate([search.probes for search in searches])
        wanted = wanted_by(searches)
        with self._lock:
            self._drain()
            if self._scan.rows < self._rows:
                self._scan.extend(self._vectors, self._norms, self._rows)
            if self._host.rows < self._rows:
                self._host.extend(self._vectors, self._norms, self._rows)
            ids = self._subject_ids
            table = Table(
                self._vectors[: self._rows],
                self._numbers[: self._rows],
                self._subjects[: self._rows],
                self._max_norm,
                len(ids),
            )
            ranked = iter(nearest_subjects(table, self._nearest, probes, wanted))
            return [self._found(search, list(itertools.islice(ranked, len(search.probes)))) for search in searches]

    def _found(self, search: Search, ranked: Sequence[Ranked]) -> Found:
        """What the ranked subjects of each probe answer; the lock is held."""
        near = [_candidates(found, self._subject_ids) for found in ranked]
        within = -np.inf if search.within is None else search.within
        counts = [bisect_right(found, within, key=_distance) for found in near]
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

    def _nearest(self, queries: Vectors, k: int) -> tuple[Vectors, Integers]:
        return (self._scan if k <= self._scan.max_k else self._host).nearest(queries, k)

    def info(self) -> IndexInfo:
        with self._lock:
            self._drain()
            memory = sum(a.nbytes for a in (self._vectors, self._norms, self._numbers, self._subjects))
            live = self._rows - self._dead
            subjects = len(self._subject_ids)
            return IndexInfo(self.kind, self.device, self.exact, self._revision, subjects, live, self._dead, memory)

    def freeze(self) -> FrozenRows:
        """The present state, at the cost of a copy of the subject numbers; searches go on meanwhile."""
        with self._lock:
            self._drain()
            # Rows are append-only and compaction makes new arrays, so views of the others stay as they are.
            rows = slice(0, self._rows)
            return FrozenRows(self._revision, self._numbers[rows], self._subjects[rows].copy(), self._vectors[rows])

    def wants_compaction(self) -> bool:
        dead = self._dead + self._pending_removals
        return dead > max(_MIN_DEAD_ROWS, _DEAD_SHARE * self._rows)

    def compact(self) -> None:
        """Forgets dead rows. On the CPU searches wait for moments only; a GPU is loaded anew meanwhile."""
        with self._compacting:
            frozen = self.freeze()
            keep = frozen.subjects >= 0
            kept = int(keep.sum())
            if kept == len(keep):
                return
            vectors = np.empty((kept + kept // 8 + _MIN_DEAD_ROWS, self.dimension), np.float32)
            np.compress(keep, frozen.vectors, axis=0, out=vectors[:kept])
            norms = squared_norms(vectors[:kept])
            with self._lock:
                self._drain()
                old, late = slice(0, len(keep)), slice(len(keep), self._rows)
                rows = kept + self._rows - len(keep)
                # What can run out of memory comes first, here too.
                if rows > len(vectors):
                    vectors = _grown(vectors, kept, rows + _PENDING_ROWS)
                vectors[kept:rows] = self._vectors[late]
                norms = np.concatenate([norms, squared_norms(vectors[kept:rows])])
                numbers, subjects = np.empty((2, len(vectors)), np.int64)
                numbers[:rows] = np.concatenate([self._numbers[old][keep], self._numbers[late]])
                # The present subjects, not the frozen ones: some rows may have died since.
                subjects[:rows] = np.concatenate([self._subjects[old][keep], self._subjects[late]])
                stored_norms = np.empty(len(vectors), np.float32)
                stored_norms[:rows] = norms
                self._scan.reset()
                self._host.reset()
                self._vectors, self._norms, self._numbers, self._subjects = vectors, stored_norms, numbers, subjects
                self._rows = rows
                self._dead = int((subjects[:rows] < 0).sum())
                self._max_norm = float(np.sqrt(norms.max(initial=0.0)))
                self._scan.extend(self._vectors, self._norms, self._rows)

    def _drain(self) -> None:
        """Works off what is pending. All additions, then all removals: numbers are never used twice, so order
        between them doesn't matter, and one large block is much cheaper than many small ones."""
        with self._pending_lock:
            changes = list(self._pending)
        if not changes:
            return
        # What can run out of memory comes first, while everything is still pending and can be tried again.
        adding = [change for change in changes if len(change.added)]
        removed = np.concatenate([change.removed for change in changes])
        if adding:
            self._append(
                Rows(
                    np.concatenate([change.added for change in adding]),
                    np.repeat([change.subject for change in adding], [len(change.added) for change in adding]),
                    np.concatenate([change.vectors for change in adding]),
                )
            )
        with self._pending_lock:
            for change in changes:
                self._pending.popleft()
                self._pending_rows -= len(change.added)
                self._pending_removals -= len(change.removed)
        for change in adding:
            self._subject_ids[change.subject] = change.subject_id
        self._remove(removed)
        for change in changes:
            if change.removed_subject is not None:
                del self._subject_ids[change.removed_subject]
        self._revision = changes[-1].revision

    def _append(self, new: Rows) -> None:
        end = self._rows + len(new.numbers)
        norms = squared_norms(new.vectors)
        if end > len(self._numbers):
            self._reserve(end + end // 4 + _PENDING_ROWS)
        rows = slice(self._rows, end)
        self._vectors[rows], self._norms[rows] = new.vectors, norms
        self._numbers[rows], self._subjects[rows] = new.numbers, new.subjects
        self._max_norm = max(self._max_norm, float(np.sqrt(norms.max(initial=0.0))))
        self._rows = end

    def _remove(self, numbers: Integers) -> None:
        rows = np.searchsorted(self._numbers[: self._rows], numbers)
        self._subjects[rows] = -1
        self._dead += len(rows)

    def _reserve(self, capacity: int) -> None:
        rows = self._rows
        self._vectors, self._norms = _grown(self._vectors, rows, capacity), _grown(self._norms, rows, capacity)
        self._numbers, self._subjects = _grown(self._numbers, rows, capacity), _grown(self._subjects, rows, capacity)


def _grown(old: NDArray[_T], rows: int, capacity: int) -> NDArray[_T]:
    """A larger array that begins with the first `rows` rows of this one."""
    new = np.empty((capacity, *old.shape[1:]), old.dtype)
    new[:rows] = old[:rows]
    return new


_distance = attrgetter("distance")


def _candidates(found: Ranked, ids: dict[int, str]) -> tuple[Candidate, ...]:
    columns = (found.subjects.tolist(), found.numbers.tolist(), found.distances.tolist())
    return tuple(
        Candidate(ids[subject], str(number), distance) for subject, number, distance in zip(*columns, strict=True)
    )
