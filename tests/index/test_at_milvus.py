"""MilvusIndex without a Milvus: every promise, and the model of a move, with one that is in dictionaries. What the real
one does tests/index/milvus tries, where there is one."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from oneglance_core.distance import squared_l2
from oneglance_index import DeviceUnavailable, EngineUnavailable, Found, LocalGalleries, Search
from oneglance_index.records import Vectors
from oneglance_index.search.milvus import engine as engines
from oneglance_index.search.milvus import held, index
from oneglance_index.search.milvus.address import parse_address
from oneglance_index.search.milvus.engine import Collection, Hits
from oneglance_index.search.milvus.held import HeldRows
from tests.index.conformance import PROMISES, Trial
from tests.index.fake_milvus import URL, FakeMilvus
from tests.index.milvus.test_milvus_conformance import REFUSED
from tests.index.test_conformance import SETTINGS
from tests.index.test_succession import MovingMachine
from tests.waiting import until


@pytest.mark.parametrize("restarting", [False, True], ids=["fresh", "reopened"])
@pytest.mark.parametrize("name", sorted(PROMISES.keys() - REFUSED))
def test_every_promise_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, restarting: bool) -> None:
    FakeMilvus.installed(monkeypatch)
    trial = Trial(lambda: LocalGalleries.open(tmp_path, device=URL, settings=SETTINGS), restarting)
    try:
        PROMISES[name](trial)
    finally:
        trial.store.close()


def test_rows_that_came_are_sealed_once_they_are_many_and_nothing_more_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_MANY_ROWS", 20)
    milvus = FakeMilvus.installed(monkeypatch)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i in range(19):
            galleries.enroll("g", f"s{i}", np.full((1, 4), i + 1, np.float32)).result()
        until(lambda: len(next(iter(milvus.collections.values()), ())) == 19)
        assert milvus.sealed == []
        galleries.enroll("g", "last", np.full((1, 4), 20, np.float32)).result()
        until(lambda: milvus.sealed == [20])
        galleries.enroll("g", "one more", np.full((1, 4), 21, np.float32)).result()
        until(lambda: len(next(iter(milvus.collections.values()))) == 21)
    assert milvus.sealed == [20]


def test_a_move_is_as_its_model_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class AtMilvus(MovingMachine):
        device = URL

        def open(self) -> None:
            if not hasattr(self, "milvus"):  # a restart finds the rows that are there
                self.milvus = FakeMilvus.installed(monkeypatch)
            super().open()

    run_state_machine_as_test(AtMilvus, settings=settings(max_examples=20, stateful_step_count=25, deadline=None))


def test_an_address_says_where_and_how_often() -> None:
    one = parse_address("milvus+tls://a.example:19530/people?replicas=2")
    assert (one.uri, one.database, one.replicas) == ("https://a.example:19530", "people", 2)
    other = parse_address("milvus://127.0.0.1:1")
    assert (other.uri, other.database, other.replicas) == ("http://127.0.0.1:1", "default", 1)
    for wrong in (
        "milvus://a:1?replicas=0",
        "milvus://a:1/d?replicas=x",
        "milvus://a:1/d?more=2",
        "milvus://u:p@a:1",
        "milvus://[::1]:1",
    ):
        with pytest.raises(DeviceUnavailable, match="replicas=N"):
            parse_address(wrong)


def test_a_gallery_is_compacted_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as there is more to write each time, it isn't waited for. The writer's own thread may write before, as
    often as it gets the lock."""
    FakeMilvus.installed(monkeypatch)
    compacted, writes, compacts = threading.Event(), FakeMilvus.write, threading.current_thread()
    by_compaction = itertools.count(1)

    def write(fake: FakeMilvus, *what: Any) -> int:
        if not compacted.is_set():
            assert threading.current_thread() is not compacts or next(by_compaction) < 3
            galleries.enroll("g", f"s{next(numbers)}", np.ones((1, 4), np.float32)).result()
        return writes(fake, *what)

    numbers = itertools.count()
    monkeypatch.setattr(FakeMilvus, "write", write)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "first", np.ones((1, 4), np.float32)).result()
        galleries.compact("g")
        compacted.set()


