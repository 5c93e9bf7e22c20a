"""Snapshots: an index's encodings in a file, so that opening needn't read all of them from the database.

`snapshots/<generation number>-<revision>.snap` holds a header, encoding numbers, subject numbers, the slots of the
blocks' keys, and the blocks: vectors, each block encrypted with a key of its own. A deletion destroys the key of the
block that it concerns, at once; what else was in it is read from the store, until the next snapshot. A file is believed
only if the store vouches for it: the store holds the sha256 of exactly these bytes before the blocks, which say
themselves whether they are what was written. So a missing, truncated, altered, outdated or foreign file is never used,
and a crash at any moment leaves either the former vouched-for file or the new one (files no row vouches for are removed
when the store is opened).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneglance_core.files import replacing
from oneglance_index.errors import StoreError, StoreMissing
from oneglance_index.records import Rows
from oneglance_index.search.kinds import Frozen
from oneglance_index.store.ciphers import OVERHEAD_BYTES, block_identity, decrypt, encrypt
from oneglance_index.store.directory import (
    DATABASE_NAME,
    HOW_TO_RESTORE,
    SNAPSHOT_SUFFIX,
    SNAPSHOTS_NAME,
    snapshot_files,
)
from oneglance_index.store.keys import KeyDestroyed, Keys, Slots, disk_error
from oneglance_index.store.queries import Block, SnapshotRecord

_MAGIC = b"oneglance snapshot 2\n"
_HEADER = struct.Struct("<21sxxxQQQQ")  # magic, revision, encodings, dimension, rows of a block
# A deletion costs a start the reading of so much from the store.
_BLOCK_BYTES = 1 << 20


class SnapshotUnusable(Exception):
    """Why a snapshot can't be used; the index is then rebuilt from the store."""


class SnapshotAbandoned(Exception):
    """There was no time left to write it; the former one stays."""


def path_of(data_dir: Path, generation: int, revision: int) -> Path:
    return data_dir / SNAPSHOTS_NAME / f"{generation}-{revision}{SNAPSHOT_SUFFIX}"


