"""MilvusIndex: the rows of a gallery at Milvus, searched exactly; the last changes are here.

A cache of the store, as every index: the store holds every encoding, encrypted, and its commit alone is the write. What
was committed is applied here at once, and written to Milvus behind that, by a thread for all indexes: a search takes
Milvus's rows, without those that changed since, and the rows here, until they are surely there. So a search sees all
that is done, waits for no time tick, and neither a write nor a deletion waits for Milvus. Rows never change under a
search: what is written to Milvus is masked by what is here for every search that can meet it.

When it is loaded, number and stamp of every row at Milvus are compared with the store; what differs is written. So
whatever was under way when either of them died comes out whole.

What is deleted is in no answer from then on. Milvus's files have it until they are compacted, which Milvus does by
itself once a fifth of one is deleted. So now and then, where something was deleted, nothing is written for some
seconds, and Milvus is asked to compact until its files have as many rows as there are (writer.py says when).

Not here, but in this process: number and stamp of each row; and once a search had a filter ids and labels of subjects,
about 200 bytes each.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from oneglance_index.approximation import Approximation
from oneglance_index.errors import EngineUnavailable, EngineUnsupported, GalleryError
from oneglance_index.records import (
    EVERYBODY,
    Change,
    Checksum,
    Found,
    Integers,
    Rows,
    Search,
    SubjectFilter,
    Vectors,
)
from oneglance_index.search.answering import Whole, answer, near_subjects, who_is_told
from oneglance_index.search.arrivals import Arrivals
from oneglance_index.search.exact import wanted_by
from oneglance_index.search.kinds import IndexInfo
from oneglance_index.search.labelled import Directory, HeldSubjects, read_everybody
from oneglance_index.search.milvus.engine import Collection, Engine, Hits, Known, NotForgotten
from oneglance_index.search.milvus.held import HeldRows
from oneglance_index.search.milvus.nearest import Finder, Local
from oneglance_index.search.milvus.writer import Writer

log = logging.getLogger(__name__)

# So many rows may be here that aren't surely at Milvus: more enrollments wait, so long at most.
_MOST_BYTES = 64 << 20
_ROOM_SECONDS = 30.0
# So many rows that came are worth the second or so that sealing them takes Milvus, or this part of all: each time costs
# up to four witnesses.
_MANY_ROWS = 8192
_MANY_OF = 8
# So long Milvus may take at most until its files have forgotten: it writes so many rows a second, or more.
_FORGETTING_SECONDS, _FORGOTTEN_EACH_SECOND = 300.0, 10_000
_NONE: Integers = np.empty(0, np.int64)


class _Row(NamedTuple):
    """A row that changed; no vector: it is gone. `change` is different for each change."""

    subject: int
    vector: Vectors | None
    change: int


class _Strays(Exception):
    """Rows at Milvus don't count, and are masked from now on: ask again."""