def test_a_row_whose_deletion_milvus_lost_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one of a deleted subject nor one that was replaced; at Milvus it is deleted once more."""
    fake = FakeMilvus.installed(monkeypatch)
    near, far = np.ones((1, 4), np.float32), np.full((1, 4), 9, np.float32)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for name, vector in (("gone", near), ("changed", near * 2), ("kept", far)):
            galleries.enroll("g", name, vector).result()
        galleries.compact("g")
        (there,) = fake.collections.values()
        before = dict(there)
        galleries.delete_subject("g", "gone").result()
        galleries.enroll("g", "changed", far, on_existing="replace").result()
        galleries.compact("g")
        lost = {number: before[number] for number in before.keys() - there.keys()}
        assert len(lost) == 2
        there.update(lost)
        (found,) = galleries.search_many("g", [Search(near, "e", 3, 30.0, 5)])
        assert isinstance(found, Found)
        assert {one.subject_id for one in found.candidates[0]} == {"changed", "kept"}
        assert not found.matches[0]
        until(lambda: not lost.keys() & there.keys())


def test_a_row_whose_former_vector_milvus_kept_is_found_by_the_present_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Milvus has both and tells the nearer one only: the subject would be in no answer near its former vector. What is
    there is put right besides."""
    fake = FakeMilvus.installed(monkeypatch)
    near, there = np.ones((1, 4), np.float32), np.full((1, 4), 3, np.float32)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, fusion="mean").result()
        galleries.enroll("g", "changed", near).result()
        galleries.enroll("g", "far", there * 3).result()
        galleries.compact("g")
        (name,) = fake.collections
        before = dict(fake.collections[name])
        galleries.enroll("g", "changed", there).result()  # its template is between the two
        galleries.compact("g")
        ((number, former),) = [(number, row) for number, row in before.items() if fake.collections[name][number] != row]
        for _ in range(2):
            fake.lost[name] = [(number, former)]
            (found,) = galleries.search_many("g", [Search(near, "e", 2, 5.0, 5)])
            assert isinstance(found, Found)
            assert [(one.subject_id, one.distance) for one in found.candidates[0]] == [("changed", 4.0), ("far", 256.0)]
            assert [one.subject_id for one in found.matches[0]] == ["changed"]
            until(lambda: not fake.lost[name])
        fake.lost[name] = [(number, former)]
        del fake.collections[name][number]  # the present one isn't there at all
        with pytest.raises(EngineUnavailable, match="lacks rows"):
            galleries.search_many("g", [Search(near, "e", 2, 5.0, 5)])


def test_any_number_of_rows_whose_deletion_milvus_lost_hides_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a search among them last for ever, where they are as many as it can ask for."""
    fake = FakeMilvus.installed(monkeypatch)
    monkeypatch.setattr(engines, "_ANSWER_BYTES", 8 * 4 * 20)
    vectors = np.random.default_rng(0).standard_normal((60, 4), dtype=np.float32)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i, vector in enumerate(vectors):
            galleries.enroll("g", f"s{i}", vector[None]).result()
        galleries.enroll("g", "far", vectors[:1] + 100).result()
        galleries.compact("g")
        (name,) = fake.collections
        before = dict(fake.collections[name])
        for i in range(60):
            galleries.delete_subject("g", f"s{i}").result()
        galleries.compact("g")
        fake.lost[name] = [(number, row) for number, row in before.items() if number not in fake.collections[name]]
        assert len(fake.lost[name]) == 60
        (found,) = galleries.search_many("g", [Search(vectors[:1], "e", 3)])
        assert isinstance(found, Found)
        assert [one.subject_id for one in found.candidates[0]] == ["far"]
        until(lambda: not fake.lost[name])


def test_rows_are_held_as_a_dictionary_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_ASIDE", 5)
    rows, model, random = HeldRows(), dict[int, int](), np.random.default_rng(0)
    everybody = np.arange(30)
    for _ in range(200):
        numbers = np.unique(random.integers(0, 30, 3))
        if random.random() < 0.5:
            stamps = random.integers(0, 3, len(numbers))
            rows.add(numbers, stamps)
            model.update(zip(numbers.tolist(), stamps.tolist(), strict=True))
        else:
            rows.remove(numbers)
            model = {number: stamp for number, stamp in model.items() if number not in numbers}
        stamps = random.integers(0, 3, 30)
        expected = [model.get(number) == stamp for number, stamp in enumerate(stamps.tolist())]
        assert rows.count(everybody, stamps).tolist() == expected
        assert {number for number in range(30) if number in rows} == model.keys()


def test_no_answer_is_larger_than_milvus_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are asked for; and all are told."""
    FakeMilvus.installed(monkeypatch)
    monkeypatch.setattr(engines, "_ANSWER_BYTES", 8 * 4 * 20)
    asked: list[int] = []
    nearest = FakeMilvus.nearest

    def noted(fake: FakeMilvus, collection: Collection, probes: Vectors, most: int, *rest: Any) -> Hits:
        asked.append((len(probes) + 1) * most * 4 * collection.dimension)
        return nearest(fake, collection, probes, most, *rest)

    monkeypatch.setattr(FakeMilvus, "nearest", noted)
    vectors = np.random.default_rng(0).standard_normal((90, 4), dtype=np.float32)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i, vector in enumerate(vectors):
            galleries.enroll("g", f"s{i}", vector[None]).result()
        galleries.compact("g")
        found = galleries.search_many("g", [Search(vectors[:7], "e", 3), Search(vectors[:2], "e", 70, 4.0, 80)])
    few, many = (one for one in found if isinstance(one, Found))
    for probe, candidates in zip(vectors[:7], few.candidates, strict=True):
        order = np.argsort(squared_l2(vectors, probe), kind="stable")
        assert [one.subject_id for one in candidates] == [f"s{at}" for at in order[:3]]
    for probe, candidates, matches in zip(vectors[:2], many.candidates, many.matches, strict=True):
        away = squared_l2(vectors, probe)
        order = np.argsort(away, kind="stable")
        assert [one.subject_id for one in candidates] == [f"s{at}" for at in order[:70]]
        assert [one.subject_id for one in matches] == [f"s{at}" for at in order if away[at] <= 4]
    assert 0 < max(asked) <= 8 * 4 * 20
