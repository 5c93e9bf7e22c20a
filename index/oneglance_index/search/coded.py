"""CodedScan: the CPU's scan, with the rows a second time, a byte for each number, which it reads for few probes.

A scan for one probe takes as long as its bytes take to read, and these are a quarter. How far each row is from its code
is known, so that answers stay exact (bounds.py). Rows are coded in blocks: what is subtracted from them and how fine
the steps are follows from the block's rows, and is taken anew when they have doubled or one doesn't fit.

Codes are told of what the rows are: they are as secret, and go when those go.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oneglance_index.records import Integers, Vectors
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.bounds import FLOORS, Floats, code_floors
from oneglance_index.search.scan import CpuScan, Proposed, merged, parts_of

# Up to this many probes it is faster than matrix products of the rows themselves.
CODED_PROBES = 8
# Fewer rows aren't worth it.
_LEAST_ROWS = 16_384
# So many rows are proposed at least, or as many as there are dimensions: codes tell rows apart less well, and the more
# dimensions the more alike distances are.
_LEAST_PROPOSED = 128
# For more of them FAISS's heap takes longer than it saves.
_MOST_PROPOSED = 1024
_BLOCK_BYTES = 16 << 20  # of codes
_CODED_AT_ONCE = 1 << 19  # numbers
# Up to so many numbers are coded as they come, which takes a search some ms.
_CODED_IN_PASSING = 1 << 20
# Codes are -127 to 127 while a block is coded; later rows may go beyond that by so much.
_MOST, _HEADROOM = 127.0, 1.1

Codes = NDArray[np.uint8]


class Query(NamedTuple):
    """A probe as the codes of a block are: whole steps, float32 [D]; and how far that is from the probe."""

    values: Vectors
    off: float


class Block:
    """The codes of some rows, of which the caller tells what has changed: x = point + step * (code - 128), but for
    `off` at most. `rows`: of how many.

    Raises MemoryError; where it was coding all rows anew it has codes of none then.
    """

    def __init__(self, rows: int, dimension: int) -> None:
        self.codes: Codes = np.zeros((rows, dimension), np.uint8)
        self.rows = 0
        self.off = 0.0
        self.step = 1.0
        self._point = np.zeros(dimension, np.float64)
        self._fitted = 0  # to so many rows
        self._written = 0  # so many codes may be more than 0

    def follow(self, rows: Vectors) -> None:
        """These are its rows now: some behind the others are new, or gone."""
        self.cut(rows)
        self._written = len(rows)
        if len(rows) > 2 * self._fitted or not self._code(rows, slice(self.rows, len(rows))):
            self._fit(rows)
        self.rows = len(rows)

    def cut(self, rows: Vectors) -> None:
        """These are left, of those it has."""
        if len(rows) < self._written:
            self.codes[len(rows) : self._written] = 0
            self._written, self.rows = len(rows), min(self.rows, len(rows))

    def rewrite(self, rows: Vectors, at: Integers) -> None:
        """Some of its rows have changed."""
        if self.rows == len(rows) and not self._code(rows, at):
            self._fit(rows)

    def query(self, probe: Vectors) -> Query:
        away = probe - self._point
        values = np.clip(np.rint(away / self.step), -_MOST, _MOST)
        off = np.linalg.norm(away - values * self.step) + 1e-15 * np.linalg.norm(away)
        return Query(values.astype(np.float32), float(off))

    def _fit(self, rows: Vectors) -> None:
        """Codes all rows, with a point and steps that suit them."""
        self.rows, self._fitted, self.off = 0, len(rows), 0.0
        self._point = rows.mean(axis=0, dtype=np.float64)
        most = max((float(np.abs(less).max(initial=0.0)) for _, less in self._less(rows, slice(None))), default=0.0)
        self.step = _HEADROOM * most / _MOST or 1.0
        self._code(rows, slice(None))
        self.rows = len(rows)

    def _code(self, rows: Vectors, which: slice | Integers) -> bool:
        """Codes these of its rows. Whether they fit."""
        for at, less in self._less(rows, which):
            codes = np.rint(less / self.step)
            if not np.abs(codes).max(initial=0.0) <= _MOST:
                return False
            self.codes[at] = codes + 128
            codes *= self.step
            less -= codes
            off = np.sqrt(np.einsum("nd,nd->n", less, less).max(initial=0.0)) * (1 + 1e-9) + 1e-9 * self.step
            self.off = max(self.off, float(off))
        return True

    def _less(self, rows: Vectors, which: slice | Integers) -> Iterable[tuple[Integers, Floats]]:
        """Some of these at a time: which of its rows, and what they are less the point."""
        numbers = np.arange(len(rows))[which]
        step = max(1, _CODED_AT_ONCE // rows.shape[1])
        for start in range(0, len(numbers), step):
            at = numbers[start : start + step]
            yield at, rows[at] - self._point


class Coding:
    """The coding of one block's rows, while searches go on."""

    def __init__(self, scan: CodedScan, at: int, rows: Vectors, changes: int) -> None:
        self._scan, self._rows = scan, rows
        self.at, self.changes = at, changes
        self._block: Block | None = None

    def make(self) -> None:
        block = Block(self._scan.block_rows, self._rows.shape[1])
        block.follow(self._rows)
        self._block = block

    def take(self) -> None:
        assert self._block is not None
        self._scan.take(self, self._block)


