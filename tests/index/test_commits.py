"""An older copy of a database is known for one, before anything of a newer one goes."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import LocalGalleries, StoreDamaged, StoreMissing, back_up, check_directory, repair, restore
from oneglance_index.store.commits import CommitCount, known_commits

VECTORS = np.eye(4, dtype=np.float32)


def enroll(data_dir: Path, *names: str) -> None:
    """Without snapshots, which would tell, too."""
    with LocalGalleries.open(data_dir) as galleries:
        if "s0" in names:
            galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i, name in enumerate(names):
            galleries.enroll("g", name, VECTORS[i : i + 1], labels={"name": name}).result()
        galleries._upkeep.close(until=0)
        galleries._store.close()
    shutil.rmtree(data_dir / "snapshots", ignore_errors=True)


def subjects(data_dir: Path) -> set[str]:
    with LocalGalleries.open(data_dir) as galleries:
        return {galleries.get_subject("g", one.id).labels["name"] for one in galleries.list_subjects("g").subjects}


@pytest.fixture
def older(tmp_path: Path) -> tuple[Path, Path]:
    """A directory with an older copy of its database, and the newest database, outside of it."""
    data_dir, newest = tmp_path / "data", tmp_path / "newest"
    enroll(data_dir, "s0", "s1")
    copy = (data_dir / "store.sqlite3").read_bytes()
    enroll(data_dir, "later")
    (data_dir / "store.sqlite3").rename(newest)
    (data_dir / "store.sqlite3").write_bytes(copy)
    return data_dir, newest


def keys_of(data_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (data_dir / "keys").iterdir()}


def test_an_older_copy_is_refused_and_takes_no_keys(older: tuple[Path, Path]) -> None:
    data_dir, newest = older
    before = keys_of(data_dir)
    for _ in range(2):
        with pytest.raises(StoreMissing, match=r"older copy.*oneglance restore"):
            LocalGalleries.open(data_dir)
    with pytest.raises(StoreMissing, match="older copy"):
        repair(data_dir, "")
    assert [line for line in check_directory(data_dir, "") if "older copy" in line]
    assert keys_of(data_dir) == before
    newest.rename(data_dir / "store.sqlite3")
    assert subjects(data_dir) == {"s0", "s1", "later"}


def test_whoever_says_so_goes_on_with_an_older_copy(older: tuple[Path, Path]) -> None:
    data_dir, newest = older
    (data_dir / "keys" / "commits").unlink()
    assert subjects(data_dir) == {"s0", "s1"}
    newest.rename(data_dir / "store.sqlite3")
    with pytest.raises(StoreDamaged):  # its key is gone
        subjects(data_dir)


def test_another_stores_database_takes_no_keys(tmp_path: Path) -> None:
    enroll(tmp_path / "data", "s0")
    with LocalGalleries.open(tmp_path / "other") as galleries:
        for _ in range(5):
            galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
            galleries.delete_gallery("g").result()
    before = keys_of(tmp_path / "data")
    own = (tmp_path / "data" / "store.sqlite3").read_bytes()
    shutil.copy(tmp_path / "other" / "store.sqlite3", tmp_path / "data")
    with pytest.raises(StoreMissing, match="another store"):
        LocalGalleries.open(tmp_path / "data")
    assert keys_of(tmp_path / "data") == before
    (tmp_path / "data" / "store.sqlite3").write_bytes(own)
    assert subjects(tmp_path / "data") == {"s0"}


@pytest.mark.parametrize("content", [b"", bytes(48), bytes(4096)], ids=len)
def test_a_damaged_count_is_refused_and_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    enroll(tmp_path, "s0")
    (tmp_path / "keys" / "commits").write_bytes(content)
    with pytest.raises(StoreDamaged, match="remove it"):
        LocalGalleries.open(tmp_path)
    (tmp_path / "keys" / "commits").unlink()
    assert subjects(tmp_path) == {"s0"}
    assert known_commits(tmp_path) is not None


def test_a_restore_and_a_repair_begin_another_count(tmp_path: Path) -> None:
    data_dir, backup = tmp_path / "data", tmp_path / "backup"
    enroll(data_dir, "s0")
    back_up(data_dir / "store.sqlite3", backup)
    enroll(data_dir, "s1", "s2")
    restore(backup, data_dir)
    assert subjects(data_dir) == {"s0"}
    enroll(data_dir, "s3")
    repair(data_dir, "")
    assert subjects(data_dir) == {"s0", "s3"}


def test_what_is_counted_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file follows each COMMIT, and no transaction that changes nothing, or is rolled back."""

    def in_database() -> int:
        with sqlite3.connect(tmp_path / "store.sqlite3") as db:
            ((count,),) = db.execute("SELECT commits FROM store").fetchall()
        db.close()
        return int(count)

    def in_file() -> int:
        known = known_commits(tmp_path)
        assert known is not None
        return known[1]

    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        first = in_database()
        assert in_file() == first
        for i in range(2):
            galleries.enroll("g", "s", VECTORS[:1]).result()
            assert in_file() == in_database() == first + 1 + i
        assert galleries.delete_subject("g", "nobody").exception()
        assert galleries.create_gallery("g", encoder_digest="e", dimension=4).exception()
        assert in_file() == in_database() == first + 2
        with monkeypatch.context() as patch:  # a process that dies in between
            patch.setattr(CommitCount, "committed", lambda _: None)
            galleries.delete_subject("g", "s").result()
        assert in_file() < in_database()
    with LocalGalleries.open(tmp_path):
        assert in_file() == in_database()


def test_a_full_disk_has_no_count_but_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("oneglance_index.store.commits.write_at", fail)
    enroll(tmp_path, "s0")
    monkeypatch.undo()
    enroll(tmp_path, "s1")
    assert subjects(tmp_path) == {"s0", "s1"}
