"""What is deleted leaves the files of a Milvus. Whether it leaves the real one's, tests/index/milvus tries."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import EngineUnavailable, Found, IndexSettings, LocalGalleries, Search, verify_receipt
from oneglance_index.records import Integers, Rows
from oneglance_index.search.milvus import connection, index, writer
from oneglance_index.search.milvus import engine as engines
from oneglance_index.search.milvus.engine import MARK, Collection, NotForgotten
from oneglance_index.search.milvus.index import MilvusIndex, stamps_of
from tests.index.fake_milvus import URL, FakeMilvus
from tests.index.fake_segments import COLLECTION, SegmentedEngine, SegmentedMilvus
from tests.waiting import until

NONE: Integers = np.empty(0, np.int64)
SINCE = 1_000
SOON = IndexSettings(engine_copy_seconds=0.02)


class Killed(BaseException):
    """The process dies."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_COMPACT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(engines, "_FORGETTING_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(writer, "_FORGET_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(connection, "_WHILE_DOWN_SECONDS", 0.0)


def write(engine: SegmentedEngine, numbers: range, gone: Integers = NONE) -> None:
    vectors = np.array([[number, 0, 0, 0] for number in numbers], np.float32).reshape(-1, 4)
    rows = Rows(np.array(numbers, np.int64), np.array(numbers, np.int64), vectors)
    engine.write(COLLECTION, gone, rows, stamps_of(rows), SINCE if len(gone) else None)


def always() -> bool:
    return True


def filled(rows: int) -> tuple[SegmentedMilvus, SegmentedEngine]:
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    for start in range(0, rows, 10):
        write(engine, range(start, start + 10))
        engine.seal(COLLECTION)
    return milvus, engine


def enrolled(galleries: LocalGalleries, subjects: int, fusion: str = "nearest") -> None:
    galleries.create_gallery("g", encoder_digest="e", dimension=4, fusion=fusion).result()
    for number in range(subjects):
        galleries.enroll("g", f"s{number}", np.full((1, 4), number + 1, np.float32)).result()
    galleries.compact("g")


# What the engine does.


def test_files_are_compacted_until_they_have_as_many_rows_as_there_are() -> None:
    """Not until the segments are others: Milvus merges them without deletions that it hasn't stored yet."""
    milvus, engine = filled(30)
    assert engine.unforgotten_since(COLLECTION) is None
    write(engine, range(0), np.array([3, 14]))
    assert engine.unforgotten_since(COLLECTION) == SINCE
    milvus.stored = False

    def stored_after_three() -> bool:
        milvus.stored = milvus.compactions >= 3
        return True

    engine.forget(COLLECTION, 28, stored_after_three)
    assert milvus.compactions == 4
    assert milvus.dead.total() <= 1  # the row that says that nothing is to be forgotten took the place of one
    assert engine.unforgotten_since(COLLECTION) is None


@pytest.mark.parametrize("fails_first", [False, True])
@pytest.mark.parametrize("loses", [False, True])
def test_what_is_to_be_forgotten_is_known_after_a_restart_whenever_the_process_dies(
    fails_first: bool, loses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a first try failed, and where Milvus lost that the row that tells it was replaced."""
    milvus, engine = filled(10)
    milvus.loses = loses
    if fails_first:
        with monkeypatch.context() as down:
            down.setattr(milvus, "upsert_rows", _refuse)
            with pytest.raises(EngineUnavailable):
                write(engine, range(0), np.array([3]))

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(milvus, "delete", dies)
        with pytest.raises(Killed):
            write(engine, range(0), np.array([3]))
    restarted = SegmentedEngine(milvus)
    assert restarted.known(COLLECTION) is not None
    assert restarted.unforgotten_since(COLLECTION) == SINCE
    if not loses:
        restarted.forget(COLLECTION, 10, always)
        again = SegmentedEngine(milvus)
        assert again.known(COLLECTION) is not None
        assert again.unforgotten_since(COLLECTION) is None


def test_it_is_known_after_a_restart_while_answers_lack_the_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    milvus, engine = filled(10)
    write(engine, range(10, 20), np.array([3]))
    engine.seal(COLLECTION)
    milvus.hidden = {next(one for one, rows in milvus.segments.items() if MARK in rows)}
    answers, query = itertools.count(1), milvus.query

    def whole_from_the_third_on(*asked: Any, **how: Any) -> list[dict[str, Any]]:
        if next(answers) == 3:
            milvus.hidden = set()
        return query(*asked, **how)

    milvus.query = whole_from_the_third_on  # type: ignore[method-assign]
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 60.0)
    restarted = SegmentedEngine(milvus)
    assert restarted.known(COLLECTION) is not None
    assert restarted.unforgotten_since(COLLECTION) == SINCE


def test_nobody_seals_while_another_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Witnesses are counted by what was sealed meanwhile."""
    fake = FakeMilvus.installed(monkeypatch)
    busy, together = threading.Lock(), list[str]()

    def alone(name: str) -> Callable[..., Any]:
        act = getattr(fake, name)

        def watched(*what: Any) -> Any:
            if not busy.acquire(blocking=False):
                together.append(name)
                return act(*what)
            try:
                time.sleep(0.002)
                return act(*what)
            finally:
                busy.release()

        return watched

    for name in ("write", "compact", "seal"):
        monkeypatch.setattr(fake, name, alone(name))
    monkeypatch.setattr(index, "_MANY_ROWS", 2)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        enrolled(galleries, 2)
        ended = threading.Event()

        def enroll_on() -> None:
            for number in itertools.count():
                if ended.is_set():
                    return
                galleries.enroll("g", f"t{number}", np.full((1, 4), number + 1, np.float32)).result()

        others = threading.Thread(target=enroll_on)
        others.start()
        for _ in range(30):
            galleries.compact("g")
        ended.set()
        others.join()
    assert together == []


def _refuse(*_: object, **__: object) -> None:
    raise ConnectionError("down")


def test_the_row_that_says_since_when_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its subject is a time."""
    _, engine = filled(10)
    write(engine, range(0), np.array([3]))
    for most in (1, 100):
        hits = engine.nearest(COLLECTION, np.zeros((1, 4), np.float32), most, 0)
        assert set(hits.numbers[hits.subjects >= 0].tolist()) <= set(range(10))
        assert (hits.subjects[hits.numbers < 0] == MARK).all()


def test_forgetting_ends_when_it_is_to_and_where_nothing_can_be_sealed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    milvus, engine = filled(10)
    write(engine, range(0), np.array([3]))
    with pytest.raises(NotForgotten, match="no time"):
        engine.forget(COLLECTION, 9, lambda: False)
    assert milvus.compactions == 0
    assert engine.unforgotten_since(COLLECTION) == SINCE
    monkeypatch.setattr(engines, "_MOST_WITNESSES", len(engine._witnesses[COLLECTION.name]))
    for _ in range(2):
        with pytest.raises(NotForgotten, match="restart"):
            engine.forget(COLLECTION, 9, always)
    engine.compact(COLLECTION)
    assert milvus.compactions == 0
    assert caplog.text.count("a restart makes it anew") == 1
    assert SegmentedEngine(milvus).known(COLLECTION) is None


def test_strays_are_found_among_any_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_STRAYS_AMONG", 4)
    _, engine = filled(30)
    rows = np.array([number for number in range(30) if number not in (0, 7, 8, 29)], np.int64)
    vectors = np.array([[number, 0, 0, 0] for number in rows], np.float32)
    stamps = stamps_of(Rows(rows, rows, vectors))
    stamps[3] += 1
    stray = np.array([8])
    stamps[6] = stamps_of(Rows(stray, stray, np.array([[8, 0, 0, 0]], np.float32)))[0]  # of one beside it, too
    found = np.concatenate(list(engine.strays(COLLECTION, rows, stamps, 0)))
    assert found.tolist() == [0, rows[3], 7, 8, rows[6], 29]
    assert np.concatenate(list(engine.strays(COLLECTION, NONE, NONE, 0))).tolist() == list(range(30))


# What galleries do.


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("fusion", ["nearest", "mean"])
def test_what_is_deleted_or_replaced_is_forgotten_in_time_and_receipts_say_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusion: str, restarted: bool
) -> None:
    """After a restart nobody needs to ask for it."""
    fake = FakeMilvus.installed(monkeypatch)
    key = tmp_path / "receipts.pub"
    with LocalGalleries.open(tmp_path, device=URL, settings=IndexSettings() if restarted else SOON) as galleries:
        enrolled(galleries, 5, fusion)
        assert fake.since == {}
        receipt = galleries.delete_subject("g", "s3").result().receipt
        assert ("in_engine_until" in verify_receipt(receipt, key.read_text())) == (not restarted)
        galleries.compact("g")
        if restarted:
            assert set(fake.since) == set(fake.collections)
    with LocalGalleries.open(tmp_path, device=URL, settings=SOON) as galleries:
        until(lambda: fake.forgotten and not fake.since)
        assert fake.forgotten[-1] == 4
        if fusion == "mean":  # a template gets another value
            fake.forgotten.clear()
            galleries.enroll("g", "s4", np.full((1, 4), 9, np.float32)).result()
            until(lambda: fake.forgotten and not fake.since)
        receipt = galleries.delete_subject("g", "s1").result().receipt
    said = verify_receipt(receipt, key.read_text())
    assert said["time"][:19] <= said["in_engine_until"][:19]
    with LocalGalleries.open(tmp_path, settings=SOON) as galleries:  # nothing is elsewhere
        receipt = galleries.delete_subject("g", "s2").result().receipt
    assert "in_engine_until" not in verify_receipt(receipt, key.read_text())


@pytest.mark.parametrize("fusion", ["nearest", "mean"])
def test_a_deletion_that_milvus_lost_is_made_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusion: str
) -> None:
    fake = FakeMilvus.installed(monkeypatch)
    with LocalGalleries.open(tmp_path, device=URL, settings=SOON) as galleries:
        enrolled(galleries, 5, fusion)
        fake.loses = True
        galleries.delete_subject("g", "s1").result()
        until(lambda: fake.forgotten and not fake.since)
        assert fake.forgotten[-1] == 4
        assert not any(fake.lost.values())


def test_that_files_have_what_they_should_not_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeMilvus.installed(monkeypatch)

    def forget(*_: object) -> None:
        raise NotForgotten("it can't")

    monkeypatch.setattr(fake, "forget", forget)
    with (
        LocalGalleries.open(tmp_path, device=URL, settings=SOON) as galleries,
        caplog.at_level(logging.WARNING, writer.__name__),
    ):
        enrolled(galleries, 2)
        galleries.delete_subject("g", "s1").result()
        until(lambda: "oneglance_1_encodings" in caplog.text and "it can't" in caplog.text)


@pytest.mark.parametrize("who", ["compacts", "closes", "another"])
def test_a_pass_gives_way_to_whoever_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    """Also to a gallery that was made meanwhile."""
    monkeypatch.setattr(index, "_MOST_BYTES", 16 * 40)
    fake = FakeMilvus.installed(monkeypatch)
    passing, gave_way = threading.Event(), threading.Event()

    def forget(_: Collection, __: int, go_on: Callable[[], bool]) -> None:
        passing.set()
        until(lambda: not go_on())
        gave_way.set()
        raise NotForgotten("others wanted to")

    monkeypatch.setattr(fake, "forget", forget)
    monkeypatch.setattr(writer, "_FORGET_AGAIN_SECONDS", 1e6)
    with LocalGalleries.open(tmp_path, device=URL, settings=SOON) as galleries:
        enrolled(galleries, 2)
        galleries.delete_subject("g", "s1").result()
        assert passing.wait(60)
        if who == "compacts":
            galleries.compact("g")
        elif who == "another":
            galleries.create_gallery("h", encoder_digest="e", dimension=4).result()
            for number in range(100):
                galleries.enroll("h", f"s{number}", np.full((1, 4), number + 1, np.float32)).result()
    assert gave_way.is_set()


def test_deletions_are_not_forgotten_by_a_want_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMilvus.installed(monkeypatch)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        enrolled(galleries, 3)
        rows_of, tries = MilvusIndex._rows_of, itertools.count()

        def short(self: MilvusIndex, here: Any) -> Rows:
            if next(tries) == 0:
                raise MemoryError
            return rows_of(self, here)

        monkeypatch.setattr(MilvusIndex, "_rows_of", short)
        before = int(time.time())
        galleries.delete_subject("g", "s1").result()
        until(lambda: len(next(iter(fake.collections.values()))) == 2)
        assert before <= fake.since["oneglance_1_encodings"] <= time.time()


def test_a_collection_of_before_that_nobody_needs_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMilvus.installed(monkeypatch)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        enrolled(galleries, 1)
        galleries.delete_subject("g", "s0").result()
    assert fake.collections
    monkeypatch.setattr(fake, "known", lambda *_: None)  # a former version made it
    with LocalGalleries.open(tmp_path, device=URL):
        assert not fake.collections


def test_rows_that_changed_while_they_were_not_at_milvus_stay_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than fit here while the gallery is loaded."""
    fake = FakeMilvus.installed(monkeypatch)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        enrolled(galleries, 20, "mean")
    with LocalGalleries.open(tmp_path) as galleries:
        for number in range(20):
            galleries.enroll("g", f"s{number}", np.full((1, 4), number + 1.5, np.float32)).result()
    monkeypatch.setattr(index, "_MOST_BYTES", 16 * 10)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        galleries.compact("g")
        assert len(fake.collections["oneglance_1_templates"]) == 20
        assert "oneglance_1_templates" in fake.since
        (found,) = galleries.search_many("g", [Search(np.full((1, 4), 5.25, np.float32), "e", 1)])
        assert isinstance(found, Found)
        assert [one.subject_id for one in found.candidates[0]] == ["s4"]