class CodedScan(CpuScan):
    """Of rows of one dimension. Without memory for codes it does without; many rows that come at once it codes when it
    is told to improve, and until then reads the rows themselves."""

    def __init__(
        self, pool: ThreadPoolExecutor, threads: int, dimension: int, patient: ThreadPoolExecutor | None = None
    ) -> None:
        super().__init__(pool, threads, patient)
        self._dimension = dimension
        self.block_rows = max(1, _BLOCK_BYTES // dimension)
        self._blocks: list[Block] = []
        self._changes = 0  # of rows that were in

    @property
    def memory_bytes(self) -> int:
        return sum(block.codes.nbytes for block in self._blocks)

    def extend(self, matrix: Vectors, norms: Vectors, rows: int) -> None:
        before = self.rows
        super().extend(matrix, norms, rows)
        if rows == before:
            return  # the arrays may be others, which don't hold the rows yet
        blocks = -(-rows // self.block_rows) if rows >= _LEAST_ROWS else 0
        for block in self._blocks[blocks:]:
            block.follow(matrix[:0])
        del self._blocks[blocks:]
        if rows < before:
            self._changes += 1
            for at in range(blocks)[-1:]:
                self._blocks[at].cut(self._rows_of(at))
        with contextlib.suppress(MemoryError):
            while len(self._blocks) < blocks:
                self._blocks.append(Block(self.block_rows, self._dimension))
            if self._uncoded() * self._dimension <= _CODED_IN_PASSING:
                for _ in self._pool.map(lambda at: self._blocks[at].follow(self._rows_of(at)), self._behind()):
                    pass

    def _behind(self) -> list[int]:
        """Blocks of which some rows aren't coded."""
        return [at for at, block in enumerate(self._blocks) if block.rows != len(self._rows_of(at))]

    def _uncoded(self) -> int:
        return self.rows - sum(block.rows for block in self._blocks) if self._blocks else 0

    def improvement(self) -> Coding | None:
        behind = self._behind()
        if not behind or self._uncoded() * self._dimension <= _CODED_IN_PASSING:
            return None
        return Coding(self, behind[0], self._rows_of(behind[0]), self._changes)

    def take(self, coding: Coding, block: Block) -> None:
        """A block was coded, unless its rows changed meanwhile."""
        if coding.changes == self._changes and coding.at < len(self._blocks):
            self._blocks[coding.at] = block

    def rewrite(self, matrix: Vectors, norms: Vectors, rows: Iterable[int]) -> None:
        self._changes += 1
        changed = np.array(sorted(rows), np.int64)
        super().rewrite(matrix, norms, changed.tolist())
        numbers = changed // self.block_rows
        for number in np.unique(numbers[numbers < len(self._blocks)]).tolist():
            at = changed[numbers == number] - number * self.block_rows
            self._blocks[number].rewrite(self._rows_of(number), at)

    def _rows_of(self, block: int) -> Vectors:
        first = block * self.block_rows
        return self._matrix[first : first + self.block_rows]

    def nearest(self, queries: Vectors, k: int, max_norm: float) -> Proposed:
        coded = sum(block.rows for block in self._blocks) == self.rows
        if not coded or len(queries) > CODED_PROBES or k > _MOST_PROPOSED:
            return super().nearest(queries, k, max_norm)
        asked = [[block.query(query) for query in queries] for block in self._blocks]
        wanted = min(max(k, _LEAST_PROPOSED, min(self._dimension, _MOST_PROPOSED)), self.rows)
        ends = {end for _, end in parts_of(self.rows, self._matrix.size * len(queries), self._threads)}
        borders = sorted({*range(0, self.rows, self.block_rows), *ends})
        scan = functools.partial(self._among_codes, asked, wanted)
        found = merged(list(self._pool.map(scan, borders[:-1], borders[1:])), wanted)
        if np.isinf(found[0]).any():  # fewer are shown
            found = merged([found], k)
        return Proposed(*found, FLOORS)

    def _among_codes(self, asked: list[list[Query]], k: int, start: int, stop: int) -> tuple[Vectors, Integers]:
        """Of the rows from `start` to `stop`, which are of one block: the k nearest to each query by their codes, how
        near they can be, and their numbers, float32 and int64 [q, k]."""
        number, first = divmod(start, self.block_rows)
        block, count = self._blocks[number], stop - start
        codes, norms = block.codes[first : first + count], self._norms[start:stop]
        floors = np.empty((len(asked[number]), min(k, count)), np.float32)
        rows = np.empty(floors.shape, np.int64)
        for i, query in enumerate(asked[number]):
            distances, rows[i] = engine.nearest_codes(codes, norms, query.values, floors.shape[1])
            floors[i] = code_floors(distances, self._dimension, block.step, block.off + query.off)
        floors[rows < 0] = np.inf
        return floors, rows + start
