"""What waits for the writer: bounded in bytes, each caller's writes in order, callers in turn.

A caller is whatever the submitter says it is; None is one, too. A group takes one write of each caller after the other,
until it is full: thousands of writes of one caller delay one of another by a group.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from oneglance_index.audit import Actor
from oneglance_index.errors import StoreClosed, WriteQueueFull
from oneglance_index.store.mutations import Mutation

# A group is a short step: each write waits for the rest of its group.
MAX_GROUP = 256
MAX_GROUP_BYTES = 4 << 20


class Job(NamedTuple):
    """`mutation` None is a checkpoint, several are run in one transaction. `size`: the bytes it holds while it waits;
    `patient`: whoever submits it bounds them, and it is taken however much waits. `actor`: on whose behalf, for the
    audit trail."""

    mutation: Mutation[Any] | tuple[Mutation[Any], ...] | None
    future: Future[Any]
    size: int
    patient: bool = False
    actor: Actor | None = None


class WriteQueue:
    """At most `max_bytes` wait or are being written, patient jobs not counted; a larger single one may be in it alone.

    `path` is the store's.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._waiting: OrderedDict[Hashable, deque[Job]] = OrderedDict()  # the caller whose turn it is comes first
        self._taken: list[Job] = []
        self._count = 0
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """How many wait, without those being written."""
        return self._count

    def put(self, job: Job, caller: Hashable) -> None:
        """Raises StoreClosed, WriteQueueFull."""
        with self._changed:
            if self._closed:
                raise StoreClosed(self._path)
            total = self._bytes + (0 if job.patient else job.size)
            if not job.patient and self._bytes and total > self._max_bytes:
                raise WriteQueueFull(self._max_bytes, total)
            self._waiting.setdefault(caller, deque()).append(job)
            self._count += 1
            self._bytes = total
            self._changed.notify()

    def take(self, patience_seconds: float | None) -> list[Job] | None:
        """The next group; [] where none came in time; None when the queue is closed and empty."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._closed, patience_seconds):
                return []
            if not self._waiting:
                return None
            size = 0
            while self._waiting and len(self._taken) < MAX_GROUP and size < MAX_GROUP_BYTES:
                caller, jobs = self._waiting.popitem(last=False)
                self._taken.append(jobs.popleft())
                size += self._taken[-1].size
                if jobs:
                    self._waiting[caller] = jobs
            self._count -= len(self._taken)
            return list(self._taken)

    def release(self) -> None:
        """The group that was taken is done."""
        with self._changed:
            self._bytes -= sum(job.size for job in self._taken if not job.patient)
            self._taken.clear()

    def futures(self) -> Sequence[Future[Any]]:
        """Of all that wait or are being written."""
        with self._changed:
            waiting = [job.future for jobs in self._waiting.values() for job in jobs]
            return [*waiting, *(job.future for job in self._taken)]

    def close(self) -> None:
        """Takes no more; what waits is still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify()
