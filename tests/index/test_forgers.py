"""Whoever can write a data directory, but has no master key, changes nothing that is believed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import (
    Found,
    IndexSettings,
    LocalGalleries,
    Search,
    StoreDamaged,
    back_up,
    check_directory,
    check_file,
    export_trail,
    read_trail,
    repair,
    restore,
    verify_trail,
)
from oneglance_index.store import trail
from oneglance_index.store.ciphers import Connection
from oneglance_index.store.hashing import Hashes
from oneglance_index.store.ledger import seal_store
from oneglance_index.store.reserve import Reserve
from oneglance_index.store.sealing import seal_all
from tests.acting import acting_as
from tests.waiting import until

VECTORS = np.eye(4, dtype=np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    data = tmp_path / "data"
    with acting_as("key:admin"):
        with LocalGalleries.open(data) as galleries:
            for gallery in ("g", "h"):
                galleries.create_gallery(gallery, encoder_digest="e", dimension=4).result()
                galleries.set_threshold(gallery, 0.1).result()
            for i, subject in enumerate(("alice", "bob")):
                galleries.enroll("g", subject, VECTORS[i : i + 1], request_id=subject).result()
        yield data


@contextlib.contextmanager
def editing(path: Path, key: bytes = b"a guess") -> Iterator[Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, factory=Connection)) as db:
        db.row_factory = sqlite3.Row
        db.hashes = Hashes(key)
        yield db


def is_refused(data: Path) -> None:
    assert list(check_directory(data, ""))
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            LocalGalleries.open(data)


def say_that_it_is_of_version_6(path: Path) -> None:
    """All seals are made anew, without a key, as that version did."""
    with editing(path, b"") as db:
        db.execute("UPDATE subjects SET id = 'mallory' WHERE id = 'alice'")
        seal_all(db)
        for table in ("audit", "audit_head", "crops"):
            db.execute(f"DROP TABLE {table}")
        db.execute("ALTER TABLE store DROP COLUMN roots")
        seal_store(db)
        db.execute("PRAGMA user_version = 6")


def test_nobody_goes_back_to_seals_without_a_key(data: Path, tmp_path: Path) -> None:
    back_up(data / "store.sqlite3", tmp_path / "backup")
    say_that_it_is_of_version_6(data / "store.sqlite3")
    with pytest.raises(StoreDamaged):
        list(check_directory(data, ""))
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            LocalGalleries.open(data)
    say_that_it_is_of_version_6(tmp_path / "backup")
    with pytest.raises(StoreDamaged):
        list(check_file(tmp_path / "backup", f"file:{data / 'master.key'}"))
    for act in (lambda: restore(tmp_path / "backup", data), lambda: repair(data, "", tmp_path / "backup")):
        with pytest.raises(StoreDamaged):
            act()


@pytest.mark.parametrize("what", ["all", "a gallery", "the head of the trail"])
def test_nothing_is_put_back(data: Path, tmp_path: Path, what: str) -> None:
    shutil.copytree(data, tmp_path / "former")
    with LocalGalleries.open(data) as galleries:
        galleries.set_threshold("g", 9.0).result()
        galleries.enroll("h", "carol", VECTORS[:1]).result()
    with editing(data / "store.sqlite3") as db:
        (commits,) = db.execute("SELECT commits FROM store").fetchone()
        db.execute("ATTACH ? AS former", (str(tmp_path / "former" / "store.sqlite3"),))
        if what == "a gallery":
            for table, of in (
                ("galleries", "number = 1"),
                ("generations", "gallery = 1"),
                ("thresholds", "generation = 1"),
            ):
                db.execute(f"DELETE FROM {table} WHERE {of}")
                db.execute(f"INSERT INTO {table} SELECT * FROM former.{table} WHERE {of}")
        elif what == "the head of the trail":
            db.execute("DELETE FROM audit_head")
            db.execute("INSERT INTO audit_head SELECT * FROM former.audit_head")
            db.execute("DELETE FROM audit WHERE number > (SELECT last FROM audit_head)")
    if what == "all":
        shutil.copy(tmp_path / "former" / "store.sqlite3", data)
        with editing(data / "store.sqlite3") as db:
            db.execute("UPDATE store SET commits = ?", (commits,))
    shutil.rmtree(data / "snapshots", ignore_errors=True)
    is_refused(data)


STRUCTURE = {
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON generations BEGIN UPDATE generations SET threshold = 9; END",
    "a view": "CREATE VIEW v AS SELECT * FROM generations",
    "a table": "CREATE TABLE t (id TEXT)",
    "an index": "CREATE INDEX i ON subjects (purpose)",
    "a column": "ALTER TABLE subjects ADD COLUMN x TEXT",
    "a name": "UPDATE sqlite_master SET sql = replace(sql, 'id TEXT', 'id TEXT COLLATE NOCASE')"
    " WHERE name = 'subjects'",
}


@pytest.mark.parametrize("what", STRUCTURE)
def test_tables_are_what_they_are(data: Path, what: str) -> None:
    with editing(data / "store.sqlite3") as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(STRUCTURE[what])
    is_refused(data)


def test_a_snapshot_is_vouched_for_with_a_key(data: Path) -> None:
    """Who is whose, in it, isn't encrypted."""
    with LocalGalleries.open(data) as galleries:
        galleries.set_fusion("g", "nearest").result()
        galleries.snapshot()
    (file,) = (data / "snapshots").glob("1-*.snap")
    content = bytearray(file.read_bytes())
    subjects = np.frombuffer(content, "<i8", 2, len(content) - 8 - 16)
    assert subjects.tolist() == [1, 2]
    subjects[:] = [2, 1]
    file.write_bytes(content)

    digest = hashlib.sha256(bytes(content[:56]) + bytes(content[-(4 * 8 + 8) :])).hexdigest()
    with editing(data / "store.sqlite3") as db:
        db.execute("UPDATE snapshots SET sha256 = ? WHERE generation = 1", (digest,))
    with LocalGalleries.open(data) as galleries:
        (found,) = galleries.search_many("g", [Search(VECTORS[:1], "e", 1)])
        assert isinstance(found, Found)
        assert found.candidates[0][0].subject_id == "alice"


