"""Snapshots: an index's encodings in a file, so that opening needn't read all of them from the database.

`snapshots/<generation number>-<revision>.snap` holds a header; the vectors in blocks, each encrypted with a key of its
own; and then the numbers of encodings and of subjects, and where the blocks end. The encodings are in order of number,
or where the rule of fusion has templates subject by subject, no block ending within a subject, which the first bytes
tell. A deletion destroys the key of the block that it concerns, at once; what else was in it is read from the store,
until the next snapshot. A file is believed only if the store vouches for it: the store holds the HMAC-SHA256 of exactly
these bytes besides the blocks, which say themselves whether they are what was written. So a missing, truncated,
altered, outdated or foreign file is never used, and a crash at any moment leaves either the former vouched-for file or
the new one (files no row vouches for are removed when the store is opened).
"""

from __future__ import annotations

import functools
import io
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from oneglance_core.files import replacing
from oneglance_index.errors import StoreError
from oneglance_index.records import Integers, Rows
from oneglance_index.search.kinds import Frozen
from oneglance_index.store.ciphers import OVERHEAD_BYTES, block_identity, decrypt, encrypt
from oneglance_index.store.directory import (
    SNAPSHOT_SUFFIX,
    SNAPSHOTS_NAME,
)
from oneglance_index.store.disk import disk_error
from oneglance_index.store.hashing import Buffer
from oneglance_index.store.queries import NewSnapshot, SnapshotRecord
from oneglance_index.store.slots import KeyDestroyed, Slots, new_key

_MAGIC = {False: b"oneglance snapshot 3\n", True: b"oneglance snapshot 4\n"}  # by Frozen.by_subject
_HEADER = struct.Struct("<21sxxxQQQQ")  # magic, revision, encodings, dimension, blocks
# A deletion costs a start the reading of so much from the store.
_BLOCK_BYTES = 1 << 20


class SnapshotUnusable(Exception):
    """Why a snapshot can't be used; the index is then rebuilt from the store."""


class SnapshotAbandoned(Exception):
    """There was no time left to write it; the former one stays."""


def path_of(data_dir: Path, generation: int, revision: int) -> Path:
    return data_dir / SNAPSHOTS_NAME / f"{generation}-{revision}{SNAPSHOT_SUFFIX}"


# Of a generation's number and contents, with a key of the store: 64 hexadecimal digits (Keys.snapshot_digest).
Digest = Callable[[int, Iterable[Buffer]], str]


def write(
    path: Path, frozen: Frozen, dimension: int, late: Callable[[], bool], generation: int, digest: Digest
) -> NewSnapshot:
    """Writes a snapshot and makes it durable under its name; gives up when it is `late`, which it asks for every block.

    The keys of its blocks are nowhere on the disk before the store vouches for it: what is deleted meanwhile is in no
    block whose key comes there. Raises SnapshotAbandoned, StoreFull, StoreIOError, and what `frozen` raises.
    """
    size = max(1, _BLOCK_BYTES // (4 * dimension))
    keys: list[bytes] = []
    ends: list[int] = []
    try:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with replacing(path, private=True) as fresh, fresh.open("w+b") as file:
            numbers, subjects = np.empty(frozen.encodings, "<i8"), np.empty(frozen.encodings, "<i8")
            file.seek(_HEADER.size)
            start = 0
            for rows in _in_blocks(frozen.blocks(), size, frozen.by_subject):
                if late():
                    raise SnapshotAbandoned
                part = slice(start, start + len(rows.numbers))
                numbers[part], subjects[part] = rows.numbers, rows.subjects
                keys.append(new_key())
                first = rows.subjects[0] if frozen.by_subject else rows.numbers[0]
                content = rows.vectors.astype("<f4", copy=False).tobytes()
                file.write(encrypt(AESGCM(keys[-1]), content, block_identity(generation, int(first))))
                start = part.stop
                ends.append(start)
            numbers, subjects = numbers[:start], subjects[:start]
            header = _HEADER.pack(_MAGIC[frozen.by_subject], frozen.revision, start, dimension, len(ends))
            tail = [values.data.cast("B") for values in (numbers, subjects, np.array(ends, "<i8")) if len(values)]
            for values in tail:
                file.write(values)
            file.seek(0)
            file.write(header)
    except OSError as error:
        raise disk_error(error, path) from error
    layout = _Layout(start, dimension, len(ends))
    bounds = _bounds(subjects if frozen.by_subject else numbers, np.array(ends, np.int64))
    return NewSnapshot(
        frozen.revision, digest(generation, [header, *tail]), layout.size, bounds, keys, frozen.by_subject
    )


def _in_blocks(parts: Iterable[Rows], size: int, by_subject: bool) -> Iterator[Rows]:
    """The same rows in blocks of `size`, the last one smaller; by subject none ends within one, and they are smaller or
    of one subject."""
    if by_subject:
        for part in parts:
            yield from _whole_subjects(part, size)
        return
    left: Rows | None = None
    for part in parts:
        rows = part if left is None else Rows.joined([left, part])
        whole = len(rows.numbers) - len(rows.numbers) % size
        for start in range(0, whole, size):
            yield rows.at(slice(start, start + size))
        left = rows.at(slice(whole, None))
    if left is not None and len(left.numbers):
        yield left


def _whole_subjects(rows: Rows, size: int) -> Iterator[Rows]:
    ends = np.append(np.flatnonzero(np.diff(rows.subjects)) + 1, len(rows.subjects))
    start = 0
    while start < len(rows.subjects):
        fitting = int(np.searchsorted(ends, start + size, side="right")) - 1
        end = int(ends[max(fitting, int(np.searchsorted(ends, start, side="right")))])
        yield rows.at(slice(start, end))
        start = end


def _bounds(order: NDArray[Any], ends: Integers) -> list[tuple[int, int]]:
    """The first and the last number of each block."""
    starts = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1]])
    return list(zip(order[starts].tolist(), order[ends - 1].tolist(), strict=True))


