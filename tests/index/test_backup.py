"""A backup is made while others write, is a state that was acknowledged, and replaces nothing."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oneglance_core.files import replacing
from oneglance_index import BackupExists, LocalGalleries, StoreClosed, back_up, restore
from oneglance_index.store import backup, checking
from tests.thief import Thief, recording
from tests.waiting import until
from tests.ways_to_delete import DIMENSION, labels_of, secrets_of, vectors_of


def enroll(galleries: LocalGalleries, name: str) -> None:
    galleries.enroll("g", name, vectors_of(name), labels=labels_of(name)).result()


def create(galleries: LocalGalleries) -> None:
    galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()


def restored(backup: Path, data: Path) -> list[str]:
    """The subjects in a backup, once it is put into a data directory of its own. `data` has the master key."""
    folder = data.with_name(backup.name + "-restored")
    folder.mkdir()
    shutil.copy(data / "master.key", folder)
    restore(backup, folder)
    with LocalGalleries.open(folder) as galleries:
        return [subject.id for subject in galleries.list_subjects("g", page_size=100_000).subjects]


def test_under_writes_it_is_a_state_that_was_acknowledged(tmp_path: Path) -> None:
    end = threading.Event()
    done = 0

    def write(galleries: LocalGalleries) -> None:
        nonlocal done
        while not end.is_set():
            enroll(galleries, f"{done:06}")
            done += 1

    with LocalGalleries.open(tmp_path / "data") as galleries:
        create(galleries)
        writing = threading.Thread(target=write, args=(galleries,))
        writing.start()
        until(lambda: done >= 20)
        begun = done
        made = galleries.back_up(tmp_path / "backup")
        ended = done
        until(lambda: done > ended)  # it goes on
        end.set()
        writing.join()
    (gallery,) = made.galleries
    assert made.size == (tmp_path / "backup").stat().st_size
    assert begun <= gallery.revision <= ended + 1
    assert restored(tmp_path / "backup", tmp_path / "data") == [f"{i:06}" for i in range(gallery.revision)]


def test_who_is_deleted_later_is_in_it_until_it_goes(tmp_path: Path) -> None:
    data, seen = tmp_path / "data", tmp_path / "ciphertexts"
    with recording(seen), LocalGalleries.open(data) as galleries:
        create(galleries)
        for name in ("a", "b"):
            enroll(galleries, name)
        thief = Thief(data, seen)
        assert thief.of(secrets_of("a")) == {"a"}
        galleries.back_up(tmp_path / "before")
        galleries.delete_subject("g", "a").result()
        galleries.back_up(tmp_path / "after")
        assert thief.of(secrets_of("a")) == set()
    assert restored(tmp_path / "before", data) == ["a", "b"]
    assert restored(tmp_path / "after", data) == ["b"]


@pytest.mark.parametrize("asked", [1, 3, 10])
def test_one_that_is_given_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int) -> None:
    monkeypatch.setattr(checking, "_STEPS", 50)
    with LocalGalleries.open(tmp_path / "data") as galleries:
        create(galleries)
        enroll(galleries, "a")
        (tmp_path / "backups").mkdir()
        with pytest.raises(StoreClosed):
            galleries.back_up(tmp_path / "backups" / "b", after(asked))
        assert not list((tmp_path / "backups").iterdir())
        galleries.delete_subject("g", "a").result()  # no lock is left


def after(asked: int) -> Callable[[], bool]:
    """True from that question on."""
    questions = iter(range(asked))
    return lambda: next(questions, None) is None


def test_it_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_STEPS", 50)
    target = tmp_path / "b"

    def comes() -> bool:
        target.write_bytes(b"another one")
        return False

    with LocalGalleries.open(tmp_path / "data") as galleries:
        create(galleries)
        enroll(galleries, "a")
        with pytest.raises(BackupExists):
            galleries.back_up(target, comes)
        assert target.read_bytes() == b"another one"
        target.write_bytes(b"the former one")
        with pytest.raises(BackupExists):
            galleries.back_up(target)
    assert target.read_bytes() == b"the former one"
    assert not list(tmp_path.glob(".oneglance*"))


@pytest.fixture
def usual_mask() -> Iterator[None]:
    former = os.umask(0o022)
    yield
    os.umask(former)


@pytest.mark.usefixtures("usual_mask")
def test_all_files_are_their_owners_alone_from_the_first_byte_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []

    def noting(real: Callable[..., None]) -> Callable[..., None]:
        def copy(source: Path, target: Path, *more: Any) -> None:
            modes.append(stat.S_IMODE(target.stat().st_mode))
            real(source, target, *more)

        return copy

    monkeypatch.setattr(backup, "_copy", noting(backup._copy))
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    with LocalGalleries.open(data) as galleries:
        create(galleries)
        enroll(galleries, "a")
        galleries.snapshot()
        open_files = [path for path in data.rglob("*") if path.is_file()]
        assert [path.name for path in open_files if path.stat().st_mode & 0o077] == ["receipts.pub"]
        galleries.back_up(tmp_path / "b")
    assert restored(tmp_path / "b", data) == ["a"]
    assert modes == [0o600, 0o600]
    restored_files = [path for path in (tmp_path / "b-restored").rglob("*") if path.is_file()]
    assert [path.name for path in restored_files if path.stat().st_mode & 0o077] == ["receipts.pub"]


def test_what_a_killed_one_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, folder = tmp_path / "data", tmp_path / "backups"
    folder.mkdir()
    with LocalGalleries.open(data) as galleries:
        create(galleries)
        enroll(galleries, "a")
    if (child := os.fork()) == 0:
        monkeypatch.setattr(backup, "_check", lambda *_: os._exit(9))
        back_up(data / "store.sqlite3", folder / "killed")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list(folder.iterdir())) == 1
    with replacing(folder / "another") as running:
        back_up(data / "store.sqlite3", folder / "next")
        assert sorted(folder.iterdir()) == sorted([running, folder / "next"])
