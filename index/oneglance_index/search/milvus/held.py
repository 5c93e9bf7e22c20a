"""HeldRows: number and stamp of every row that counts, 16 bytes each, in memory: by them an answer of Milvus is sifted.

Milvus loses deletions at times: those that come while it loads what it has just sealed (milvus-io/milvus#35261). Such a
row is found again, and so is the former vector of one that was replaced.
"""

from __future__ import annotations

import numpy as np

from oneglance_index.records import Integers

# So many changes are kept aside before the arrays are made anew.
_ASIDE = 1 << 16


class HeldRows:
    """Not safe for threads."""

    def __init__(self) -> None:
        self._numbers: Integers = np.empty(0, np.int64)  # ascending
        self._stamps: Integers = np.empty(0, np.int64)
        self._aside: dict[int, int | None] = {}  # stamps of rows that came since; None: it is gone

    def add(self, numbers: Integers, stamps: Integers) -> None:
        """Adds rows; one that is in gets this stamp."""
        self._aside.update(zip(numbers.tolist(), stamps.tolist(), strict=True))
        if len(self._aside) > _ASIDE:
            self._merge()

    def remove(self, numbers: Integers) -> None:
        self._aside.update(dict.fromkeys(numbers.tolist()))

    def count(self, numbers: Integers, stamps: Integers) -> np.ndarray:
        """Which of these rows count as they are: bool [n]."""
        counts = np.zeros(len(numbers), np.bool_)
        if len(self._numbers):
            at = np.minimum(np.searchsorted(self._numbers, numbers), len(self._numbers) - 1)
            counts = (self._numbers[at] == numbers) & (self._stamps[at] == stamps)
        if self._aside:
            for i, (number, stamp) in enumerate(zip(numbers.tolist(), stamps.tolist(), strict=True)):
                if number in self._aside:
                    counts[i] = self._aside[number] == stamp
        return counts

    def those_of(self, numbers: Integers) -> dict[int, int]:
        """The stamps of those of these rows that are in, by number."""
        found = dict[int, int]()
        if len(self._numbers):
            at = np.minimum(np.searchsorted(self._numbers, numbers), len(self._numbers) - 1)
            same = self._numbers[at] == numbers
            found.update(zip(numbers[same].tolist(), self._stamps[at[same]].tolist(), strict=True))
        for number in numbers.tolist():
            if number in self._aside:
                found.pop(number, None)
                stamp = self._aside[number]
                if stamp is not None:
                    found[number] = stamp
        return found

    def all(self) -> tuple[Integers, Integers]:
        """Numbers, ascending, and stamps: not to be changed."""
        self._merge()
        return self._numbers, self._stamps

    def __contains__(self, number: int) -> bool:
        if number in self._aside:
            return self._aside[number] is not None
        at = int(np.searchsorted(self._numbers, number))
        return at < len(self._numbers) and bool(self._numbers[at] == number)

    def _merge(self) -> None:
        kept = ~np.isin(self._numbers, np.fromiter(self._aside, np.int64, len(self._aside)))
        came = np.array(
            [(number, stamp) for number, stamp in self._aside.items() if stamp is not None], np.int64
        ).reshape(-1, 2)
        numbers = np.concatenate([self._numbers[kept], came[:, 0]])
        order = np.argsort(numbers, kind="stable")
        self._numbers = numbers[order]
        self._stamps = np.concatenate([self._stamps[kept], came[:, 1]])[order]
        self._aside.clear()
