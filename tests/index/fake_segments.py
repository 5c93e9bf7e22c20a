"""The client of a Milvus in a few dictionaries, by the segment: a test seals, merges and hides them when it likes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from oneglance_core.distance import squared_l2
from oneglance_index.records import Vectors
from oneglance_index.search.milvus.connection import Connection
from oneglance_index.search.milvus.engine import SCHEMA, Collection, Engine

URL = "milvus://nowhere:1"
COLLECTION = Collection(1, "encodings", 4)
_Row = dict[str, Any]


class Near(list[dict[str, Any]]):
    @property
    def ids(self) -> list[int]:
        return [one["entity"]["number"] for one in self]

    @property
    def distances(self) -> list[float]:
        return [one["distance"] for one in self]


class SegmentedMilvus:
    """Of one collection, COLLECTION. New rows go to the open segment, if there is none to a new one."""

    def __init__(self) -> None:
        self.segments: dict[int, dict[int, _Row]] = {}
        self.open: int | None = None
        self.hidden: set[int] = set()  # segments that answers lack
        self.dead: Counter[int] = Counter()  # of each segment's file, rows that are gone
        self.compactions = 0
        self.stored = True  # compaction knows of what is gone
        self.loses = False  # deletions in what is sealed
        self.since = 0  # of the others they have what came from then on
        self.queue = 1 << 40  # of those, too, they have what came from then on: read from the message queue once more
        self.meanwhile: Callable[[], None] = lambda: None  # before and behind what a write asks of it
        self.after_search: Callable[[], None] = lambda: None
        self.limits: list[int] = []
        self.queries: list[str] = []
        self.description = f"oneglance {SCHEMA} store"
        self._numbers = itertools.count(1)
        self._time = 0

    def seal(self) -> None:
        self.open = None

    def merge(self, segments: Sequence[int]) -> None:
        merged = {number: row for one in segments for number, row in self.segments.pop(one).items()}
        which = next(self._numbers)
        self.segments[which] = merged
        dead = sum(self.dead.pop(one, 0) for one in segments)
        if dead and not self.stored:
            self.dead[which] = dead

    def sealed(self) -> list[int]:
        return [one for one in self.segments if one != self.open]

    # What Engine calls.

    def _get_connection(self) -> SegmentedMilvus:
        return self

    def upsert_rows(self, _: str, entries: Sequence[_Row], **__: object) -> SimpleNamespace:
        self.meanwhile()
        if self.open is None:
            self.open = next(self._numbers)
            self.segments[self.open] = {}
        self._gone({entry["number"] for entry in entries})
        self._time += 1
        self.segments[self.open].update({entry["number"]: {**entry, "at": self._time} for entry in entries})
        self.meanwhile()
        return SimpleNamespace(timestamp=self._time)

    def delete(self, _: str, filter: str, **__: object) -> None:
        self._gone({row["number"] for row in self._rows(filter, every=True)})

    def _gone(self, numbers: set[int]) -> None:
        for one, segment in self.segments.items():
            if one == self.open or not self.loses:
                for number in numbers & segment.keys():
                    del segment[number]
                    self.dead[one] += 1

    def list_persistent_segments(self, *_: object, **__: object) -> list[SimpleNamespace]:
        told = [
            SimpleNamespace(segment_id=one, num_rows=len(self.segments[one]) + self.dead[one]) for one in self.sealed()
        ]
        self.meanwhile()
        return told

    def flush(self, *_: object, **__: object) -> None:
        self.meanwhile()
        self.seal()

    def compact(self, *_: object, **__: object) -> int:
        self.compactions += 1
        self.merge(self.sealed())
        return self.compactions

    def get_compaction_state(self, *_: object, **__: object) -> str:
        return "Completed"

    def _rows(self, filter: str, every: bool = False) -> list[_Row]:
        asked = compile(filter or "True", COLLECTION.name, "eval")  # its expressions are Python's, too
        rows = [
            row
            for one, segment in self.segments.items()
            for row in segment.values()
            if every or row["at"] >= (self.queue if one in self.hidden else self.since)
        ]
        return [row for row in rows if eval(asked, {name: row[name] for name in ("number", "subject", "stamp")})]

    def search(self, _: str, data: Sequence[Vectors], limit: int, filter: str, **__: object) -> list[Near]:
        self.limits.append(limit)
        rows = self._rows(filter)
        vectors = np.array([row["vector"] for row in rows], np.float32).reshape(-1, COLLECTION.dimension)
        found = []
        for probe in data:
            away = squared_l2(vectors, probe)
            order = np.argsort(away, kind="stable")[:limit].tolist()
            found.append(Near([{"distance": float(away[at]), "entity": rows[at]} for at in order]))
        self.after_search()
        return found

    def query(self, _: str, filter: str, **__: object) -> list[_Row]:
        self.queries.append(filter)
        return self._rows(filter)

    def list_collections(self, **_: object) -> list[str]:
        return [COLLECTION.name]

    def describe_collection(self, *_: object, **__: object) -> dict[str, Any]:
        field = {"name": "vector", "params": {"dim": COLLECTION.dimension}}
        return {"description": self.description, "fields": [field]}

    def list_indexes(self, *_: object, **__: object) -> list[str]:
        return ["vector"]

    def get_load_state(self, *_: object, **__: object) -> dict[str, Any]:
        return {"state": SimpleNamespace(name="Loaded")}

    def describe_replica(self, *_: object, **__: object) -> list[int]:
        return [1]

    def load_collection(self, *_: object, **__: object) -> None:
        pass


class Connected(Connection):
    def __init__(self, milvus: SegmentedMilvus) -> None:
        self.name, self.client, self._down = URL, milvus, None


class SegmentedEngine(Engine):
    """One that has just begun; `made`: COLLECTION is to be made, else it is there."""

    def __init__(self, milvus: SegmentedMilvus, made: bool = False) -> None:
        super().__init__(Connected(milvus), replicas=1)
        self.belongs_to("store")
        if made:
            self._begin(COLLECTION)
