"""What a kind of index must do to serve a gallery, so that others can stand beside the exact one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from oneglance_index.records import Change, Found, Integers, Search, Vectors


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index as it stands. `memory_bytes` counts the arrays on the host."""

    kind: str
    device: str
    exact: bool
    revision: int
    subjects: int
    encodings: int
    dead_rows: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """The rows of an index at a revision, dead ones included; nobody changes these arrays any more.

    numbers and subjects int64 [n], subjects -1 for a dead row; vectors float32 [n, D].
    """

    revision: int
    numbers: Integers
    subjects: Integers
    vectors: Vectors


class GalleryIndex(Protocol):
    """A cache of one gallery's encodings that can be searched. Safe for any thread.

    `kind` names it in answers; `exact` is whether its candidates are surely the nearest.
    """

    kind: str
    exact: bool
    device: str
    dimension: int

    def load(self, revision: int, subject_ids: dict[int, str], capacity: int) -> None:
        """Starts from a known state, before any search: called once, then append() with the rows of that state."""

    def append(self, numbers: Integers, subjects: Integers, vectors: Vectors) -> None:
        """Adds rows: numbers int64 [n] ascending and above all there are, subjects int64 [n], float32 [n, D]."""

    def apply(self, change: Change) -> None:
        """Takes over a committed change, in order; must not wait for a search. Later searches see it."""

    def search(self, searches: Sequence[Search]) -> list[Found]:
        """Answers all questions, at least one, from one revision; the i-th answers the i-th.

        Their probes are known to be usable and of this dimension, their encoder to be the right one.
        """

    def info(self) -> IndexInfo: ...

    def freeze(self) -> Frozen:
        """The present rows, for a snapshot; searches and changes go on meanwhile."""

    def wants_compaction(self) -> bool:
        """Whether deleted encodings have left enough behind to be worth compact()."""

    def compact(self) -> None:
        """Forgets what deleted encodings have left behind."""
