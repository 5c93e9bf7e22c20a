"""Filling an index when the data directory is opened: from its snapshot plus what came since, else from the
store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from oneglance_core.fusion import has_template
from oneglance_index.errors import OutOfMemory, StoreDamaged
from oneglance_index.records import Gallery, OpenProgress, Rows
from oneglance_index.search import snapshot
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.search.snapshot import SnapshotUnusable
from oneglance_index.store import queries
from oneglance_index.store.queries import SnapshotRecord, Stored

_BLOCK_ROWS = 16_384

Progress = Callable[[OpenProgress], None]
MakeIndex = Callable[[Gallery], GalleryIndex]


def load_index(
    db: sqlite3.Connection, data_dir: Path, stored: Stored, make: MakeIndex, progress: Progress
) -> tuple[GalleryIndex, int]:
    """The index of a gallery's active generation, equal to the store, and the revision its snapshot has (-1: no usable
    snapshot).

    `db` must see one state of the store throughout. Raises StoreDamaged if the store contradicts itself, OutOfMemory,
    and what `make` and `progress` raise.
    """
    try:
        return _load(db, data_dir, stored, make, progress)
    except MemoryError:
        gallery = stored.gallery
        megabytes = gallery.encodings * (4 * gallery.active.dimension + 20) / 1e6
        raise OutOfMemory(
            f"to load gallery {gallery.id!r}: its {gallery.encodings} encodings of dimension"
            f" {gallery.active.dimension} take {megabytes:.0f} MB"
        ) from None


def _load(
    db: sqlite3.Connection, data_dir: Path, stored: Stored, make: MakeIndex, progress: Progress
) -> tuple[GalleryIndex, int]:
    gallery = stored.gallery
    checksum = queries.checksum(db, stored.place.generation)
    if checksum.encodings != gallery.encodings:
        raise StoreDamaged(
            data_dir, f"gallery {gallery.id!r} counts {gallery.encodings} encodings, holds {checksum.encodings}"
        )
    subject_ids = queries.subject_ids(db, stored.place.number)
    reason = ""
    record = queries.snapshot_record(db, stored.place.generation)
    if record is not None:
        loader = _Loader(db, stored, make(gallery), subject_ids, progress, "snapshot", "")
        try:
            loader.add_snapshot(snapshot.path_of(data_dir, stored.place.generation, record.revision), record)
            if loader.index.checksum() == checksum:
                return loader.index, record.revision
            reason = "the snapshot and what came since don't add up to the store"
        except SnapshotUnusable as error:
            reason = str(error)
    source = "store" if gallery.encodings else "empty"
    loader = _Loader(db, stored, make(gallery), subject_ids, progress, source, reason)
    loader.add_all()
    if loader.index.checksum() != checksum:
        raise StoreDamaged(data_dir, f"the encodings of gallery {gallery.id!r} contradict their index")
    return loader.index, -1


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
        index.load(stored.gallery.revision, subject_ids, stored.gallery.encodings)

    def add_snapshot(self, path: Path, record: SnapshotRecord) -> None:
        """The snapshot and what came since. Raises SnapshotUnusable."""
        place, revision = self._stored.place, record.revision
        templates = has_template(place.fusion)
        gone = (
            queries.templates_since(self._db, place, revision)
            if templates
            else queries.deletions_since(self._db, place.generation, revision)
        )
        # Whether the file is whole shows at its end. Until then it may hold any numbers, and squares that overflow.
        with np.errstate(all="ignore"):
            for rows in snapshot.read(path, record, place.dimension, templates):
                keep = ~np.isin(rows.subjects if templates else rows.numbers, gone)
                kept = rows if keep.all() else Rows(rows.numbers[keep], rows.subjects[keep], rows.vectors[keep])
                self.index.append_frozen(kept)
                self._report(len(kept.numbers))
        self._add(
            queries.encodings_of(self._db, place, gone, _BLOCK_ROWS)
            if templates
            else queries.encodings_since(self._db, place, revision, _BLOCK_ROWS)
        )
        self._report(self._stored.gallery.encodings - self._done)

    def add_all(self) -> None:
        """All encodings that the store holds."""
        place = self._stored.place
        by_subject = has_template(place.fusion)
        self._add(
            queries.encodings_by_subject(self._db, place, _BLOCK_ROWS)
            if by_subject
            else queries.encodings_since(self._db, place, -1, _BLOCK_ROWS)
        )

    def _add(self, blocks: Iterator[Rows]) -> None:
        self._report(0)
        for rows in blocks:
            self.index.append(rows)
            self._report(len(rows.numbers))

    def _report(self, rows: int) -> None:
        gallery = self._stored.gallery
        self._done += rows
        self._progress(OpenProgress(gallery.id, self._done, gallery.encodings, *self._source))
