"""MilvusIndex against brute force, on a Milvus by the segment that seals and merges when it likes, loses deletions,
rounds, and answers without segments: each answer is right, or refused."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from oneglance_core.distance import squared_l2
from oneglance_index.errors import EngineUnavailable
from oneglance_index.records import Change, Found, Rows, Search, Vectors
from oneglance_index.search.milvus import connection
from oneglance_index.search.milvus import engine as engines
from oneglance_index.search.milvus.index import MilvusIndex
from oneglance_index.search.milvus.writer import Writer
from tests.index.fake_segments import COLLECTION, Near, SegmentedEngine, SegmentedMilvus

ROUNDS = 12
ULP = 2e-7
_Row = dict[str, Any]


class UnreliableMilvus(SegmentedMilvus):
    """`loses`: how likely each deletion in what is sealed is lost. Of rows of one number it tells the nearest, and by
    the fields of any."""

    def __init__(self, chance: random.Random, loses: float) -> None:
        super().__init__()
        self.chance, self.lost = chance, loses
        self.lock = threading.RLock()

    def upsert_rows(self, *what: Any, **how: Any) -> Any:
        with self.lock:
            if self.chance.random() < 0.15:
                self.seal()
            return super().upsert_rows(*what, **how)

    def delete(self, *what: Any, **how: Any) -> None:
        with self.lock:
            super().delete(*what, **how)

    def list_persistent_segments(self, *what: Any, **how: Any) -> Any:
        with self.lock:
            return super().list_persistent_segments(*what, **how)

    def flush(self, *_: object, **__: object) -> None:
        with self.lock:
            self.seal()

    def drop_collection(self, *_: object, **__: object) -> None:
        pass

    def _gone(self, numbers: set[int]) -> None:
        for one, segment in self.segments.items():
            for number in numbers & segment.keys():
                if one == self.open or number < 0 or self.chance.random() >= self.lost:
                    del segment[number]

    def search(self, _: str, data: Sequence[Vectors], limit: int, filter: str, **how: Any) -> list[Near]:
        reach = how["search_params"]["params"].get("radius", np.inf)
        with self.lock:
            rows = self._rows(filter)
            vectors = np.array([row["vector"] for row in rows], np.float32).reshape(-1, COLLECTION.dimension)
            found = []
            for probe in data:
                away = squared_l2(vectors, np.asarray(probe)) * self.chance.uniform(1 - ULP, 1 + ULP)
                near: dict[int, float] = {}
                for at in np.argsort(away, kind="stable").tolist():
                    if away[at] < reach and len(near) < limit:
                        near.setdefault(rows[at]["number"], float(away[at]))
                told = {row["number"]: row for row in self.chance.sample(rows, len(rows))}
                found.append(Near([{"distance": near[number], "entity": told[number]} for number in near]))
        self.after_search()
        return found

    def query(self, _: str, filter: str, **how: Any) -> list[_Row]:
        with self.lock:
            rows = self._rows(filter)
            return list({row["number"]: row for row in self.chance.sample(rows, len(rows))}.values())[
                : how.get("limit")
            ]


class Trial:
    """A gallery at such a Milvus, and what there must be."""

    def __init__(self, seed: int, loses: float) -> None:
        self.chance, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.milvus = UnreliableMilvus(self.chance, loses)
        self.engine = SegmentedEngine(self.milvus, made=True)
        nobody = np.empty(0, np.int64)
        one = Rows(np.array([1 << 20]), np.array([1]), np.ones((1, COLLECTION.dimension), np.float32))
        for _ in range(self.chance.choice([0, 12])):  # witnesses
            self.engine.write(COLLECTION, nobody, one, np.array([1]), None)
            self.milvus.seal()
        self.writer = Writer("fake")
        self.index = MilvusIndex(self.engine, self.writer, COLLECTION)
        self.index.load(0, {}, 0)
        self.index.checksum()
        self.rows: dict[int, dict[int, Vectors]] = {}  # by subject and number
        self.revision, self.next = 0, 0

    def change(self) -> None:
        act, subject = self.chance.random(), self.chance.choice([*self.rows, 0])
        if act < 0.55 or not subject:
            self._enroll(max(self.rows, default=0) + 1 + self.revision, [], self.chance.choice([1, 1, 2]))
        elif act < 0.75:
            gone = sorted(self.rows.pop(subject))
            self._apply([], np.empty((0, COLLECTION.dimension), np.float32), subject, gone, subject)
        else:
            gone = sorted(self.rows.pop(subject))
            self._enroll(subject, gone, 1)

    def _enroll(self, subject: int, gone: list[int], count: int) -> None:
        vectors = self.numbers.standard_normal((count, COLLECTION.dimension), dtype=np.float32)
        if self.rows and self.chance.random() < 0.2:  # as somebody else
            vectors[:] = next(iter(self.chance.choice(list(self.rows.values())).values()))
        new = list(range(self.next, self.next + count))
        self.next += count
        self.rows[subject] = dict(zip(new, vectors, strict=True))
        self._apply(new, vectors, subject, gone, None)

    def _apply(self, new: list[int], vectors: Vectors, subject: int, gone: list[int], removed: int | None) -> None:
        self.revision += 1
        of, name = (np.array(new, np.int64), np.array(gone, np.int64)), "" if removed else f"s{subject}"
        self.index.apply(Change(self.revision, of[0], vectors, subject, name, of[1], removed))

    def ask(self) -> bool:
        """Whether it was answered."""
        probes = self.numbers.standard_normal((self.chance.choice([1, 4]), COLLECTION.dimension), dtype=np.float32)
        within = self.chance.choice([None, 0.5, 4.0, 30.0])
        candidates, limit = self.chance.choice([1, 3, 40]), self.chance.choice([1, 5, 1000]) if within else 0
        try:
            (found,) = self.index.search([Search(probes, "e", candidates, within, limit)])
        except EngineUnavailable:
            return False
        assert isinstance(found, Found)
        for at, probe in enumerate(probes):
            best = sorted(float(squared_l2(np.array(list(rows.values())), probe).min()) for rows in self.rows.values())
            assert [one.distance for one in found.candidates[at]] == best[:candidates]
            if within:
                assert [one.distance for one in found.matches[at]] == [one for one in best if one <= within][:limit]
        return True


def hiding(trial: Trial) -> Callable[[], None]:
    def hide() -> None:
        if trial.milvus.sealed() and trial.chance.random() < 0.3:
            trial.milvus.hidden = {trial.chance.choice(trial.milvus.sealed())}

    return hide


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("loses", [0.0, 0.3])
@pytest.mark.parametrize("apart", [False, True])
def test_each_answer_is_right_or_refused(
    apart: bool, loses: float, hides: bool, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr(connection, "_WHILE_DOWN_SECONDS", 0.02)
    monkeypatch.setattr(connection, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(engines, "_MANY_VECTORS", 0 if apart else 1 << 20)
    monkeypatch.setattr(engines, "_ANSWER_BYTES", 8 * COLLECTION.dimension * 240)
    trial, answered = Trial(seed, loses), 0
    trial.milvus.after_search = hiding(trial) if hides else trial.milvus.after_search
    try:
        for _ in range(ROUNDS):
            for _ in range(trial.chance.randint(1, 12)):
                trial.change()
            if trial.chance.random() < 0.5:
                trial.index.write()
            with trial.milvus.lock:
                if trial.milvus.sealed() and trial.chance.random() < 0.2:
                    trial.milvus.merge(trial.milvus.sealed())
            for _ in range(3):
                trial.milvus.hidden = set()
                answered += trial.ask()
    finally:
        trial.milvus.hidden = set()
        trial.writer.close(10)
    assert answered > ROUNDS // 2
