"""What was enrolled last, in memory: of many enrollments at once each must be compared with all that came since its
neighbours were searched, and would read nearly the same from the database."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from oneglance_index.records import Change, Integers, Vectors

# So many generations are followed, those asked about last, and so many encodings of each are known at least, or as many
# as so many bytes have room for twice.
_GENERATIONS = 16
_ENCODINGS = 1024
_BYTES = 4 << 20


class Since(NamedTuple):
    """The encodings that came after a revision and are still there: subject numbers int64 [n], vectors float32 [n,
    D]."""

    subjects: Integers
    vectors: Vectors


class Recent:
    """Belongs to the writer's thread, and knows what is in its transaction, too. A generation is followed once it was
    asked about."""

    def __init__(self) -> None:
        self._followed: OrderedDict[int, _Last] = OrderedDict()
        self._in_transaction = False

    def begin(self) -> None:
        """A transaction begins. What is known of one that wasn't committed is void."""
        if self._in_transaction:
            self._followed.clear()
        self._in_transaction = False

    def changed(self, generation: int, change: Change | None) -> None:
        """A mutation of the transaction under way succeeded. None: it deleted the generation. Never raises."""
        self._in_transaction = True
        last = self._followed.get(generation)
        if last is not None:
            try:
                if change is not None:
                    last.add(change)
            except MemoryError:
                change = None
            if change is None:
                del self._followed[generation]

    def committed(self) -> None:
        self._in_transaction = False

    def since(self, generation: int, revision: int, now: int, dimension: int) -> Since | None:
        """What came after `revision`; None where that isn't known. `now` is the newest revision."""
        last = self._followed.get(generation)
        if last is None:
            with contextlib.suppress(MemoryError):
                last = self._followed[generation] = _Last(now, dimension)
                if len(self._followed) > _GENERATIONS:
                    self._followed.popitem(last=False)
        if last is None or revision < last.base:
            return None
        self._followed.move_to_end(generation)
        return last.since(revision)


class _Last:
    """The encodings of a generation that came after revision `base`, in order of revision."""

    def __init__(self, base: int, dimension: int) -> None:
        self.base = base
        self._count = 0
        self._least = max(1, min(_ENCODINGS, _BYTES // (8 * dimension)))
        self._revisions = np.empty(2 * self._least, np.int64)
        self._numbers = np.empty(2 * self._least, np.int64)
        self._subjects = np.empty(2 * self._least, np.int64)
        self._vectors = np.empty((2 * self._least, dimension), np.float32)

    def add(self, change: Change) -> None:
        if len(change.removed):
            self._keep(np.flatnonzero(~np.isin(self._numbers[: self._count], change.removed)))
        if len(change.added) > self._least:
            self._count, self.base = 0, change.revision
            return
        if self._count + len(change.added) > 2 * self._least:
            first = self._count - self._least
            self.base = int(self._revisions[first - 1])
            self._keep(np.arange(first, self._count))
        new = slice(self._count, self._count + len(change.added))
        self._revisions[new], self._subjects[new] = change.revision, change.subject
        self._numbers[new], self._vectors[new] = change.added, change.vectors
        self._count = new.stop

    def _keep(self, rows: Integers) -> None:
        if len(rows) == self._count:
            return
        for array in (self._revisions, self._numbers, self._subjects, self._vectors):
            array[: len(rows)] = array[rows]
        self._count = len(rows)

    def since(self, revision: int) -> Since:
        first = int(np.searchsorted(self._revisions[: self._count], revision, side="right"))
        new = slice(first, self._count)
        return Since(self._subjects[new], self._vectors[new])
