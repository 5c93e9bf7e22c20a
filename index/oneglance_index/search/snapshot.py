"""Snapshots: an index's encodings in a file, so that opening needn't read all of them from the database.

`snapshots/<generation number>-<revision>.snap` holds a header, encoding numbers, subject numbers, and vectors: in order
of number, or where the rule of fusion has templates subject by subject, which the first bytes tell. It is written and
read in blocks. A file is believed only if the store vouches for it: the store holds the sha256 of exactly
these bytes. So a missing, truncated, altered, outdated or foreign file is never used, and a crash at any
moment leaves either the former vouched-for file or the new one (files no row vouches for are removed when the
store is opened).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneglance_core.files import replacing
from oneglance_index.errors import StoreFull, StoreIOError
from oneglance_index.records import Rows
from oneglance_index.search.kinds import Frozen
from oneglance_index.store.queries import SnapshotRecord

DIRECTORY = "snapshots"
_MAGIC = {False: b"oneglance snapshot 1\n", True: b"oneglance snapshot 2\n"}  # by Frozen.by_subject
_HEADER = struct.Struct("<21sxxxQQQ")  # magic, revision, encodings, dimension
_BLOCK_BYTES = 8 << 20


class SnapshotUnusable(Exception):
    """Why a snapshot can't be used; the index is then rebuilt from the store."""


class SnapshotAbandoned(Exception):
    """There was no time left to write it; the former one stays."""


def path_of(data_dir: Path, generation: int, revision: int) -> Path:
    return data_dir / DIRECTORY / f"{generation}-{revision}.snap"


def write(path: Path, frozen: Frozen, dimension: int, late: Callable[[], bool]) -> SnapshotRecord:
    """Writes a snapshot and makes it durable under its name; gives up when it is `late`, which it asks for every block.

    Raises SnapshotAbandoned, StoreFull, StoreIOError.
    """
    try:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with replacing(path) as fresh, fresh.open("w+b") as file:
            _write_blocks(file, frozen, dimension, late)
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        kind = StoreFull if error.errno in (28, 122) else StoreIOError  # ENOSPC, EDQUOT
        raise kind(path, str(error)) from error
    return SnapshotRecord(frozen.revision, digest.hexdigest(), size)


def _write_blocks(file: io.BufferedRandom, frozen: Frozen, dimension: int, late: Callable[[], bool]) -> None:
    columns = _Columns(frozen.encodings, dimension)
    file.write(_HEADER.pack(_MAGIC[frozen.by_subject], frozen.revision, frozen.encodings, dimension))
    start = 0
    for rows in frozen.blocks():
        if late():
            raise SnapshotAbandoned
        arrays: tuple[NDArray[Any], ...] = (rows.numbers, rows.subjects, rows.vectors)
        for column, values in enumerate(arrays):
            file.seek(columns.offset(column, start))
            file.write(values.astype(columns.types[column], copy=False).tobytes())
        start += len(rows.numbers)


class _Columns:
    """Where in the file the numbers, the subjects and the vectors of its encodings are."""

    types = ("<i8", "<i8", "<f4")

    def __init__(self, encodings: int, dimension: int) -> None:
        self._widths = (8, 8, 4 * dimension)
        self._starts = (_HEADER.size, _HEADER.size + 8 * encodings, _HEADER.size + 16 * encodings)
        self.size = self._starts[2] + encodings * self._widths[2]

    def offset(self, column: int, encoding: int) -> int:
        return self._starts[column] + encoding * self._widths[column]


def read(path: Path, record: SnapshotRecord, dimension: int, by_subject: bool) -> Iterator[Rows]:
    """The encodings of the snapshot that the store vouches for, in blocks.

    Raises SnapshotUnusable with the reason, perhaps after the last block only: what was given out until then must not
    be used. So exactly the bytes that were given out have been checked, and the file is read once.
    """
    try:
        with path.open("rb") as file:
            header, encodings = _read_header(file, record, dimension, by_subject)
            digest = hashlib.sha256(header)

            def column(of: int, *shape: int) -> NDArray[Any]:
                values = np.empty(shape, _Columns.types[of])
                content = values.reshape(-1).view(np.uint8).data
                file.readinto(content)
                digest.update(content)
                return values.astype(values.dtype.newbyteorder("="), copy=False)

            numbers, subjects = column(0, encodings), column(1, encodings)
            step = max(1, _BLOCK_BYTES // (4 * dimension))
            for start in range(0, encodings, step):
                part = slice(start, start + step)
                yield Rows(numbers[part], subjects[part], column(2, len(numbers[part]), dimension))
            if digest.hexdigest() != record.sha256:
                raise SnapshotUnusable("the content is not what the store vouches for")
    except OSError as error:
        raise SnapshotUnusable(f"reading failed: {error}") from error


def _read_header(
    file: io.BufferedReader, record: SnapshotRecord, dimension: int, by_subject: bool
) -> tuple[bytes, int]:
    """The header, and how many encodings the file holds: what the file's real size allows."""
    size = os.fstat(file.fileno()).st_size
    if size != record.size:
        raise SnapshotUnusable(f"the file has {size} bytes, not {record.size}")
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise SnapshotUnusable("the file is shorter than a header")
    magic, revision, encodings, width = _HEADER.unpack(header)
    fits = (magic, revision, width) == (_MAGIC[by_subject], record.revision, dimension)
    if not fits or size != _Columns(encodings, dimension).size:
        raise SnapshotUnusable("the header doesn't fit the gallery")
    return header, int(encodings)


def remove_others(data_dir: Path, keep: set[Path]) -> None:
    """Removes the files in the snapshot folder that are not in `keep`; what can't be removed stays."""
    with contextlib.suppress(OSError):
        for path in (data_dir / DIRECTORY).iterdir():
            if path not in keep:
                path.unlink()
