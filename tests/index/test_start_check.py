"""A start that loads and checks behind: what answers when, what it finds, and that nothing is lost meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import IndexSettings, LocalGalleries, OpenProgress, Search, opened, start_check
from oneglance_index.errors import GalleryNotFound, IndexOutOfStep, StoreDamaged
from oneglance_index.moved import KnownSubjects
from oneglance_index.records import SubjectFilter, ToldSubjects
from oneglance_index.search.loading import StoredSubjects, load_index
from oneglance_index.store.store_row import check_others
from tests.index import asking
from tests.waiting import PATIENCE_SECONDS, until

BEHIND = IndexSettings(start_check="behind")
RNG = np.random.default_rng(3)
VECTORS = RNG.standard_normal((40, 8)).astype(np.float32)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Gallery "large" with 30 subjects, 20 of them in its snapshot, and "small" with 5."""
    with LocalGalleries.open(tmp_path) as galleries:
        for gallery_id, count in (("large", 20), ("small", 5)):
            galleries.create_gallery(gallery_id, encoder_digest="e", dimension=8).result()
            for i in range(count):
                galleries.enroll(gallery_id, f"s{i}", VECTORS[i : i + 1], labels={"odd": str(i % 2)}).result()
        galleries.snapshot()
        for i in range(20, 30):
            galleries.enroll("large", f"s{i}", VECTORS[i : i + 1], labels={"odd": str(i % 2)}).result()
        galleries.close(0)
    return tmp_path


class Gate:
    """Holds who passes a function until it is opened."""

    def __init__(self, real: Callable[..., Any], holds: Callable[..., bool] = lambda *_: True) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self._real, self._holds = real, holds

    def __call__(self, *arguments: Any) -> Any:
        if self._holds(*arguments):
            self.reached.set()
            assert self.open.wait(PATIENCE_SECONDS)
        return self._real(*arguments)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Holds the loading of gallery "large"."""
    gate = Gate(load_index, lambda *arguments: arguments[3].gallery.id == "large")
    monkeypatch.setattr(opened, "load_index", gate)
    yield gate
    gate.open.set()


@pytest.fixture
def checking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Holds the check of the store."""
    gate = Gate(check_others)
    monkeypatch.setattr(start_check, "check_others", gate)
    yield gate
    gate.open.set()


def nearest(galleries: LocalGalleries, gallery_id: str, row: int, **asked: Any) -> Any:
    return asking.ask(galleries, gallery_id, Search(VECTORS[row : row + 1], "e", 1, **asked))


def test_small_galleries_answer_before_large_ones_are_loaded(data_dir: Path, loading: Gate) -> None:
    heard: list[OpenProgress] = []
    with LocalGalleries.open(data_dir, settings=BEHIND, progress=heard.append) as galleries:
        until(loading.reached.is_set)
        assert nearest(galleries, "small", 4).candidates[0][0].subject_id == "s4"
        with pytest.raises(IndexOutOfStep):
            nearest(galleries, "large", 4)
        with pytest.raises(IndexOutOfStep):
            galleries.enroll("large", "more", VECTORS[30:31]).result()
        galleries.delete_subject("large", "s7").result()  # is not missed
        galleries.enroll("small", "more", VECTORS[30:31]).result()
        loading.open.set()
        galleries.await_loaded()
        found = nearest(galleries, "large", 25)
        assert (found.candidates[0][0].subject_id, found.subjects) == ("s25", 29)
        assert nearest(galleries, "large", 7).candidates[0][0].distance > 0
        assert {one.gallery_id: one.source for one in heard if one.done_encodings} == {
            "small": "snapshot",
            "large": "snapshot",
        }


