"""Filling an index when the data directory is opened: from its snapshot plus what came since, else from the
store.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneglance_core.fusion import has_template
from oneglance_index.errors import GalleryNotFound, OutOfMemory, StoreDamaged
from oneglance_index.records import Gallery, Integers, OpenProgress, Rows, ToldSubjects
from oneglance_index.search import snapshot
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.search.labelled import ChangedMeanwhile, Directory
from oneglance_index.search.snapshot import SnapshotUnusable
from oneglance_index.store import queries
from oneglance_index.store.ciphers import keys_of, read_since, slots_of
from oneglance_index.store.database import Store
from oneglance_index.store.queries import SnapshotRecord, Stored
from oneglance_index.store.seals import damaged
from oneglance_index.store.slots import KeyDestroyed
from oneglance_index.store.subjects import told_subjects

_BLOCK_ROWS = 16_384
_SUBJECTS_AT_ONCE = 2048

Progress = Callable[[OpenProgress], None]
MakeIndex = Callable[[Gallery, int], GalleryIndex]


@dataclass(frozen=True, slots=True)
class Loaded:
    """`snapshot_revision` is that of its usable snapshot, -1 without one; `useless`: of one that the store knows
    and that isn't usable, None where there is none."""

    index: GalleryIndex
    snapshot_revision: int
    useless: int | None


class StoredSubjects:
    """The Directory of a gallery: its store."""

    def __init__(self, store: Store, stored: Stored) -> None:
        self._store, self._gallery, self._count = store, stored.place.number, stored.gallery.subjects

    def __len__(self) -> int:
        return self._count

    def those(self, numbers: AbstractSet[int], labelled: AbstractSet[int]) -> ToldSubjects:
        return self._told(numbers, labelled)

    def everybody(self) -> ToldSubjects:
        return self._told(None, frozenset())

    def _told(self, numbers: AbstractSet[int] | None, labelled: AbstractSet[int]) -> ToldSubjects:
        told = self._store.read(lambda db: told_subjects(db, self._gallery, numbers, labelled))
        if told is None:
            raise ChangedMeanwhile
        return told

    def lacks(self, number: int) -> StoreDamaged:
        return StoreDamaged(self._store.path, f"subject number {number} is missing")


def load_index(
    db: sqlite3.Connection, store: Store, data_dir: Path, stored: Stored, make: MakeIndex, progress: Progress
) -> Loaded:
    """The index of a gallery's active generation: it has the encodings that the store counts, by their numbers. Whether
    all rows are sound says check_rows().

    `db` must see one state of `store` throughout. Raises StoreDamaged if that contradicts itself, KeyDestroyed where
    some of it was deleted since, OutOfMemory, and what `make` and `progress` raise.
    """
    with contextlib.ExitStack() as in_vain:

        def make_anew(gallery: Gallery, generation: int) -> GalleryIndex:
            in_vain.close()  # the one before could not be filled
            index = make(gallery, generation)
            in_vain.callback(index.retire, drop=False)
            return index

        try:
            loaded = _load(db, StoredSubjects(store, stored), data_dir, stored, make_anew, progress)
        except MemoryError:
            gallery = stored.gallery
            megabytes = gallery.encodings * (4 * gallery.active.dimension + 20) / 1e6
            raise OutOfMemory(
                f"to load gallery {gallery.id!r}: its {gallery.encodings} encodings of dimension"
                f" {gallery.active.dimension} take {megabytes:.0f} MB"
            ) from None
        in_vain.pop_all()
        return loaded


def _load(
    db: sqlite3.Connection,
    directory: Directory,
    data_dir: Path,
    stored: Stored,
    make: MakeIndex,
    progress: Progress,
) -> Loaded:
    gallery, generation = stored.gallery, stored.place.generation
    checksum = queries.checksum(db, generation)
    if checksum.encodings != gallery.encodings:
        raise damaged(db, f"gallery {gallery.id!r} counts {gallery.encodings} encodings, holds {checksum.encodings}")
    record, reason = queries.snapshot_record(db, generation), ""
    if record is not None:
        loader = _Loader(db, stored, make(gallery, generation), directory, progress, "snapshot", "")
        try:
            loader.add_snapshot(snapshot.path_of(data_dir, generation, record.revision), record)
            if loader.index.checksum() == checksum:
                return Loaded(loader.index, record.revision, None)
            reason = "the snapshot and what came since don't add up to the store"
        except SnapshotUnusable as error:
            slots, since = slots_of(db, stored.place.number), read_since(db)
            if any(slots.was_destroyed(block.slot, since) for block in record.blocks):
                raise KeyDestroyed from error
            reason = str(error)
    source = "store" if gallery.encodings else "empty"
    loader = _Loader(db, stored, make(gallery, generation), directory, progress, source, reason)
    loader.add_all()
    if loader.index.checksum() != checksum:
        raise damaged(db, f"the encodings of gallery {gallery.id!r} contradict their index")
    useless = -1 if queries.blocks(db, generation) else None
    return Loaded(loader.index, -1, useless if record is None else record.revision)


