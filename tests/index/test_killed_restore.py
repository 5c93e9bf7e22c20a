"""A restore that is killed leaves nothing that could be used later, and no empty store takes the place of what was."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import LocalGalleries, StoreMissing
from oneglance_index.store import backup

VECTORS = np.eye(3, dtype=np.float32)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    with LocalGalleries.open(tmp_path / "data") as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=3).result()
        for i in range(3):
            galleries.enroll("g", f"s{i}", VECTORS[i : i + 1], labels={"a": "b"}).result()
    backup.back_up(tmp_path / "data" / "store.sqlite3", tmp_path / "copy")
    return tmp_path / "data"


def kill_restore(data_dir: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    if (child := os.fork()) == 0:
        monkeypatch.setattr(backup, step, lambda *_: os._exit(9))
        backup.restore(data_dir.with_name("copy"), data_dir)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_its_unfinished_copy_is_removed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_restore(data_dir, monkeypatch, "_take_keys")
    (data_dir / "store.sqlite3.restored").write_bytes(b"another's")
    assert [*data_dir.glob(".oneglance-*.part")]
    with LocalGalleries.open(data_dir) as galleries:
        assert galleries.get_subject("g", "s1").labels == {"a": "b"}
        assert not [*data_dir.glob(".oneglance-*.part"), *data_dir.glob("*.restored")]


def test_an_empty_store_takes_no_place(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_restore(data_dir, monkeypatch, "_write_keys")
    assert not (data_dir / "store.sqlite3").exists()
    with pytest.raises(StoreMissing, match="restore"):
        LocalGalleries.open(data_dir)
    (data_dir / "store.sqlite3.restored").rename(data_dir.with_name("aside"))
    with pytest.raises(StoreMissing, match="former-1"):
        LocalGalleries.open(data_dir)
    data_dir.with_name("aside").rename(data_dir / "store.sqlite3.restored")
    backup.restore(data_dir.with_name("copy"), data_dir)
    with LocalGalleries.open(data_dir) as galleries:
        assert galleries.get_subject("g", "s1").labels == {"a": "b"}
    assert not (data_dir / "store.sqlite3.restored").exists()
