"""An answer of a Milvus that lacks a segment isn't taken, whichever it is, and whenever Milvus made it."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from oneglance_index import EngineUnavailable
from oneglance_index.records import Integers, Rows
from oneglance_index.search.milvus import connection
from oneglance_index.search.milvus import engine as engines
from oneglance_index.search.milvus.engine import MARK, WITNESS, Hits
from oneglance_index.search.milvus.index import stamps_of
from tests.index.fake_segments import COLLECTION, SegmentedEngine, SegmentedMilvus

PROBE = np.zeros((1, 4), np.float32)
NONE: Integers = np.empty(0, np.int64)


class Killed(BaseException):
    """The process dies."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(connection, "_WHILE_DOWN_SECONDS", 0.0)


def rows_of(*numbers: int) -> Rows:
    vectors = np.array([[number, 0, 0, 0] for number in numbers], np.float32).reshape(-1, 4)
    return Rows(np.array(numbers, np.int64), np.array(numbers, np.int64), vectors)


def write(engine: SegmentedEngine, *numbers: int, gone: Integers = NONE) -> int:
    rows = rows_of(*numbers)
    return engine.write(COLLECTION, gone, rows, stamps_of(rows), 1 if len(gone) else None)


def found(hits: Hits) -> set[int]:
    return {number for number in hits.numbers.ravel().tolist() if number >= 0}


def check(milvus: SegmentedMilvus, engine: SegmentedEngine, since: int, rows: set[int]) -> None:
    """All rows are found, and where those of a segment are lacking, none."""
    assert found(engine.nearest(COLLECTION, PROBE, 1000, since)) == rows
    for segment, there in milvus.segments.items():
        if there.keys() & rows:
            milvus.hidden = {segment}
            with pytest.raises(EngineUnavailable, match="without all its rows"):
                engine.nearest(COLLECTION, PROBE, 1000, since)
            with pytest.raises(EngineUnavailable, match="without all its rows"):
                SegmentedEngine(milvus).known(COLLECTION)
    milvus.hidden = set()


def test_an_answer_that_lacks_one_of_several_sealed_batches_is_not_taken() -> None:
    """As Milvus gives it while a query node is replaced, and says nothing."""
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    for batch in range(5):
        since = write(engine, *range(10 * batch, 10 * batch + 10))
        engine.seal(COLLECTION)
    assert len(milvus.sealed()) == 5
    check(milvus, engine, since, set(range(50)))
    milvus.hidden = {milvus.sealed()[3]}
    with pytest.raises(EngineUnavailable):
        engine.nearest(COLLECTION, PROBE, 3, since, "subject in [1]", 4.0)
    assert engine.trouble()
    milvus.hidden = set()
    hits = engine.nearest(COLLECTION, PROBE, 3, since, "subject in [1]")
    assert found(hits) == {1}
    assert hits.subjects[0].max() == 1
    assert engine.trouble() is None


@pytest.mark.parametrize("seed", range(40))
def test_every_segment_has_a_witness_whenever_milvus_seals_and_whenever_the_process_dies(seed: int) -> None:
    chance = random.Random(seed)
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    rows, since, numbers = set[int](), 0, 0
    dies = False

    def meanwhile() -> None:
        if chance.random() < 0.1:
            milvus.seal()
        if len(milvus.sealed()) > 3 and chance.random() < 0.2:
            milvus.merge(chance.sample(milvus.sealed(), chance.randint(1, 3)))
        if dies and chance.random() < 0.2:
            raise Killed

    milvus.meanwhile = meanwhile
    for _ in range(60):
        act = chance.choice(["write", "write", "write", "delete", "seal", "merge", "die"])
        new = set(range(numbers, numbers + chance.randint(1, 3)))
        numbers += 3
        dies = act == "die"
        if act in ("write", "die"):
            try:
                since = write(engine, *new)
                rows |= new
            except Killed:
                engine, dies = SegmentedEngine(milvus), False
                known = engine.known(COLLECTION)
                assert known is not None
                rows |= new & set(known.numbers.tolist())
                assert set(known.numbers.tolist()) == rows
                since = write(engine)
        elif act == "delete" and rows:
            gone = set(chance.sample(sorted(rows), min(len(rows), 4)))
            since, rows = write(engine, gone=np.array(sorted(gone), np.int64)), rows - gone
        elif act == "seal":
            engine.seal(COLLECTION)
        elif act == "merge" and milvus.sealed():
            milvus.merge(milvus.sealed())
        check(milvus, engine, since, rows)
    there = {number for segment in milvus.segments.values() for number in segment if number <= WITNESS}
    assert len(there) >= len(engine._witnesses[COLLECTION.name])


