"""Filling an index when the data directory is opened: from its snapshot plus what came since, else from the
store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np

from oneglance_index.errors import StoreDamaged
from oneglance_index.records import Gallery, OpenProgress
from oneglance_index.search import snapshot
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.search.snapshot import SnapshotUnusable
from oneglance_index.store import queries

_BLOCK_ROWS = 16_384

Progress = Callable[[OpenProgress], None]
MakeIndex = Callable[[int], GalleryIndex]


def load_index(
    db: sqlite3.Connection, data_dir: Path, number: int, gallery: Gallery, make: MakeIndex, progress: Progress
) -> tuple[GalleryIndex, int]:
    """The index of a gallery, equal to the store, and the revision its snapshot has (-1: no usable snapshot).

    `db` must see one state of the store throughout. Raises StoreDamaged if the store contradicts itself.
    """
    checksum = queries.encoding_checksum(db, number)
    if checksum[0] != gallery.encodings:
        raise StoreDamaged(
            data_dir, f"gallery {gallery.id!r} counts {gallery.encodings} encodings, holds {checksum[0]}"
        )
    reason = ""
    record = queries.snapshot_record(db, number)
    if record is not None:
        try:
            index = _from_snapshot(db, data_dir, number, gallery, make, record, progress)
            if _sums_to(index, checksum):
                return index, record.revision
            reason = "the snapshot and what came since don't add up to the store"
        except SnapshotUnusable as error:
            reason = str(error)
    index = _from_store(db, number, gallery, make, reason, progress)
    if not _sums_to(index, checksum):
        raise StoreDamaged(data_dir, f"the encodings of gallery {gallery.id!r} contradict their index")
    return index, -1


def _from_snapshot(
    db: sqlite3.Connection,
    data_dir: Path,
    number: int,
    gallery: Gallery,
    make: MakeIndex,
    record: queries.SnapshotRecord,
    progress: Progress,
) -> GalleryIndex:
    frozen = snapshot.read(snapshot.path_of(data_dir, number, record.revision), record, gallery.dimension)
    deleted = queries.deletions_since(db, number, frozen.revision)
    keep = ~np.isin(frozen.numbers, deleted)
    index = make(gallery.dimension)
    index.load(gallery.revision, queries.subject_ids(db, number), gallery.encodings)
    if keep.all():
        index.append(frozen.numbers, frozen.subjects, frozen.vectors)
    else:
        index.append(frozen.numbers[keep], frozen.subjects[keep], frozen.vectors[keep])
    _add_since(db, number, gallery, index, frozen.revision, int(keep.sum()), ("snapshot", ""), progress)
    return index


def _from_store(
    db: sqlite3.Connection, number: int, gallery: Gallery, make: MakeIndex, reason: str, progress: Progress
) -> GalleryIndex:
    index = make(gallery.dimension)
    index.load(gallery.revision, queries.subject_ids(db, number), gallery.encodings)
    source = "store" if gallery.encodings else "empty"
    _add_since(db, number, gallery, index, -1, 0, (source, reason), progress)
    return index


def _add_since(
    db: sqlite3.Connection,
    number: int,
    gallery: Gallery,
    index: GalleryIndex,
    revision: int,
    done: int,
    source: tuple[str, str],
    progress: Progress,
) -> None:
    progress(OpenProgress(gallery.id, done, gallery.encodings, *source))
    for rows in queries.encodings_since(db, number, gallery.dimension, revision, _BLOCK_ROWS):
        index.append(rows.numbers, rows.subjects, rows.vectors)
        done += len(rows.numbers)
        progress(OpenProgress(gallery.id, done, gallery.encodings, *source))


def _sums_to(index: GalleryIndex, checksum: tuple[int, int]) -> bool:
    numbers = index.freeze().numbers
    return (len(numbers), int(numbers.sum())) == checksum
