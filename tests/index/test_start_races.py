"""What changes while galleries are loaded and the store is checked behind: nothing is lost, nothing comes back."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

from oneglance_index import LocalGalleries
from oneglance_index.errors import SubjectNotFound
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


def test_a_key_that_waits_to_be_destroyed_is_given_to_nobody(
    data_dir: Path, checking: Gate, destroying: Gate
) -> None:
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
