"""Data directories written by each version of the schema, which every later version must open.

Made once by

    PYTHONPATH=.:core:index python -m tests.index.test_golden_store tests/index/golden/v9

and committed. Don't make them anew: add v10 beside them when the schema changes.
"""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import (
    Actor,
    IndexSettings,
    LocalGalleries,
    Note,
    OpenProgress,
    RequestConflict,
    acting,
    check_directory,
    read_trail,
    verify_trail,
)
from tests.index import asking
from tests.waiting import PATIENCE_SECONDS

GOLDEN = Path(__file__).with_name("golden")


def vectors(subject: int) -> NDArray[np.float32]:
    return np.array([[1, subject, 0.5], [subject, -1, 0.25]], np.float32)


def make(data_dir: Path) -> None:
    acting.set(Actor("key:admin", "ipv4:127.0.0.1:1"))
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery(
            "people", encoder_digest="sha256:abc", dimension=3, description="Größe", keep_crops=True
        ).result()
        galleries.create_gallery("empty", encoder_digest="sha256:abc", dimension=2).result()
        galleries.set_decided_by("empty", "probability").result()
        galleries.set_threshold("people", 0.25, "evidence").result()
        galleries.set_threshold("people", 0.36).result()
        for i in range(5):
            galleries.enroll(
                "people",
                f"s{i}",
                vectors(i),
                labels={"name": f"Zoë {i}"},
                request_id=f"r{i}",
                request_digest=b"digest",
            ).result()
        galleries.delete_subject("people", "s1").result()
        galleries.snapshot()
        notes = [Note("front", "late/1.png"), Note()]
        # After the snapshot: to catch up with.
        galleries.enroll("people", "late", vectors(9), notes=notes, crops=[b"a crop", b""]).result()
        galleries.delete_encoding("people", "s2", "5").result()
        galleries.add_negative("people", "s0", np.array([7, 7, 7], np.float32)).result()
        galleries._upkeep.close(until=0)
        galleries._store.close()
    for name in ("lock", "reserve"):
        (data_dir / name).unlink()


