"""A backup is made while others write, is a state that was acknowledged, and replaces nothing."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from oneglance_index import BackupExists, LocalGalleries, StoreClosed, restore
from oneglance_index.store import checking
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
