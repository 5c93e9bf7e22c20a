"""The arrays of an index in memory, and the ids of its subjects: both grow without ever losing what they hold."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oneglance_index.records import Integers, Rows, Vectors

_PAUSE_SECONDS = 0.0005


def pause() -> None:
    """Between two steps that hold a lock; else those who wait for it would hardly ever get it."""
    time.sleep(_PAUSE_SECONDS)


class RowArrays(NamedTuple):
    """Room for rows: vectors float32 [c, D], their squared norms float32 [c] (inf for one that scans pass over), the
    numbers of the encodings and of their subjects int64 [c]."""

    vectors: Vectors
    norms: Vectors
    numbers: Integers
    subjects: Integers

    @classmethod
    def empty(cls, capacity: int, dimension: int) -> RowArrays:
        """Raises MemoryError."""
        return cls(
            np.empty((capacity, dimension), np.float32),
            np.empty(capacity, np.float32),
            np.empty(capacity, np.int64),
            np.empty(capacity, np.int64),
        )

    @property
    def capacity(self) -> int:
        return len(self.numbers)

    @property
    def memory_bytes(self) -> int:
        return sum(array.nbytes for array in self)

    def copy_from(self, other: RowArrays, rows: int) -> None:
        """Makes the first `rows` rows those of `other`."""
        self.vectors[:rows], self.norms[:rows] = other.vectors[:rows], other.norms[:rows]
        self.numbers[:rows], self.subjects[:rows] = other.numbers[:rows], other.subjects[:rows]

    def take_over(self, other: RowArrays, rows: int) -> None:
        """As copy_from(), but the memory of the vectors of `other` goes back to the system meanwhile: those are lost,
        and both together take hardly more than one of them. Nobody may look at `other` any more.

        Raises MemoryError before anything is lost.
        """
        step = max(1, _BLOCK_BYTES // (4 * self.vectors.shape[1]))
        slices = [slice(start, min(rows, start + step)) for start in range(0, rows, step)]
        parts = [(self.vectors[part], other.vectors[part]) for part in slices]
        self.norms[:rows] = other.norms[:rows]
        self.numbers[:rows], self.subjects[:rows] = other.numbers[:rows], other.subjects[:rows]
        for to, part in parts:
            np.copyto(to, part)
            _give_back(part)

    def move_up(self, rows: slice, to: int) -> int:
        """Moves the live ones of these rows to row `to` and on, which is not behind them. Returns where they end: the
        others of `rows` are dead then. Raises MemoryError before anything is changed.
        """
        live = np.flatnonzero(self.subjects[rows] >= 0) + rows.start
        arrays: Sequence[NDArray[Any]] = self
        moved = [array[live] for array in arrays]
        end = to + len(live)
        for array, values in zip(arrays, moved, strict=True):
            array[to:end] = values
        self.subjects[max(end, rows.start) : rows.stop] = -1
        return end

    def shrink(self, capacity: int) -> None:
        """Gives back what is more than this. No view of these arrays may be in use."""
        if capacity < self.capacity:
            for array in self:
                array.resize((capacity, *array.shape[1:]), refcheck=False)


def _give_back(part: Vectors) -> None:
    """Gives the whole pages of an array's part back to the system, where that is known how; what they held is lost."""
    with contextlib.suppress(MemoryError):
        start = part.ctypes.data + -part.ctypes.data % mmap.PAGESIZE
        size = (part.ctypes.data + part.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
        if size > 0 and _LIBC is not None:
            _LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_int(mmap.MADV_DONTNEED))


def trim() -> None:
    """Gives what malloc keeps of memory that was freed back to the system, where that is known how."""
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
# Bounds what FrozenRows.blocks() and RowArrays.take_over() copy at a time.
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class FrozenRows:
    """The rows of an ExactIndex at a revision, dead ones included; nobody changes these arrays any more.

    numbers and subjects int64 [n], subjects -1 for a dead row; vectors float32 [n, D].
    """

    revision: int
    numbers: Integers
    subjects: Integers
    vectors: Vectors
    by_subject: bool = False

    @property
    def encodings(self) -> int:
        return int((self.subjects >= 0).sum())

    def blocks(self) -> Iterator[Rows]:
        step = max(1, _BLOCK_BYTES // (4 * self.vectors.shape[1]))
        for start in range(0, len(self.numbers), step):
            part = slice(start, start + step)
            live = self.subjects[part] >= 0
            yield Rows(self.numbers[part][live], self.subjects[part][live], self.vectors[part][live])


# Of a shard: it grows by 200 kB at most, where one dict for a large gallery would grow by as much as it holds.
_SHARD_BITS = 12


class SubjectIds:
    """Subject ids by subject number."""

    def __init__(self, ids: Mapping[int, str]) -> None:
        self._shards: dict[int, dict[int, str]] = {}
        self._count = len(ids)
        numbers, names = list(ids), list(ids.values())
        shards = np.array(numbers, np.int64) >> _SHARD_BITS
        starts = np.flatnonzero(np.diff(shards, prepend=-1)).tolist()
        for start, end in itertools.pairwise([*starts, len(numbers)]):
            shard = self._shards.setdefault(int(shards[start]), {})
            shard.update(zip(numbers[start:end], names[start:end], strict=True))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> str:
        return self._shards[number >> _SHARD_BITS][number]

    def items(self) -> Iterator[tuple[int, str]]:
        return itertools.chain.from_iterable(shard.items() for shard in self._shards.values())

    def add(self, number: int, subject_id: str) -> None:
        """Adds a subject; one that is in gets this id."""
        shard = self._shards.setdefault(number >> _SHARD_BITS, {})
        before = len(shard)
        shard[number] = subject_id
        self._count += len(shard) - before

    def remove(self, number: int) -> None:
        """Does nothing where there is no such subject."""
        shard = self._shards.get(number >> _SHARD_BITS, {})
        if number in shard:
            del shard[number]
            self._count -= 1
            if not shard:
                del self._shards[number >> _SHARD_BITS]