class MilvusIndex:
    """The rows of one part of a generation; `templates` as of ExactIndex, `some` as of HeldSubjects. `writer` is told
    when there is anything to write. Safe for any thread: one search at a time, and apply() never waits for it."""

    kind = "flat"
    exact = True

    def __init__(
        self, engine: Engine, writer: Writer, collection: Collection, templates: bool = False, some: bool = False
    ) -> None:
        self.dimension = collection.dimension
        self._engine, self._writer, self._collection = engine, writer, collection
        self._templates, self._some = templates, some
        self._made = False  # whether the collection is there, as this index knows it
        self._since = 0  # of Engine.write
        self._subjects = HeldSubjects({})
        self._reading = threading.Lock()  # one at a time reads everybody
        self._revision, self._rows, self._total, self._change = 0, 0, 0, 0
        self._here: dict[int, _Row] = {}
        self._local: Local | None = None  # of what is here
        self._unclaimed: Known | None = None  # while it is loaded
        self._claimed = np.empty(0, np.bool_)
        self._gone = 0
        # Since when, by time.time(), something at Milvus is to be deleted or replaced by what is here; None: nothing.
        self._to_forget: int | None = None
        self._held = HeldRows()
        # Guards everything above; held during a search.
        self._lock = threading.Lock()
        # Rows written since Milvus was last asked to seal them, and how many rows are there; guarded by `_writing`.
        self._unsealed, self._rows_there = 0, 0
        # Held while rows of this generation are written to Milvus.
        self._writing = writer.turn_of(collection.generation)
        lock = threading.Lock()
        self._arrivals = Arrivals(lock)
        self._waiting_rows, self._wait_for_room = 0, 0
        # Guards those above; told when there is more room.
        self._room = threading.Condition(lock)

    @property
    def device(self) -> str:
        return self._engine.name

    def load(self, revision: int, subjects: Mapping[int, str] | Directory, capacity: int) -> None:
        self._revision = revision
        self._arrivals.reached(revision)
        self._subjects = HeldSubjects(subjects, some=self._some)
        with self._writing:  # whoever had the collection before is retired, and has written
            self._engine.drop_others(self._collection)
            self._unclaimed = self._engine.known(self._collection)
            if self._unclaimed is None:
                self._engine.drop(self._collection)
            else:
                nothing = self._rows_of({})
                self._since = self._engine.write(self._collection, nothing.numbers, nothing, nothing.numbers, None)
        self._made = self._unclaimed is not None
        self._writer.look_after(self)
        if self._unclaimed is not None:
            self._claimed = np.zeros(len(self._unclaimed.numbers), np.bool_)

    def append(self, rows: Rows) -> None:
        with self._lock:
            self._subjects.came(rows.subjects)
            stamps = stamps_of(rows)
            self._held.add(rows.numbers, stamps)
            missing = self._claim(rows, stamps)
            for number, subject, vector in zip(
                missing.numbers.tolist(), missing.subjects.tolist(), missing.vectors, strict=True
            ):
                self._put(number, subject, vector.copy())
            self._rows += len(rows.numbers)
            self._total += int(rows.numbers.sum())
            many = len(self._here) * 4 * self.dimension > _MOST_BYTES
        if many:
            self.write()

    def _claim(self, rows: Rows, stamps: Integers) -> Rows:
        """Those of these rows that Milvus doesn't have as they are."""
        known = self._unclaimed
        if known is None or not len(known.numbers):
            return rows
        at = np.minimum(np.searchsorted(known.numbers, rows.numbers), len(known.numbers) - 1)
        there = known.numbers[at] == rows.numbers
        same = there & (known.stamps[at] == stamps)
        self._claimed[at[there]] = True
        if same.sum() < there.sum():
            self._is_to_forget()
        return rows.at(~same)

    def _is_to_forget(self) -> None:
        self._to_forget = self._to_forget or int(time.time())

    def _settle(self) -> None:
        """It is loaded: what Milvus has besides is to go; the lock is held."""
        if self._unclaimed is not None:
            unclaimed = self._unclaimed.numbers[~self._claimed].tolist()
            if unclaimed:
                self._is_to_forget()
            for number in unclaimed:
                self._put(number, -1, None)
            self._unclaimed, self._claimed = None, np.empty(0, np.bool_)
        if self._here:
            self._writer.due(self)

    def _put(self, number: int, subject: int, vector: Vectors | None) -> None:
        self._change += 1
        self._here[number] = _Row(subject, vector, self._change)
        self._local = None

    def reserve(self, encodings: int, subjects: int) -> None:
        most = max(1, _MOST_BYTES // (4 * self.dimension))
        until = time.monotonic() + _ROOM_SECONDS
        with self._room:
            self._wait_for_room += 1
            try:
                while self._waiting_rows and self._waiting_rows + encodings > most:
                    trouble = self._engine.trouble()
                    if trouble or (
                        not self._room.wait(min(1.0, until - time.monotonic())) and time.monotonic() >= until
                    ):
                        raise EngineUnavailable(self.device, trouble or "more is enrolled than it takes")
            finally:
                self._wait_for_room -= 1

    def checksum(self) -> Checksum:
        with self._lock:
            self._drain()
            return Checksum(self._rows, self._total)

    def apply(self, *changes: Change) -> None:
        with self._room:
            self._arrivals.add(changes)
            self._waiting_rows += sum(len(change.added) for change in changes)
        self._writer.due(self)

    def pass_over(self, revision: int) -> None:
        self._arrivals.reached(revision)

    def _drain(self) -> None:
        """Takes over what is pending; the lock is held."""
        self._settle()
        with self._room:
            changes = list(self._arrivals.pending)
            self._arrivals.pending.clear()
        for change in changes:
            if change.subject_id and change.removed_subject is None:
                self._subjects.put(change.subject, change.subject_id, change.labels)
            self._held.remove(change.removed)
            for number in change.removed.tolist():
                self._put(number, -1, None)
            added = Rows(change.added, np.full(len(change.added), change.subject, np.int64), change.vectors)
            self._held.add(change.added, stamps_of(added))
            for number, vector in zip(change.added.tolist(), change.vectors, strict=True):
                self._put(number, change.subject, vector)
            self._rows += len(change.added) - len(change.removed)
            self._total += int(change.added.sum()) - int(change.removed.sum())
            self._gone += len(change.removed)
            if len(change.removed):
                self._is_to_forget()
            if change.removed_subject is not None:
                self._subjects.remove(change.removed_subject)
            self._revision = change.revision

    def search(self, searches: Sequence[Search]) -> list[Found | GalleryError]:
        if any(search.among != EVERYBODY for search in searches):
            read_everybody(self._reading, self._drained, self._arrivals)
        with self._lock:
            self._drain()
            answers: dict[int, Found | GalleryError] = {}
            for among in dict.fromkeys(search.among for search in searches):
                asked = [at for at, search in enumerate(searches) if search.among == among]
                sound = [at for at in asked if not searches[at].by_probability]
                answers |= {at: EngineUnsupported(self.device, "deciding by probability") for at in asked}
                if sound:
                    found = self._among(among, [searches[at] for at in sound])
                    answers |= dict(zip(sound, found, strict=True))
            return [answers[at] for at in range(len(searches))]

    @contextlib.contextmanager
    def _drained(self) -> Iterator[HeldSubjects]:
        """The subjects as they are; the lock is held meanwhile."""
        with self._lock:
            self._drain()
            yield self._subjects

    def _among(self, among: SubjectFilter, searches: Sequence[Search]) -> list[Found]:
        through = None if among == EVERYBODY else self._subjects.let_through(among)
        live = len(self._subjects) if through is None else through.count
        each = -(-self._rows // max(1, len(self._subjects)))
        probes = np.concatenate([one.probes for one in searches])
        while True:
            local = self._local_rows()
            ask = functools.partial(self._ask, local.masked)
            try:
                finder = Finder(ask, self.dimension, local, through, live, each)
                ranked = iter(finder.nearest(probes, wanted_by(searches)))
                break
            except _Strays:  # they are masked by now
                continue
        whole = Whole(self._revision, len(self._subjects), self._rows, True, self.kind, self.device)
        found = []
        parts = [[next(ranked) for _ in search.probes] for search in searches]
        named = who_is_told(
            *(self._subjects, searches, [[one for _, one in part] for part in parts]),
            *(self._revision, self._arrivals.concern),
        )
        for search, of_probes in zip(searches, parts, strict=True):
            near = near_subjects(
                search,
                [one for _, one in of_probes],
                [table.vectors for table, _ in of_probes],
                named,
                not self._templates,
            )
            one = answer(search, near, whole)
            found.append(one if through is None else replace(one, among=through.count))
        return found

    def _ask(self, masked: Integers, probes: Vectors, most: int, where: str, reach: float | None) -> Hits:
        """Raises _Strays."""
        if not self._made:
            q = len(probes)
            nobody = np.empty((q, 0), np.int64)
            nothing = np.empty((q, 0), np.float32)
            return Hits(nothing, nobody, nobody, np.empty((q, 0, self.dimension), np.float32), np.ones(q, np.bool_))
        hits = self._engine.nearest(self._collection, probes, most, self._since, where, reach)
        self._sift(hits, masked)
        return hits

    def _sift(self, hits: Hits, masked: Integers) -> None:
        """Raises _Strays where others than `masked` don't count: there could be as many as were asked for, and where
        one has the number of a row that counts, Milvus tells one of the two. They are masked from then on, and what is
        there is put right."""
        there = hits.numbers >= 0
        rows = Rows(hits.numbers[there], hits.subjects[there], hits.vectors[there])
        strays = ~self._held.count(rows.numbers, stamps_of(rows)) & ~np.isin(rows.numbers, masked)
        if strays.any():
            self._put_right(np.unique(rows.numbers[strays]))
            raise _Strays

    def _put_right(self, numbers: Integers) -> None:
        """Milvus has rows of these numbers that don't count; the lock is held."""
        self._is_to_forget()
        for number, subject, vector in self._engine.rows(self._collection, self._held.those_of(numbers), self._since):
            self._put(number, subject, vector)
        for number in numbers.tolist():
            if number not in self._held:
                self._put(number, -1, None)
        self._writer.due(self)
        if not all(number in self._here for number in numbers.tolist()):
            raise EngineUnavailable(self.device, "it lacks rows that were brought there, as a restart does again")

    def _local_rows(self) -> Local:
        if self._local is None:
            rows = self._rows_of(self._here)
            self._local = Local(np.array(sorted(self._here), np.int64), rows.numbers, rows.subjects, rows.vectors)
        return self._local

    def _rows_of(self, here: Mapping[int, _Row]) -> Rows:
        """Those that aren't gone."""
        live = [(number, row.subject, row.vector) for number, row in here.items() if row.vector is not None]
        vectors = np.array([vector for _, _, vector in live], np.float32).reshape(-1, self.dimension)
        numbers = np.array([number for number, _, _ in live], np.int64)
        return Rows(numbers, np.array([subject for _, subject, _ in live], np.int64), vectors)

    def write(self) -> bool:
        """Brings what is here to Milvus. Whether there is more by now. Raises EngineUnavailable."""
        with self._writing:
            return not self._arrivals.retired and self._write()

    def _write(self) -> bool:
        with self._lock:
            if self._unclaimed is None:
                self._drain()
            here, rows_there, to_forget = dict(self._here), self._rows, self._to_forget
            if here:
                self._to_forget = None
        if not here:
            self._rows_there = rows_there
            return False
        try:
            rows = self._rows_of(here)
            gone = np.array([number for number, row in here.items() if row.vector is None], np.int64)
            if not self._made:
                self._engine.make(self._collection)
            since = self._engine.write(self._collection, gone, rows, stamps_of(rows), to_forget)
        except BaseException:
            with self._lock:
                self._to_forget = to_forget or self._to_forget
            raise
        self._unsealed += len(here)
        self._rows_there = rows_there
        with self._lock:
            self._made, self._since = True, since
            for number, row in here.items():
                if self._here[number].change == row.change:
                    del self._here[number]
            self._local = None
            left = len(self._here)
        with self._room:
            self._waiting_rows = left + sum(len(change.added) for change in self._arrivals.pending)
            self._room.notify_all()
            return bool(left or self._arrivals.pending)

    def seal(self) -> None:
        """Milvus searches what came lately several times as slow as the rest, until it has sealed it; by itself it does
        so after minutes."""
        with self._writing:
            if self._unsealed >= max(_MANY_ROWS, self._rows // _MANY_OF) and not self._arrivals.retired:
                self._engine.seal(self._collection)
                self._unsealed = 0

    def unforgotten_since(self) -> int | None:
        """As of Engine; None, too, while it isn't known."""
        return self._engine.unforgotten_since(self._collection) if self._made and self._unclaimed is None else None

    def has_room(self) -> bool:
        """Whether nothing needs to be written soon."""
        waiting = 4 * self.dimension * self._waiting_rows
        return self._arrivals.retired or (not self._wait_for_room and waiting < _MOST_BYTES // 2)

    def forget(self, go_on: Callable[[], bool]) -> None:
        """Has Milvus's files forget what was deleted, while `go_on` says so and nobody else wants to write; raises
        NotForgotten where they haven't, and EngineUnavailable."""
        with self._writing:
            if self._arrivals.retired:
                return
            self._write()
            gone = self._gone
            until = time.monotonic() + max(_FORGETTING_SECONDS, self._rows_there / _FORGOTTEN_EACH_SECOND)

            def may_go_on() -> bool:
                return go_on() and not self._writing.wanted and not self._arrivals.retired

            try:
                self._engine.forget(
                    self._collection, self._rows_there, lambda: may_go_on() and time.monotonic() < until
                )
            except NotForgotten:
                if may_go_on():  # what Milvus didn't delete it doesn't forget
                    self._find_strays(may_go_on)
                raise
            with self._lock:
                self._gone -= gone

    def _find_strays(self, go_on: Callable[[], bool]) -> None:
        with self._lock:
            numbers, stamps = self._held.all()
        for strays in self._engine.strays(self._collection, numbers, stamps, self._since):
            with self._lock:
                self._drain()
                strays = np.array([number for number in strays.tolist() if number not in self._here], np.int64)
                if len(strays):
                    self._put_right(strays)
            if not go_on():
                return

    @property
    def name(self) -> str:
        return self._collection.name

    @property
    def retired(self) -> bool:
        return self._arrivals.retired

    def retire(self, drop: bool) -> None:
        """Nothing is written from here on; the rows at Milvus are removed if they are to be dropped."""
        self._arrivals.retire()
        if drop:
            self._writer.drop(self)

    def drop(self) -> None:
        """All rows of the generation, those of a former rule of fusion, too."""
        with self._writing:
            self._engine.drop_others(self._collection)
            self._engine.drop(self._collection)

    def info(self) -> IndexInfo:
        with self._lock:
            self._drain()
            memory = len(self._here) * 4 * self.dimension
            return IndexInfo(
                *(self.kind, self.device, self.exact, self._revision, len(self._subjects), self._rows),
                *(self._gone, memory),
            )

    def improve(self) -> bool:
        return False

    def freeze(self) -> None:
        """The store has them all."""

    def approximate(self, wanted: Approximation | None) -> None:
        """It stays exact."""

    def approximation(self) -> None:
        """None: it is exact."""

    def alarm(self, stay_exact: bool) -> None:
        """Of no use here."""

    def wants_tending(self) -> bool:
        return False

    def tend(self, ended: Callable[[], bool]) -> None:
        """There is nothing to do."""

    def wants_compaction(self) -> bool:
        """Never: Milvus does by itself what searches gain by, and forget() the rest."""
        return False

    def compact(self) -> None:
        self.write()  # once: there is always more while others write
        with self._writing:
            if self._made and not self._arrivals.retired:
                self._engine.compact(self._collection)


def stamps_of(rows: Rows) -> Integers:
    """A hash of each row's vector and subject, int64 [n], to be compared with a row's at Milvus."""
    words = rows.vectors.view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        position = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (position ^ (position >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) | np.uint64(1)
        total = (words * mixed).sum(axis=1, dtype=np.uint64) + rows.subjects.astype(np.uint64) * np.uint64(
            0x94D049BB133111EB
        )
        stamps: Integers = (total ^ (total >> np.uint64(31))).view(np.int64)
        return stamps
