"""Data directories written by each version of the schema, which every later version must open.

Made once by

    PYTHONPATH=index python tests/index/test_golden_store.py tests/index/golden/v2

and committed. Don't make them anew: add v3 beside them when the schema changes.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import Galleries, IndexSettings, OpenProgress, RequestConflict
from tests.waiting import PATIENCE_SECONDS

GOLDEN = Path(__file__).with_name("golden")


def vectors(subject: int) -> NDArray[np.float32]:
    return np.array([[1, subject, 0.5], [subject, -1, 0.25]], np.float32)


def make(data_dir: Path) -> None:
    with Galleries.open(data_dir) as galleries:
        galleries.create_gallery("people", encoder_digest="sha256:abc", dimension=3, description="Größe").result()
        galleries.create_gallery("empty", encoder_digest="sha256:abc", dimension=2).result()
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
        galleries.enroll("people", "late", vectors(9)).result()  # after the snapshot: to catch up with
        galleries.delete_encoding("people", "s2", "5").result()
        galleries._upkeep.close(take_snapshots=False)
        galleries._store.close()
    (data_dir / "lock").unlink()


@pytest.mark.parametrize("with_snapshot", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_every_version_opens(tmp_path: Path, version: int, with_snapshot: bool) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(GOLDEN / f"v{version}", data_dir)
    if not with_snapshot:
        shutil.rmtree(data_dir / "snapshots")
    seen: dict[str, OpenProgress] = {}
    # The request was made long ago.
    forever = IndexSettings(request_ttl_seconds=1e12)
    with Galleries.open(
        data_dir, settings=forever, progress=lambda progress: seen.update({progress.gallery_id: progress})
    ) as galleries:
        assert seen["people"].source == ("snapshot" if with_snapshot else "store")
        assert [g.id for g in galleries.list_galleries().galleries] == ["empty", "people"]
        people = galleries.get_gallery("people")
        assert (people.encoder_digest, people.description, people.threshold) == ("sha256:abc", "Größe", 0.36)
        assert (people.revision, people.subjects, people.encodings) == (8 + version, 5, 9)
        kept = [(v.version, v.threshold, v.calibration) for v in galleries.list_thresholds("people")]
        if version == 1:
            assert kept == [(1, 0.36, None)]
            assert (people.threshold_since, people.calibration, people.calibration_revision) == (None, None, 0)
        else:
            assert kept == [(2, 0.36, None), (1, 0.25, "evidence")]
            assert people.threshold_since is not None
            assert (people.calibration, people.calibration_revision) == ("evidence", 1)
        assert galleries.list_thresholds("empty") == ()
        page = galleries.list_subjects("people")
        assert [s.id for s in page.subjects] == ["late", "s0", "s2", "s3", "s4"]
        assert galleries.get_subject("people", "s2").labels == {"name": "Zoë 2"}
        assert [e.id for e in galleries.get_subject("people", "s2").encodings] == ["6"]
        for i, name in ((0, "s0"), (3, "s3"), (9, "late")):
            for vector in vectors(i):
                (candidate,) = galleries.search("people", vector[None], 1).candidates[0]
                assert (candidate.subject_id, candidate.distance) == (name, 0.0)
        assert galleries.replay("people", "r3", b"digest") is not None
        with pytest.raises(RequestConflict):
            galleries.replay("people", "r3", b"other")
        assert galleries.enroll("people", "new", vectors(7)).result().encoding_ids == ("13", "14")
        assert galleries.set_threshold("people", 0.1, "new").result().threshold_revision == version + 1


# Opens the store in sys.argv[1], and dies at once at the statement that starts with sys.argv[2].
KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from oneglance_index.store import schema

class Connection(sqlite3.Connection):
    def execute(self, statement, *values):
        if statement.strip().startswith(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(statement, *values)

connect = sqlite3.connect
sqlite3.connect = lambda *a, **k: connect(*a, factory=Connection, **k)
schema.connect_writer(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE", "CREATE INDEX", "INSERT INTO thresholds", "PRAGMA user_version =", "COMMIT"]
)
def test_killed_while_it_is_brought_up_to_date_it_is_still_version_1(tmp_path: Path, statement: str) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(GOLDEN / "v1", data_dir)
    path = data_dir / "store.sqlite3"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), statement], timeout=PATIENCE_SECONDS, check=False)
    assert killed.returncode == -9
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchall() == [(1,)]
        assert db.execute("SELECT name FROM sqlite_master WHERE name LIKE '%thresholds%'").fetchall() == []
    db.close()
    with Galleries.open(data_dir) as galleries:
        assert [v.threshold for v in galleries.list_thresholds("people")] == [0.36]
        assert galleries.get_gallery("people").revision == 9


if __name__ == "__main__":
    make(Path(sys.argv[1]))
