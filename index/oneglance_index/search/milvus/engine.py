"""Engine: the few things that are done at Milvus with the rows of an index.

A row is a number, by which it is upserted, a subject's number, a stamp (a hash of the rest) and the vector. What
was written is seen by a search that names the time of that write (`guarantee_timestamp`): Milvus's weaker levels
return rows that were deleted, and Strong waits for a time tick at each search. A deletion is told no time, so each
write ends with an upsert of a row that is nobody's, MARK. Its stamp says which witnesses there are (witnesses.py): an
answer without one of them isn't taken.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from oneglance_index.errors import DeviceUnavailable
from oneglance_index.records import Integers, Rows, Vectors
from oneglance_index.search.milvus.connection import Connection
from oneglance_index.search.milvus.witnesses import Segments, Witnesses

log = logging.getLogger(__name__)

SCHEMA = 5
PREFIX = "oneglance_"
# The parts of a generation, by rule of fusion: where there are some, there are no others.
FAMILIES = ({"encodings"}, {"templates", "singles"})
# Milvus gives no more rows than this to one probe, or one query.
MOST_ROWS = 16_384
# A row of nobody, upserted behind each write.
MARK = -1
# The first witness; the next ones count down.
WITNESS = -2
# So many rows each search asks for at least: with more witnesses nothing is sealed any more, and the next start makes
# the collection anew.
_MOST_WITNESSES = 512
MAX_DIMENSION = 32_768
_CALL_SECONDS = 10.0
_EVERY_SECONDS = 60.0
_VALUES_AT_ONCE = 1 << 20  # of an upsert: 4 MB, below the size of a message
_LARGEST = 1 << 62
_ROW = ("number", "subject", "vector")
# Milvus compacts only what it has an index of already, which takes it some seconds: so often it is asked again.
_COMPACT_EVERY_SECONDS = 10.0
_FORGETTING_PAUSE_SECONDS = 0.2
_MANY_VECTORS = 128  # take as long as another request
_STRAYS_AMONG = 4096  # rows in one expression, by their numbers and stamps
_ROWS_BY_STAMP = 256  # of up to 32,768 numbers each
# Of an answer's vectors: Milvus sends 64 MB at most.
_ANSWER_BYTES = 48 << 20


def most_rows(dimension: int) -> int:
    """So many rows can be asked for near each probe; twice as many in all, with those near the witnesses."""
    return min(MOST_ROWS, _ANSWER_BYTES // (8 * dimension))


def _most_witnesses(dimension: int) -> int:
    return min(_MOST_WITNESSES, most_rows(dimension) // 4)


class NotForgotten(Exception):
    """Why Milvus's files may still have deleted rows."""


class _Incomplete(Exception):
    """Milvus answered without rows that it has."""

    def __init__(self, witnesses: int) -> None:
        super().__init__("it answers without all its rows, as while a query node is replaced")
        self.witnesses = witnesses  # so many are in the answer


class Hits(NamedTuple):
    """Rows found near some probes: int64 and float32 [q, f]; number and subject are MARK where there are no more.
    vectors float32 [q, f, D]. `all`: for each probe, bool [q], whether these are all rows that were asked about."""

    distances: Vectors
    numbers: Integers
    subjects: Integers
    vectors: Vectors
    all: Any

    def of(self, at: int) -> Hits:
        """Those of one probe."""
        one = slice(at, at + 1)
        return Hits(self.distances[one], self.numbers[one], self.subjects[one], self.vectors[one], self.all[one])


class Known(NamedTuple):
    """Which rows a collection has: int64 [n] each, in order of number."""

    numbers: Integers
    stamps: Integers


@dataclass(frozen=True, slots=True)
class Collection:
    """The rows of one index of a generation."""

    generation: int
    part: str
    dimension: int

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.generation}_{self.part}"


