"""What changes while galleries are loaded and the store is checked behind: nothing is lost, nothing comes back."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from oneglance_index import LocalGalleries
from oneglance_index.approximation import Approximation
from oneglance_index.errors import IndexOutOfStep, StoreClosed, SubjectNotFound
from oneglance_index.records import Deleted, SubjectFilter
from oneglance_index.store import database, subjects
from oneglance_index.store.destroying import Destroyer
from oneglance_index.store.keys import copying
from tests.index.test_start_check import BEHIND, VECTORS, Gate, checking, data_dir, loading, nearest
from tests.waiting import until

__all__ = ["checking", "data_dir", "loading"]


@pytest.fixture
def destroying(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Holds the destruction of keys, as a backup does."""
    gate = Gate(Destroyer._try)
    monkeypatch.setattr(Destroyer, "_try", lambda self: gate(self))
    yield gate
    gate.open.set()


def test_a_key_that_waits_to_be_destroyed_is_given_to_nobody(data_dir: Path, checking: Gate, destroying: Gate) -> None:
    with LocalGalleries.open(data_dir, settings=BEHIND) as galleries:
        galleries.await_loaded()
        deleted = galleries.delete_subject("large", "s3")
        until(destroying.reached.is_set)
        with pytest.raises(SubjectNotFound):
            galleries.get_subject("large", "s3")
        until(checking.reached.is_set)
        checking.open.set()
        until(lambda: galleries.sound)
        for i in range(64):  # takes every key that there is
            galleries.enroll("large", f"new{i}", VECTORS[:1], labels={"new": str(i)}).result()
        destroying.open.set()
        deleted.result()
        assert all(galleries.get_subject("large", f"new{i}").labels == {"new": str(i)} for i in range(64))
        assert galleries.trouble() is None
    with LocalGalleries.open(data_dir) as galleries:  # looks into every key in use
        assert nearest(galleries, "large", 30).subjects == 29 + 64