@pytest.mark.parametrize("with_snapshot", [True, False])
@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_every_version_opens(tmp_path: Path, version: int, with_snapshot: bool) -> None:
    thresholds = 1 if version == 1 else 2  # version 1 was made with one
    data_dir = tmp_path / "data"
    shutil.copytree(GOLDEN / f"v{version}", data_dir)
    if not with_snapshot:
        shutil.rmtree(data_dir / "snapshots")
    seen: dict[str, OpenProgress] = {}
    # The request was made long ago, longer than anybody may ask for.
    forever = IndexSettings().model_copy(update={"request_ttl_seconds": 1e12})
    with LocalGalleries.open(
        data_dir, settings=forever, progress=lambda progress: seen.update({progress.gallery_id: progress})
    ) as galleries:
        # Versions before 6 wrote snapshots in the clear, version 6 vouched for them without a key.
        assert seen["people"].source == ("snapshot" if with_snapshot and version >= 7 else "store")
        assert [g.id for g in galleries.list_galleries().galleries] == ["empty", "people"]
        people = galleries.get_gallery("people")
        assert (people.active.encoder_digest, people.description, people.active.threshold) == (
            "sha256:abc",
            "Größe",
            0.36,
        )
        negatives = 1 if version >= 4 else 0  # that a version knows
        assert (people.revision, people.subjects, people.encodings) == (8 + thresholds + negatives, 5, 9)
        assert people.negatives == len(galleries.get_subject("people", "s0").negatives) == negatives
        active = people.active
        assert (active.kind, active.fusion, active.state, active.dimension) == ("flat", "nearest", "active", 3)
        assert active.created == pytest.approx(people.created, abs=1)  # the store asks the clock for each
        kept = [(v.version, v.threshold, v.calibration) for v in galleries.list_thresholds("people").versions]
        if version == 1:
            assert kept == [(1, 0.36, None)]
            assert (people.active.threshold_since, people.active.calibration, people.active.calibration_revision) == (
                None,
                None,
                0,
            )
        else:
            assert kept == [(2, 0.36, None), (1, 0.25, "evidence")]
            assert people.active.threshold_since is not None
            assert (people.active.calibration, people.active.calibration_revision) == ("evidence", 1)
        assert galleries.list_thresholds("empty").versions == ()
        empty = galleries.get_gallery("empty").active
        assert (empty.decided_by, active.decided_by) == ("probability" if version >= 5 else "distance", "distance")
        page = galleries.list_subjects("people")
        assert [s.id for s in page.subjects] == ["late", "s0", "s2", "s3", "s4"]
        assert galleries.get_subject("people", "s2").labels == {"name": "Zoë 2"}
        assert [e.id for e in galleries.get_subject("people", "s2").encodings] == ["6"]
        notes = [e.note for e in galleries.get_subject("people", "late").encodings]
        assert notes == [Note("front", "late/1.png") if version >= 8 else Note(), Note()]
        assert people.keep_crops == (version >= 9)
        galleries.start_move("people", "next", encoder_digest="sha256:def", dimension=2).result()
        left = [
            (one.subject_id, [each.crop for each in one.encodings])
            for one in galleries.list_left_crops("people").subjects
        ]
        assert left == ([("late", [b"a crop", b""])] if version >= 9 else [])
        galleries.end_move("people").result()
        for i, name in ((0, "s0"), (3, "s3"), (9, "late")):
            for vector in vectors(i):
                (candidate,) = asking.nearest(galleries, "people", vector[None], 1, "sha256:abc").candidates[0]
                assert (candidate.subject_id, candidate.distance) == (name, 0.0)
        assert galleries.replay("people", "s3", "r3", b"digest") is not None
        with pytest.raises(RequestConflict):
            galleries.replay("people", "s3", "r3", b"other")
        assert galleries.enroll("people", "new", vectors(7)).result().encoding_ids == ("13", "14")
        assert galleries.set_threshold("people", 0.1, "new").result().active.threshold_revision == thresholds + 1


# Opens the store in sys.argv[1], and dies at once at the statement that starts with sys.argv[2].
KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from oneglance_index.store import ciphers, schema

