"""A restore that is killed leaves nothing that could be used later, and no empty store takes the place of what was."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import (
    IndexSettings,
    LocalGalleries,
    MasterKeyMissing,
    MasterKeyWrong,
    StoreDamaged,
    StoreMissing,
)
from oneglance_index.store import backup

VECTORS = np.eye(3, dtype=np.float32)
ERRORS = {"rotated": MasterKeyWrong, "no key": MasterKeyMissing, "gallery": StoreDamaged, "subject": StoreDamaged}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    with LocalGalleries.open(tmp_path / "data") as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=3).result()
        for i in range(3):
            galleries.enroll("g", f"s{i}", VECTORS[i : i + 1], labels={"a": "b"}).result()
    backup.back_up(tmp_path / "data" / "store.sqlite3", tmp_path / "copy")
    return tmp_path / "data"


def kill_restore(data_dir: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """`step`: a function of the module, or the name of a file that is moved."""
    if (child := os.fork()) == 0:
        rename = Path.rename

        def rename_and_end(self: Path, target: Path) -> Path:
            rename(self, target)
            return os._exit(9) if self.name == step else target

        if hasattr(backup, step):
            monkeypatch.setattr(backup, step, lambda *_: os._exit(9))
        monkeypatch.setattr(Path, "rename", rename_and_end)
        backup.restore(data_dir.with_name("copy"), data_dir)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_its_unfinished_copy_is_removed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_restore(data_dir, monkeypatch, "_try_keys")
    (data_dir / "store.sqlite3.restored").write_bytes(b"another's")
    assert [*data_dir.glob(".oneglance-*.part")]
    assert (data_dir / "keys.restored" / "galleries").exists()
    with LocalGalleries.open(data_dir) as galleries:
        assert galleries.get_subject("g", "s1").labels == {"a": "b"}
        assert not [*data_dir.glob(".oneglance-*.part"), *data_dir.glob("*.restored")]


@pytest.mark.parametrize("last", ["store.sqlite3", "keys", "keys.restored"])
def test_an_empty_store_takes_no_place(data_dir: Path, monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    """Killed once that was moved."""
    kill_restore(data_dir, monkeypatch, last)
    assert not (data_dir / "store.sqlite3").exists()
    with pytest.raises(StoreMissing, match="restore"):
        LocalGalleries.open(data_dir)
    (data_dir / "store.sqlite3.restored").rename(data_dir.with_name("aside"))
    with pytest.raises(StoreMissing, match=r"former-1|snap|slots"):
        LocalGalleries.open(data_dir)
    data_dir.with_name("aside").rename(data_dir / "store.sqlite3.restored")
    backup.restore(data_dir.with_name("copy"), data_dir)
    with LocalGalleries.open(data_dir) as galleries:
        assert galleries.get_subject("g", "s1").labels == {"a": "b"}
    assert not (data_dir / "store.sqlite3.restored").exists()


def contents(data_dir: Path) -> dict[str, bytes]:
    files = [path for path in data_dir.rglob("*") if path.is_file()]
    return {str(path.relative_to(data_dir)): path.read_bytes() for path in files}


@pytest.mark.parametrize("harm", ERRORS)
def test_nothing_is_moved_for_a_backup_whose_keys_can_not_be_read(
    data_dir: Path, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    former_key = tmp_path / "former"
    shutil.copy(data_dir / "master.key", former_key)
    if harm == "rotated":
        with LocalGalleries.open(data_dir) as galleries:
            galleries.rotate_keys()
    elif harm == "no key":
        (data_dir / "master.key").unlink()
    else:
        with sqlite3.connect(tmp_path / "copy") as db:
            name = "galleries" if harm == "gallery" else "1-1.slots"
            ((keys,),) = db.execute("SELECT content FROM key_files WHERE name = ?", (name,)).fetchall()
            start = 128 if harm == "gallery" else 0
            broken = keys[:start] + os.urandom(len(keys) - start)
            db.execute("UPDATE key_files SET content = ? WHERE name = ?", (broken, name))
        db.close()
    before = contents(data_dir)
    with pytest.raises(ERRORS[harm]):
        backup.restore(tmp_path / "copy", data_dir)
    assert contents(data_dir) == before
    if harm == "rotated":
        caplog.clear()
        backup.restore(tmp_path / "copy", data_dir, f"file:{former_key}")
        settings = IndexSettings(former_master_key=f"file:{former_key}")
        for one in (settings, IndexSettings()):
            with LocalGalleries.open(data_dir, settings=one) as galleries:
                assert "former-1 has keys" in caplog.text
                assert galleries.get_subject("g", "s1").labels == {"a": "b"}
