"""Witnesses: rows of nobody's, one at least in each segment of a collection: an answer that has them all is whole.

A collection's rows are in segments, which query nodes share. While one node takes over from another, Milvus answers for
some seconds without what it hasn't taken over yet, and tells nobody. So every request asks for all witnesses besides.

Milvus doesn't tell where a row is, and seals segments when it likes. But there is one shard, so one segment at a time
takes new rows, all those of a request; and Milvus tells which segments are sealed. So each upsert has a witness in it,
and what is sealed is asked for behind it. Those behind which nothing was sealed since are surely in the segment that is
open. The oldest of them but one may be upserted again, which moves it to where rows go now, since others stay: the
first, and the last. Else the next one is new. So no segment is ever without, whenever it is sealed and whenever this
process dies; and where a query node has read the end of a segment only, from the message queue, its first witness isn't
there. Milvus loses deletions, so one that was moved on may be found where it was, too: where something was sealed
meanwhile, and it may be alone in its segment, a new one is upserted behind it. Compaction makes one segment of some,
and keeps their witnesses as it keeps all rows. Once it has made one of all that is sealed, a single witness is enough
for that.
"""

from __future__ import annotations

Segments = frozenset[int]

_BITS = 31
_AT_ONCE = 3  # surely in the open segment: the first, one that is moved on, the last


class Witnesses:
    """Those of one collection, numbered from `first` to `last`. One thread at a time writes; others read `first` and
    `told`: the last one that is surely seen, and from which time on."""

    def __init__(self, first: int = 0, last: int = -1) -> None:
        self.first, self.last = first, last
        self.told = last, 0
        self.strays = 0  # so many rows more are asked for, since some are in the way
        self._sealed: Segments | None = None  # of segments, as it was last told
        self._open: list[int] = []  # those surely in the open segment, the first three, as they were upserted last
        self.lone = False  # the last one that was upserted may have been moved to a segment that has no other
        self._settled, self._sealed_then = -1, Segments()  # all up to this one were sealed, and in these segments

    @classmethod
    def of(cls, stamp: int) -> Witnesses:
        """As stamped() told."""
        return cls(stamp & ((1 << _BITS) - 1), (stamp >> _BITS) - 1)

    def stamped(self, last: int) -> int:
        """Which there are, once `last` is: the larger the later."""
        return (last + 1) << _BITS | self.first

    def __len__(self) -> int:
        return self.last + 1 - self.first

    def next(self) -> int:
        """Which one the next upsert has in it."""
        return self._open[1] if len(self._open) == _AT_ONCE else self.last + 1

    def wrote(self, which: int, sealed: Segments) -> None:
        """It was upserted; `sealed` was told behind that."""
        same = sealed == self._sealed
        self._open = [*(one for one in self._open if one != which), which] if same else []
        self.lone = not same and which <= self.last
        self._sealed = sealed
        self.last = max(self.last, which)

    def all_are_sealed(self, sealed: Segments) -> None:
        self._sealed, self._settled, self._sealed_then, self._open = sealed, self.last, sealed, []

    def narrow(self, sealed: Segments) -> range:
        """Leaves out those that another one is as good as; returns them."""
        before = self.first
        if len(sealed) == 1 and not sealed & self._sealed_then:
            self.first = max(self.first, self._settled)
        return range(before, self.first)
