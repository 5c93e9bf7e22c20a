"""A damaged store is put right: what is sound is saved, what isn't comes from a backup or is told."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest

from oneglance_index import LocalGalleries, StoreDamaged, StoreMissing, back_up, check_directory, repair, restore
from oneglance_index.store import repairing
from tests.index.test_golden_store import GOLDEN
from tests.waiting import until

VECTORS = np.eye(4, dtype=np.float32)


def fill(data_dir: Path, backup: Path) -> None:
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for name in ("a", "b", "deleted"):
            galleries.enroll("g", name, VECTORS[:3], labels={"n": name}, request_id=name).result()
        galleries.add_negative("g", "a", VECTORS[3]).result()
        galleries.set_threshold("g", 0.5, "evidence").result()
        back_up(data_dir / "store.sqlite3", backup)
        galleries.delete_subject("g", "deleted").result()


def damage(data_dir: Path, *statements: str) -> None:
    with sqlite3.connect(data_dir / "store.sqlite3") as db:
        for statement in statements:
            db.execute(statement)
    db.close()
    with pytest.raises(StoreDamaged), LocalGalleries.open(data_dir) as galleries:  # noqa: PT012 - at either
        galleries.verify("g", "a", VECTORS[:1])
        galleries.verify("g", "b", VECTORS[:1])


def state(data_dir: Path) -> dict[str, int]:
    """Encodings by subject."""
    assert list(check_directory(data_dir, "")) == []
    with LocalGalleries.open(data_dir) as galleries:
        page = galleries.list_subjects("g")
        for subject in page.subjects:
            assert subject.labels == {"n": subject.id}
            galleries.verify("g", subject.id, VECTORS[:1])
        assert galleries.get_gallery("g").active.threshold in (0.5, None)
        galleries.enroll("g", "new", VECTORS[:1]).result()
        galleries.delete_subject("g", "new").result()
        return {subject.id: len(subject.encodings) for subject in page.subjects}


DAMAGE = {
    "an encoding": ("UPDATE encodings SET created = 5 WHERE number = 2",),
    "a subject": ("UPDATE subjects SET id = 'x' WHERE number = 2",),
    "a missing encoding": ("DELETE FROM encodings WHERE number = 5",),
    "what a gallery knows": ("UPDATE galleries SET root = 1",),
    "what the store knows": ("UPDATE store SET seal = 1",),
    "a threshold": ("DELETE FROM thresholds",),
}
LEFT = {"an encoding": {"a": 2, "b": 3}, "a subject": {"a": 3}, "a missing encoding": {"a": 3, "b": 2}}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_sound_is_saved_and_what_is_not_is_told(tmp_path: Path, what: str) -> None:
    data = tmp_path / "data"
    fill(data, tmp_path / "backup")
    damage(data, *DAMAGE[what])
    shutil.rmtree(data / "snapshots")  # it would have the encodings
    former, lost = repair(data, "")
    with LocalGalleries.open(data) as galleries:  # numbers of those that were deleted are not given again
        assert galleries.enroll("g", "next", VECTORS[:1]).result().encoding_ids == ("10",)
        galleries.delete_subject("g", "next").result()
    assert (former / "store.sqlite3").exists()
    assert state(data) == LEFT.get(what, {"a": 3, "b": 3})
    assert lost


@pytest.mark.parametrize("fusion", ["nearest", "mean"])
def test_encodings_come_from_the_snapshot_but_none_that_was_deleted(tmp_path: Path, fusion: str) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, fusion=fusion).result()
        for name in ("a", "b"):
            galleries.enroll("g", name, VECTORS[:3], labels={"n": name}).result()
        galleries.snapshot()
        expected = galleries.verify("g", "b", VECTORS[:1])
        galleries.enroll("g", "late", VECTORS[:3], labels={"n": "late"}).result()
    damage(tmp_path, "UPDATE encodings SET created = 5 WHERE number = 4", "DELETE FROM encodings WHERE number = 5")
    assert repair(tmp_path, "")[1] == []
    assert state(tmp_path) == {"a": 3, "b": 3, "late": 3}
    with LocalGalleries.open(tmp_path) as galleries:
        assert galleries.verify("g", "b", VECTORS[:1]).candidates == expected.candidates
        galleries.snapshot()
        galleries.delete_encoding("g", "b", "4").result()
        galleries._upkeep.close(until=0)
        galleries._store.close()
    damage(tmp_path, "DELETE FROM encodings WHERE number = 5")
    assert any("'b'" in line for line in repair(tmp_path, "")[1])
    assert state(tmp_path) == {"a": 3, "b": 1, "late": 3}


def test_what_is_lost_comes_from_a_backup_but_nobody_who_was_deleted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    fill(data, tmp_path / "backup")
    damage(data, "UPDATE subjects SET id = 'x' WHERE number = 2")
    _, lost = repair(data, "", tmp_path / "backup")
    assert state(data) == {"a": 3, "b": 3}
    assert lost == []


def test_single_encodings_come_from_a_backup_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    fill(data, tmp_path / "backup")
    with LocalGalleries.open(data) as galleries:
        encodings = galleries.get_subject("g", "b").encodings
        galleries.delete_encoding("g", "b", encodings[0].id).result()  # and doesn't come back
    damage(data, "UPDATE encodings SET created = 5 WHERE number = 2")
    _, lost = repair(data, "", tmp_path / "backup")
    assert state(data) == {"a": 3, "b": 2}
    assert lost == []


def test_one_of_a_former_version_is_repaired_with_a_backup_of_it(tmp_path: Path) -> None:
    """Its seals have no key. The backup is restored, too."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    shutil.copytree(GOLDEN / "v6", data)
    back_up(data / "store.sqlite3", backup)
    shutil.copytree(data, tmp_path / "restored")
    damage(data, "DELETE FROM subjects WHERE id = 's3'", "UPDATE encodings SET created = 5 WHERE number = 1")
    assert repair(data, "", backup)[1] == []
    restore(backup, tmp_path / "restored")
    for folder in (data, tmp_path / "restored"):
        with LocalGalleries.open(folder) as galleries:
            assert galleries.get_subject("people", "s3").labels == {"name": "Zoë 3"}
        assert list(check_directory(folder, "")) == []


