"""Snapshots: an index's rows in a file, so that opening needn't read all of them from the database.

`snapshots/<gallery number>-<revision>.snap` holds a header, encoding numbers, subject numbers, and vectors,
live rows only. A file is believed only if the store vouches for it: the store holds the sha256 of exactly
these bytes. So a missing, truncated, altered, outdated or foreign file is never used, and a crash at any
moment leaves either the former vouched-for file or the new one (files no row vouches for are removed when the
store is opened).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneglance_core.files import replacing
from oneglance_index.errors import StoreFull, StoreIOError
from oneglance_index.search.kinds import Frozen
from oneglance_index.store.queries import SnapshotRecord

DIRECTORY = "snapshots"
_MAGIC = b"oneglance snapshot 1\n"
_HEADER = struct.Struct("<21sxxxQQQ")  # magic, revision, rows, dimension
_BLOCK_BYTES = 8 << 20


class SnapshotUnusable(Exception):
    """Why a snapshot can't be used; the index is then rebuilt from the store."""


def path_of(data_dir: Path, gallery: int, revision: int) -> Path:
    return data_dir / DIRECTORY / f"{gallery}-{revision}.snap"


def write(path: Path, frozen: Frozen) -> SnapshotRecord:
    """Writes a snapshot and makes it durable under its name. Raises StoreFull, StoreIOError."""
    keep = frozen.subjects >= 0
    digest = hashlib.sha256()
    try:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with replacing(path) as fresh, fresh.open("wb") as file:
            for block in _blocks(frozen, keep):
                digest.update(block)
                file.write(block)
            size = file.tell()
    except OSError as error:
        kind = StoreFull if error.errno in (28, 122) else StoreIOError  # ENOSPC, EDQUOT
        raise kind(path, str(error)) from error
    return SnapshotRecord(frozen.revision, digest.hexdigest(), size)


def _blocks(frozen: Frozen, keep: NDArray[np.bool_]) -> Iterator[bytes]:
    rows, dimension = int(keep.sum()), frozen.vectors.shape[1]
    yield _HEADER.pack(_MAGIC, frozen.revision, rows, dimension)
    yield frozen.numbers[keep].astype("<i8", copy=False).tobytes()
    yield frozen.subjects[keep].astype("<i8", copy=False).tobytes()
    step = max(1, _BLOCK_BYTES // (4 * dimension))
    for start in range(0, len(keep), step):
        part = slice(start, start + step)
        yield frozen.vectors[part][keep[part]].astype("<f4", copy=False).tobytes()


def read(path: Path, record: SnapshotRecord, dimension: int) -> Frozen:
    """Reads the snapshot that the store vouches for, or raises SnapshotUnusable with the reason."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != record.size:
                raise SnapshotUnusable(f"the file has {size} bytes, not {record.size}")
            header = file.read(_HEADER.size)
            magic, revision, rows, width = _HEADER.unpack(header)
            expected = _HEADER.size + rows * (16 + 4 * width)
            if magic != _MAGIC or (revision, width) != (record.revision, dimension) or size != expected:
                raise SnapshotUnusable("the header doesn't fit the gallery")
            # Allocated only now, when the size is known to be what the file really has.
            numbers, subjects = np.empty(rows, "<i8"), np.empty(rows, "<i8")
            vectors = np.empty((rows, width), "<f4")
            digest = hashlib.sha256(header)
            for array in (numbers, subjects, vectors):
                content = array.reshape(-1).view(np.uint8).data
                file.readinto(content)
                digest.update(content)
    except OSError as error:
        raise SnapshotUnusable(f"reading failed: {error}") from error
    except struct.error:
        raise SnapshotUnusable("the file is shorter than a header") from None
    if digest.hexdigest() != record.sha256:
        raise SnapshotUnusable("the content is not what the store vouches for")
    return Frozen(
        revision,
        numbers.astype(np.int64, copy=False),
        subjects.astype(np.int64, copy=False),
        vectors.astype(np.float32, copy=False),
    )


def remove_others(data_dir: Path, keep: set[Path]) -> None:
    """Removes the files in the snapshot folder that are not in `keep`; what can't be removed stays."""
    with contextlib.suppress(OSError):
        for path in (data_dir / DIRECTORY).iterdir():
            if path not in keep:
                path.unlink()
