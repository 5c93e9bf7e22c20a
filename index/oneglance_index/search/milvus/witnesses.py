"""Witnesses: rows of nobody's, one at least in each segment of a collection: an answer that has them all is whole.

A collection's rows are in segments, which query nodes share. While one node takes over from another, Milvus answers for
some seconds without what it hasn't taken over yet, and tells nobody. So every request asks for all witnesses besides.

Milvus doesn't tell where a row is, and seals segments when it likes. But there is one shard, so one segment at a time
takes new rows, all those of a request; and Milvus tells which segments are sealed. So each upsert has a witness in it,
and what is sealed is asked for behind it. Those behind which nothing was sealed since are surely in the segment that is
open. The oldest of them but one may be upserted again, which moves it to where rows go now, since others stay: the
first, and the last. Else the next one is new. So no segment is ever without, whenever it is sealed and whenever this
process dies.

None is ever left out again. A query node that takes over reads the end of what came from the message queue, once more,
whatever became of the segments it was in: the last witnesses are found there though all that was sealed is missing. The
first of each segment isn't, or all that came since is there, too. Compaction makes one segment of some, and keeps their
witnesses as it keeps all rows; and for a while the segments that it was made of may be what is answered from.

Milvus loses deletions, so one that was moved on may be found where it was, too: where something was sealed meanwhile,
and it may be alone in its segment, a new one is upserted behind it.
"""

from __future__ import annotations

Segments = frozenset[int]

_AT_ONCE = 3  # surely in the open segment: the first, one that is moved on, the last


class Witnesses:
    """Those of one collection, numbered from 0 to `last`. One thread at a time writes; others read `told`: the last one
    that is surely seen, and from which time on."""

    def __init__(self, last: int = -1) -> None:
        self.last = last
        self.told = last, 0
        self.lone = False  # the last one that was upserted may have been moved to a segment that has no other
        self._sealed: Segments | None = None  # of segments, as it was last told
        self._open: list[int] = []  # those surely in the open segment, the first three, as they were upserted last

    def __len__(self) -> int:
        return self.last + 1

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
        self._sealed, self._open = sealed, []