class _Loader:
    """Fills an empty index block by block, and says how far it has come."""

    def __init__(
        self,
        db: sqlite3.Connection,
        stored: Stored,
        index: GalleryIndex,
        directory: Directory,
        progress: Progress,
        source: str,
        reason: str,
    ) -> None:
        self.index = index
        self._db = db
        self._stored = stored
        self._progress = progress
        self._source = (source, reason)
        self._by_subject = has_template(stored.place.fusion)
        self._done = 0
        index.load(stored.gallery.revision, directory, stored.gallery.encodings)

    def add_snapshot(self, path: Path, record: SnapshotRecord) -> None:
        """The encodings of the snapshot that weren't deleted since, and those that came since. Raises
        SnapshotUnusable."""
        place = self._stored.place
        deleted = queries.deletions_since(self._db, place.generation, record.revision)
        since = queries.encodings_since(self._db, place, record.revision, _BLOCK_ROWS)
        blocks = self._blocks_of(path, record)
        if self._by_subject:
            self._add_subjects(blocks, deleted, list(since))
        else:
            for rows in blocks:
                self._add(_kept(rows, ~np.isin(rows.numbers, deleted)))
        self._report()
        if not self._by_subject:
            for rows in since:
                self._add(rows)

    def _blocks_of(self, path: Path, record: SnapshotRecord) -> Iterator[Rows]:
        """Of a snapshot; those whose key was destroyed are what the store still has of them."""
        place = self._stored.place
        slots, digest = slots_of(self._db, place.number), keys_of(self._db).snapshot_digest
        for part in snapshot.read(path, record, place.dimension, slots, place.generation, digest):
            rows = part.rows
            if rows is None and self._by_subject:
                rows = queries.encodings_of_subjects(self._db, place, part.first, part.last, record.revision)
            elif rows is None:
                rows = queries.encodings_between(self._db, place, part.first, part.last)
            if len(rows.numbers):
                yield rows

    def _add_subjects(self, blocks: Iterable[Rows], deleted: Integers, since: Sequence[Rows]) -> None:
        """The encodings in the blocks, with those that came since behind the others of their subjects."""
        newer = Rows.joined(since).by_subject() if since else None
        start = 0
        for block in blocks:
            rows = _kept(block, ~np.isin(block.numbers, deleted))
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
    """A Frozen of what the store holds, for a rule of fusion that has templates.

    It is read piece by piece, each from the present state: what came since isn't in it, what was deleted since may not
    be in it. blocks() raises GalleryNotFound for a gallery that is deleted, or has another rule meanwhile.
    """

    by_subject = True

    def __init__(self, store: Store, stored: Stored) -> None:
        self._store = store
        self._place = stored.place
        self.revision = stored.gallery.revision
        self.encodings = stored.gallery.encodings

    def blocks(self) -> Iterator[Rows]:
        last: int | None = 0
        while last is not None:
            last, rows = self._store.read(functools.partial(self._next, last + 1))
            if len(rows.numbers):
                yield rows

    def _next(self, first: int, db: sqlite3.Connection) -> tuple[int | None, Rows]:
        """The encodings of the next subjects, from number `first` on, and the number of the last of these; None after
        the last of all."""
        now = queries.of_generation(db, self._place.generation)
        if now is None or now.place.fusion != self._place.fusion:
            raise GalleryNotFound(self._place.gallery_id)
        last = queries.last_of(db, self._place.number, first, _SUBJECTS_AT_ONCE)
        end = first if last is None else last
        return last, queries.encodings_of_subjects(db, self._place, first, end, self.revision)
