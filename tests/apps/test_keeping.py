"""``oneglance check``, ``backup`` and ``restore``."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from oneglance_apps.cli.main import main
from oneglance_index import LocalGalleries, MasterKeyMissing

VECTORS = np.eye(4, dtype=np.float32)


def subjects(data_dir: Path) -> list[str]:
    with LocalGalleries.open(data_dir) as galleries:
        return [subject.id for subject in galleries.list_subjects("g").subjects]


def test_a_backup_is_made_while_it_is_open_and_restored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, file = tmp_path / "data", tmp_path / "backup"
    with LocalGalleries.open(data) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "a", VECTORS[:1]).result()
        assert main(["check", str(data)]) == main(["backup", str(data), str(file)]) == 0
        assert main(["check", str(file)]) == 1
        assert "--master-key" in capsys.readouterr().err
        assert main(["check", str(file), "--master-key", f"file:{data / 'master.key'}"]) == 0
        galleries.enroll("g", "b", VECTORS[1:2]).result()
        capsys.readouterr()
        assert main(["restore", str(file), str(data)]) == 1  # it is open
        assert "open" in capsys.readouterr().err
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["restore", str(file), str(data)]) == 0
    assert "former-1" in capsys.readouterr().out
    assert subjects(data) == ["a"]
    assert main(["restore", str(file), str(tmp_path / "new")]) == 1
    assert "master key" in capsys.readouterr().err
    shutil.copy(data / "master.key", tmp_path / "key")
    assert main(["restore", str(file), str(tmp_path / "new"), "--master-key", f"file:{tmp_path / 'key'}"]) == 0
    with pytest.raises(MasterKeyMissing):
        subjects(tmp_path / "new")
    shutil.copy(data / "master.key", tmp_path / "new")
    assert subjects(tmp_path / "new") == ["a"]
    (data / "former-1").rename(tmp_path / "former")
    shutil.copy(data / "master.key", tmp_path / "former")
    assert subjects(tmp_path / "former") == ["a", "b"]


def test_damage_is_told_and_never_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, file = tmp_path / "data", tmp_path / "backup"
    with LocalGalleries.open(data) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "a", VECTORS[:1]).result()
    file.write_bytes(b"the former backup")
    with sqlite3.connect(data / "store.sqlite3") as db:
        db.execute("UPDATE subjects SET labels = x'00'")
    db.close()
    assert main(["check", str(data)]) == 1
    assert "subject 'a' in gallery 'g'" in capsys.readouterr().out
    assert main(["backup", str(data), str(file)]) == 1
    assert file.read_bytes() == b"the former backup"
    assert main(["restore", str(data / "store.sqlite3"), str(tmp_path / "new")]) == 1
    assert not (tmp_path / "new" / "store.sqlite3").exists()
    for command in (["check", "nowhere"], ["backup", "nowhere", str(file)], ["restore", str(file), str(data)]):
        assert main(command) == 1
    assert "missing" in capsys.readouterr().err