def write(
    path: Path,
    frozen: Frozen,
    dimension: int,
    late: Callable[[], bool],
    keys: Keys,
    gallery: int,
    generation: int,
) -> SnapshotRecord:
    """Writes a snapshot and makes it durable under its name; gives up when it is `late`, which it asks for every block.

    `gallery` and `generation` are their numbers. Raises SnapshotAbandoned, KeyDestroyed where the gallery was deleted,
    StoreFull, StoreIOError.
    """
    slots = keys.of(gallery)
    layout = _Layout(frozen.encodings, dimension, max(1, _BLOCK_BYTES // (4 * dimension)))
    taken: list[int] = []
    try:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with replacing(path) as fresh, fresh.open("w+b") as file:
            numbers, subjects = np.empty(frozen.encodings, "<i8"), np.empty(frozen.encodings, "<i8")
            file.seek(layout.blocks_at)
            start = 0
            for rows in _in_blocks(frozen.blocks(), layout.rows):
                if late():
                    raise SnapshotAbandoned
                part = slice(start, start + len(rows.numbers))
                numbers[part], subjects[part] = rows.numbers, rows.subjects
                slot, key = slots.take()
                taken.append(slot)
                content = rows.vectors.astype("<f4", copy=False).tobytes()
                file.write(encrypt(key, content, block_identity(generation, int(rows.numbers[0]))))
                start = part.stop
            header = _HEADER.pack(_MAGIC, frozen.revision, frozen.encodings, dimension, layout.rows)
            head = b"".join((header, numbers.tobytes(), subjects.tobytes(), np.array(taken, "<i8").tobytes()))
            file.seek(0)
            file.write(head)
    except BaseException as error:
        with contextlib.suppress(StoreError, KeyDestroyed), keys.changing():
            keys.of(gallery).destroy(taken)
        if isinstance(error, OSError):
            raise disk_error(error, path) from error
        raise
    blocks = (Block(*block) for block in zip(*layout.ends(numbers), taken, strict=True))
    return SnapshotRecord(frozen.revision, hashlib.sha256(head).hexdigest(), layout.size, tuple(blocks))


def _in_blocks(parts: Iterable[Rows], size: int) -> Iterator[Rows]:
    """The same rows in blocks of `size`, the last one smaller."""
    left: Rows | None = None
    for part in parts:
        rows = part if left is None else left.followed_by(part)
        whole = len(rows.numbers) - len(rows.numbers) % size
        for start in range(0, whole, size):
            yield rows.part(slice(start, start + size))
        left = rows.part(slice(whole, None))
    if left is not None and len(left.numbers):
        yield left


class _Layout:
    """Where in the file what is, of so many encodings in blocks of `rows`."""

    def __init__(self, encodings: int, dimension: int, rows: int) -> None:
        self.encodings, self.dimension, self.rows = encodings, dimension, rows
        self.blocks = -(-encodings // rows)
        self.blocks_at = _HEADER.size + 16 * encodings + 8 * self.blocks
        self.size = self.blocks_at + self.blocks * OVERHEAD_BYTES + 4 * dimension * encodings

    def ends(self, numbers: NDArray[Any]) -> tuple[list[int], list[int]]:
        """The first and the last number of each block."""
        firsts = np.arange(0, self.encodings, self.rows)
        lasts = np.minimum(firsts + self.rows, self.encodings) - 1
        return numbers[firsts].tolist(), numbers[lasts].tolist()


@dataclass(frozen=True, slots=True)
class Part:
    """One block: the encodings `first` to `last`. `rows` is None where its key was destroyed."""

    first: int
    last: int
    rows: Rows | None


def read(path: Path, record: SnapshotRecord, dimension: int, slots: Slots, generation: int) -> Iterator[Part]:
    """The blocks of the snapshot that the store vouches for.

    Raises SnapshotUnusable with the reason, perhaps in the middle: what was given out until then must not be used.
    """
    try:
        with path.open("rb") as file:
            layout, numbers, subjects, taken = _read_head(file, record, dimension)
            alive = {block: block.slot for block in record.blocks}
            known = [Block(*block) for block in zip(*layout.ends(numbers), taken.tolist(), strict=True)]
            if not alive.keys() <= set(known):
                raise SnapshotUnusable("the store has other blocks")
            for start, block in zip(range(0, layout.encodings, layout.rows), known, strict=True):
                part = slice(start, min(start + layout.rows, layout.encodings))
                sealed = file.read(OVERHEAD_BYTES + 4 * dimension * (part.stop - part.start))
                if block not in alive:
                    yield Part(block.first, block.last, None)
                    continue
                content = decrypt(slots.read(block.slot), sealed, block_identity(generation, block.first))
                if content is None:
                    raise SnapshotUnusable(f"the block of encoding {block.first} is not what was written")
                vectors = np.frombuffer(content, "<f4").reshape(-1, dimension).astype(np.float32, copy=False)
                yield Part(block.first, block.last, Rows(numbers[part], subjects[part], vectors))
    except OSError as error:
        raise SnapshotUnusable(f"reading failed: {error}") from error
    except (StoreError, KeyDestroyed) as error:  # of the keys
        raise SnapshotUnusable(f"a key can't be read: {error}") from error


def _read_head(
    file: io.BufferedReader, record: SnapshotRecord, dimension: int
) -> tuple[_Layout, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The layout, the numbers of encodings, of subjects, and the slots: what the file's real size allows."""
    size = os.fstat(file.fileno()).st_size
    if size != record.size:
        raise SnapshotUnusable(f"the file has {size} bytes, not {record.size}")
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise SnapshotUnusable("the file is shorter than a header")
    magic, revision, encodings, width, rows = _HEADER.unpack(header)
    fits = (magic, revision, width) == (_MAGIC, record.revision, dimension) and rows > 0
    layout = _Layout(encodings, dimension, rows) if fits else None
    if layout is None or size != layout.size:
        raise SnapshotUnusable("the header doesn't fit the gallery")
    rest = file.read(layout.blocks_at - _HEADER.size)
    if hashlib.sha256(header + rest).hexdigest() != record.sha256:
        raise SnapshotUnusable("the content is not what the store vouches for")
    integers = np.frombuffer(rest, "<i8").astype(np.int64, copy=False)
    return layout, integers[:encodings], integers[encodings : 2 * encodings], integers[2 * encodings :]


def check_none_is_later(data_dir: Path, last_generation: int, revisions: Mapping[int, int]) -> None:
    """Raises StoreMissing for a snapshot that the store can't have made yet: of a generation above the last one, or of
    a revision above the one that its generation has now, by `revisions`.

    The store is then an older one, or another, and the file may hold what is nowhere else.
    """
    for path in snapshot_files(data_dir):
        generation, _, revision = path.stem.partition("-")
        if not (generation.isascii() and generation.isdecimal() and revision.isascii() and revision.isdecimal()):
            continue
        number = int(generation)
        if number > last_generation or (number in revisions and int(revision) > revisions[number]):
            raise StoreMissing(
                data_dir / DATABASE_NAME,
                f"this one is older than {SNAPSHOTS_NAME}/{path.name}, which it hasn't made: {HOW_TO_RESTORE}",
            )


def remove_others(data_dir: Path, keep: set[Path]) -> None:
    """Removes the files in the snapshot folder that are not in `keep`; what can't be removed stays."""
    with contextlib.suppress(OSError):
        for path in (data_dir / SNAPSHOTS_NAME).iterdir():
            if path not in keep:
                path.unlink()
