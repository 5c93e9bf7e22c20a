"""The thread that looks after indexes in the background: it compacts them, takes their snapshots, and has those that
missed a write rebuilt. A second one deletes subjects whose time is over, and what deleted galleries left behind, slice
by slice."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from oneglance_core.error_words import in_words
from oneglance_core.fusion import has_template
from oneglance_index.errors import GalleryNotFound, StoreClosed, StoreGone
from oneglance_index.search import snapshot
from oneglance_index.search.kinds import Frozen, GalleryIndex
from oneglance_index.search.loading import StoredEncodings
from oneglance_index.search.snapshot import SnapshotAbandoned
from oneglance_index.store import queries
from oneglance_index.store.database import Store
from oneglance_index.store.mutations import Applied, Mutation, VouchForSnapshot
from oneglance_index.store.purging import GiveSpaceBack, PurgeSlice
from oneglance_index.store.slots import KeyDestroyed
from oneglance_index.threads import started

log = logging.getLogger(__name__)

# After a failure (a full disk, say) the next try waits, since nothing is lost without a snapshot but time at
# start.
_RETRY_SECONDS = 60.0
# A gallery whose index is to be rebuilt answers no search: the first tries follow each other sooner.
_FIRST_RETRY_SECONDS = 1.0


# A slice of a purge keeps the writer so long, about, before others have their turn.
_SLICE_SECONDS = 0.004
_FIRST_SLICE, _LARGEST_SLICE = 64, 512


# So many encodings that came may be worth Index.improve().
_MANY_ENCODINGS = 8192


@dataclass(slots=True)
class Timed:
    """A mutation, and how long it took."""

    mutation: Mutation[bool]
    seconds: float = 0.0

    def run(self, db: sqlite3.Connection) -> Applied[bool]:
        begun = time.perf_counter()
        try:
            return self.mutation.run(db)
        finally:
            self.seconds = time.perf_counter() - begun


@dataclass(slots=True)
class _Kept:
    """An index looked after; `snapshot_revision` is that of its vouched-for file, -1 without one.

    `compacting`: a compaction was begun, and what was deleted may still be in the snapshot or the write-ahead log.
    `working` is held while a snapshot or a compaction of this index is under way.
    """

    index: GalleryIndex
    snapshot_revision: int
    changed_encodings: int = 0
    unimproved: int = 0
    compacting: bool = False
    working: threading.Lock = field(default_factory=threading.Lock)

    def wants_compaction(self) -> bool:
        return self.compacting or self.index.wants_compaction()

    def wants_snapshot(self, every: int) -> bool:
        return self.changed_encodings >= every or self.wants_compaction()


@dataclass(slots=True)
class _Repair:
    """`rebuild` raises where it fails; `wait_seconds` is how long the next try then waits. The snapshot that there was
    is still vouched for."""

    rebuild: Callable[[], None]
    snapshot_revision: int
    wait_seconds: float = _FIRST_RETRY_SECONDS
    due: float = 0.0  # of time.monotonic()
    failure: str | None = None


class Upkeep:
    """Takes a snapshot of an index each time `snapshot_every` of its encodings have come or gone.

    Indexes are known by the number of their generation. `sweep` is called every `sweep_seconds`.
    """

    def __init__(
        self, data_dir: Path, store: Store, snapshot_every: int, sweep: Callable[[], None], sweep_seconds: float
    ) -> None:
        self._data_dir = data_dir
        self._store = store
        self._snapshot_every = snapshot_every
        self._kept: dict[int, _Kept] = {}
        self._repairs: dict[int, _Repair] = {}
        self._not_before = 0.0  # of time.monotonic(): the next try after a failure
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._closing = threading.Event()
        self._until: float | None = None
        self._purge_due = threading.Event()
        self._sweep, self._sweep_seconds = sweep, sweep_seconds
        self._thread = started("upkeep", self._loop)
        try:
            # Nobody waits for it: it ends with the slice under way, or when the store is closed.
            started("purge", self._purge_loop)
        except MemoryError:
            self._closing.set()
            self._due.set()
            raise

    def purge(self) -> None:
        """A gallery was deleted, now or before the last stop: its rows are to go."""
        self._purge_due.set()

    def _purge_loop(self) -> None:
        while True:
            self._purge_due.wait(self._sweep_seconds)
            self._purge_due.clear()
            if self._closing.is_set():
                return
            try:
                self._work_off(PurgeSlice)
                self._sweep()
                self._work_off(GiveSpaceBack)
            except StoreClosed:
                return
            except Exception as error:  # a full disk, say: what is deleted stays deleted, and is in no answer
                log.warning("deleting what is over failed: %s", in_words(error))
                if self._closing.wait(_RETRY_SECONDS):
                    return
                self._purge_due.set()

    def _work_off(self, kind: Callable[[int], Mutation[bool]]) -> None:
        """Slices of a size that takes the writer about _SLICE_SECONDS, until there is no more to do."""
        size = _FIRST_SLICE
        more = True
        while more and not self._closing.is_set():
            timed = Timed(kind(size))
            more = self._store.write(timed, self, patient=True).result()
            fitting = int(size * _SLICE_SECONDS / max(timed.seconds, 1e-6))
            size = max(1, min(2 * size, fitting, _LARGEST_SLICE))

    def add(self, generation: int, index: GalleryIndex, snapshot_revision: int, encodings: int = 0) -> None:
        """`encodings`: how many it has."""
        with self._lock:
            self._kept[generation] = _Kept(index, snapshot_revision, unimproved=encodings)
        if encodings >= _MANY_ENCODINGS:
            self._due.set()

    def drop(self, generation: int) -> None:
        """Forgets an index and removes its snapshot."""
        with self._lock:
            known = self._kept.pop(generation, None) or self._repairs.pop(generation)
        self._unlink(generation, known.snapshot_revision)

    def changed(self, generation: int, encodings: int) -> None:
        """Called by the writer after each commit: must be quick."""
        kept = self._kept[generation]
        kept.changed_encodings += encodings
        kept.unimproved += encodings
        if kept.wants_snapshot(self._snapshot_every) or kept.unimproved >= _MANY_ENCODINGS:
            self._due.set()

    def rebuild(self, generation: int, rebuild: Callable[[], None], snapshot_revision: int = -1) -> None:
        """Forgets an index, but not its snapshot, and calls `rebuild` in the background until it doesn't raise.
        `snapshot_revision`: of the snapshot where there was no index yet."""
        with self._lock:
            known = self._kept.pop(generation, None) or self._repairs.get(generation)
            self._repairs[generation] = _Repair(rebuild, known.snapshot_revision if known else snapshot_revision)
        self._due.set()

    def closing(self) -> bool:
        return self._closing.is_set()

    def trouble(self) -> str | None:
        """Which index couldn't be rebuilt, and why; None where all is well."""
        if not self._closing.is_set() and not self._thread.is_alive():
            return "the thread that looks after indexes has ended"
        with self._lock:
            return next((repair.failure for repair in self._repairs.values() if repair.failure is not None), None)

    def snapshot(self, generation: int | None = None) -> None:
        """Takes a snapshot of one index, or of all, where it changed since the last. Raises StoreError."""
        for number, kept in self._chosen(generation):
            with kept.working:
                self._snapshot(number, kept)

    def compact(self, generation: int | None = None) -> None:
        """Leaves nothing of deleted encodings: in memory, in snapshots, in the write-ahead log. Raises
        StoreError.
        """
        for number, kept in self._chosen(generation):
            with kept.working:
                kept.index.compact()
                self._snapshot(number, kept)
        self._store.checkpoint(self._closing)

    def close(self, until: float | None) -> None:
        """Stops the thread, and takes snapshots of what changed while there is time: to `until`, a time of
        time.monotonic(). The store has all that a snapshot has. Call it when no write is queued any more."""
        self._until = until
        self._closing.set()
        self._due.set()
        self._purge_due.set()
        self._thread.join()
        for number, kept in self._chosen(None):
            if self._late():
                return
            self._try(number, kept, compact=False)

    def _late(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def _chosen(self, generation: int | None) -> list[tuple[int, _Kept]]:
        with self._lock:
            return [(number, kept) for number, kept in self._kept.items() if generation in (None, number)]

    def _loop(self) -> None:
        while True:
            self._due.wait(self._next_try())
            self._due.clear()
            if self._closing.is_set():
                return
            self._repair()
            if time.monotonic() >= self._not_before:
                for number, kept in self._chosen(None):
                    if kept.wants_snapshot(self._snapshot_every) and not self._closing.is_set():
                        self._try(number, kept, compact=kept.wants_compaction())
            self._improve()

    def _improve(self) -> None:
        """Where many encodings came at once; what is due goes first."""
        for _, kept in self._chosen(None):
            while kept.unimproved >= _MANY_ENCODINGS and not self._due.is_set():
                unimproved = kept.unimproved
                try:
                    more = kept.index.improve()
                except Exception as error:  # want of memory: searches take longer
                    log.warning("an index could not be made faster: %s", in_words(error))
                    more = False
                if not more:
                    kept.unimproved -= unimproved

    def _next_try(self) -> float | None:
        """How long to wait at most for what is due, seconds; None: for ever."""
        now = time.monotonic()
        with self._lock:
            times = [repair.due for repair in self._repairs.values()]
        if self._not_before > now:
            times.append(self._not_before)
        return max(0.0, min(times) - now) if times else None

    def _repair(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [(number, repair) for number, repair in self._repairs.items() if repair.due <= now]
        for number, repair in due:
            if self._closing.is_set():
                return
            try:
                repair.rebuild()
            except Exception as error:
                log.warning("rebuilding the index of generation number %d failed: %s", number, in_words(error))
                repair.failure = f"the index of generation number {number} can't be rebuilt: {in_words(error)}"
                repair.due = time.monotonic() + repair.wait_seconds
                repair.wait_seconds = min(2 * repair.wait_seconds, _RETRY_SECONDS)
            else:
                with self._lock:
                    if self._repairs.get(number) is repair:
                        del self._repairs[number]

    def _try(self, number: int, kept: _Kept, compact: bool) -> None:
        try:
            kept.compacting = compact
            with kept.working:
                if compact:
                    kept.index.compact()
                self._snapshot(number, kept)
            if compact:  # so that what was deleted leaves the disk too
                self._store.checkpoint(self._closing)
            kept.compacting = False
        except SnapshotAbandoned:
            log.info("no time for a snapshot of generation number %d", number)
        except Exception as error:  # whatever it is: the others are to be looked after, too
            log.warning("upkeep of generation number %d failed: %s", number, in_words(error))
            self._not_before = time.monotonic() + _RETRY_SECONDS

    def _snapshot(self, number: int, kept: _Kept) -> None:
        changed = kept.changed_encodings
        frozen = self._frozen(number, kept.index)
        if frozen is None:
            kept.changed_encodings -= changed
            return
        if frozen.revision == kept.snapshot_revision:
            return
        self._store.check_in_place()
        path = snapshot.path_of(self._data_dir, number, frozen.revision)
        gallery = self._store.read(lambda db: queries.gallery_of(db, number))
        if gallery is None:  # deleted meanwhile
            return
        try:
            record = snapshot.write(
                path, frozen, kept.index.dimension, self._late, number, self._store.keys.snapshot_digest
            )
        except (KeyDestroyed, GalleryNotFound):  # deleted meanwhile
            return
        vouched = self._store.write(VouchForSnapshot(number, record), self, patient=True).result()
        if not vouched:
            self._unlink(number, record.revision)  # the gallery was deleted meanwhile
            return
        # From here on the store vouches for the new file only.
        former, kept.snapshot_revision = kept.snapshot_revision, record.revision
        kept.changed_encodings -= changed
        self._unlink(number, former)
        with self._lock:
            replaced = self._kept.get(number) is not kept
        if replaced:  # dropped after the store vouched, before drop() could know of this file; or being rebuilt
            self._unlink(number, record.revision)

    def _frozen(self, number: int, index: GalleryIndex) -> Frozen | None:
        """What a snapshot is made of. None: there is none."""
        frozen = index.freeze()
        if frozen is not None:
            return frozen
        stored = self._store.read(lambda db: queries.of_generation(db, number))
        if stored is None or not has_template(stored.place.fusion):
            return None
        return StoredEncodings(self._store, stored)

    def _unlink(self, generation: int, revision: int) -> None:
        # A file that stays is removed when the store is opened next.
        with contextlib.suppress(OSError, StoreGone):
            self._store.check_in_place()
            snapshot.path_of(self._data_dir, generation, revision).unlink(missing_ok=True)
