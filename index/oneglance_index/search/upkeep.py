"""The thread that looks after indexes in the background: it compacts them and takes their snapshots."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path

from oneglance_index.errors import GalleryError
from oneglance_index.search import snapshot
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.store.database import Store
from oneglance_index.store.mutations import VouchForSnapshot

log = logging.getLogger(__name__)

# After a failure (a full disk, say) the next try waits, since nothing is lost without a snapshot but time at
# start.
_RETRY_SECONDS = 60.0


@dataclass(slots=True)
class _Kept:
    """An index looked after; `snapshot_revision` is that of its vouched-for file, -1 without one.

    `working` is held while a snapshot or a compaction of this index is under way.
    """

    index: GalleryIndex
    snapshot_revision: int
    changed_encodings: int = 0
    working: threading.Lock = field(default_factory=threading.Lock)


class Upkeep:
    """Takes a snapshot of an index each time `snapshot_every` of its encodings have come or gone.

    Indexes are known by the number of their generation.
    """

    def __init__(self, data_dir: Path, store: Store, snapshot_every: int) -> None:
        self._data_dir = data_dir
        self._store = store
        self._snapshot_every = snapshot_every
        self._kept: dict[int, _Kept] = {}
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="oneglance-upkeep", daemon=True)
        self._thread.start()

    def add(self, generation: int, index: GalleryIndex, snapshot_revision: int) -> None:
        with self._lock:
            self._kept[generation] = _Kept(index, snapshot_revision)

    def drop(self, generation: int) -> None:
        """Forgets an index and removes its snapshot."""
        with self._lock:
            kept = self._kept.pop(generation)
        self._unlink(generation, kept.snapshot_revision)

    def changed(self, generation: int, encodings: int) -> None:
        """Called by the writer after each commit: must be quick."""
        kept = self._kept[generation]
        kept.changed_encodings += encodings
        if kept.changed_encodings >= self._snapshot_every or kept.index.wants_compaction():
            self._due.set()

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
        self._store.checkpoint().result()

    def close(self, take_snapshots: bool) -> None:
        """Stops the thread. A snapshot that fails is logged: the store has it all."""
        self._closing.set()
        self._due.set()
        self._thread.join()
        if take_snapshots:
            self._store.checkpoint().exception()  # comes after all writes queued so far
            for number, kept in self._chosen(None):
                self._try(number, kept, compact=False)

    def _chosen(self, generation: int | None) -> list[tuple[int, _Kept]]:
        with self._lock:
            return [(number, kept) for number, kept in self._kept.items() if generation in (None, number)]

    def _loop(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._closing.is_set():
                return
            ok = True
            for number, kept in self._chosen(None):
                if kept.changed_encodings >= self._snapshot_every or kept.index.wants_compaction():
                    ok = self._try(number, kept, compact=kept.index.wants_compaction()) and ok
            if not ok:
                self._closing.wait(_RETRY_SECONDS)

    def _try(self, number: int, kept: _Kept, compact: bool) -> bool:
        try:
            with kept.working:
                if compact:
                    kept.index.compact()
                self._snapshot(number, kept)
            if compact:  # so that what was deleted leaves the disk too
                self._store.checkpoint().result()
        except (GalleryError, MemoryError) as error:
            log.warning("upkeep of generation number %d failed: %s", number, error)
            return False
        return True

    def _snapshot(self, number: int, kept: _Kept) -> None:
        changed = kept.changed_encodings
        frozen = kept.index.freeze()
        if frozen.revision == kept.snapshot_revision:
            return
        path = snapshot.path_of(self._data_dir, number, frozen.revision)
        record = snapshot.write(path, frozen, kept.index.dimension)
        if not self._store.write(VouchForSnapshot(number, record)).result():
            self._unlink(number, frozen.revision)  # the gallery was deleted meanwhile
            return
        # From here on the store vouches for the new file only.
        former, kept.snapshot_revision = kept.snapshot_revision, frozen.revision
        kept.changed_encodings -= changed
        self._unlink(number, former)
        with self._lock:
            dropped = number not in self._kept
        if dropped:  # after the store vouched, before drop() could know of this file
            self._unlink(number, frozen.revision)

    def _unlink(self, generation: int, revision: int) -> None:
        # A file that stays is removed when the store is opened next.
        with contextlib.suppress(OSError):
            snapshot.path_of(self._data_dir, generation, revision).unlink(missing_ok=True)
