"""Rows that were edited, dropped, doubled or put back: found at opening or at reading, and never answered from."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import LocalGalleries, Retention, StoreDamaged, check_file
from oneglance_index.store import ledger, queries
from oneglance_index.store.ciphers import Connection
from oneglance_index.store.hashing import Hashes, seal_key
from oneglance_index.store.keys import Keys
from oneglance_index.store.master import read_master_key
from oneglance_index.store.seals import MODULUS, SEALED, SUBJECTS, Total
from oneglance_index.store.tables import TABLES
from tests import mutated_stores
from tests.index.test_golden_store import GOLDEN

VECTORS = np.eye(4, dtype=np.float32)
NAN = np.full(4, np.nan, np.float32).tobytes()


def fill(data_dir: Path, fusion: str) -> None:
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, fusion=fusion)
        for i in range(4):
            galleries.enroll("g", f"s{i}", VECTORS[: i + 1], request_id=f"r{i}")
        galleries.set_threshold("g", 0.5, "evidence").result()


EDITS = {
    "short vector": "UPDATE encodings SET vector = substr(vector, 5) WHERE number = 3",
    "long vector": "UPDATE encodings SET vector = CAST(vector || x'00000000' AS BLOB) WHERE number = 3",
    "no vector": "UPDATE encodings SET vector = x'' WHERE number = 3",
    "another vector": "UPDATE encodings SET vector = (SELECT vector FROM encodings WHERE number = 1) WHERE number = 3",
    "NaN": f"UPDATE encodings SET vector = x'{NAN.hex()}' WHERE number = 3",
    "missing": "DELETE FROM encodings WHERE number = 3",
    "orphaned": "DELETE FROM subjects WHERE number = 2",
    "of another subject": "UPDATE encodings SET subject = 1 WHERE number = 3",
    "doubled": "INSERT INTO encodings SELECT 99, generation, subject, vector, created, revision, seal FROM encodings"
    " WHERE number = 3",
    "renamed": "UPDATE subjects SET id = 'x' WHERE number = 2",
    "other labels": "UPDATE subjects SET labels = (SELECT labels FROM subjects WHERE number = 1) WHERE number = 2",
    "a subject of nothing": "INSERT INTO subjects SELECT 99, gallery, 'new', created, updated, 0, slot, labels,"
    " expires, purpose, consent, seal FROM subjects WHERE number = 2",
    "another threshold": "UPDATE generations SET threshold = 5",
    "no threshold": "DELETE FROM thresholds",
    "other evidence": "UPDATE thresholds SET calibration = NULL",
    "another encoder": "UPDATE generations SET encoder_digest = 'x'",
    "another rule": "UPDATE generations SET fusion = 'margin'",
    "another revision": "UPDATE galleries SET revision = 1",
    "another id": "UPDATE galleries SET id = 'x'",
    "another count": "UPDATE galleries SET subjects = 3",
    "no gallery": "DELETE FROM galleries",
    "a deleted gallery": "UPDATE generations SET state = 'retired'",
    "a request of another id": "UPDATE requests SET id = 'x' WHERE number = 2",
    "a request less": "DELETE FROM requests WHERE number = 2",
    "no store": "DELETE FROM store",
    "a lower last number": "UPDATE sqlite_sequence SET seq = 2 WHERE name = 'encodings'",
    "another number of transactions": "UPDATE store SET commits = commits + 5",
    "a higher last number": "UPDATE sqlite_sequence SET seq = seq + 1000000 WHERE name = 'requests'",
    "no audit trail": "DROP TABLE audit_head",
    "no list of deletions": "DROP TABLE deletions",
    "no index": "DROP INDEX encodings_by_subject",
    "no last number": "UPDATE sqlite_sequence SET seq = NULL WHERE name = 'requests'",
}


@pytest.mark.parametrize("fusion", ["nearest", "mean"])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_row_is_found(tmp_path: Path, edit: str, fusion: str) -> None:
    fill(tmp_path, fusion)
    with sqlite3.connect(tmp_path / "store.sqlite3") as db:
        db.execute(EDITS[edit])
    db.close()
    assert list(check_file(tmp_path / "store.sqlite3"))
    with pytest.raises(StoreDamaged), LocalGalleries.open(tmp_path) as galleries:  # noqa: PT012 - at either
        galleries.verify("g", "s1", VECTORS[:1])
        galleries.get_subject("g", "s1")


def test_a_whole_store_has_no_faults(tmp_path: Path) -> None:
    fill(tmp_path, "mean")
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.delete_encoding("g", "s3", "10").result()
        galleries.delete_subject("g", "s2").result()
        galleries.enroll("g", "s1", VECTORS[:1], on_existing="replace", labels={"a": "b"}).result()
        galleries.set_target_fpir("g", 0.5).result()
        galleries.set_fusion("g", "nearest").result()
        galleries.set_quality("g", "strict").result()
        galleries.create_gallery("h", encoder_digest="e", dimension=2).result()
        galleries.delete_gallery("g").result()
        assert list(check_file(tmp_path / "store.sqlite3")) == []
    LocalGalleries.open(tmp_path).close()
    assert list(check_file(tmp_path / "store.sqlite3")) == []


def test_what_is_lost_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "nearest")
    with sqlite3.connect(tmp_path / "store.sqlite3") as db:
        db.execute("UPDATE encodings SET created = 5 WHERE number = 3")
        db.execute("DELETE FROM encodings WHERE number = 10")
    db.close()
    faults = "\n".join(check_file(tmp_path / "store.sqlite3"))
    assert "row 3 of encodings was changed: of subject 's1' in gallery 'g'" in faults
    assert "subject 's3' of gallery number 1 has 4 encodings, found 3" in faults


def test_every_table_is_sealed_or_named_here() -> None:
    """Those that aren't can be made anew: SQLite's own, the log of deletions, the snapshots' rows and blocks; or are
    chained and signed, as the audit trail is."""
    tables = {line.split()[2] for line in TABLES.splitlines() if line.startswith("CREATE TABLE")}
    unsealed = {"store", "deletions", "snapshots", "blocks", "audit", "audit_head"}
    assert {table.name for table in SEALED} == tables - unsealed
    db = sqlite3.connect(":memory:")
    for statement in TABLES.split(";"):
        db.execute(statement)
    for table in SEALED:
        columns = [column[1] for column in db.execute(f"PRAGMA table_info({table.name})")]
        own = {"revision", "subjects", "encodings", "sealed_rows", "sealed_digest", "root"}
        unsealed = own if table.name == "galleries" else set()
        assert set(columns) - unsealed == set(table.columns.split(", "))
    db.close()


def knowing(path: str | Path, key: bytes) -> Connection:
    db = sqlite3.connect(path, isolation_level=None, factory=Connection)
    db.row_factory = sqlite3.Row
    db.hashes = Hashes(key)
    return db


def test_a_seal_is_of_a_row_in_a_table() -> None:
    row = (1, 1, 1, 1, 1.0, 1.0, "ab", b"c", None, None, None)
    with contextlib.closing(knowing(":memory:", b"key")) as db, contextlib.closing(knowing(":memory:", b"k")) as other:
        seal = SUBJECTS.seal(db, row)
        assert seal != SUBJECTS.seal(db, (*row[:6], "a", b"bc", *row[8:]))
        assert seal != SUBJECTS.seal(other, row)
        assert SUBJECTS.is_sound(db, (*row, seal))
        for bad in ((None, *row[1:]), (*row[:-1], 5), ("x", *row[1:])):
            assert not SUBJECTS.is_sound(db, (*bad, seal))


def rename(data_dir: Path, key: bytes) -> None:
    """Another id for s1, and seals of this key for all that knows of it."""
    with contextlib.closing(knowing(data_dir / "store.sqlite3", key)) as db:
        row = tuple(db.execute(f"SELECT {SUBJECTS.columns} FROM subjects WHERE id = 's1'").fetchone())
        seal = ledger.update(db, SUBJECTS, row, id="t")
        of_gallery = "number, revision, subjects, encodings, sealed_rows, sealed_digest"
        number, revision, *sizes, rows, digest = db.execute(f"SELECT {of_gallery} FROM galleries").fetchone()
        total = Total(rows, (digest - row[-1] + seal) % MODULUS)
        ledger.write_root(db, number, revision, sizes[0], sizes[1], total)
        ledger.seal_store(db)


def test_who_has_no_master_key_makes_no_seal(tmp_path: Path) -> None:
    fill(tmp_path, "mean")
    shutil.copytree(tmp_path, tmp_path / "forged")
    with contextlib.closing(Keys(tmp_path, [read_master_key("", tmp_path, make=False)])) as keys:
        rename(tmp_path, seal_key(keys.signing_seed))
    with LocalGalleries.open(tmp_path) as galleries:
        assert len(galleries.get_subject("g", "t").encodings) == 2
    rename(tmp_path / "forged", b"a guess")
    with pytest.raises(StoreDamaged):
        LocalGalleries.open(tmp_path / "forged")


def test_a_store_sealed_without_a_key_is_checked_before_it_is_sealed_again(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "v6", tmp_path / "data")
    path = tmp_path / "data" / "store.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE subjects SET id = 'x' WHERE number = 1")
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            LocalGalleries.open(tmp_path / "data")
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (6,)


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE encodings SET vector = x'00000000' WHERE number = 1",
        "UPDATE encodings SET vector = x'0000c07f0000c07f0000c07f' WHERE number = 1",
        "DELETE FROM encodings WHERE number = 2",
        "UPDATE encodings SET subject = 77 WHERE number = 1",
        "DELETE FROM subjects WHERE number = 3",
    ],
)
def test_a_store_of_a_former_version_is_not_sealed_as_damaged_as_it_is(tmp_path: Path, edit: str) -> None:
    shutil.copytree(GOLDEN / "v3", tmp_path / "data")
    with sqlite3.connect(tmp_path / "data" / "store.sqlite3") as db:
        db.execute(edit)
    db.close()
    before = (tmp_path / "data" / "store.sqlite3").read_bytes()
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            LocalGalleries.open(tmp_path / "data")
    assert (tmp_path / "data" / "store.sqlite3").read_bytes() == before


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_stores_give_no_wrong_answer(seed: int) -> None:
    findings = mutated_stores.fuzz(150, seed)
    assert findings.bad == []
    assert sum(findings.counts.values()) == 150


@pytest.mark.parametrize("value", ["x", 1.5, b"0", None])
def test_what_is_no_number_is_damage(value: object) -> None:
    """Where pages changed places a column may hold anything, also of a table that has no seals of its own."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.row_factory = sqlite3.Row
        db.execute("CREATE TABLE deletions (generation, revision, encoding, subject)")
        db.execute("INSERT INTO deletions VALUES (1, 2, ?, ?)", (value, value))
        db.execute("CREATE TABLE blocks (generation, first, last, slot)")
        db.execute("INSERT INTO blocks VALUES (1, 1, ?, ?)", (value, value))
        for ask in (
            lambda: queries.deletions_since(db, 1, 1),
            lambda: queries.subjects_deleted_since(db, 1, 1),
            lambda: queries.blocks(db, 1),
            lambda: queries.block_of(db, 1, 1),
        ):
            with pytest.raises(StoreDamaged):
                ask()


def test_minus_zero_is_zero(tmp_path: Path) -> None:
    """SQLite keeps no -0.0, so no seal may depend on it."""
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, least_gap=-0.0).result()
        galleries.enroll("g", "s", np.ones((1, 4), np.float32), retention=Retention(-0.0)).result()
        galleries.set_least_gap("g", -0.0).result()
        galleries.set_threshold("g", -0.0).result()
        galleries.set_retention("g", "s", Retention(-0.0)).result()
        assert galleries.get_gallery("g").active.threshold == 0.0
        assert galleries.expired(1.0)[0].subject_id == "s"
    LocalGalleries.open(tmp_path).close()