def test_answers_say_that_the_store_is_not_checked_yet(data_dir: Path, checking: Gate) -> None:
    with LocalGalleries.open(data_dir, settings=BEHIND) as galleries:
        galleries.await_loaded()
        until(checking.reached.is_set)
        found = nearest(galleries, "large", 3)
        assert (found.unchecked, found.exact, galleries.sound) == (True, True, False)
        assert found.candidates[0][0].subject_id == "s3"
        assert galleries.verify("large", "s3", VECTORS[3:4]).unchecked
        checking.open.set()
        until(lambda: galleries.sound)
        assert not nearest(galleries, "large", 3).unchecked
        assert not galleries.verify("large", "s3", VECTORS[3:4]).unchecked
    with LocalGalleries.open(data_dir) as galleries:
        assert galleries.sound
        assert not nearest(galleries, "large", 3).unchecked


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE subjects SET purpose = 'another' WHERE id = 's9'",
        "DELETE FROM thresholds; UPDATE galleries SET sealed_rows = sealed_rows + 1",
        "PRAGMA foreign_keys = OFF; DELETE FROM subjects WHERE id = 's9' AND gallery = 1",
    ],
    ids=["changed", "counted", "dropped"],
)
def test_a_damaged_store_answers_nothing_once_it_is_found(data_dir: Path, damage: str) -> None:
    db = sqlite3.connect(data_dir / "store.sqlite3")
    db.executescript(damage)
    db.close()
    try:
        galleries = LocalGalleries.open(data_dir, settings=BEHIND)
    except StoreDamaged:  # what a gallery says of itself is looked at before
        assert "sealed_rows" in damage
        return
    with galleries:
        until(lambda: galleries.trouble() is not None)
        assert not galleries.sound
        for ask in (
            lambda: nearest(galleries, "small", 1),
            lambda: galleries.verify("large", "s9", VECTORS[9:10]),
            lambda: galleries.get_subject("large", "s9"),
            lambda: galleries.list_subjects("large"),
            lambda: galleries.subject_ids("large"),
            lambda: galleries.count_label("large", "odd"),
            lambda: galleries.export_step("large", KnownSubjects.none(), 1 << 20),
        ):
            with pytest.raises(StoreDamaged):
                ask()
        assert len(galleries.list_galleries().galleries) == 2
        for written in (
            galleries.enroll("small", "new", VECTORS[30:31]),
            galleries.delete_subject("small", "s1"),
            galleries.set_least_gap("small", 0.1),
        ):
            with pytest.raises(StoreDamaged):
                written.result()
    with pytest.raises(StoreDamaged):
        LocalGalleries.open(data_dir)


def test_a_candidate_whose_row_was_changed_is_an_error_before_the_check_finds_it(
    data_dir: Path, checking: Gate
) -> None:
    db = sqlite3.connect(data_dir / "store.sqlite3")
    db.executescript("UPDATE subjects SET id = 'somebody else' WHERE id = 's9' AND gallery = 1")
    db.close()
    with LocalGalleries.open(data_dir, settings=BEHIND) as galleries:
        galleries.await_loaded()
        with pytest.raises(StoreDamaged):
            nearest(galleries, "large", 9)
        assert nearest(galleries, "large", 10).candidates[0][0].subject_id == "s10"
        checking.open.set()


def test_one_that_can_not_be_loaded_keeps_no_other_from_it(data_dir: Path, checking: Gate) -> None:
    db = sqlite3.connect(data_dir / "store.sqlite3")
    db.executescript("UPDATE encodings SET created = 1.0 WHERE number = 26")  # in no snapshot
    db.close()
    with LocalGalleries.open(data_dir, settings=BEHIND) as galleries:
        galleries.await_loaded()
        until(lambda: galleries.trouble() is not None)
        with pytest.raises(IndexOutOfStep):
            nearest(galleries, "large", 1)
        assert nearest(galleries, "small", 1).candidates[0][0].subject_id == "s1"
        checking.open.set()


def test_a_damaged_snapshot_is_found_and_rebuilt(data_dir: Path) -> None:
    (path,) = [*(data_dir / "snapshots").glob("1-*.snap")]
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    heard: list[OpenProgress] = []
    with LocalGalleries.open(data_dir, settings=BEHIND, progress=heard.append) as galleries:
        galleries.await_loaded()
        until(lambda: galleries.sound)
        assert [one.source for one in heard if one.gallery_id == "large"][-1] == "store"
        assert not path.exists()
        for i in range(30):
            assert nearest(galleries, "large", i).candidates[0][0].subject_id == f"s{i}"


