"""A check beside a server that writes, deletes and rotates keys tells of no damage that isn't there."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import LocalGalleries, check_directory
from oneglance_index.store import checking, keys
from oneglance_index.store.directory import DATABASE_NAME

VECTORS = np.eye(4, dtype=np.float32)


@pytest.fixture
def galleries(tmp_path: Path) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path) as galleries:
        for gallery in ("g", "h"):
            galleries.create_gallery(gallery, encoder_digest="e", dimension=4).result()
            for i in range(3):
                galleries.enroll(gallery, f"s{i}", VECTORS[i : i + 1], labels={"a": "b"}).result()
        yield galleries


def once(patch: pytest.MonkeyPatch, owner: object, name: str, act: Callable[[], object]) -> None:
    """Acts before the first call."""
    call, due = getattr(owner, name), [True]

    def called(*arguments: object, **named: object) -> object:
        if due.pop() if due else False:
            act()
        return call(*arguments, **named)

    patch.setattr(owner, name, called)


def faults(galleries: LocalGalleries) -> list[str]:
    return list(check_directory(galleries.data_dir, ""))


def test_keys_that_move_meanwhile_are_no_damage(galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # between the key of a gallery and its file
        once(patch, keys, "Slots", lambda: galleries.rotate_keys("g"))
        assert faults(galleries) == []
    with monkeypatch.context() as patch:  # once the keys are open
        once(patch, checking, "_check", galleries.rotate_keys)
        assert faults(galleries) == []


def test_what_is_deleted_meanwhile_is_no_damage(galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> None:
    def delete() -> None:
        galleries.delete_subject("g", "s0").result()
        galleries.enroll("g", "s1", VECTORS[3:], labels={"a": "c"}, on_existing="replace").result()
        galleries.delete_gallery("h").result()

    once(monkeypatch, checking, "_unreadable", delete)
    assert faults(galleries) == []


def test_damage_is_told_though_keys_move(galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> None:
    with galleries._store.reading() as db:
        ((slot,),) = db.execute("SELECT slot FROM subjects WHERE id = 's1' AND gallery = 1").fetchall()
    with (galleries.data_dir / "keys" / "1-1.slots").open("r+b") as file:
        file.seek(32 * slot)
        file.write(os.urandom(32))
    once(monkeypatch, checking, "_check", lambda: galleries.rotate_keys("g"))
    (fault,) = faults(galleries)
    assert "'s1'" in fault
    assert "'g'" in fault


def test_a_check_that_was_cut_off_is_in_nobodys_way(galleries: LocalGalleries) -> None:
    """A failure's traceback keeps the cursor that was reading, and that the state that it saw."""
    kept: list[sqlite3.Cursor] = []
    with contextlib.suppress(RuntimeError), checking.reading_file(galleries.data_dir / DATABASE_NAME) as db:
        kept.append(db.execute("SELECT id FROM subjects"))
        kept[0].fetchone()
        raise RuntimeError
    galleries.enroll("g", "since", VECTORS[3:]).result()
    galleries.compact()  # no reader is in the way