@pytest.mark.parametrize("sealed", ["before", "behind", "at the end"])
def test_an_answer_of_the_end_of_a_segment_is_not_taken(sealed: str) -> None:
    """As where a query node has read it from the message queue, from where that begins."""
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    if sealed != "at the end":
        write(engine, 100)
        calls = itertools.count()
        milvus.meanwhile = lambda: milvus.seal() if next(calls) == (sealed == "behind") else None
        write(engine, 101)
    for number in range(12):
        since = write(engine, number)
    if sealed == "at the end":
        engine.seal(COLLECTION)
        engine.seal(COLLECTION)  # nothing is left out: it is the segment that it was
    (those,) = (segment for segment in milvus.segments.values() if 0 in segment)
    assert those.keys() > set(range(12))
    engine.nearest(COLLECTION, PROBE, 100, since)
    for milvus.since in range(those[0]["at"] + 1, those[11]["at"] + 1):
        for segment in milvus.segments.values():
            for row in segment.values():
                row["at"] = row["at"] if segment is those else 1 << 20  # the others are there as a whole
        with pytest.raises(EngineUnavailable):
            engine.nearest(COLLECTION, PROBE, 100, since)


def test_a_witness_that_milvus_still_has_where_it_was_does_not_vouch_for_where_it_is() -> None:
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    milvus.loses = True
    for number in range(6):
        write(engine, number)
    calls = itertools.count()
    milvus.meanwhile = lambda: milvus.seal() if next(calls) == 0 else None  # before it takes the next row
    since = write(engine, 6)
    assert {6} <= milvus.segments[2].keys()
    assert found(engine.nearest(COLLECTION, PROBE, 100, since)) == set(range(7))
    milvus.hidden = {2}
    with pytest.raises(EngineUnavailable):
        engine.nearest(COLLECTION, PROBE, 100, since)


def test_where_nothing_is_sealed_a_few_witnesses_are_enough() -> None:
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    for number in range(50):
        write(engine, number)
    assert len(engine._witnesses[COLLECTION.name]) <= 4


def test_the_end_of_what_came_does_not_vouch_for_one_segment_that_all_was_merged_to() -> None:
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    for number in range(6):
        write(engine, number)
        engine.seal(COLLECTION)
    milvus.merge(milvus.sealed())
    engine.seal(COLLECTION)
    since = write(engine, 6)
    check(milvus, engine, since, set(range(7)))
    (merged,) = milvus.sealed()
    rows = {row["number"]: row["at"] for segment in milvus.segments.values() for row in segment.values()}
    milvus.hidden = {merged}
    for milvus.queue in range(rows[0] + 1, rows[6] + 1):
        with pytest.raises(EngineUnavailable):
            engine.nearest(COLLECTION, PROBE, 100, since)
    milvus.queue = rows[0]
    assert found(engine.nearest(COLLECTION, PROBE, 100, since)) == set(range(7))


@pytest.mark.parametrize("apart", [False, True])
def test_where_witnesses_are_many_vectors_come_by_themselves(apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of all rows that are told: one that was deleted meanwhile is none, and an answer that lacks one isn't
    taken."""
    if apart:
        monkeypatch.setattr(engines, "_MANY_VECTORS", 0)
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    since = 0
    for number in range(6):
        since = write(engine, number)
        engine.seal(COLLECTION)
    assert len(engine._witnesses[COLLECTION.name]) > 3
    milvus.queries.clear()
    probes = np.array([[4, 0, 0, 0], [3, 0, 0, 0]], np.float32)
    hits = engine.nearest(COLLECTION, probes, 3, since)
    assert [set(of.tolist()) for of in hits.numbers] == [{3, 4, 5}, {2, 3, 4}]
    assert hits.distances.tolist() == [[0, 1, 1], [0, 1, 1]]
    assert (hits.vectors[:, :, 0] == hits.numbers).all()
    assert (hits.subjects == hits.numbers).all()
    assert not hits.all.any()
    assert len(milvus.queries) == apart
    if not apart:
        return
    milvus.after_search = lambda: milvus.delete("", "number == 4")
    hits = engine.nearest(COLLECTION, probes, 3, since)
    assert found(hits) == {2, 3, 5}
    assert hits.distances.tolist() == [[0, 1, 1], [0, 1, 1]]
    segment = next(one for one, rows in milvus.segments.items() if 3 in rows)
    milvus.after_search = lambda: milvus.hidden.add(segment)
    with pytest.raises(EngineUnavailable, match="without all its rows"):
        engine.nearest(COLLECTION, probes, 3, since)


def test_a_collection_of_a_former_version_or_with_too_many_witnesses_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    write(engine, 1)
    assert engine.known(COLLECTION) is not None
    monkeypatch.setattr(engines, "_MOST_WITNESSES", 0)
    assert engine.known(COLLECTION) is None
    engine.seal(COLLECTION)
    assert milvus.sealed() == []  # it would cost one more
    monkeypatch.undo()
    milvus.description = f"oneglance {engines.SCHEMA - 1} store"
    engine.belongs_to("store")
    assert engine.known(COLLECTION) is None
    assert MARK in milvus.segments[1]