def test_keys_that_a_process_left_behind_are_destroyed_while_others_come(data_dir: Path, checking: Gate) -> None:
    checking.open.set()
    galleries = LocalGalleries.open(data_dir)
    left, _ = galleries._store.keys.of(1).take()  # of a transaction that never ended
    galleries._store.keys.journal._taken.clear()
    before = galleries._store.keys.of(1).all()
    galleries.close()
    checking.open.clear()
    checking.reached.clear()
    with LocalGalleries.open(data_dir, settings=BEHIND) as galleries:
        galleries.await_loaded()
        until(checking.reached.is_set)
        galleries.delete_subject("large", "s3").result()
        galleries.enroll("large", "new", VECTORS[30:31]).result()
        galleries.create_gallery("later", encoder_digest="e", dimension=8).result()
        galleries.enroll("later", "first", VECTORS[31:32]).result()
        checking.open.set()
        until(lambda: galleries.sound)
        after = galleries._store.keys.of(1).all()
        assert before[32 * left : 32 * left + 32] != after[32 * left : 32 * left + 32]
        galleries.enroll("large", "newer", VECTORS[32:33]).result()
    with LocalGalleries.open(data_dir) as galleries:  # looks into every key in use
        assert galleries.get_subject("later", "first").labels == {}
        for row, subject_id in ((30, "new"), (32, "newer"), (4, "s4")):
            assert nearest(galleries, "large", row, labels=True).candidates[0][0].subject_id == subject_id


def test_one_that_is_deleted_before_it_is_loaded_is_gone(data_dir: Path, loading: Gate) -> None:
    with LocalGalleries.open(data_dir, settings=BEHIND) as galleries:
        until(loading.reached.is_set)
        galleries.delete_gallery("large").result()
        galleries.await_loaded()
        loading.open.set()
        with pytest.raises(GalleryNotFound):
            nearest(galleries, "large", 1)
        until(lambda: galleries.sound)
        assert not [*(data_dir / "snapshots").glob("1-*.snap")]


def test_closing_ends_the_check(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def endless(db: sqlite3.Connection) -> None:
        begun.set()
        db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n").fetchall()

    monkeypatch.setattr(start_check, "check_others", endless)
    galleries = LocalGalleries.open(data_dir, settings=BEHIND)
    until(begun.is_set)
    galleries.close(0)
    assert not galleries.sound


def test_an_answer_is_of_one_revision_though_ids_are_read_from_the_store(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalGalleries.open(data_dir) as galleries:
        those = StoredSubjects.those
        doing: list[Callable[[], object]] = [
            lambda: galleries.rename_subject("large", "s5", "renamed").result(),
            lambda: galleries.enroll("large", "nobody near", VECTORS[30:31]).result(),
            lambda: galleries.delete_subject("large", "s6").result(),
        ]

        def meanwhile(self: StoredSubjects, *arguments: Any) -> ToldSubjects:
            if doing:
                doing.pop(0)()
            return those(self, *arguments)

        monkeypatch.setattr(StoredSubjects, "those", meanwhile)
        found = nearest(galleries, "large", 5)
        assert (found.candidates[0][0].subject_id, found.revision) == ("renamed", 31)
        found = nearest(galleries, "large", 8)  # somebody comes meanwhile, whom this isn't about
        assert (found.candidates[0][0].subject_id, found.revision) in {("s8", 31), ("s8", 32)}
        found = nearest(galleries, "large", 6)
        assert found.candidates[0][0].subject_id != "s6"
        assert found.revision == 33


def test_filters_know_what_changes_while_everybody_is_read(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalGalleries.open(data_dir) as galleries:
        everybody = StoredSubjects.everybody

        def meanwhile(self: StoredSubjects) -> ToldSubjects:
            galleries.update_labels("large", "s1", {"odd": "0"}).result()
            told = everybody(self)
            galleries.update_labels("large", "s2", {"odd": "1"}).result()
            galleries.delete_subject("large", "s4").result()
            galleries.enroll("large", "new", VECTORS[35:36], labels={"odd": "0"}).result()
            galleries.enroll("large", "gone", VECTORS[36:37], labels={"odd": "0"}).result()
            galleries.delete_subject("large", "gone").result()
            return told

        monkeypatch.setattr(StoredSubjects, "everybody", meanwhile)
        among = SubjectFilter((("odd", "0"),))
        found = asking.ask(galleries, "large", Search(VECTORS[:1], "e", 40, among=among))
        expected = {"s1", "new", *(f"s{i}" for i in range(0, 30, 2))} - {"s2", "s4"}
        assert {one.subject_id for one in found.candidates[0]} == expected
        assert found.among == len(expected) == len(galleries.subject_ids("large", among))
        assert found.subjects == 30
