"""NumberSet: numbers of subjects of which something is known. There may be a million, and they change one by one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final

# Numbers of one part; so many parts of a million are as quickly copied as one of them.
_BITS: Final = 10


class NumberSet:
    """Never changes, so that readers need no lock. A changed one shares all parts but those that changed: a frozenset
    would be copied whole at each write, a million in 40 ms."""

    __slots__ = ("_count", "_parts")

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        ordered = sorted(set(numbers))
        self._parts = {part: frozenset(those) for part, those in groupby(ordered, lambda number: number >> _BITS)}
        self._count = len(ordered)

    def __contains__(self, number: int) -> bool:
        part = self._parts.get(number >> _BITS)
        return part is not None and number in part

    def __len__(self) -> int:
        return self._count

    def changed(self, come: Iterable[int], gone: Iterable[int]) -> NumberSet:
        """With those that came, and without those of before that went; the same object where that is the same."""
        new, old = {one for one in come if one not in self}, {one for one in gone if one in self}
        if not new and not old:
            return self
        made = NumberSet()
        made._parts, made._count = self._parts.copy(), self._count + len(new) - len(old)
        for part, those in groupby(sorted(new | old), lambda number: number >> _BITS):
            made._parts[part] = self._parts.get(part, frozenset()) ^ frozenset(those)
        return made
