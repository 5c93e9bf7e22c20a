"""A store of an earlier schema is encrypted whole: nothing stays in the clear, and no keys of another store go."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from oneglance_index import LocalGalleries, StoreBusy, StoreMissing
from oneglance_index.search import snapshot
from oneglance_index.store import schema
from oneglance_index.store.ciphers import Connection
from tests.index.test_golden_store import GOLDEN, vectors

SUBJECTS = 600


def clear(data_dir: Path) -> set[str]:
    """The files that hold a label, or a part of a vector, of an earlier version in the clear."""
    needles = [b"Zo\xc3\xab 3", b"Zo\\u00eb 3", b"LABEL", vectors(3).tobytes()[:12]]
    files = [path for path in data_dir.rglob("*") if path.is_file()]
    return {path.name for path in files if any(needle in path.read_bytes() for needle in needles)}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "v5", tmp_path / "data"))


def fill(data_dir: Path) -> None:
    """So many subjects that pages are balanced while they are encrypted."""
    shutil.rmtree(data_dir / "snapshots")
    db = sqlite3.connect(data_dir / "store.sqlite3", isolation_level=None)
    ((gallery, generation),) = db.execute(
        "SELECT g.number, a.number FROM galleries AS g JOIN generations AS a ON a.gallery = g.number"
        " WHERE g.id = 'people'"
    ).fetchall()
    db.execute("BEGIN")
    for table in ("subjects", "encodings", "negatives", "deletions", "snapshots", "requests"):
        db.execute(f"DELETE FROM {table}")
    db.execute(
        "UPDATE galleries SET subjects = ?, encodings = ?, revision = 1000 WHERE number = ?",
        (SUBJECTS, SUBJECTS, gallery),
    )
    for i in range(SUBJECTS):
        labels = json.dumps({"name": f"LABEL{i:05d}" + "x" * (i * 37 % 300)})
        db.execute(
            "INSERT INTO subjects (number, gallery, id, labels, created, updated) VALUES (?, ?, ?, ?, 1, 1)",
            (1000 + i, gallery, f"s{i:05d}", labels),
        )
        db.execute(
            "INSERT INTO encodings (number, generation, subject, vector, created, revision) VALUES (?, ?, ?, ?, 1, ?)",
            (1000 + i, generation, 1000 + i, np.array([1, i, 2], "<f4").tobytes(), i + 1),
        )
    db.execute("COMMIT")
    db.close()


def test_nothing_of_an_earlier_version_stays_in_the_clear(data_dir: Path) -> None:
    fill(data_dir)
    assert clear(data_dir)
    with LocalGalleries.open(data_dir) as galleries:
        assert not clear(data_dir)
        assert galleries.get_subject("people", "s00007").labels["name"].startswith("LABEL")
    assert not clear(data_dir)


@pytest.mark.parametrize("moment", ["check_none_is_later", "_settle_keys", "_sweep", "in the sweep"])
def test_a_conversion_that_is_killed_is_finished(data_dir: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    if (child := os.fork()) == 0:

        def end(*_: object) -> NoReturn:
            os._exit(9)

        execute = Connection.execute

        def execute_or_end(self: Connection, sql: str, *arguments: object) -> sqlite3.Cursor:
            return end() if "checkpoint" in sql else execute(self, sql, *arguments)  # type: ignore[arg-type]

        if moment == "in the sweep":
            monkeypatch.setattr(Connection, "execute", execute_or_end)
        else:
            monkeypatch.setattr(schema, moment, end)
        LocalGalleries.open(data_dir)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with LocalGalleries.open(data_dir) as galleries:
        assert not clear(data_dir)
        assert galleries.get_subject("people", "s3").labels == {"name": "Zoë 3"}
    assert not (data_dir / "keys.converting").exists()


def test_a_reader_in_the_way_is_said(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "_sweep", lambda *_: None)
        LocalGalleries.open(data_dir).close()
    reader = sqlite3.connect(data_dir / "store.sqlite3", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM store").fetchall()
    with pytest.raises(StoreBusy):
        LocalGalleries.open(data_dir)
    reader.close()
    LocalGalleries.open(data_dir).close()
    assert not clear(data_dir)


@pytest.mark.parametrize("with_snapshots", [True, False])
def test_a_database_of_an_earlier_schema_costs_no_keys_of_a_later_one(tmp_path: Path, with_snapshots: bool) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=3).result()
        galleries.enroll("g", "s", vectors(1), labels={"a": "b"}).result()
    if not with_snapshots:
        shutil.rmtree(tmp_path / "snapshots", ignore_errors=True)
    (tmp_path / "store.sqlite3").rename(tmp_path / "own")
    shutil.copy(GOLDEN / "v5" / "store.sqlite3", tmp_path)
    with pytest.raises(StoreMissing):
        LocalGalleries.open(tmp_path)
    db = sqlite3.connect(tmp_path / "store.sqlite3")
    assert db.execute("PRAGMA user_version").fetchone() == (5,)
    db.close()
    (tmp_path / "own").rename(tmp_path / "store.sqlite3")
    with LocalGalleries.open(tmp_path) as galleries:
        assert galleries.get_subject("g", "s").labels == {"a": "b"}


def test_one_that_is_older_than_its_snapshots_is_not_converted(data_dir: Path) -> None:
    (data_dir / "snapshots" / "1-100000.snap").write_bytes(b"later")
    with pytest.raises(StoreMissing):
        LocalGalleries.open(data_dir)
    (data_dir / "snapshots" / "1-100000.snap").unlink()
    LocalGalleries.open(data_dir).close()


def test_a_folder_among_snapshots_or_keys_is_in_nobodys_way(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data_dir / "snapshots" / "a").mkdir()
    LocalGalleries.open(data_dir).close()
    (data_dir / "keys" / "a").mkdir()
    LocalGalleries.open(data_dir).close()
    assert not clear(data_dir)


def test_a_snapshot_in_the_clear_that_can_not_be_removed_is_said(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "it stays")

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(Exception, match="it stays"):
        snapshot.remove(snapshot.others(data_dir, set()))
