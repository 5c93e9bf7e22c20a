"""What a kind of index must do to serve the active generation of a gallery. registry.py says which kinds there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from oneglance_index.approximation import Approximation, ApproximationState
from oneglance_index.errors import GalleryError
from oneglance_index.records import Change, Checksum, Found, Rows, Search
from oneglance_index.search.labelled import Directory


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


class Frozen(Protocol):
    """The encodings of a generation at a revision, for a snapshot. Later changes don't show."""

    @property
    def revision(self) -> int: ...
    @property
    def encodings(self) -> int:
        """How many there are."""

    @property
    def by_subject(self) -> bool:
        """Whether they come subject by subject, those of one oldest first, instead of in order of number."""

    def blocks(self) -> Iterator[Rows]:
        """All of them, in blocks small enough for memory."""


class GalleryIndex(Protocol):
    """A cache of one generation's encodings that can be searched. Safe for any thread.

    It may hold them in memory or elsewhere. `kind` names it in answers; `exact` is whether its candidates are surely
    the nearest.
    """

    kind: str
    exact: bool
    dimension: int

    @property
    def device(self) -> str:
        """Where searches run now."""

    def load(self, revision: int, subjects: Mapping[int, str] | Directory, capacity: int) -> None:
        """Starts from a known state, before any search: called once, then append() with the rows of that state.
        `subjects`: their ids by number, or who knows them."""

    def append(self, rows: Rows) -> None:
        """Adds a block of encodings, whose numbers are above all there are; where the rule of fusion has templates, all
        encodings of some subjects instead, one subject after the other."""

    def reserve(self, encodings: int, subjects: int) -> None:
        """Makes room for so many encodings, and among them those of so many new subjects, besides what append() and
        apply() brought, before they are committed: apply() must then not fail for want of it. Each call is instead of
        the one before. Raises MemoryError, DeviceLost; must not wait for a search.
        """

    def checksum(self) -> Checksum:
        """What the index holds, to be compared with what the store holds."""

    def apply(self, *changes: Change) -> None:
        """Takes over changes of one committed transaction, in order; must not wait for a search. Later searches see
        all of them."""

    def search(self, searches: Sequence[Search]) -> list[Found | GalleryError]:
        """Answers all questions, at least one, from one revision; the i-th answers the i-th.

        Their probes are known to be usable and of this dimension, their encoder to be the right one. One that there is
        no memory for gets OutOfMemory in place of an answer; that is raised where it concerns all. Raises
        ChangedMeanwhile where it is to be asked again, and what the directory of load() raises.
        """

    def info(self) -> IndexInfo: ...

    def freeze(self) -> Frozen | None:
        """The present encodings; searches and changes go on meanwhile. None where it doesn't hold them all: where the
        rule of fusion has templates a snapshot is made of what the store holds, else there is none."""

    def improve(self) -> bool:
        """A part of what makes searches faster, and can be done while they go on. Whether there may be more to do.
        Raises MemoryError, DeviceLost."""

    def retire(self, drop: bool) -> None:
        """Another takes its place, or (`drop`) its gallery is deleted: what it holds elsewhere is written no more, or
        removed. It may be searched yet."""

    def approximate(self, wanted: Approximation | None) -> None:
        """What its answers may lose from now on, None: nothing. Those that can't be approximate stay exact. Quick."""

    def approximation(self) -> ApproximationState | None:
        """How its answers come about; None where they may lose nothing. Quick: no search is waited for."""

    def alarm(self, stay_exact: bool) -> None:
        """Live searches lost more than they may: they look farther from now on, or are exact."""

    def wants_tending(self) -> bool:
        """Whether tend() has anything to do. Quick."""

    def tend(self, ended: Callable[[], bool]) -> None:
        """Does what answers that may be approximate need, in the background, until `ended`; by one thread at a time.
        Raises MemoryError."""

    def wants_compaction(self) -> bool:
        """Whether deleted encodings have left enough behind to be worth compact()."""

    def compact(self) -> None:
        """Forgets what deleted encodings have left behind."""


class RowIndex(GalleryIndex, Protocol):
    """A GalleryIndex whose rows may be templates, or of some of the subjects only: ExactIndex says how."""

    def pass_over(self, revision: int) -> None:
        """All changes up to a revision that concern its rows were applied."""