class Connection(ciphers.Connection):
    def execute(self, statement, *values):
        if statement.strip().startswith(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(statement, *values)

connect = sqlite3.connect
sqlite3.connect = lambda *a, **k: connect(*a, **{**k, "factory": Connection})
master = Path(sys.argv[1]).with_name("master.key")
masters = [bytes.fromhex(master.read_text()) if master.exists() else bytes(32)]
schema.connect_writer(Path(sys.argv[1]), lambda make: masters)
"""


STATEMENTS = [
    "CREATE TABLE",
    "CREATE INDEX",
    "CREATE UNIQUE INDEX",
    "INSERT INTO generations",
    "ALTER TABLE galleries DROP",
    "ALTER TABLE encodings",
    "INSERT INTO thresholds (generation",
    "DROP TABLE",
    "DROP TABLE former_snapshots",
    "PRAGMA user_version =",
    "COMMIT",
]
STATEMENTS_OF_6 = [
    "ALTER TABLE encodings ADD",
    "INSERT INTO requests",
    "UPDATE subjects SET slot",
    "ALTER TABLE subjects DROP",
    "UPDATE subjects SET encodings",
    "UPDATE galleries SET sealed_rows",
    "UPDATE store",
    "CREATE INDEX encodings_by_revision",
    "PRAGMA user_version =",
]
STATEMENTS_OF_7 = ["CREATE TABLE audit (", "INSERT INTO audit_head", "PRAGMA user_version =", "COMMIT"]


@pytest.mark.parametrize(
    ("version", "statement"),
    [
        (1, "INSERT OR IGNORE INTO thresholds (gallery"),
        *((version, one) for version in (1, 2) for one in STATEMENTS),
        *((3, one) for one in ("ALTER TABLE generations", "CREATE TABLE negatives", "COMMIT")),
        *((version, one) for version in (4, 5) for one in ("ALTER TABLE generations", "COMMIT")),
        *((version, one) for version in (1, 3, 4, 5) for one in STATEMENTS_OF_6),
        *((version, one) for version in (5, 6) for one in STATEMENTS_OF_7),
        *((7, one) for one in ("UPDATE store SET seal", "PRAGMA user_version =", "COMMIT")),
        *((version, "CREATE TABLE crops") for version in (1, 5, 6, 7, 8)),
        *((8, one) for one in ("CREATE INDEX crops_by_generation", "PRAGMA user_version =", "COMMIT")),
    ],
)
def test_killed_while_it_is_brought_up_to_date_it_is_still_the_old_one(
    tmp_path: Path, version: int, statement: str
) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(GOLDEN / f"v{version}", data_dir)
    path = data_dir / "store.sqlite3"
    before = schema_of(path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), statement], timeout=PATIENCE_SECONDS, check=False)
    assert killed.returncode == -9
    assert schema_of(path) == before
    assert before["user_version"] == {str(version)}
    with LocalGalleries.open(data_dir) as galleries:
        assert [v.threshold for v in galleries.list_thresholds("people").versions] == [0.36, 0.25][:version]
        assert galleries.get_gallery("people").revision == 8 + min(version, 2) + (version >= 4)  # a negative


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_an_old_store_gets_the_tables_of_a_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: int
) -> None:
    shutil.copytree(GOLDEN / f"v{version}", tmp_path / "old")
    with caplog.at_level(logging.INFO):
        LocalGalleries.open(tmp_path / "old").close()
    assert ("5 of 5 subjects" in caplog.text) == (version < 6)
    LocalGalleries.open(tmp_path / "new").close()
    assert schema_of(tmp_path / "old" / "store.sqlite3") == schema_of(tmp_path / "new" / "store.sqlite3")


@pytest.mark.parametrize("version", [5, 6, 7, 8, 9])
def test_its_audit_trail_begins_or_goes_on(tmp_path: Path, version: int) -> None:
    shutil.copytree(GOLDEN / f"v{version}", tmp_path / "data")
    with LocalGalleries.open(tmp_path / "data"):
        pass
    assert verify_trail(tmp_path / "data") == []
    assert list(check_directory(tmp_path / "data", "")) == []
    told = [json.loads(line) for line in read_trail(tmp_path / "data")]
    assert len(told) == (14 if version >= 7 else 0)
    assert {one["who"] for one in told} <= {"key:admin"}


def test_a_number_of_a_generation_is_never_used_twice(tmp_path: Path) -> None:
    """Not even that of a gallery that an earlier version deleted: its snapshot's file may still be there."""
    shutil.copytree(GOLDEN / "v2", tmp_path / "data")
    with sqlite3.connect(tmp_path / "data" / "store.sqlite3") as db:
        db.execute("UPDATE sqlite_sequence SET seq = 70 WHERE name = 'galleries'")
    db.close()
    with LocalGalleries.open(tmp_path / "data") as galleries:
        galleries.create_gallery("new", encoder_digest="e", dimension=3).result()
        opened = galleries._opened.get("new")
        assert opened is not None
        assert opened.generation == 71


def schema_of(path: Path) -> dict[str, set[str]]:
    """The version, the columns of each table with their foreign keys, and the indexes of a database."""
    described: dict[str, set[str]] = {}
    with sqlite3.connect(path) as db:
        described["user_version"] = {str(version) for (version,) in db.execute("PRAGMA user_version")}
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = {str(column[1:]) for column in db.execute(f"PRAGMA table_info({table})")}
            keys = {str(key[2:]) for key in db.execute(f"PRAGMA foreign_key_list({table})")}
            indexes = {str(index[1:]) for index in db.execute(f"PRAGMA index_list({table})")}
            described[table] = columns | keys | indexes
        described["strict"] = {str(row) for row in db.execute("SELECT name, type, wr, strict FROM pragma_table_list")}
    db.close()
    return described


if __name__ == "__main__":
    make(Path(sys.argv[1]))
