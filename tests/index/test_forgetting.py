"""What is deleted leaves the files of a Milvus. Whether it leaves the real one's, tests/index/milvus tries."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import IndexSettings, LocalGalleries, verify_receipt
from oneglance_index.records import Integers, Rows
from oneglance_index.search.milvus import engine as engines
from oneglance_index.search.milvus.index import stamps_of
from tests.index.fake_milvus import URL, FakeMilvus
from tests.index.fake_segments import COLLECTION, SegmentedEngine, SegmentedMilvus
from tests.waiting import until

NONE: Integers = np.empty(0, np.int64)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_COMPACT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(engines, "_FORGETTING_PAUSE_SECONDS", 0.001)


def write(engine: SegmentedEngine, numbers: range, gone: Integers = NONE) -> None:
    vectors = np.array([[number, 0, 0, 0] for number in numbers], np.float32).reshape(-1, 4)
    rows = Rows(np.array(numbers, np.int64), np.array(numbers, np.int64), vectors)
    engine.write(COLLECTION, gone, rows, stamps_of(rows), len(gone) > 0)


def always() -> bool:
    return True


def test_files_are_compacted_until_they_have_as_many_rows_as_there_are() -> None:
    """Not until the segments are others: Milvus merges them without deletions that it hasn't stored yet."""
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    for start in range(0, 30, 10):
        write(engine, range(start, start + 10))
        engine.seal(COLLECTION)
    assert engine.unforgotten_since(COLLECTION) is None
    before = int(time.time())
    write(engine, range(0), np.array([3, 14]))
    assert before <= (engine.unforgotten_since(COLLECTION) or 0) <= time.time()
    milvus.stored = False

    def stored_after_three() -> bool:
        milvus.stored = milvus.compactions >= 3
        return True

    assert engine.forget(COLLECTION, 28, stored_after_three)
    assert milvus.compactions == 4
    assert milvus.dead.total() <= 1  # the row that says that nothing is to be forgotten took the place of one
    assert engine.unforgotten_since(COLLECTION) is None


def test_what_is_to_be_forgotten_is_known_after_a_restart_whenever_the_process_dies() -> None:
    class Killed(BaseException):
        pass

    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    write(engine, range(10))

    def dies(*_: object, **__: object) -> None:
        raise Killed

    milvus.delete = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        write(engine, range(0), np.array([3]))
    restarted = SegmentedEngine(milvus)
    assert restarted.known(COLLECTION) is not None
    assert restarted.unforgotten_since(COLLECTION) == engine.unforgotten_since(COLLECTION) is not None
    assert restarted.forget(COLLECTION, 10, always)
    again = SegmentedEngine(milvus)
    assert again.known(COLLECTION) is not None
    assert again.unforgotten_since(COLLECTION) is None


def test_forgetting_ends_when_it_is_to_and_where_nothing_can_be_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    milvus = SegmentedMilvus()
    engine = SegmentedEngine(milvus, made=True)
    write(engine, range(10))
    write(engine, range(0), np.array([3]))
    assert not engine.forget(COLLECTION, 9, lambda: False)
    assert milvus.compactions == 0
    assert engine.unforgotten_since(COLLECTION) is not None
    monkeypatch.setattr(engines, "_MOST_WITNESSES", 0)
    assert not engine.forget(COLLECTION, 9, always)
    engine.compact(COLLECTION)
    assert milvus.compactions == 0


@pytest.mark.parametrize("fusion", ["nearest", "mean"])
def test_what_is_deleted_or_replaced_is_forgotten_in_time_and_receipts_say_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusion: str
) -> None:
    fake = FakeMilvus.installed(monkeypatch)
    with LocalGalleries.open(tmp_path, device=URL, settings=IndexSettings(engine_copy_seconds=0.02)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, fusion=fusion).result()
        for number in range(1, 6):
            galleries.enroll("g", f"s{number}", np.full((1, 4), number, np.float32)).result()
        galleries.compact("g")
        assert fake.since == {}
        receipt = galleries.delete_subject("g", "s3").result().receipt
        until(lambda: fake.forgotten and not fake.since)
        assert fake.forgotten[-1] == 4
        if fusion == "mean":  # a template gets another value
            fake.forgotten.clear()
            galleries.enroll("g", "s4", np.full((1, 4), 9, np.float32)).result()
            until(lambda: fake.forgotten and not fake.since)
    said = verify_receipt(receipt, (tmp_path / "receipts.pub").read_text())
    assert said["time"][:19] <= said["in_engine_until"][:19]
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        receipt = galleries.delete_subject("g", "s1").result().receipt
    assert "in_engine_until" not in verify_receipt(receipt, (tmp_path / "receipts.pub").read_text())


def test_a_deletion_that_milvus_lost_is_made_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMilvus.installed(monkeypatch)
    with LocalGalleries.open(tmp_path, device=URL, settings=IndexSettings(engine_copy_seconds=1e-3)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for number in range(1, 6):
            galleries.enroll("g", f"s{number}", np.full((1, 4), number, np.float32)).result()
        galleries.compact("g")
        fake.loses = True
        galleries.delete_subject("g", "s1").result()
        until(lambda: fake.forgotten)
        assert fake.forgotten == [4]
        assert list(fake.strays.values()) == [[]]


def test_that_files_have_what_they_should_not_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeMilvus.installed(monkeypatch)
    monkeypatch.setattr(fake, "forget", lambda *_: False)
    with LocalGalleries.open(tmp_path, device=URL, settings=IndexSettings(engine_copy_seconds=1e-3)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "s", np.ones((1, 4), np.float32)).result()
        galleries.compact("g")
        galleries.delete_subject("g", "s").result()
        until(lambda: "files with rows that were deleted since" in caplog.text)
