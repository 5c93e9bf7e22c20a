"""Filling an index when the data directory is opened: from its snapshot plus what came since, else from the
store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oneglance_core.fusion import has_template
from oneglance_index.errors import OutOfMemory
from oneglance_index.records import Gallery, Integers, OpenProgress, Rows
from oneglance_index.search import snapshot
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.search.snapshot import SnapshotUnusable
from oneglance_index.store import queries
from oneglance_index.store.ciphers import slots_of
from oneglance_index.store.queries import SnapshotRecord, Stored, Subjects
from oneglance_index.store.seals import damaged, gallery_total

_BLOCK_ROWS = 16_384

Progress = Callable[[OpenProgress], None]
MakeIndex = Callable[[Gallery], GalleryIndex]


@dataclass(frozen=True, slots=True)
class Loaded:
    """`snapshot_revision` is that of its usable snapshot, -1 without one; `slots` are those of all keys in use."""

    index: GalleryIndex
    snapshot_revision: int
    slots: Integers


def load_index(
    db: sqlite3.Connection, data_dir: Path, stored: Stored, subjects: Subjects, make: MakeIndex, progress: Progress
) -> Loaded:
    """The index of a gallery's active generation, equal to the store.

    `subjects` are those that the store holds of it. `db` must see one state of the store throughout. Raises
    StoreDamaged if the store contradicts itself, OutOfMemory, and what `make` and `progress` raise.
    """
    try:
        return _load(db, data_dir, stored, subjects, make, progress)
    except MemoryError:
        gallery = stored.gallery
        megabytes = gallery.encodings * (4 * gallery.active.dimension + 20) / 1e6
        raise OutOfMemory(
            f"to load gallery {gallery.id!r}: its {gallery.encodings} encodings of dimension"
            f" {gallery.active.dimension} take {megabytes:.0f} MB"
        ) from None


def _load(
    db: sqlite3.Connection, data_dir: Path, stored: Stored, subjects: Subjects, make: MakeIndex, progress: Progress
) -> Loaded:
    gallery = stored.gallery
    if gallery_total(db, stored.place.number, subjects.total) != stored.place.total:
        raise damaged(db, f"gallery {gallery.id!r} doesn't have the rows that it counts: `oneglance check` says which")
    checksum = queries.checksum(db, stored.place.generation)
    if checksum.encodings != gallery.encodings:
        raise damaged(db, f"gallery {gallery.id!r} counts {gallery.encodings} encodings, holds {checksum.encodings}")
    subject_ids, slots = subjects.ids, subjects.slots
    if len(subject_ids) != gallery.subjects:
        raise damaged(db, f"gallery {gallery.id!r} counts {gallery.subjects} subjects, holds {len(subject_ids)}")
    reason = ""
    record = queries.snapshot_record(db, stored.place.generation)
    if record is not None and not has_template(stored.place.fusion):
        loader = _Loader(db, stored, make(gallery), subject_ids, progress, "snapshot", "")
        blocks = np.array([block.slot for block in record.blocks], np.int64)
        try:
            if np.isin(blocks, slots).any():
                raise SnapshotUnusable("a block has the key of a subject")
            loader.add_snapshot(snapshot.path_of(data_dir, stored.place.generation, record.revision), record)
            loader.add_since(record.revision)
            if loader.index.checksum() == checksum:
                return Loaded(loader.index, record.revision, np.concatenate([slots, blocks]))
            reason = "the snapshot and what came since don't add up to the store"
        except SnapshotUnusable as error:
            reason = str(error)
    source = "store" if gallery.encodings else "empty"
    loader = _Loader(db, stored, make(gallery), subject_ids, progress, source, reason)
    loader.add_all()
    if loader.index.checksum() != checksum:
        raise damaged(db, f"the encodings of gallery {gallery.id!r} contradict their index")
    return Loaded(loader.index, -1, slots)


class _Loader:
    """Fills an empty index block by block, and says how far it has come."""

    def __init__(
        self,
        db: sqlite3.Connection,
        stored: Stored,
        index: GalleryIndex,
        subject_ids: dict[int, str],
        progress: Progress,
        source: str,
        reason: str,
    ) -> None:
        self.index = index
        self._db = db
        self._stored = stored
        self._progress = progress
        self._source = (source, reason)
        self._done = 0
        self._subjects = subject_ids.keys()
        index.load(stored.gallery.revision, subject_ids, stored.gallery.encodings)

    def add_snapshot(self, path: Path, record: SnapshotRecord) -> None:
        """The encodings of the snapshot that weren't deleted since. Raises SnapshotUnusable."""
        deleted = queries.deletions_since(self._db, self._stored.place.generation, record.revision)
        place = self._stored.place
        for part in snapshot.read(path, record, place.dimension, slots_of(self._db, place.number), place.generation):
            rows = part.rows
            if rows is None:
                rows = queries.encodings_between(self._db, place, part.first, part.last)
            keep = ~np.isin(rows.numbers, deleted)
            whole = keep.all()
            self._add(rows if whole else Rows(rows.numbers[keep], rows.subjects[keep], rows.vectors[keep]))

    def add_since(self, revision: int) -> None:
        """The encodings that came into the store after a revision, -1: all."""
        self._report()
        for rows in queries.encodings_since(self._db, self._stored.place, revision, _BLOCK_ROWS):
            self._add(rows)

    def add_all(self) -> None:
        """All encodings that the store holds."""
        if not has_template(self._stored.place.fusion):
            self.add_since(-1)
            return
        self._report()
        for rows in queries.encodings_by_subject(self._db, self._stored.place, _BLOCK_ROWS):
            self._add(rows)

    def _add(self, rows: Rows) -> None:
        if not self._subjects >= set(rows.subjects.tolist()):
            detail = "there are encodings of a subject that isn't there"
            raise SnapshotUnusable(detail) if self._source[0] == "snapshot" else damaged(self._db, detail)
        self.index.append(rows)
        self._done += len(rows.numbers)
        self._report()

    def _report(self) -> None:
        gallery = self._stored.gallery
        self._progress(OpenProgress(gallery.id, self._done, gallery.encodings, *self._source))
