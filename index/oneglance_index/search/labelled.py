"""The subjects of an index in memory: their ids and labels, and which of them a filter lets through.

A filter is looked at once for every subject, 2 to 4 us each on a busy machine; from then on only for those that
change, as long as it is among the last few. Labels take the bytes of their JSON and about 130 more for each subject
that has any.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from oneglance_core.names import composed
from oneglance_index.records import Integers, SubjectFilter
from oneglance_index.search.rows import SubjectIds

# So many filters are kept, those asked about last.
_FILTERS = 8
_as_json = json.JSONEncoder(ensure_ascii=False).encode


class HeldSubjects:
    """`ids`, and `labels` as JSON of those that have any, both by the subjects' numbers. Not safe for threads."""

    def __init__(self, ids: Mapping[int, str], labels: Mapping[int, bytes]) -> None:
        self._ids = SubjectIds(ids)
        self._labels = {number: _canonical(text) for number, text in labels.items()}
        self._let_through: OrderedDict[SubjectFilter, LetThrough] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, number: int) -> str:
        """The id."""
        return self._ids[number]

    def labels(self, number: int) -> dict[str, str]:
        return json.loads(self._labels.get(number, b"{}"))  # type: ignore[no-any-return]

    def put(self, number: int, subject_id: str, labels: bytes | None) -> None:
        """Adds a subject, or gives one that is in this id and these labels; None: it keeps what it has."""
        self._ids.add(number, subject_id)
        if labels is not None:
            self._labels.pop(number, None)
            if len(labels) > 2:
                self._labels[number] = _canonical(labels)
        for wanted, known in self._let_through.items():
            known.put(number, self._passes(wanted, number))

    def remove(self, number: int) -> None:
        """Does nothing where there is no such subject."""
        self._ids.remove(number)
        self._labels.pop(number, None)
        for known in self._let_through.values():
            known.put(number, False)

    def let_through(self, wanted: SubjectFilter) -> LetThrough:
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

    def those(self, wanted: SubjectFilter) -> Iterator[tuple[str, bytes]]:
        """The ids, and the labels as JSON, of those that a filter lets through."""
        for number, subject_id in self._ids.items():
            if self._passes(wanted, number):
                yield subject_id, self._labels.get(number, b"{}")

    def _passes(self, wanted: SubjectFilter, number: int) -> bool:
        if wanted.id_prefix and not self._ids[number].startswith(wanted.id_prefix):
            return False
        if not wanted.labels:
            return True
        text = self._labels.get(number, b"")
        # It is in the JSON of one that passes, and hardly ever in that of another: to read them all takes far longer.
        return all(one in text for one in wanted.texts) and wanted.labels_pass(json.loads(text))


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