def first_entry_of(data: Path, number: int, **changes: object) -> None:
    with editing(data / "store.sqlite3") as db:
        (entry,) = db.execute("SELECT entry FROM audit WHERE number = ?", (number,)).fetchone()
        db.execute("DELETE FROM audit WHERE number < ?", (number,))
        told = json.dumps({**json.loads(entry), **changes}, separators=(",", ":"))
        db.execute("UPDATE audit SET entry = ? WHERE number = ?", (told, number))


def test_history_is_not_pruned_that_is_not_what_was_told(data: Path) -> None:
    first_entry_of(data, 3, time="1970-01-01T00:00:00.000000+00:00")
    with LocalGalleries.open(data, settings=IndexSettings(sweep_every_seconds=0.01)) as galleries:
        galleries.delete_gallery("h").result()  # that goes on
        until(lambda: galleries._store.read(lambda db: len(db.execute("SELECT 1 FROM galleries").fetchall()) == 1))
    assert verify_trail(data)
    with pytest.raises(StoreDamaged):  # nor shown
        list(read_trail(data))
    with editing(data / "store.sqlite3") as db:
        assert db.execute("SELECT MIN(number) FROM audit").fetchone()[0] == 3


def test_a_repair_vouches_for_nothing_that_was_not_signed(data: Path) -> None:
    with editing(data / "store.sqlite3") as db:
        store_id, before = db.execute("SELECT id FROM store").fetchone()[0], b""
        before = trail.genesis(store_id)
        for number, entry in db.execute("SELECT number, entry FROM audit ORDER BY number").fetchall():
            forged = entry.replace("key:admin", "somebody")
            before = trail.chained(before, forged)
            db.execute("UPDATE audit SET entry = ?, hash = ? WHERE number = ?", (forged, before, number))
    _, lost = repair(data, "")
    assert any("audit trail" in line for line in lost)
    assert verify_trail(data) == []
    assert [json.loads(line)["did"] for line in read_trail(data)] == ["repair"]


@pytest.mark.parametrize("statement", ["DELETE FROM thresholds", "DELETE FROM encodings WHERE number = 2"])
def test_a_repair_tells_what_is_missing_though_each_row_is_sound(data: Path, statement: str) -> None:
    with editing(data / "store.sqlite3") as db:
        db.execute(statement)
    shutil.rmtree(data / "snapshots", ignore_errors=True)
    assert any("are missing" in line for line in repair(data, "")[1])


def test_a_restore_is_told_and_takes_no_forged_trail(data: Path, tmp_path: Path) -> None:
    back_up(data / "store.sqlite3", tmp_path / "backup")
    with LocalGalleries.open(data) as galleries:
        galleries.set_threshold("g", 0.7).result()
    (kept,) = [json.loads(line)["head"] for line in [*export_trail(data)][-1:]]
    restore(tmp_path / "backup", data)
    told = [json.loads(line) for line in read_trail(data)]
    assert told[-1]["did"] == "restore"
    assert told[-1]["replaced"]["last"] == kept["last"]
    assert verify_trail(data) == []
    LocalGalleries.open(data).close()
    with editing(tmp_path / "backup") as db:
        db.execute("UPDATE audit_head SET signature = x'00'")
    with pytest.raises(StoreDamaged):
        restore(tmp_path / "backup", data)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_the_reserve_is_a_file_of_its_own(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    (tmp_path / "valuable").write_bytes(b"x" * 3_000_000)
    link(tmp_path / "valuable", tmp_path / "reserve")
    reserve = Reserve(tmp_path)
    reserve.fill()
    assert not reserve.release()
    assert (tmp_path / "valuable").read_bytes() == b"x" * 3_000_000
