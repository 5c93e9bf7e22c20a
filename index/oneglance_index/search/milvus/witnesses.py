"""Witnesses: rows of nobody's, one at least in each segment of a collection: an answer that has them all is whole.

A collection's rows are in segments, which query nodes share. While one node takes over from another, Milvus answers for
some seconds without what it hasn't taken over yet, and tells nobody. So every request asks for all witnesses besides.

Milvus doesn't tell where a row is, and seals segments when it likes. But there is one shard, so one segment at a time
takes new rows, all those of a request; and Milvus tells which segments are sealed. So each upsert has a witness in it,
and what is sealed is asked for behind it. Where nothing was sealed since before the upsert before, the last two
witnesses are in one segment: the older of them may be upserted again, which moves it to where rows go now, since the
other stays. Else the next one is new. So no segment is ever without, whenever it is sealed and whenever this process
dies. Compaction makes one segment of some, and keeps their witnesses as it keeps all rows. Once a single segment is
sealed, a single witness is enough for it.
"""

from __future__ import annotations

Segments = frozenset[int]

_BITS = 31


class Witnesses:
    """Those of one collection, numbered from `first` to `last`. One thread at a time writes; others read `first` and
    `told`: the last one that is surely seen, and from which time on."""

    def __init__(self, first: int = 0, last: int = -1) -> None:
        self.first, self.last = first, last
        self.told = last, 0
        self.strays = 0  # so many rows more are asked for, since some are in the way
        self._sealed: Segments | None = None  # of segments, as it was last told
        self._lately: list[tuple[int, Segments | None]] = []  # the last two, and what was sealed before each
        self._settled = -1  # all up to this one were sealed

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
        if len(self._lately) == 2 and self._lately[0][1] == self._sealed is not None:
            return self._lately[0][0]
        return self.last + 1

    def wrote(self, which: int, sealed: Segments) -> None:
        """It was upserted; `sealed` was told behind that."""
        self._lately = [*self._lately, (which, self._sealed)][-2:]
        self._sealed = sealed
        self.last = max(self.last, which)

    def all_are_sealed(self, sealed: Segments) -> None:
        self._sealed, self._settled = sealed, self.last

    def narrow(self, sealed: Segments) -> range:
        """Leaves out those that another one is as good as; returns them."""
        before = self.first
        if len(sealed) == 1:
            self.first = max(self.first, self._settled)
        return range(before, self.first)
