"""Filling an index when the data directory is opened: from its snapshot plus what came since, else from the
store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneglance_core.fusion import has_template
from oneglance_index.errors import OutOfMemory, StoreDamaged
from oneglance_index.records import Gallery, Integers, OpenProgress, Rows, whole_subjects
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
        self._subject_ids = subject_ids
        self._by_subject = has_template(stored.place.fusion)
        self._done = 0
        index.load(stored.gallery.revision, subject_ids, stored.gallery.encodings)

    def add_snapshot(self, path: Path, record: SnapshotRecord) -> None:
        """The encodings of the snapshot that weren't deleted since, and those that came since. Raises
        SnapshotUnusable."""
        place = self._stored.place
        deleted = queries.deletions_since(self._db, place.generation, record.revision)
        since = queries.encodings_since(self._db, place, record.revision, _BLOCK_ROWS)
        blocks = snapshot.read(path, record, place.dimension, self._by_subject)
        # Whether the file is whole shows at its end. Until then it may hold any numbers, and squares that overflow.
        with np.errstate(all="ignore"):
            if self._by_subject:
                self._add_subjects(whole_subjects(blocks), deleted, list(since))
            else:
                for rows in blocks:
                    self._add(_kept(rows, ~np.isin(rows.numbers, deleted)))
        self._report()
        if not self._by_subject:
            for rows in since:
                self._add(rows)

    def _add_subjects(self, blocks: Iterable[Rows], deleted: Integers, since: Sequence[Rows]) -> None:
        """The encodings in the blocks, with those that came since behind the others of their subjects."""
        known = np.array(sorted(self._subject_ids), np.int64)
        newer = Rows.joined(since).by_subject() if since else None
        start = 0
        for block in blocks:
            rows = _kept(block, ~np.isin(block.numbers, deleted) & np.isin(block.subjects, known))
            if newer is not None:
                end = max(start, int(np.searchsorted(newer.subjects, block.subjects[-1], side="right")))
                rows, start = Rows.joined([rows, newer.at(slice(start, end))]), end
            self._add(rows.by_subject())
        if newer is not None:
            self._add(newer.at(slice(start, None)))

    def add_all(self) -> None:
        """All encodings that the store holds."""
        self._report()
        if self._by_subject:
            blocks = queries.encodings_by_subject(self._db, self._stored.place, _BLOCK_ROWS)
        else:
            blocks = queries.encodings_since(self._db, self._stored.place, -1, _BLOCK_ROWS)
        for rows in blocks:
            self._add(rows)

    def _add(self, rows: Rows) -> None:
        self.index.append(rows)
        self._done += len(rows.numbers)
        self._report()

    def _report(self) -> None:
        gallery = self._stored.gallery
        self._progress(OpenProgress(gallery.id, self._done, gallery.encodings, *self._source))


def _kept(rows: Rows, keep: NDArray[np.bool_]) -> Rows:
    return rows if keep.all() else rows.at(keep)


class StoredEncodings:
    """A Frozen of what the store holds, for a rule of fusion that has templates. `db` must see one state of the store
    as long as it is used."""

    by_subject = True

    def __init__(self, db: sqlite3.Connection, stored: Stored) -> None:
        self._db = db
        self._place = stored.place
        self.revision = stored.gallery.revision
        self.encodings = stored.gallery.encodings

    def blocks(self) -> Iterator[Rows]:
        return queries.encodings_by_subject(self._db, self._place, _BLOCK_ROWS)
