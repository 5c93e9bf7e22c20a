"""Keys are made, rotated and read from where they are said to be; without the right one nothing is opened."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import (
    GalleryNotFound,
    IndexSettings,
    LocalGalleries,
    MasterKeyMissing,
    MasterKeyWrong,
    StoreDamaged,
    StoreFull,
    StoreIOError,
    StoreMissing,
)
from oneglance_index.store import keys, master
from oneglance_index.store.checking import check_directory
from oneglance_index.store.slots import Slots
from tests.index import asking

VECTORS = np.eye(4, dtype=np.float32)
KEY = "0123456789abcdef" * 4


def fill(data_dir: Path, settings: IndexSettings | None = None) -> None:
    with LocalGalleries.open(data_dir, settings=settings) as galleries:
        for name in ("g", "h"):
            galleries.create_gallery(name, encoder_digest="e", dimension=4).result()
            galleries.enroll(name, "s", VECTORS[:2], labels={"a": "b"}).result()


def check(data_dir: Path, settings: IndexSettings | None = None) -> None:
    with LocalGalleries.open(data_dir, settings=settings) as galleries:
        for name in ("g", "h"):
            assert galleries.get_subject(name, "s").labels == {"a": "b"}
            assert galleries.verify(name, "s", VECTORS[1:2]).candidates[0][0].distance == 0
            assert asking.nearest(galleries, name, VECTORS[:1], 1).subjects == 1


def test_a_master_key_comes_from_a_file_the_environment_or_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    monkeypatch.setenv("MASTER", KEY)
    sources = [f"file:{tmp_path / 'key'}", "env:MASTER", f"command:echo {KEY}"]
    fill(tmp_path / "data", IndexSettings(master_key=sources[0]))
    assert not (tmp_path / "data" / "master.key").exists()
    for source in sources:
        check(tmp_path / "data", IndexSettings(master_key=source))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        *[("file:nowhere", "nowhere"), ("env:NOT_THERE", "NOT_THERE"), ("env:", "none of"), (KEY, "none of")],
        *[("command:false", "ended with 1"), ("command:s3cret", "No such file"), ("command:echo s3cret", "no key")],
    ],
)
def test_a_master_key_that_can_not_be_read_is_told_without_secrets(tmp_path: Path, source: str, told: str) -> None:
    with pytest.raises(MasterKeyMissing, match=told) as caught:
        LocalGalleries.open(tmp_path / "data", settings=IndexSettings(master_key=source))
    assert not (tmp_path / "data" / "keys").exists()
    assert KEY not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_another_master_key_opens_nothing_and_harms_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    own = (tmp_path / "master.key").read_text()
    (tmp_path / "master.key").write_text(KEY)
    with pytest.raises(MasterKeyWrong):
        LocalGalleries.open(tmp_path)
    (tmp_path / "master.key").unlink()
    with pytest.raises(MasterKeyMissing):
        LocalGalleries.open(tmp_path)
    (tmp_path / "master.key").write_text(own)
    check(tmp_path)


def test_keys_rotate_while_it_is_open(tmp_path: Path) -> None:
    fill(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    own = (tmp_path / "master.key").read_text()
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.rotate_keys("g")
        galleries.enroll("g", "t", VECTORS[2:3]).result()
        galleries.rotate_keys()
        galleries.rotate_keys("h")
        galleries.delete_subject("g", "t").result()
        assert galleries.get_subject("g", "s").labels == {"a": "b"}
    check(tmp_path)
    assert (tmp_path / "master.key").read_text() != own
    assert not (tmp_path / "master.key.next").exists()
    after = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    assert set(after) == {"galleries", "commits", "1-2.slots", "2-2.slots"}
    for name, content in before.items():
        assert after.get(name) != content
    with pytest.raises(MasterKeyWrong):
        keys.Keys(tmp_path, [bytes.fromhex(own)])


@pytest.mark.parametrize("moment", ["before", "after", "overwritten"])
def test_a_rotation_that_was_killed_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    fill(tmp_path)
    if moment == "before":
        master._make(tmp_path / "master.key.next")
    else:
        with monkeypatch.context() as patch, LocalGalleries.open(tmp_path) as galleries:
            patch.setattr("oneglance_index.store.database.settle_master_key", lambda *_: None)
            galleries.rotate_keys()
    if moment == "overwritten":
        (tmp_path / "master.key").write_bytes(bytes(65))
    assert (tmp_path / "master.key.next").exists()
    check(tmp_path)
    assert not (tmp_path / "master.key.next").exists()
    check(tmp_path)


def test_a_rotation_that_failed_at_its_end_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    with LocalGalleries.open(tmp_path) as galleries:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", fails(errno.EIO))
            with pytest.raises(StoreIOError):
                galleries.rotate_keys()
        following = (tmp_path / "master.key.next").read_text()
        galleries.rotate_keys()
        assert (tmp_path / "master.key").read_text() == following
        galleries.rotate_keys()
        assert (tmp_path / "master.key").read_text() != following
    check(tmp_path)


def test_a_rotation_that_can_not_be_finished_keeps_no_start_from_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    own = (tmp_path / "master.key").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(keys, "write_at", fails(errno.ENOSPC))
        with LocalGalleries.open(tmp_path) as galleries, pytest.raises(StoreFull):
            galleries.rotate_keys()
        check(tmp_path)
        assert (tmp_path / "master.key").read_text() == own
    following = (tmp_path / "master.key.next").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(master, "sync_folder", fails(errno.EIO))
        check(tmp_path)
    check(tmp_path)
    assert (tmp_path / "master.key").read_text() == following
    assert not (tmp_path / "master.key.next").exists()


def fails(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_rotations_and_checks_at_once_take_turns(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "s", VECTORS, labels={"a": "b"}).result()
        with ThreadPoolExecutor(6) as pool:
            rotations = [pool.submit(galleries.rotate_keys) for _ in range(24)]
            checks = [pool.submit(lambda: list(check_directory(tmp_path, ""))) for _ in range(12)]
            assert [done.result() for done in rotations] == [None] * 24
            assert [done.result() for done in checks] == [[]] * 12
    with LocalGalleries.open(tmp_path) as galleries:
        assert galleries.get_subject("g", "s").labels == {"a": "b"}


def test_a_master_key_from_outside_is_rotated_by_naming_both(tmp_path: Path) -> None:
    (tmp_path / "old").write_text(KEY)
    (tmp_path / "new").write_text(KEY[::-1])
    old, new = f"file:{tmp_path / 'old'}", f"file:{tmp_path / 'new'}"
    fill(tmp_path / "data", IndexSettings(master_key=old))
    check(tmp_path / "data", IndexSettings(master_key=new, former_master_key=old))
    check(tmp_path / "data", IndexSettings(master_key=new))
    with pytest.raises(MasterKeyWrong):
        LocalGalleries.open(tmp_path / "data", settings=IndexSettings(master_key=old))


@pytest.mark.parametrize("file", ["galleries", "1-1.slots"])
def test_missing_keys_are_damage(tmp_path: Path, file: str) -> None:
    fill(tmp_path)
    (tmp_path / "keys" / file).unlink()
    with pytest.raises(StoreDamaged, match="missing"):
        LocalGalleries.open(tmp_path)


def test_no_master_key_is_made_for_a_store_whose_keys_are_lost(tmp_path: Path) -> None:
    """It would hide the right one, once the keys are back."""
    fill(tmp_path)
    (tmp_path / "keys").rename(tmp_path / "aside")
    (tmp_path / "master.key").rename(tmp_path / "aside.key")
    with pytest.raises(MasterKeyMissing):
        LocalGalleries.open(tmp_path)
    assert not (tmp_path / "master.key").exists()
    (tmp_path / "aside.key").rename(tmp_path / "master.key")
    with pytest.raises(StoreDamaged, match="missing"):
        LocalGalleries.open(tmp_path)
    (tmp_path / "aside").rename(tmp_path / "keys")
    check(tmp_path)


def test_keys_without_their_store_are_not_thrown_away(tmp_path: Path) -> None:
    fill(tmp_path)
    shutil.rmtree(tmp_path / "snapshots")
    (tmp_path / "store.sqlite3").unlink()
    before = (tmp_path / "keys" / "galleries").read_bytes()
    with pytest.raises(StoreMissing, match="keys"):
        LocalGalleries.open(tmp_path)
    assert (tmp_path / "keys" / "galleries").read_bytes() == before


def test_new_subjects_take_keys_that_were_never_used(tmp_path: Path) -> None:
    path = tmp_path / "1-1.slots"
    path.touch()
    slots = Slots(path, bytes(32))
    taken = [slots.take()[0] for _ in range(2000)]
    assert len(set(taken)) == 2000
    former = slots.all()
    slots.doom(taken[:10])
    slots.destroy_doomed()
    assert all(slots.was_destroyed(slot, 0) for slot in taken[:10])
    after = slots.all()
    for slot in range(2000):
        same = former[32 * slot : 32 * slot + 32] == after[32 * slot : 32 * slot + 32]
        assert same == (slot not in taken[:10])
    again = Slots(path, bytes(32))  # as a start does
    again.destroy_others(np.array(taken[10:20], np.int64))
    last = again.all()
    assert [s for s in taken if former[32 * s : 32 * s + 32] == last[32 * s : 32 * s + 32]] == taken[10:20]
    slots.close()


def test_a_key_in_memory_is_the_one_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "1-1.slots"
    path.touch()
    slots = Slots(path, bytes(32))
    for _ in range(3):
        taken = [slots.take() for _ in range(100)]
        for slot, key in taken:
            assert slots.read(slot).decrypt(bytes(12), key.encrypt(bytes(12), b"it", b""), b"") == b"it"
        slots.doom(slot for slot, _ in taken)
        slots.destroy_doomed()
    slots.close()


@pytest.mark.parametrize("moment", ["before", "after", "overwritten"])
def test_a_check_knows_of_a_rotation_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    fill(tmp_path)
    if moment == "before":
        master._make(tmp_path / "master.key.next")
    else:
        with monkeypatch.context() as patch, LocalGalleries.open(tmp_path) as galleries:
            patch.setattr("oneglance_index.store.database.settle_master_key", lambda *_: None)
            galleries.rotate_keys()
    if moment == "overwritten":
        (tmp_path / "master.key").write_bytes(bytes(65))
    before = (tmp_path / "keys" / "galleries").read_bytes()
    assert [*check_directory(tmp_path, "")] == []
    assert (tmp_path / "keys" / "galleries").read_bytes() == before


def test_a_rotation_to_the_key_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    settings = IndexSettings(master_key=f"file:{tmp_path / 'key'}")
    fill(tmp_path / "data", settings)
    with LocalGalleries.open(tmp_path / "data", settings=settings) as galleries:
        with pytest.raises(MasterKeyMissing, match="in use"):
            galleries.rotate_keys()
        (tmp_path / "key").write_text(KEY[::-1])
        galleries.rotate_keys()
    check(tmp_path / "data", settings)


def test_a_gallery_that_is_deleted_while_its_key_is_to_be_rotated_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        rotate = galleries._store.rotate_key

        def rotate_late(gallery: int) -> None:
            galleries.delete_gallery("g").result()
            rotate(gallery)

        monkeypatch.setattr(galleries._store, "rotate_key", rotate_late)
        with pytest.raises(GalleryNotFound):
            galleries.rotate_keys("g")
