"""A deleted gallery is gone at once, and its rows go slice by slice, over a kill -9 too; nobody waits for a reader."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import GalleryNotFound, IndexSettings, LocalGalleries, StoreDamaged, check_file
from oneglance_index.search import upkeep
from oneglance_index.store import database
from oneglance_index.store.purging import GiveSpaceBack, PurgeSlice
from tests.index import asking
from tests.waiting import PATIENCE_SECONDS, until

VECTORS = np.eye(8, dtype=np.float32)
TABLES = ("galleries", "generations", "subjects", "encodings", "requests", "deletions", "thresholds", "snapshots")


def fill(galleries: LocalGalleries, name: str, subjects: int, fusion: str = "nearest") -> None:
    galleries.create_gallery(name, encoder_digest="e", dimension=8, fusion=fusion).result()
    enrolling = [galleries.enroll(name, f"s{i}", VECTORS[:2], request_id=f"r{i}") for i in range(subjects)]
    for one in enrolling:
        one.result()
    galleries.delete_subject(name, "s0").result()
    galleries.set_threshold(name, 0.5, "evidence").result()


def rows(data_dir: Path) -> dict[str, int]:
    db = sqlite3.connect(data_dir / "store.sqlite3")
    counts = {table: int(db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]) for table in TABLES}
    db.close()
    return counts


@pytest.fixture
def no_purge(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were killed before the first slice."""
    monkeypatch.setattr(upkeep.Upkeep, "purge", lambda _: None)


@pytest.mark.usefixtures("no_purge")
@pytest.mark.parametrize("fusion", ["nearest", "mean"])
def test_it_is_gone_at_once_and_its_id_is_free(tmp_path: Path, fusion: str) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        fill(galleries, "g", 20, fusion)
        fill(galleries, "other", 5, fusion)
        galleries.delete_gallery("g").result()
        assert rows(tmp_path)["encodings"] == 2 * 19 + 2 * 4  # all are there
        for ask in (
            galleries.get_gallery,
            galleries.known,
            galleries.list_subjects,
            galleries.list_thresholds,
            galleries.index_info,
            lambda name: galleries.get_subject(name, "s1"),
            lambda name: galleries.verify(name, "s1", VECTORS[:1]),
            lambda name: galleries.replay(name, "s1", "r1", b""),
            lambda name: asking.nearest(galleries, name, VECTORS[:1], 1),
            lambda name: galleries.enroll(name, "s1", VECTORS[:1]).result(),
        ):
            with pytest.raises(GalleryNotFound):
                ask("g")
        assert [gallery.id for gallery in galleries.list_galleries().galleries] == ["other"]
        created = galleries.create_gallery("g", encoder_digest="x", dimension=8).result()
        assert (created.revision, created.subjects) == (0, 0)
        assert not galleries.enroll("g", "s1", VECTORS[:1], encoder_digest="x", request_id="r1").result().replayed
    db = sqlite3.connect(tmp_path / "store.sqlite3")
    assert [number for (number,) in db.execute("SELECT number FROM galleries WHERE id = 'g'")] == [3]
    db.close()
    with LocalGalleries.open(tmp_path) as again:
        assert [gallery.id for gallery in again.list_galleries().galleries] == ["g", "other"]
        assert asking.nearest(again, "g", VECTORS[:1], 9, "x").subjects == 1
        assert asking.nearest(again, "other", VECTORS[:1], 9).subjects == 4
    assert list(check_file(tmp_path / "store.sqlite3")) == []


def test_its_rows_go_after_a_kill_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, LocalGalleries.open(tmp_path) as galleries:
        patch.setattr(upkeep.Upkeep, "purge", lambda _: None)
        fill(galleries, "g", 30)
        fill(galleries, "other", 5)
        kept = {"galleries": 1, "generations": 1, "subjects": 4, "encodings": 8, "requests": 5, "thresholds": 1}
        galleries.delete_gallery("g").result()
        assert rows(tmp_path)["subjects"] == 33
        # Some slices were done when it was killed.
        for _ in range(10):
            assert galleries._store.write(PurgeSlice(7)).result()
        assert 4 < rows(tmp_path)["subjects"] < 33
        assert list(check_file(tmp_path / "store.sqlite3")) == []
    with LocalGalleries.open(tmp_path) as galleries:
        until(lambda: {table: count for table, count in rows(tmp_path).items() if table in kept} == kept)
        assert asking.nearest(galleries, "other", VECTORS[:1], 9).subjects == 4
    assert list(check_file(tmp_path / "store.sqlite3")) == []


@pytest.mark.usefixtures("no_purge")
def test_a_slice_is_no_larger_than_asked(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        fill(galleries, "g", 30)
        galleries.delete_gallery("g").result()
        before = sum(rows(tmp_path).values())
        while galleries._store.write(PurgeSlice(5)).result():
            after = sum(rows(tmp_path).values())
            assert before - after <= 5 + len(TABLES)
            before = after
        assert before == 0


@pytest.mark.usefixtures("no_purge")
def test_only_a_gallery_that_was_deleted_goes(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        fill(galleries, "g", 5)
        with sqlite3.connect(tmp_path / "store.sqlite3") as db:
            db.execute("UPDATE generations SET state = 'retired'")
        db.close()
        assert isinstance(galleries._store.write(PurgeSlice(100)).exception(), StoreDamaged)
        assert rows(tmp_path)["subjects"] == 4


def test_space_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneglance_index.store.purging.KEPT_PAGES", 10)
    with LocalGalleries.open(tmp_path, settings=IndexSettings()) as galleries:
        for name in ("a", "g", "b"):
            galleries.create_gallery(name, encoder_digest="e", dimension=512).result()
            wide = np.ones((50, 512), np.float32)
            for i in range(4):
                galleries.enroll(name, f"s{i}", wide).result()
        galleries.compact()
        before = (tmp_path / "store.sqlite3").stat().st_size
        galleries.delete_gallery("g").result()
        until(lambda: rows(tmp_path)["galleries"] == 2)
        until(lambda: not galleries._store.write(GiveSpaceBack(64)).result())
        galleries.compact()
        assert (tmp_path / "store.sqlite3").stat().st_size < 0.75 * before
    assert list(check_file(tmp_path / "store.sqlite3")) == []


def test_writes_go_on_while_a_checkpoint_waits_for_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", PATIENCE_SECONDS)
    with LocalGalleries.open(tmp_path) as galleries:
        fill(galleries, "g", 3)
        with galleries._store.reading() as db:
            db.execute("SELECT * FROM galleries").fetchall()
            galleries.delete_subject("g", "s1").result()
            tried = threading.Event()
            checkpoint = galleries._store._writer._checkpoint

            def noted(*arguments: object) -> None:
                checkpoint(*arguments)  # type: ignore[arg-type]
                tried.set()

            monkeypatch.setattr(galleries._store._writer, "_checkpoint", noted)
            compacting = threading.Thread(target=galleries.compact)
            compacting.start()
            until(tried.is_set)
            galleries.enroll("g", "new", VECTORS[:1]).result()
            assert compacting.is_alive()
        compacting.join()
        assert (tmp_path / "store.sqlite3-wal").stat().st_size == 0
