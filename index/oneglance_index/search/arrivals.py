"""The changes that an index was told of and hasn't taken over yet, and which of those that are committed are to come.

Who a subject is may be read from the store, which shows a change as soon as it is committed; an index is told of it a
moment later. So whoever reads there waits until the index was told, too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from oneglance_index.records import Change

# A change that is committed comes sooner, unless following the store fails.
_TOLD_SECONDS = 2.0


class Arrivals:
    """`lock` guards it, for moments; it may guard more. `pending`: what isn't taken over yet, the oldest first.
    `retired`: nothing comes any more."""

    def __init__(self, lock: threading.Lock) -> None:
        self.pending: deque[Change] = deque()
        self.retired = False
        self._newest = 0
        self._told = threading.Condition(lock)

    def add(self, changes: Sequence[Change]) -> None:
        """These have come; the lock is held."""
        self.pending.extend(changes)
        self._newest = changes[-1].revision
        self._told.notify_all()

    def reached(self, revision: int) -> None:
        """All changes up to a revision have come, whether or not any was for this index."""
        with self._told:
            self._newest = revision
            self._told.notify_all()

    def retire(self) -> None:
        with self._told:
            self.retired = True
            self._told.notify_all()

    def have_come(self, revision: int) -> bool:
        """Whether all changes up to a revision have come: those that are committed do so in a moment, unless another
        index takes the place of this one."""
        with self._told:
            self._told.wait_for(lambda: self.retired or self._newest >= revision, _TOLD_SECONDS)
            return self._newest >= revision

    def concern(self, revision: int, subjects: AbstractSet[int]) -> bool:
        """Whether a change up to a revision that isn't taken over yet is about one of these subjects, or may be."""
        if not self.have_come(revision):
            return True
        with self._told:
            return any(
                change.subject in subjects or change.removed_subject in subjects
                for change in self.pending
                if change.revision <= revision
            )