class Engine:
    """Safe for any thread. Calls raise EngineUnavailable where Milvus doesn't answer. `replicas`: of each row."""

    def __init__(self, milvus: Connection, replicas: int) -> None:
        self._milvus, self._replicas = milvus, replicas
        self._store_id = ""
        self._witnesses: dict[str, Witnesses] = {}  # by collection
        # Since when files of a collection may have deleted rows, by time.time(); MARK's row has it as its subject.
        self._unforgotten: dict[str, int] = {}
        self._full: set[str] = set()  # collections of which it was told that they have too many witnesses

    @property
    def name(self) -> str:
        return self._milvus.name

    def close(self) -> None:
        self._milvus.close()

    def trouble(self) -> str | None:
        return self._milvus.trouble()

    def belongs_to(self, store_id: str) -> None:
        """Rows are those of this store from here on. Raises DeviceUnavailable where others are there."""
        self._store_id = store_id
        for name in self._names():
            self._dimension_of(name)

    def keep_only(self, generations: Sequence[int]) -> None:
        """Removes collections of generations that there are no more."""
        kept = {str(one) for one in generations}
        for name in self._names():
            if name.removeprefix(PREFIX).partition("_")[0] not in kept:
                self._drop(name)

    def drop_others(self, collection: Collection) -> None:
        """Removes what another rule of fusion had of this generation."""
        for name in self._names():
            generation, _, part = name.removeprefix(PREFIX).partition("_")
            mine = next(family for family in FAMILIES if collection.part in family)
            if generation == str(collection.generation) and part not in mine:
                self._drop(name)

    def make(self, collection: Collection) -> None:
        """An empty collection. It takes Milvus some seconds to load one."""
        from pymilvus import DataType

        self._drop(collection.name)
        schema = self._milvus.client.create_schema(auto_id=False, description=f"oneglance {SCHEMA} {self._store_id}")
        schema.add_field("number", DataType.INT64, is_primary=True)
        schema.add_field("subject", DataType.INT64)
        schema.add_field("stamp", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=collection.dimension)
        name, long = collection.name, {"timeout": _EVERY_SECONDS}
        made: dict[str, Any] = {"schema": schema, "consistency_level": "Strong", **long}
        self._milvus.call(lambda client: client.create_collection(name, **made))
        self._begin(collection)
        # Whoever finds an index knows that all above is done.
        index = self._milvus.client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        self._milvus.call(lambda client: client.create_index(name, index, **long))
        self._load(name)

    def _begin(self, collection: Collection) -> None:
        """Writes that there are no witnesses yet, and no deleted rows."""
        self._witnesses[collection.name] = Witnesses()
        self._unforgotten.pop(collection.name, None)
        self._full.discard(collection.name)
        self._mark(collection)

    def drop(self, collection: Collection) -> None:
        self._drop(collection.name)

    def known(self, collection: Collection) -> Known | None:
        """The rows that are there; None where there is no such collection, or one that is better made anew: its making
        was cut off, a former version made it, or its witnesses are too many."""
        name = collection.name
        if name not in self._names() or self._dimension_of(name) != collection.dimension:
            return None
        # A collection is made in several calls: a kill may come in between.
        if not self._milvus.call(lambda client: client.list_indexes(name, timeout=_CALL_SECONDS)):
            return None
        self._load(name)
        witnesses = self._witnesses[name] = self._witnesses_of(name)
        if len(witnesses) >= _most_witnesses(collection.dimension):
            return None
        found = self._between(name, 0, _LARGEST)
        rows = np.array([(one["number"], one["stamp"]) for one in found], np.int64).reshape(-1, 2)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        return Known(rows[:, 0].copy(), rows[:, 1].copy())

    def write(self, collection: Collection, gone: Integers, rows: Rows, stamps: Integers, to_forget: int | None) -> int:
        """Deletes rows by number, and upserts others. `to_forget`: since when, by time.time(), it was due that rows
        that are there are deleted or replaced; None: there are none such. Returns the time from which on searches see
        all of it, once they do."""
        name = collection.name
        if to_forget is not None and name not in self._unforgotten:
            self._mark(collection, unforgotten=to_forget)  # before: whoever is killed behind it has said so
            self._unforgotten[name] = to_forget
        for start in range(0, len(gone), MOST_ROWS):
            which = f"number in {gone[start : start + MOST_ROWS].tolist()}"
            self._milvus.call(functools.partial(_delete, name, which))
        step = max(1, _VALUES_AT_ONCE // collection.dimension)
        entries = [
            {"number": number, "subject": subject, "stamp": stamp, "vector": vector}
            for number, subject, stamp, vector in zip(
                rows.numbers.tolist(), rows.subjects.tolist(), stamps.tolist(), rows.vectors, strict=True
            )
        ]
        at = 0 if entries else self._mark(collection)
        for start in range(0, len(entries), step):
            at = self._append(collection, entries[start : start + step])
        self._milvus.call(functools.partial(_query, name, f"number == {MARK}", ("number",), since=at))
        witnesses = self._witnesses[name]
        witnesses.told = witnesses.last, at
        return at

    def _append(self, collection: Collection, entries: list[dict[str, Any]]) -> int:
        """Upserts rows, and a witness for them, in one request; returns the time of the last one."""
        witnesses = self._witnesses[collection.name]
        which = witnesses.next()
        at = self._mark(collection, entries, which)
        witnesses.wrote(which, self._sealed(collection.name))
        return self._append(collection, []) if witnesses.lone else at

    def _mark(
        self,
        collection: Collection,
        entries: Sequence[dict[str, Any]] = (),
        which: int | None = None,
        unforgotten: int | None = None,
    ) -> int:
        """Upserts MARK, with rows and this witness; returns the time."""
        witnesses, place = self._witnesses[collection.name], self._place_of_witness(collection.dimension)
        stamp = witnesses.last if which is None else max(which, witnesses.last)
        since = unforgotten if unforgotten is not None else self._unforgotten.get(collection.name, MARK)
        nobody = [_nobody(MARK, -place, stamp) | {"subject": since}]
        if which is not None:
            nobody.append(_nobody(WITNESS - which, place, stamp))
        return self._milvus.call(lambda client: _upserted(client, collection.name, [*entries, *nobody]))

    def _sealed(self, name: str) -> Segments:
        """The segments that Milvus has sealed, or is about to."""
        told = self._milvus.call(lambda client: client.list_persistent_segments(name, timeout=_CALL_SECONDS))
        return frozenset(one.segment_id for one in told)

    def _witnesses_of(self, name: str) -> Witnesses:
        """Those that are at Milvus. Learns since when there is something to forget, too."""

        def query(client: Any) -> tuple[Witnesses, int]:
            told = _query(name, f"number <= {MARK}", ("number", "subject", "stamp"), client)
            stamps = {one["number"]: one["stamp"] for one in told}
            if MARK not in stamps:
                raise _Incomplete(len(stamps))
            witnesses = Witnesses(max(stamps.values()))
            _check_whole(witnesses.last, stamps.keys())
            return witnesses, max(one["subject"] for one in told)

        witnesses, since = self._milvus.call(query)

        def former(client: Any) -> int:
            """Where Milvus lost the deletion of a former MARK, it told one of the two."""
            which = f"(number == {MARK} and subject != {MARK}) or number <= {WITNESS}"
            told = _query(name, which, ("number", "subject"), client)
            _check_whole(witnesses.last, {one["number"] for one in told})
            return max((one["subject"] for one in told), default=MARK)

        since = max(since, self._milvus.call(former))
        if since != MARK:
            self._unforgotten[name] = since
        return witnesses

    def nearest(
        self,
        collection: Collection,
        probes: Vectors,
        most: int,
        since: int,
        where: str = "",
        reach: float | None = None,
    ) -> Hits:
        """The `most` rows nearest to each probe float32 [q, D], by Milvus's distance, of those that the expression
        `where` and the distance `reach` let through; `since` is a time that write() returned.

        Each probe is told as many rows as the witnesses' place is. Where those are many more than `most`, the vectors
        of the first are asked for by themselves: the others' would take longer than that."""
        parameters: dict[str, Any] = {"metric_type": "L2", "params": {} if reach is None else {"radius": reach}}
        asked = [*probes, self._place_of_witness(collection.dimension)]
        witnesses = self._witnesses[collection.name]

        def search(client: Any) -> tuple[list[Any], int, bool]:
            last, told = witnesses.told
            limit = max(most, len(witnesses))
            apart = (limit - most) * len(asked) > _MANY_VECTORS
            found: list[Any]
            *found, of_nobody = client.search(
                collection.name,
                data=asked,
                anns_field="vector",
                limit=limit,
                filter=where and f"({where}) or number <= {WITNESS}",
                search_params=parameters,
                output_fields=[] if apart else list(_ROW),
                consistency_level="Customized",
                guarantee_timestamp=max(since, told),
                timeout=_CALL_SECONDS,
            )
            _check_whole(last, set(of_nobody.ids))
            return found, limit, apart

        found, limit, apart = self._milvus.call(search)
        told = [list(near.ids[:most]) for near in found]
        if apart:
            numbers = sorted({number for near in told for number in near if number > MARK})
            rows = self._of_numbers(collection, numbers, since)
        else:
            first = [near[at]["entity"] for near, ids in zip(found, told, strict=True) for at in range(len(ids))]
            rows = {row["number"]: row for row in first}
        shape = (len(probes), max(map(len, told), default=0))
        hits = Hits(
            np.full(shape, np.inf, np.float32),
            np.full(shape, MARK, np.int64),
            np.full(shape, MARK, np.int64),
            np.zeros((*shape, collection.dimension), np.float32),
            np.array([len(near) < limit and len(near) <= most for near in found], np.bool_),
        )
        for i, (near, numbers) in enumerate(zip(found, told, strict=True)):
            hits.distances[i, : len(numbers)] = near.distances[: len(numbers)]
            there = [at for at, number in enumerate(numbers) if number > MARK and number in rows]
            if there:
                of_probe = [rows[numbers[at]] for at in there]
                hits.numbers[i, there] = [row["number"] for row in of_probe]
                hits.subjects[i, there] = [row["subject"] for row in of_probe]
                hits.vectors[i, there] = [row["vector"] for row in of_probe]
        return hits

    def _of_numbers(self, collection: Collection, numbers: Sequence[int], since: int) -> dict[int, dict[str, Any]]:
        """The rows of these numbers that are there, of two of a number either."""
        name, witnesses = collection.name, self._witnesses[collection.name]

        def query(which: Sequence[int], whole: bool, client: Any) -> list[dict[str, Any]]:
            last, told = witnesses.told
            asked = f"number in {list(which)}" + f" or number <= {WITNESS}" * whole
            found = _query(name, asked, _ROW, client, since=max(since, told))
            if whole:
                _check_whole(last, {one["number"] for one in found})
            return found

        rows: dict[int, dict[str, Any]] = {}
        step = min(MOST_ROWS, _ANSWER_BYTES // (8 * collection.dimension)) // 2
        for start in range(0, len(numbers), step):
            which = numbers[start : start + step]
            rows |= {one["number"]: one for one in self._milvus.call(functools.partial(query, which, False))}
            lacking = [number for number in which if number not in rows]
            if lacking:  # deleted meanwhile, or the answer isn't whole
                rows |= {one["number"]: one for one in self._milvus.call(functools.partial(query, lacking, True))}
        return rows

    def rows(self, collection: Collection, wanted: Mapping[int, int], since: int) -> Iterator[tuple[int, int, Vectors]]:
        """Number, subject and vector of rows of these numbers, by their stamps. A search doesn't do: it reads what it
        tells of a row by its number, of which there may be two."""
        numbers, witnesses = list(wanted), self._witnesses[collection.name]

        def query(some: Sequence[int], client: Any) -> list[dict[str, Any]]:
            last, told = witnesses.told
            stamps = [wanted[number] for number in some]
            asked = f"(number in {list(some)} and stamp in {stamps}) or number <= {WITNESS}"
            found = _query(collection.name, asked, (*_ROW, "stamp"), client, since=max(since, told))
            _check_whole(last, {one["number"] for one in found})
            return found

        for start in range(0, len(numbers), _ROWS_BY_STAMP):
            for one in self._milvus.call(functools.partial(query, numbers[start : start + _ROWS_BY_STAMP])):
                if one["stamp"] == wanted.get(one["number"]):
                    yield one["number"], one["subject"], np.array(one["vector"], np.float32)

    def seal(self, collection: Collection) -> bool:
        """Has Milvus make of the rows that came what it searches fastest; not where there are too many witnesses."""
        name, witnesses = collection.name, self._witnesses[collection.name]
        if len(witnesses) >= _most_witnesses(collection.dimension):
            if name not in self._full:
                self._full.add(name)
                log.warning("%s seals nothing more of %s, which gets slow: a restart makes it anew", self.name, name)
            return False
        self._milvus.call(lambda client: client.flush(name, timeout=_EVERY_SECONDS))
        witnesses.all_are_sealed(self._sealed(name))
        return True

    def unforgotten_since(self, collection: Collection) -> int | None:
        """Since when files at Milvus may have rows that were deleted, by time.time(); None: there are none."""
        return self._unforgotten.get(collection.name)

    def forget(self, collection: Collection, rows: int, go_on: Callable[[], bool]) -> None:
        """Has Milvus write anew the files that have deleted rows, while `go_on` says so, until no file has more than
        the `rows` that there are; its garbage collection removes the former ones later. Nobody writes meanwhile.
        Raises NotForgotten.

        That it compacted tells nothing: it does so without deletions that it hasn't stored yet."""
        name, job, asked = collection.name, None, 0.0  # type: str, int | None, float
        if not self.seal(collection):
            raise NotForgotten("nothing of it is sealed any more, until a restart")
        wanted = rows + len(self._witnesses[name]) + 1
        while (in_files := self._rows_in_files(name)) != wanted:
            if not go_on():
                raise NotForgotten(f"files have {in_files} rows, not {wanted}, and no time is left")
            if job is None or (time.monotonic() - asked >= _COMPACT_EVERY_SECONDS and self._is_compacted(job)):
                job, asked = self._compact(name), time.monotonic()
            time.sleep(_FORGETTING_PAUSE_SECONDS)
        self._unforgotten.pop(name, None)
        self._mark(collection)

    def strays(self, collection: Collection, numbers: Integers, stamps: Integers, since: int) -> Iterator[Integers]:
        """Numbers of rows that Milvus answers from beside these, in slices; `numbers` ascend; `since` as of
        nearest()."""
        name = collection.name
        for start in range(0, len(numbers) or 1, _STRAYS_AMONG):
            end = start + _STRAYS_AMONG
            first = 0 if start == 0 else int(numbers[start])
            before = int(numbers[end]) if end < len(numbers) else _LARGEST
            others = f"number not in {numbers[start:end].tolist()} or stamp not in {stamps[start:end].tolist()}"
            within = f"number >= {first} and number < {before} and ({others})"
            found = self._milvus.call(functools.partial(_query, name, within, ("number",), since=since))
            yield np.unique(np.array([one["number"] for one in found], np.int64))

    def compact(self, collection: Collection) -> None:
        """Has Milvus make larger files of smaller ones, without what it knows to be deleted. It costs witnesses, and
        half of them are kept for what comes yet."""
        if collection.name in self._names() and 2 * len(self._witnesses[collection.name]) < _most_witnesses(
            collection.dimension
        ):
            self.seal(collection)
            self._compact(collection.name)

    def _compact(self, name: str) -> int:
        job: int = self._milvus.call(lambda client: client.compact(name, timeout=_EVERY_SECONDS))
        return job

    def _is_compacted(self, job: int) -> bool:
        told = self._milvus.call(lambda client: client.get_compaction_state(job, timeout=_CALL_SECONDS))
        return bool(told == "Completed")

    def _rows_in_files(self, name: str) -> int:
        told = self._milvus.call(lambda client: client.list_persistent_segments(name, timeout=_CALL_SECONDS))
        return sum(one.num_rows for one in told)

    def _names(self) -> list[str]:
        names = self._milvus.call(lambda client: client.list_collections(timeout=_CALL_SECONDS))
        return [name for name in names if name.startswith(PREFIX)]

    def _load(self, name: str) -> None:
        """Returns once it can be searched."""
        soon = {"timeout": _CALL_SECONDS}
        state = self._milvus.call(lambda client: client.get_load_state(name, **soon))["state"]
        if state.name == "Loaded":  # by as many query nodes as are said now? Else it is refused
            now = self._milvus.call(lambda client: client.describe_replica(name, **soon))
            if len(now) != self._replicas:
                self._milvus.call(lambda client: client.release_collection(name, timeout=_EVERY_SECONDS))
        self._milvus.call(
            lambda client: client.load_collection(name, replica_number=self._replicas, timeout=_EVERY_SECONDS)
        )

    def _drop(self, name: str) -> None:
        self._milvus.call(lambda client: client.drop_collection(name, timeout=_CALL_SECONDS))

    def _dimension_of(self, name: str) -> int:
        """0 where a former version made it: it is made anew."""
        told = self._milvus.call(lambda client: client.describe_collection(name, timeout=_CALL_SECONDS))
        if told["description"] in {f"oneglance {former} {self._store_id}" for former in range(SCHEMA)}:
            return 0
        if told["description"] != f"oneglance {SCHEMA} {self._store_id}":
            raise DeviceUnavailable(
                self.name,
                f"the collection {name} there is of another data directory or version ({told['description']!r}): each"
                " data directory needs a database of its own",
            )
        return next(int(field["params"]["dim"]) for field in told["fields"] if field["name"] == "vector")

    def _place_of_witness(self, dimension: int) -> Vectors:
        """Of all witnesses: far from unit vectors, where no other's row is, and so that float32 tells its distance to
        itself exactly."""
        return np.array(random.Random(self._store_id).choices((-1.0, 1.0), k=dimension), np.float32)

    def _between(self, name: str, first: int, end: int) -> list[dict[str, Any]]:
        """Rows whose number is in [first, end): by halves where they are many, since Milvus pages in no order."""
        witnesses = self._witnesses[name]

        def query(client: Any) -> list[dict[str, Any]]:
            asked = f"(number >= {first} and number < {end}) or number <= {WITNESS}"
            told = _query(name, asked, ("number", "stamp"), client)
            if len(told) < MOST_ROWS:
                _check_whole(witnesses.last, {one["number"] for one in told})
            return told

        found = self._milvus.call(query)
        if len(found) < MOST_ROWS:
            return [one for one in found if one["number"] >= 0]
        middle = (first + end) // 2
        return self._between(name, first, middle) + self._between(name, middle, end)


def _query(name: str, which: str, fields: Sequence[str], client: Any, since: int | None = None) -> list[dict[str, Any]]:
    """All that was written up to `since` is seen, or all that was before this."""
    seen: dict[str, Any] = {"consistency_level": "Strong"}
    if since is not None:
        seen = {"consistency_level": "Customized", "guarantee_timestamp": since}
    found: list[dict[str, Any]] = client.query(
        name, filter=which, output_fields=list(fields), timeout=_CALL_SECONDS, limit=MOST_ROWS, **seen
    )
    return found


def _delete(name: str, which: str, client: Any) -> None:
    client.delete(name, filter=which, timeout=_CALL_SECONDS)


def _upserted(client: Any, name: str, entries: Sequence[dict[str, Any]]) -> int:
    """The client's own upsert() doesn't tell the time."""
    told = client._get_connection().upsert_rows(name, list(entries), timeout=_CALL_SECONDS)
    return int(told.timestamp)


def _nobody(number: int, vector: Vectors, stamp: int) -> dict[str, Any]:
    return {"number": number, "subject": MARK, "stamp": stamp, "vector": vector}


def _check_whole(last: int, found: Set[int]) -> None:
    """Raises _Incomplete where not all witnesses up to the last one are among the numbers found."""
    numbers = set(range(WITNESS - last, WITNESS + 1))
    if not numbers <= found:
        raise _Incomplete(len(numbers & found))