class _Layout:
    """Where in the file what is, of so many encodings in so many blocks."""

    def __init__(self, encodings: int, dimension: int, blocks: int) -> None:
        self.encodings, self.blocks = encodings, blocks
        self.tail_at = _HEADER.size + blocks * OVERHEAD_BYTES + 4 * dimension * encodings
        self.size = self.tail_at + 16 * encodings + 8 * blocks


@dataclass(frozen=True, slots=True)
class Part:
    """One block: the encodings numbered `first` to `last`, or those of these subjects. `rows` is None where its key was
    destroyed."""

    first: int
    last: int
    rows: Rows | None


def read(
    path: Path, record: SnapshotRecord, dimension: int, slots: Slots, generation: int, digest: Digest
) -> Iterator[Part]:
    """The blocks of the snapshot that the store vouches for.

    Raises SnapshotUnusable with the reason, perhaps in the middle: what was given out until then must not be used.
    """
    try:
        with path.open("rb") as file:
            numbers, subjects, ends = _read_frame(file, record, dimension, functools.partial(digest, generation))
            alive = {(block.first, block.last): block.slot for block in record.blocks}
            known = _bounds(subjects if record.by_subject else numbers, ends)
            if not alive.keys() <= set(known):
                raise SnapshotUnusable("the store has other blocks")
            file.seek(_HEADER.size)
            if sys.platform == "linux":
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
            start = 0
            for end, (first, last) in zip(ends.tolist(), known, strict=True):
                part, start = slice(start, end), end
                sealed = file.read(OVERHEAD_BYTES + 4 * dimension * (part.stop - part.start))
                slot = alive.get((first, last))
                if slot is None:
                    yield Part(first, last, None)
                    continue
                content = decrypt(slots.read(slot), sealed, block_identity(generation, first))
                if content is None:
                    raise SnapshotUnusable(f"the block of number {first} is not what was written")
                vectors = np.frombuffer(content, "<f4").reshape(-1, dimension).astype(np.float32, copy=False)
                yield Part(first, last, Rows(numbers[part], subjects[part], vectors))
    except OSError as error:
        raise SnapshotUnusable(f"reading failed: {error}") from error
    except (StoreError, KeyDestroyed) as error:  # of the keys
        raise SnapshotUnusable(f"a key can't be read: {error}") from error


def _read_frame(
    file: io.BufferedReader, record: SnapshotRecord, dimension: int, digest: Callable[[Iterable[Buffer]], str]
) -> tuple[Integers, Integers, Integers]:
    """Numbers of encodings, of subjects, and where blocks end: what the file's real size allows."""
    size = os.fstat(file.fileno()).st_size
    if size != record.size:
        raise SnapshotUnusable(f"the file has {size} bytes, not {record.size}")
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise SnapshotUnusable("the file is shorter than a header")
    magic, revision, encodings, width, blocks = _HEADER.unpack(header)
    fits = (magic, revision, width) == (_MAGIC[record.by_subject], record.revision, dimension)
    layout = _Layout(encodings, dimension, blocks) if fits else None
    if layout is None or size != layout.size:
        raise SnapshotUnusable("the header doesn't fit the gallery")
    file.seek(layout.tail_at)
    tail = file.read()
    if digest([header, tail]) != record.sha256:
        raise SnapshotUnusable("the content is not what the store vouches for")
    integers = np.frombuffer(tail, "<i8").astype(np.int64, copy=False)
    return integers[:encodings], integers[encodings : 2 * encodings], integers[2 * encodings :]


def others(data_dir: Path, keep: set[Path]) -> list[Path]:
    """The files in the snapshot folder that are not in `keep`."""
    with suppress(OSError):
        return [path for path in (data_dir / SNAPSHOTS_NAME).iterdir() if path not in keep and not path.is_dir()]
    return []


def remove(paths: Iterable[Path]) -> None:
    """Removes files of snapshots; what can't be removed stays, but what isn't encrypted. Raises StoreIOError."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            if not _is_encrypted(path):
                raise disk_error(error, path) from error


def _is_encrypted(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC[False])) in _MAGIC.values()
    except OSError:
        return False
