"""A data directory that isn't what it was: refused at the start, or noticed while it is open."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import (
    LocalGalleries,
    Retention,
    StoreDamaged,
    StoreGone,
    StoreIOError,
    StoreMissing,
)
from oneglance_index.store import ciphers, schema
from tests.index import asking
from tests.index.test_golden_store import GOLDEN
from tests.waiting import PATIENCE_SECONDS

VECTORS = np.eye(4, dtype=np.float32)


def fill(data_dir: Path, subjects: int = 3) -> None:
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4)
        for i in range(subjects):
            galleries.enroll("g", f"s{i}", VECTORS[i : i + 1]).result()


def contents(folder: Path) -> dict[Path, bytes]:
    """Of everything but the lock, which any try to open leaves."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_tables(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
    db.close()
    assert path.stat().st_size > 0


def no_galleries(path: Path) -> None:
    with tempfile.TemporaryDirectory() as other:
        LocalGalleries.open(Path(other)).close()
        shutil.copy(Path(other) / "store.sqlite3", path)


@pytest.mark.parametrize("harm", [remove, empty, no_tables, no_galleries])
def test_a_store_that_is_gone_beside_snapshots_is_not_taken_for_a_new_one(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    fill(tmp_path)
    (snapshot,) = (tmp_path / "snapshots").iterdir()
    copy = (tmp_path / "store.sqlite3").read_bytes()
    harm(tmp_path / "store.sqlite3")
    before = contents(tmp_path)
    for _ in range(2):
        with pytest.raises(StoreMissing, match="restore"):
            LocalGalleries.open(tmp_path)
    assert snapshot.exists()
    if harm is not no_galleries:  # nothing at all was written
        assert contents(tmp_path) == before
    (tmp_path / "store.sqlite3").write_bytes(copy)
    with LocalGalleries.open(tmp_path) as galleries:
        assert asking.nearest(galleries, "g", VECTORS[:1], 3).subjects == 3


def test_an_older_store_does_not_take_away_newer_snapshots(tmp_path: Path) -> None:
    fill(tmp_path)
    copy = (tmp_path / "store.sqlite3").read_bytes()
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.enroll("g", "newer", VECTORS[3:]).result()
    (newer,) = (tmp_path / "snapshots").iterdir()
    (tmp_path / "store.sqlite3").write_bytes(copy)
    (tmp_path / "keys" / "commits").rename(tmp_path / "commits")
    with pytest.raises(StoreMissing, match="older"):
        LocalGalleries.open(tmp_path)
    (tmp_path / "commits").rename(tmp_path / "keys" / "commits")
    assert newer.exists()
    shutil.rmtree(newer.parent)
    (tmp_path / "keys" / "commits").unlink()
    with LocalGalleries.open(tmp_path) as galleries:
        assert asking.nearest(galleries, "g", VECTORS[:1], 3).subjects == 3


@pytest.mark.parametrize("harm", [remove, empty])
def test_a_log_without_its_store_is_not_thrown_away(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    source = LocalGalleries.open(tmp_path / "source")
    source.create_gallery("g", encoder_digest="e", dimension=4).result()
    shutil.copytree(tmp_path / "source", tmp_path / "copy")
    source.close()
    log = tmp_path / "copy" / "store.sqlite3-wal"
    before = log.read_bytes()
    assert before
    harm(tmp_path / "copy" / "store.sqlite3")
    with pytest.raises(StoreMissing, match="wal"):
        LocalGalleries.open(tmp_path / "copy")
    assert log.read_bytes() == before


# As another user, who may read it all: a directory of root's, or a file system mounted read-only.
AS_ANOTHER = """
import os, sys, tempfile
from pathlib import Path
from oneglance_index import LocalGalleries, StoreIOError
with tempfile.TemporaryDirectory() as folder:  # all is imported then: another user may not see where that is
    LocalGalleries.open(Path(folder)).close()
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    LocalGalleries.open(Path(sys.argv[1]))
except StoreIOError as error:
    print(error)
    sys.exit(7)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may go into; pytest's are for one user."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.mark.parametrize("what", ["store.sqlite3", "snapshots", ".", "nothing"])
def test_a_store_that_can_not_be_written_is_refused_at_the_start(open_folder: Path, what: str) -> None:
    data_dir = open_folder / "data"
    fill(data_dir)
    for path in [data_dir, *data_dir.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    if what != "nothing":
        (data_dir / what).chmod(0o555 if (data_dir / what).is_dir() else 0o444)
    run = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, str(data_dir)],
        timeout=PATIENCE_SECONDS,
        check=False,
        capture_output=True,
        text=True,
    )
    told = [line for line in run.stderr.splitlines() if not line.endswith("chmod 700")]
    assert (run.returncode, told) == (0 if what == "nothing" else 7, [])
    if what in ("store.sqlite3", "snapshots"):
        assert "written" in run.stdout


def replaced(data_dir: Path) -> None:
    data_dir.rename(data_dir.with_name("former"))
    fill(data_dir)


@pytest.mark.parametrize(
    "harm",
    [
        shutil.rmtree,
        replaced,
        lambda data_dir: data_dir.rename(data_dir.with_name("former")),
        lambda data_dir: (data_dir / "store.sqlite3").unlink(),
        lambda data_dir: (data_dir / "store.sqlite3-wal").unlink(),
        lambda data_dir: (data_dir / "store.sqlite3-shm").unlink(),
        lambda data_dir: (data_dir / "lock").unlink(),
        lambda data_dir: shutil.copy(data_dir / "store.sqlite3", data_dir / "c").rename(data_dir / "store.sqlite3"),
    ],
    ids=["removed", "replaced", "moved", "store", "log", "index", "lock", "copied"],
)
def test_a_directory_that_goes_while_it_is_open_takes_no_writes(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    data_dir = tmp_path / "data"
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "s", VECTORS[:1]).result()
        assert galleries.trouble() is None
        harm(data_dir)
        assert "removed or replaced" in (galleries.trouble() or "")
        before = contents(tmp_path)
        for written in (galleries.enroll("g", "t", VECTORS[1:2]), galleries.delete_gallery("g")):
            assert isinstance(written.exception(), StoreGone)
        for read in (
            lambda: galleries.get_gallery("g"),
            lambda: galleries.verify("g", "s", VECTORS[:1]),
            galleries.snapshot,
        ):
            with pytest.raises(StoreGone):
                read()
        assert contents(tmp_path) == before
        assert asking.nearest(galleries, "g", VECTORS[:1], 3).subjects == 1


def test_what_is_committed_as_the_directory_goes_is_not_acknowledged(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        follow = galleries._opened.follow

        def gone(effects: object) -> None:
            data_dir.rename(tmp_path / "former")
            follow(effects)  # type: ignore[arg-type]

        galleries._store._writer._follower.follow = gone  # type: ignore[method-assign]
        assert isinstance(galleries.enroll("g", "s", VECTORS[:1]).exception(), StoreGone)
        galleries._store._writer._follower.follow = follow  # type: ignore[method-assign]
        (tmp_path / "former").rename(data_dir)
        # It was committed nevertheless, and index and store say the same.
        assert galleries.trouble() is None
        assert galleries.get_gallery("g").subjects == asking.nearest(galleries, "g", VECTORS[:1], 3).subjects == 1
        galleries.enroll("g", "t", VECTORS[1:2]).result()


def test_a_file_of_schema_1_that_has_the_table_of_schema_2_is_finished(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "v1", tmp_path / "data")
    with sqlite3.connect(tmp_path / "data" / "store.sqlite3") as db:
        db.execute(
            "CREATE TABLE thresholds (gallery INTEGER NOT NULL REFERENCES galleries (number) ON DELETE CASCADE,"
            " version INTEGER NOT NULL, threshold REAL, calibration TEXT, since REAL,"
            " PRIMARY KEY (gallery, version)) STRICT"
        )
        db.execute("INSERT INTO thresholds SELECT number, 1, 0.36, 'kept', 5 FROM galleries WHERE id = 'people'")
    db.close()
    with LocalGalleries.open(tmp_path / "data") as galleries:
        assert [(v.version, v.calibration, v.since) for v in galleries.list_thresholds("people").versions] == [
            (1, "kept", 5.0)
        ]


@pytest.mark.parametrize(
    ("version", "table"),
    [(1, "CREATE TABLE thresholds (x)"), (1, "CREATE TABLE generations (x)"), (2, "CREATE TABLE generations (x)")],
)
def test_any_other_table_of_a_later_schema_is_refused_and_named(tmp_path: Path, version: int, table: str) -> None:
    shutil.copytree(GOLDEN / f"v{version}", tmp_path / "data")
    with sqlite3.connect(tmp_path / "data" / "store.sqlite3") as db:
        db.execute(table)
    db.close()
    with pytest.raises(StoreDamaged, match=table.split()[2]):
        LocalGalleries.open(tmp_path / "data")


@pytest.mark.parametrize(
    ("code", "opens"), [(sqlite3.SQLITE_FULL, True), (sqlite3.SQLITE_BUSY, True), (sqlite3.SQLITE_READONLY, False)]
)
def test_only_what_does_not_pass_keeps_it_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, opens: bool
) -> None:
    """On a full disk reads and searches go on, and deletions may make room."""
    fill(tmp_path)

    class Connection(ciphers.Reader):
        def execute(self, statement: str, *arguments: object) -> sqlite3.Cursor:
            if statement == schema.TOUCH:
                error = sqlite3.OperationalError("it says so")
                error.sqlite_errorcode = code
                raise error
            return super().execute(statement, *arguments)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "factory": Connection}))
    if opens:
        with LocalGalleries.open(tmp_path) as galleries:
            assert asking.nearest(galleries, "g", VECTORS[:1], 3).subjects == 3
    else:
        with pytest.raises(StoreIOError, match="written"):
            LocalGalleries.open(tmp_path)


def test_a_try_to_write_is_written(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        log = tmp_path / "store.sqlite3-wal"
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        before = log.stat().st_size
        db = sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)
        db.execute(schema.TOUCH)
        assert log.stat().st_size > before
        db.close()


# SQLite holds a read lock on these bytes of a database in WAL mode, for as long as it is open.
AS_ANOTHER_CLOSES = """
import fcntl, sys
from pathlib import Path
from oneglance_index.store.checking import check_directory
with open(Path(sys.argv[1]) / "store.sqlite3", "r+b") as database:
    try:
        fcntl.lockf(database, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
        sys.exit("nobody has it open")
    except OSError:
        pass
assert list(check_directory(Path(sys.argv[1]), "")) == []
"""


def test_another_process_that_closes_it_leaves_its_log(tmp_path: Path) -> None:
    """A file that is opened and closed beside SQLite takes all locks of the process with it."""
    fill(tmp_path / "d")
    with LocalGalleries.open(tmp_path / "d") as galleries:
        galleries.enroll("g", "before", VECTORS[3:]).result()
        galleries.back_up(tmp_path / "backup")
        assert galleries.trouble() is None
        log = (tmp_path / "d" / "store.sqlite3-wal").stat().st_ino
        command = [sys.executable, "-c", AS_ANOTHER_CLOSES, str(tmp_path / "d")]
        subprocess.run(command, timeout=PATIENCE_SECONDS, check=True)
        assert (tmp_path / "d" / "store.sqlite3-wal").stat().st_ino == log
        galleries.enroll("g", "after", VECTORS[3:]).result()
        shutil.copytree(tmp_path / "d", tmp_path / "killed")
    with LocalGalleries.open(tmp_path / "killed") as galleries:
        assert [galleries.get_subject("g", name).id for name in ("before", "after")] == ["before", "after"]


def test_damage_that_came_while_it_was_open_is_found_at_the_next_start(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4)
        galleries.enroll("g", "s", VECTORS[:1], retention=Retention(purpose="the entrance")).result()
        galleries.compact()  # all is in the file
        content = (tmp_path / "store.sqlite3").read_bytes()
        assert b"the entrance" in content
        with (tmp_path / "store.sqlite3").open("r+b") as file:
            file.write(content.replace(b"the entrance", b"the elevator"))
    with pytest.raises(StoreDamaged):
        LocalGalleries.open(tmp_path)
