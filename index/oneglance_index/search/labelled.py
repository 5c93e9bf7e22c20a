"""The subjects of an index: how many there are, who they are, and which of them a filter lets through.

Ids and labels stay in the store, and are read for candidates only, until the first filter: that has to look at every
subject, 2 to 4 us each on a busy machine and once more as long to read them, so from then on they are in memory, some
150 bytes each, and a filter is looked at only for those that change, as long as it is among the last few.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from oneglance_core.names import composed
from oneglance_index.errors import GalleryError
from oneglance_index.records import Integers, SubjectFilter, ToldSubjects
from oneglance_index.search.arrivals import Arrivals
from oneglance_index.search.rows import SubjectIds

# So many filters are kept, those asked about last.
_FILTERS = 8
_as_json = json.JSONEncoder(ensure_ascii=False).encode


class ChangedMeanwhile(Exception):
    """A subject that was found is another one, or gone, in the revision that its id was read from: search again."""


class Directory(Protocol):
    """Who the subjects of a gallery are: the store. What it raises is raised by whoever asks."""

    def __len__(self) -> int:
        """How many there are when the index is loaded."""

    def those(self, numbers: AbstractSet[int], labelled: AbstractSet[int]) -> ToldSubjects:
        """Subjects of these numbers, and the labels of some; those that aren't there are left out. Raises
        ChangedMeanwhile where the gallery is gone."""

    def everybody(self) -> ToldSubjects:
        """All there are now, with their labels."""

    def lacks(self, number: int) -> GalleryError:
        """The error where a subject is missing that must be there."""


class Named(NamedTuple):
    """Ids of some subjects, and labels of some of these, by their numbers."""

    ids: Mapping[int, str]
    labels: Mapping[int, Mapping[str, str]]


# Whether a change that the index doesn't show yet, of a revision up to this one, concerns one of these subjects.
Concerns = Callable[[int, AbstractSet[int]], bool]


class HeldSubjects:
    """`given`: who they are, by number, or who knows. With `some` those of whom rows come are subjects of the index, in
    any order; else a new one has a higher number than all before. Not safe for threads."""

    def __init__(self, given: Mapping[int, str] | Directory, *, some: bool = False) -> None:
        self._directory = None if isinstance(given, Mapping) else given
        self._ids = SubjectIds(given if isinstance(given, Mapping) else {})
        self._labels: dict[int, bytes] = {}
        self._let_through: OrderedDict[SubjectFilter, LetThrough] = OrderedDict()
        self._count, self._last = len(given), 0
        self._some: set[int] | None = set() if some else None
        # What was put (an id) or removed (None) since everybody is being read.
        self._since: list[tuple[int, str | None, bytes | None]] | None = None

    def __len__(self) -> int:
        if self._some is not None:
            return len(self._some)
        return len(self._ids) if self.in_memory else self._count

    def came(self, subjects: Integers) -> None:
        """Rows of these came, of those that `given` knows of or of `some`."""
        self._last = max(self._last, int(subjects.max(initial=0)))
        if self._some is not None:
            self._some.update(subjects.tolist())

    def named(self, numbers: AbstractSet[int], labelled: AbstractSet[int], revision: int, concerns: Concerns) -> Named:
        """Who these are at a revision. Raises ChangedMeanwhile, and what the directory raises."""
        if self._directory is None:
            ids = {number: self._ids[number] for number in numbers}
            return Named(ids, {number: json.loads(self._labels.get(number, b"{}")) for number in labelled})
        if not numbers:
            return Named({}, {})
        told = self._directory.those(numbers, labelled)
        if told.revision != revision and concerns(told.revision, numbers):
            raise ChangedMeanwhile
        for number in numbers:
            if number not in told.ids:
                raise self._directory.lacks(number)
        labels = {number: json.loads(_canonical(told.labels.get(number, b"{}"))) for number in labelled}
        return Named(told.ids, labels)

    @property
    def in_memory(self) -> bool:
        """Whether filters can be looked at."""
        return self._directory is None

    def begin_reading(self) -> Directory:
        """Everybody is going to be read: from here on changes are kept for know()."""
        assert self._directory is not None
        self._since = []
        return self._directory

    def end_reading(self) -> None:
        """That failed."""
        self._since = None

    def know(self, told: ToldSubjects) -> None:
        """Everybody was read: they are in memory from here on. Raises MemoryError."""
        assert self._since is not None
        self._ids = SubjectIds(told.ids)
        self._labels = {number: _canonical(text) for number, text in told.labels.items()}
        since, self._since, self._directory = self._since, None, None
        for number, subject_id, labels in since:
            if subject_id is None:
                self.remove(number)
            else:
                self.put(number, subject_id, labels)

    def put(self, number: int, subject_id: str, labels: bytes | None) -> None:
        """Adds a subject, or gives one that is in this id and these labels; None: it keeps what it has."""
        if self._since is not None:
            self._since.append((number, subject_id, labels))
        if self._some is not None:
            self._some.add(number)
        if not self.in_memory:
            if number > self._last:
                self._last, self._count = number, self._count + 1
            return
        self._ids.add(number, subject_id)
        if labels is not None:
            self._labels.pop(number, None)
            if len(labels) > 2:
                self._labels[number] = _canonical(labels)
        for wanted, known in self._let_through.items():
            known.put(number, self._passes(wanted, number))

    def remove(self, number: int) -> None:
        """One that is in, or of `some` and in memory perhaps."""
        if self._since is not None:
            self._since.append((number, None, None))
        if self._some is not None:
            self._some.discard(number)
        if not self.in_memory:
            self._count -= 1
            return
        self._ids.remove(number)
        self._labels.pop(number, None)
        for known in self._let_through.values():
            known.put(number, False)

    def let_through(self, wanted: SubjectFilter) -> LetThrough:
        """Only where they are in memory."""
        known = self._let_through.get(wanted)
        if known is None:
            known = LetThrough()
            for number, _ in self._ids.items():
                if self._passes(wanted, number):
                    known.put(number, True)
            self._let_through[wanted] = known
            if len(self._let_through) > _FILTERS:
                self._let_through.popitem(last=False)
        self._let_through.move_to_end(wanted)
        return known

    def _passes(self, wanted: SubjectFilter, number: int) -> bool:
        return passes(wanted, self._ids[number], self._labels.get(number, b""))


# The subjects of an index, with all that it was told of; its lock is held in the block.
Drained = Callable[[], AbstractContextManager[HeldSubjects]]


def read_everybody(reading: threading.Lock, drained: Drained, arrivals: Arrivals) -> None:
    """Reads who the subjects are, unless they are in memory: searches without a filter go on meanwhile. `reading` is
    held by one at a time. Raises ChangedMeanwhile, and what the directory raises."""
    with reading:
        with drained() as held:
            if held.in_memory:
                return
            directory = held.begin_reading()
        try:
            told = directory.everybody()
            if not arrivals.have_come(told.revision):
                raise ChangedMeanwhile
            with drained() as held:
                held.know(told)
        except BaseException:
            with drained() as held:
                held.end_reading()
            raise


def passes(wanted: SubjectFilter, subject_id: str, labels: bytes) -> bool:
    """Whether a filter lets a subject with these labels, as canonical JSON, through."""
    if wanted.id_prefix and not subject_id.startswith(wanted.id_prefix):
        return False
    if not wanted.labels:
        return True
    # It is in the JSON of one that passes, and hardly ever in that of another: to read them all takes far longer.
    return all(one in labels for one in wanted.texts) and wanted.labels_pass(json.loads(labels))


class LetThrough:
    """The subjects that a filter lets through: a flag for each number, and how many there are."""

    def __init__(self) -> None:
        self._flags = np.zeros(1024, np.bool_)
        self.count = 0

    def put(self, number: int, passes: bool) -> None:
        # The last one is never set: the number of a dead row is -1.
        if number + 1 >= len(self._flags):
            if not passes:
                return
            grown = np.zeros(number + number // 4 + 1024, np.bool_)
            grown[: len(self._flags)] = self._flags
            self._flags = grown
        self.count += int(passes) - int(self._flags[number])
        self._flags[number] = passes

    def numbers(self) -> Integers:
        """Theirs, int64, ascending."""
        return np.flatnonzero(self._flags)

    def of(self, subjects: Integers) -> NDArray[np.bool_]:
        """For each of these numbers, -1 for none, whether it is among them."""
        last = len(self._flags) - 1
        found: NDArray[np.bool_] = self._flags[np.minimum(subjects, last)]
        return found


def _canonical(labels: bytes) -> bytes:
    """Composed, and as this version writes JSON: earlier ones wrote it otherwise."""
    if b"\\" not in labels and labels.isascii():
        return labels
    told = {composed(key): composed(value) for key, value in json.loads(labels).items()}
    return _as_json(told).encode()