def test_a_filter_is_looked_at_though_somebody_is_deleted_all_the_time(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalGalleries.open(data_dir) as galleries:
        going: list[Future[Deleted]] = []
        numbered, held = subjects._rows_of_subjects, threading.Event()

        @contextmanager
        def holding(folder: Path) -> Iterator[None]:
            with copying(folder):
                held.set()
                yield

        def deleting(db: sqlite3.Connection, gallery: int) -> sqlite3.Cursor:
            cursor = numbered(db, gallery)  # sees those that are deleted now
            going.append(galleries.delete_subject("large", f"s{29 - len(going)}"))
            until(lambda: going[-1].done() or held.is_set())
            return cursor

        monkeypatch.setattr(database, "copying", holding)
        monkeypatch.setattr(subjects, "_rows_of_subjects", deleting)
        for ask in (
            lambda: nearest(galleries, "large", 1, among=SubjectFilter((("odd", "1"),))).candidates[0][0].subject_id,
            lambda: galleries.subject_ids("large", SubjectFilter((("odd", "1"),)))[0],
        ):
            held.clear()
            assert ask() == "s1"
        monkeypatch.undo()
        assert all(one.result() for one in going)


def test_a_snapshot_taken_during_the_check_stays_though_a_leftover_had_its_name(data_dir: Path, checking: Gate) -> None:
    path = data_dir / "snapshots" / "1-30.snap"
    path.write_bytes(b"half a snapshot")
    with LocalGalleries.open(data_dir, settings=BEHIND) as galleries:
        galleries.await_loaded()
        until(checking.reached.is_set)
        galleries.snapshot("large")
        checking.open.set()
        until(lambda: galleries.sound)
        assert path.stat().st_size > 100
        assert [one.name for one in path.parent.glob("1-*")] == [path.name]


def everything(galleries: LocalGalleries, gallery_id: str) -> dict[int, tuple[str, dict[str, str], int]]:
    """Who is nearest to each vector, at 0, with labels; and how many subjects there are."""
    found = {}
    for row in range(len(VECTORS)):
        one = nearest(galleries, gallery_id, row, labels=True)
        near = one.candidates[0][0]
        if near.distance == 0:
            found[row] = (near.subject_id, dict(near.labels or {}), one.subjects)
    return found


def test_what_is_done_to_a_gallery_before_it_is_loaded_is_in_its_answers(
    data_dir: Path, loading: Gate, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with LocalGalleries.open(data_dir, settings=BEHIND) as galleries:
        until(loading.reached.is_set)
        galleries.rename_subject("large", "s1", "renamed").result()
        galleries.update_labels("large", "s2", {"odd": "maybe"}).result()
        galleries.delete_subject("large", "s3").result()
        galleries.set_least_gap("large", 0.5).result()
        galleries.set_approximation("large", Approximation(0.9)).result()
        galleries.set_approximation("large", None).result()
        galleries.rotate_keys("large")
        galleries.rotate_keys()
        galleries.back_up(tmp_path_factory.mktemp("backup") / "backup")
        galleries.snapshot()
        with pytest.raises(IndexOutOfStep):
            galleries.merge_subjects("large", "s4", "s5").result()
        galleries.delete_subject("large", "s25").result()
        loading.open.set()
        galleries.await_loaded()
        expected = {i: (f"s{i}", {"odd": str(i % 2)}, 28) for i in range(30) if i not in (3, 25)}
        expected |= {1: ("renamed", {"odd": "1"}, 28), 2: ("s2", {"odd": "maybe"}, 28)}
        assert everything(galleries, "large") == expected
        assert len(galleries.subject_ids("large")) == 28
        among = nearest(galleries, "large", 2, among=SubjectFilter((("odd", "maybe"),)))
        assert (among.candidates[0][0].subject_id, among.among) == ("s2", 1)
        until(lambda: galleries.sound)
    with LocalGalleries.open(data_dir) as galleries:
        assert everything(galleries, "large") == expected


def test_one_that_is_deleted_and_made_anew_before_it_is_loaded_is_the_new_one(data_dir: Path, loading: Gate) -> None:
    with LocalGalleries.open(data_dir, settings=BEHIND) as galleries:
        until(loading.reached.is_set)
        galleries.delete_gallery("large").result()
        galleries.create_gallery("large", encoder_digest="e", dimension=8).result()
        galleries.enroll("large", "only", VECTORS[35:36], labels={"new": "yes"}).result()
        assert nearest(galleries, "large", 3).subjects == 1
        loading.open.set()
        galleries.await_loaded()
        until(lambda: galleries.sound)
        galleries.enroll("large", "second", VECTORS[36:37]).result()
        assert everything(galleries, "large") == {35: ("only", {"new": "yes"}, 2), 36: ("second", {}, 2)}
        assert galleries.trouble() is None
    with LocalGalleries.open(data_dir) as galleries:
        assert everything(galleries, "large") == {35: ("only", {"new": "yes"}, 2), 36: ("second", {}, 2)}


def test_another_rule_before_it_is_loaded(data_dir: Path, loading: Gate) -> None:
    with LocalGalleries.open(data_dir, settings=BEHIND) as galleries:
        until(loading.reached.is_set)
        changed = galleries.set_fusion("large", "mean")
        until(lambda: galleries.get_gallery("large").active.fusion == "mean")
        galleries.delete_subject("large", "s3").result()
        assert not changed.done()
        loading.open.set()
        changed.result()
        galleries.enroll("large", "s4", VECTORS[30:31]).result()
        found = everything(galleries, "large")
        assert found == {i: (f"s{i}", {"odd": str(i % 2)}, 29) for i in range(30) if i not in (3, 4)}
        until(lambda: galleries.sound)
    with LocalGalleries.open(data_dir) as galleries:
        assert everything(galleries, "large") == found


@pytest.mark.parametrize("held", ["loading", "checking"])
def test_closing_while_it_is_loaded_or_checked_loses_nothing(
    data_dir: Path, held: str, request: pytest.FixtureRequest
) -> None:
    gate: Gate = request.getfixturevalue(held)
    galleries = LocalGalleries.open(data_dir, settings=BEHIND)
    until(gate.reached.is_set)
    galleries.delete_subject("large", "s3").result()
    galleries.enroll("small", "new", VECTORS[30:31]).result()
    changed = galleries.set_fusion("large", "mean") if held == "loading" else None
    closing = threading.Thread(target=galleries.close)
    closing.start()
    until(lambda: galleries._upkeep.closing() or galleries._check._ending.is_set())
    gate.open.set()
    closing.join()
    if changed is not None:
        with suppress(StoreClosed):
            changed.result()
    with LocalGalleries.open(data_dir) as galleries:
        assert galleries.get_gallery("large").subjects == 29
        assert nearest(galleries, "small", 30).candidates[0][0].subject_id == "new"
        assert 3 not in everything(galleries, "large")