@pytest.mark.parametrize("last", ["store.sqlite3", "snapshots"])
@pytest.mark.parametrize("empty", [False, True])
def test_one_that_is_killed_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, empty: bool
) -> None:
    """Killed once the damaged `last` was moved. Another program may have made an empty database since."""
    data = tmp_path / "data"
    fill(data, tmp_path / "backup")
    damage(data, "UPDATE subjects SET id = 'x' WHERE number = 2")
    shutil.copytree(data, tmp_path / "other")
    former, expected = repair(tmp_path / "other", "")
    assert expected
    assert (former / "not-saved.txt").read_text().splitlines() == expected
    if (child := os.fork()) == 0:
        rename = Path.rename

        def rename_and_end(self: Path, target: Path) -> Path:
            rename(self, target)
            return os._exit(9) if self.name == last else target

        monkeypatch.setattr(Path, "rename", rename_and_end)
        repair(data, "")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    if empty:
        (data / "store.sqlite3").touch()
    for _ in range(2):
        with pytest.raises(StoreMissing, match="oneglance repair"):
            LocalGalleries.open(data)
    _, lost = repair(data, "")
    assert lost == expected
    assert state(data) == state(tmp_path / "other")


def test_no_gallery_comes_back_that_was_deleted_since_the_backup(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with LocalGalleries.open(data) as galleries:
        galleries.create_gallery("secret", encoder_digest="e", dimension=4).result()
        galleries.enroll("secret", "p", VECTORS[:1]).result()
        galleries.set_threshold("secret", 0.5, "evidence").result()
    fill(data, tmp_path / "backup")
    with LocalGalleries.open(data) as galleries:
        galleries.delete_gallery("secret").result()
    with LocalGalleries.open(data) as galleries:
        until(lambda: galleries._store.read(lambda db: len(db.execute("SELECT 1 FROM galleries").fetchall()) == 1))
    damage(data, "UPDATE subjects SET id = 'x' WHERE number = 3")
    assert repair(data, "", tmp_path / "backup")[1] == []
    assert state(data) == {"a": 3, "b": 3}
    with LocalGalleries.open(data) as galleries:
        assert [gallery.id for gallery in galleries.list_galleries().galleries] == ["g"]


def test_no_sound_row_behind_a_broken_page_is_lost(tmp_path: Path) -> None:
    """Two pages of `subjects` with a sound one between them."""
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        labels = {"n": "x" * 100}
        enrolled = [galleries.enroll("g", f"s{i:03}", VECTORS[:1], labels=labels) for i in range(300)]
        for one in enrolled:
            one.result()
    path = tmp_path / "store.sqlite3"
    with sqlite3.connect(path) as db:
        ((root,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'subjects'").fetchall()
        ((size,),) = db.execute("PRAGMA page_size").fetchall()
    db.close()
    content = bytearray(path.read_bytes())
    page = content[(root - 1) * size : root * size]
    cells = [int.from_bytes(page[12 + 2 * i : 14 + 2 * i]) for i in range(int.from_bytes(page[3:5]))]
    leaves = [int.from_bytes(page[cell : cell + 4]) for cell in cells]
    broken = 0
    for leaf in leaves[2:5:2]:
        start = (leaf - 1) * size
        broken += int.from_bytes(content[start + 3 : start + 5])
        content[start : start + size] = bytes(size)
    path.write_bytes(content)
    assert broken > 0
    _, lost = repair(tmp_path, "")
    assert [line for line in lost if "rows of subjects" in line]
    with LocalGalleries.open(tmp_path) as galleries:
        left = {subject.id for subject in galleries.list_subjects("g", page_size=1000).subjects}
    assert len(left) == 300 - broken


def test_rows_are_found_behind_a_gap_wider_than_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "_TRIED", 4)

    def execute(_: str, first: tuple[int]) -> Any:
        """Nothing can be read from row 3 to row 80, nor from row 200 on."""
        if 3 <= first[0] <= 80 or first[0] >= 200:
            raise sqlite3.DatabaseError
        found = [(row,) for row in (1, 2, 81, 82) if row >= first[0]]
        cursor = MagicMock(fetchall=lambda: found[:1])
        cursor.__iter__.side_effect = lambda: broken_after(found)
        return cursor

    def broken_after(rows: list[tuple[int]]) -> Iterator[tuple[int]]:
        yield from rows[:1]
        raise sqlite3.DatabaseError

    lost: list[str] = []
    rows = repairing._rows(Mock(execute=execute), "t", "c", lost)
    assert [row for (row,) in rows] == [1, 2, 81, 82]
    assert lost == ["rows of t from 3 on: they can't be read"]


@pytest.mark.parametrize("unreadable", [False, True])
def test_transactions_are_counted_on(tmp_path: Path, unreadable: bool) -> None:
    """A copy of before the repair, put in place once there were writes again, is known for one."""
    data, former = tmp_path / "data", tmp_path / "former"
    fill(data, tmp_path / "backup")
    shutil.copy(data / "store.sqlite3", former)
    if unreadable:
        damage(data, "UPDATE store SET commits = -1")
    repair(data, "")
    with LocalGalleries.open(data) as galleries:
        galleries.enroll("g", "later", VECTORS[:1], labels={"n": "later"}).result()
    shutil.rmtree(data / "snapshots")
    shutil.copy(former, data / "store.sqlite3")
    with pytest.raises(StoreMissing, match=r"older copy|another store"):
        LocalGalleries.open(data)
