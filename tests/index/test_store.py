"""The store and its writer: durability, group commit, idempotency, limits, and what happens when the disk says no."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import (
    DimensionMismatch,
    EncoderMismatch,
    EncodingInvalid,
    EncodingNotFound,
    Found,
    FusionChanged,
    GalleryError,
    GalleryExists,
    GalleryNotFound,
    IndexSettings,
    LimitExceeded,
    LocalGalleries,
    RequestConflict,
    Search,
    StoreClosed,
    StoreDamaged,
    StoreFull,
    StoreIOError,
    StoreLocked,
    StoreTooNew,
    SubjectExists,
    SubjectNotFound,
)
from oneglance_index.search import flat
from oneglance_index.store import queries
from oneglance_index.store.tables import SCHEMA_VERSION
from tests.index import asking
from tests.waiting import PATIENCE_SECONDS, until

Vectors = NDArray[np.float32]


def vectors(n: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, 4), dtype=np.float32)


@pytest.fixture
def galleries(tmp_path: Path) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path / "data", settings=IndexSettings(max_encodings_per_subject=5)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, description="d").result()
        yield galleries


def reopened(galleries: LocalGalleries) -> LocalGalleries:
    galleries.close()
    return LocalGalleries.open(galleries.data_dir, settings=galleries.settings)


def test_galleries(galleries: LocalGalleries) -> None:
    gallery = galleries.get_gallery("g")
    assert (gallery.active.encoder_digest, gallery.active.dimension, gallery.description) == ("e", 4, "d")
    assert (gallery.active.threshold, gallery.active.threshold_revision, gallery.revision) == (None, 0, 0)
    for name in ("b", "a", "c"):
        galleries.create_gallery(name, encoder_digest="e", dimension=2).result()
    page = galleries.list_galleries(page_size=3)
    assert ([g.id for g in page.galleries], page.next_after) == (["a", "b", "c"], "c")
    page = galleries.list_galleries(page_size=3, after="c")
    assert ([g.id for g in page.galleries], page.next_after) == (["g"], None)
    with pytest.raises(GalleryExists):
        galleries.create_gallery("a", encoder_digest="e", dimension=2).result()
    assert galleries.delete_gallery("a").result().gallery.id == "a"
    for act in (galleries.get_gallery, galleries.delete_gallery, galleries.index_info, galleries.snapshot):
        with pytest.raises(GalleryNotFound):
            resolved(act("a"))


def resolved(value: Any) -> Any:
    return value.result() if isinstance(value, Future) else value


def test_a_threshold_goes_to_no_other_gallery_than_it_was_made_for(galleries: LocalGalleries) -> None:
    made_for = galleries.known("g")
    galleries.set_fusion("g", "margin").result()
    with pytest.raises(FusionChanged):
        galleries.set_threshold("g", -0.1, "evidence", of=made_for).result()
    made_for = galleries.known("g")
    galleries.delete_gallery("g").result()
    galleries.create_gallery("g", encoder_digest="e", dimension=4, fusion="margin").result()
    with pytest.raises(GalleryNotFound):
        galleries.set_threshold("g", -0.1, of=made_for).result()
    assert galleries.known("g").active.threshold is None
    assert galleries.set_threshold("g", -0.1, of=galleries.known("g")).result().active.threshold == -0.1


def test_thresholds_are_versioned(galleries: LocalGalleries) -> None:
    first = galleries.set_threshold("g", 0.36).result()
    assert (first.active.threshold, first.active.threshold_revision, first.revision) == (0.36, 1, 1)
    assert (first.active.calibration, first.active.calibration_revision) == (None, 0)
    with reopened(galleries) as again:
        assert again.set_threshold("g", None).result().active.threshold_revision == 2
        assert asking.nearest(again, "g", vectors(1), 1).revision == 2
        for bad in (float("nan"), float("inf"), -0.1):
            with pytest.raises(ValueError, match="finite"):
                again.set_threshold("g", bad).result()


def test_every_threshold_is_kept_with_its_evidence(galleries: LocalGalleries) -> None:
    begun = time.time()
    assert galleries.list_thresholds("g").versions == ()
    assert galleries.get_gallery("g").active.threshold_since is None
    galleries.set_threshold("g", 0.36).result()
    fitted = galleries.set_threshold("g", 0.25, "evidence: Größe").result()
    assert (fitted.active.threshold, fitted.active.calibration, fitted.active.calibration_revision) == (
        0.25,
        "evidence: Größe",
        2,
    )
    cleared = galleries.set_threshold("g", None).result()
    assert (cleared.active.threshold, cleared.active.threshold_revision) == (None, 3)
    assert (cleared.active.calibration, cleared.active.calibration_revision) == (
        "evidence: Größe",
        2,
    )  # the newest there is
    assert cleared == galleries.get_gallery("g")
    galleries.set_threshold("g", 0.5, "newer").result()
    galleries.enroll("g", "s", vectors(1)).result()
    galleries.create_gallery("other", encoder_digest="e", dimension=4).result()
    galleries.set_threshold("other", 0.1, "another's").result()
    with reopened(galleries) as again:
        kept = again.list_thresholds("g").versions
        assert [(v.version, v.threshold, v.calibration) for v in kept] == [
            (4, 0.5, "newer"),
            (3, None, None),
            (2, 0.25, "evidence: Größe"),
            (1, 0.36, None),
        ]
        times = [v.since for v in kept if v.since is not None]
        assert begun <= times[3] <= times[2] <= times[1] <= times[0] <= time.time()
        known = again.known("g")
        assert (known.active.threshold, known.active.threshold_since) == (0.5, times[0])
        assert (known.active.calibration, known.active.calibration_revision) == ("newer", 4)
        with pytest.raises(GalleryNotFound):
            again.list_thresholds("nowhere")
        # A gallery of the same name begins anew.
        again.delete_gallery("g").result()
        again.create_gallery("g", encoder_digest="e", dimension=4).result()
        assert again.list_thresholds("g").versions == ()
        assert again.set_threshold("g", 1.0).result().active.threshold_revision == 1
        # What the deleted one left behind is purged meanwhile.
        with contextlib.closing(sqlite3.connect(again.data_dir / "store.sqlite3")) as db:
            until(lambda: db.execute("SELECT count(*) FROM thresholds").fetchall() == [(2,)])


def test_enrolling_a_subject_again(galleries: LocalGalleries) -> None:
    first = galleries.enroll("g", "s", vectors(2), labels={"name": "Zoë"}).result()
    assert (first.created, first.replayed, first.revision, len(first.encoding_ids)) == (True, False, 1, 2)
    added = galleries.enroll("g", "s", vectors(1, 1)).result()
    assert (added.created, added.revision) == (False, 2)
    assert galleries.get_subject("g", "s").labels == {"name": "Zoë"}
    with pytest.raises(SubjectExists):
        galleries.enroll("g", "s", vectors(1), on_existing="fail").result()
    replaced = galleries.enroll("g", "s", vectors(1, 2), on_existing="replace", labels={}).result()
    subject = galleries.get_subject("g", "s")
    assert [e.id for e in subject.encodings] == list(replaced.encoding_ids)
    assert subject.labels == {}
    assert galleries.get_gallery("g").encodings == 1
    assert int(replaced.encoding_ids[0]) > int(added.encoding_ids[0])
    with galleries._store.reading() as db:
        stored = queries.find_subject(db, queries.place(db, "g").number, "s")
        assert stored is not None
        kept = queries.subject_vectors(db, queries.place(db, "g"), stored)[1]
    np.testing.assert_array_equal(kept, vectors(1, 2))


def test_deleting(galleries: LocalGalleries) -> None:
    ids = galleries.enroll("g", "s", vectors(3)).result().encoding_ids
    one = galleries.delete_encoding("g", "s", ids[1]).result()
    assert (one.encodings, one.subject_deleted) == (1, False)
    for bad in (ids[1], "99", "0" + ids[0], " " + ids[0], "x", "", "9" * 40):
        with pytest.raises(EncodingNotFound):
            galleries.delete_encoding("g", "s", bad).result()
    galleries.delete_encoding("g", "s", ids[0]).result()
    assert galleries.delete_encoding("g", "s", ids[2]).result().subject_deleted
    with pytest.raises(SubjectNotFound):
        galleries.get_subject("g", "s")
    galleries.enroll("g", "s", vectors(2)).result()
    assert galleries.delete_subject("g", "s").result().encodings == 2
    with pytest.raises(SubjectNotFound):
        galleries.delete_subject("g", "s").result()
    gallery = galleries.get_gallery("g")
    assert (gallery.subjects, gallery.encodings) == (0, 0)
    again = galleries.enroll("g", "s", vectors(1)).result()
    assert again.created
    assert int(again.encoding_ids[0]) > int(ids[2])  # never used twice


def test_subjects_come_in_pages(galleries: LocalGalleries) -> None:
    names = ["", *sorted(["b", "a", "ä", "Z", "zz", "\U0001f600", "\uffff"])]
    for name in names[1:]:
        galleries.enroll("g", name, vectors(1)).result()
    seen, after = [], ""
    while True:
        page = galleries.list_subjects("g", page_size=2, after=after)
        seen += [subject.id for subject in page.subjects]
        if page.next_after is None:
            break
        after = page.next_after
    assert seen == names[1:]
    with pytest.raises(ValueError, match="page"):
        galleries.list_subjects("g", page_size=0)


def test_requests_are_idempotent(galleries: LocalGalleries) -> None:
    first = galleries.enroll("g", "s", vectors(1), request_id="r", request_digest=b"1").result()
    with reopened(galleries) as again:
        second = again.enroll("g", "s", vectors(1), request_id="r", request_digest=b"1").result()
        assert second.replayed
        assert (second.encoding_ids, second.created, second.revision) == (first.encoding_ids, True, 1)
        assert again.replay("g", "s", "r", b"1") == second
        assert again.replay("g", "s", "other", b"1") is None
        with pytest.raises(RequestConflict):
            again.enroll("g", "s", vectors(1), request_id="r", request_digest=b"2").result()
        with pytest.raises(RequestConflict):
            again.replay("g", "s", "r", b"2")
        assert again.get_gallery("g").encodings == 1
        with pytest.raises(EncodingInvalid):  # a refused request isn't remembered
            again.enroll("g", "s", vectors(1) * 0, request_id="q", request_digest=b"1").result()
        assert not again.enroll("g", "s", vectors(1), request_id="q", request_digest=b"2").result().replayed


def test_requests_are_forgotten(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path, settings=IndexSettings(request_ttl_seconds=0, min_requests_kept=0)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for digest in (b"1", b"2"):
            enrolled = galleries.enroll("g", "s", vectors(1), request_id="r", request_digest=digest).result()
            assert not enrolled.replayed


@pytest.mark.parametrize(
    ("encodings", "error"),
    [
        (np.zeros((1, 4)), EncodingInvalid),
        (np.array([[1, 2, 3, np.nan]]), EncodingInvalid),
        (np.array([[1, 2, 3, np.inf]]), EncodingInvalid),
        (np.array([[1, 2, 3, 1e300]]), EncodingInvalid),
        (np.array([[1, 2, 3, 1e19]]), EncodingInvalid),
        (np.ones((1, 5)), DimensionMismatch),
        (np.ones(4), DimensionMismatch),
        (np.ones((1, 4, 1)), DimensionMismatch),
        (np.ones((0, 4)), ValueError),
        (np.ones((6, 4)), LimitExceeded),
        (np.array([["x"] * 4]), ValueError),
    ],
)
def test_bad_encodings_leave_no_trace(galleries: LocalGalleries, encodings: Any, error: type[Exception]) -> None:
    before = galleries.get_gallery("g")
    with pytest.raises(error):
        galleries.enroll("g", "s", encodings).result()
    assert galleries.get_gallery("g") == before


def test_bad_searches(galleries: LocalGalleries) -> None:
    for k in (0, -1):
        with pytest.raises(ValueError, match="candidate"):
            asking.nearest(galleries, "g", vectors(1), k)
    with pytest.raises(LimitExceeded):
        asking.nearest(galleries, "g", vectors(1), 10_001)
    with pytest.raises(ValueError, match="threshold"):
        asking.matches(galleries, "g", vectors(1), float("nan"), 1)
    with pytest.raises(DimensionMismatch):
        asking.nearest(galleries, "g", np.ones((1, 3), np.float32), 1)
    with pytest.raises(EncodingInvalid):
        asking.matches(galleries, "g", np.zeros((1, 4), np.float32), 1.0, 1)
    with pytest.raises(GalleryNotFound):
        asking.nearest(galleries, "h", vectors(1), 1)
    with pytest.raises(SubjectNotFound):
        galleries.verify("g", "s", vectors(1))


def test_a_bad_search_fails_alone(galleries: LocalGalleries) -> None:
    for i in range(4):
        galleries.enroll("g", f"s{i}", vectors(1, i)).result()
    good = Search(vectors(1, 2), "e", 2, 100.0, 1)
    found = galleries.search_many(
        "g",
        [
            Search(vectors(1), "other", 1),
            good,
            Search(np.ones((1, 3), np.float32), "e", 1),
            Search(vectors(2) * 0, "e", 1),
            Search(vectors(1), "e", 10_001),
            Search(vectors(1), "e", 1, 1.0, 10_001),
            Search(vectors(2), "e", 1),
        ],
    )
    wrong = [EncoderMismatch, DimensionMismatch, EncodingInvalid, LimitExceeded, LimitExceeded]
    assert [type(found[i]) for i in (0, 2, 3, 4, 5)] == wrong
    assert found[1] == asking.ask(galleries, "g", good)
    assert found[6] == asking.nearest(galleries, "g", vectors(2), 1)
    assert galleries.search_many("g", []) == []
    assert [type(error) for error in galleries.search_many("g", [Search(vectors(1), "other", 1)])] == [EncoderMismatch]


def test_verify_measures_the_nearest_encoding(galleries: LocalGalleries) -> None:
    ids = galleries.enroll("g", "s", vectors(3)).result().encoding_ids
    result = galleries.verify("g", "s", vectors(3)[[2, 0]])
    assert [c[0].encoding_id for c in result.candidates] == [ids[2], ids[0]]
    assert [c[0].distance for c in result.candidates] == [0.0, 0.0]


class Block:
    """A mutation that holds the writer up until ``end``, and then fails."""

    def __init__(self) -> None:
        self.begun, self.end = threading.Event(), threading.Event()

    def run(self, db: sqlite3.Connection) -> Any:
        self.begun.set()
        assert self.end.wait(PATIENCE_SECONDS)
        raise SubjectNotFound("", "")


def test_concurrent_writers_share_commits(galleries: LocalGalleries) -> None:
    before = galleries._store.commits
    futures: list[Future[Any]] = []
    wrong: list[Future[Any]] = []

    def enroll(worker: int) -> None:
        futures.extend(galleries.enroll("g", f"{worker}-{i}", vectors(1, i)) for i in range(100))
        wrong.append(galleries.enroll("g", f"{worker}-0", vectors(1), on_existing="fail"))

    block = Block()  # so that all of them wait together
    galleries._store.write(block)
    until(block.begun.is_set)
    threads = [threading.Thread(target=enroll, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert galleries.queued_writes() == 808
    block.end.set()
    wait(futures)
    # Alone: their neighbours went through.
    assert all(isinstance(refused.exception(), SubjectExists) for refused in wrong)
    assert galleries._store.commits - before < 10
    revisions = [future.result().revision for future in futures]
    assert sorted(revisions) == list(range(1, 801))
    with reopened(galleries) as again:
        assert again.get_gallery("g").subjects == 800
        assert again.index_info("g").subjects == 800


def test_a_cancelled_write_never_happens(galleries: LocalGalleries) -> None:
    block = Block()
    blocked = galleries._store.write(block)
    until(block.begun.is_set)
    cancelled = galleries.enroll("g", "s", vectors(1))
    assert galleries.queued_writes() == 1
    assert cancelled.cancel()
    block.end.set()
    assert isinstance(blocked.exception(), SubjectNotFound)
    galleries.set_threshold("g", 1.0).result()
    assert galleries.get_gallery("g").subjects == 0


def test_a_full_disk_is_typed_and_survived(galleries: LocalGalleries) -> None:
    galleries.enroll("g", "kept", vectors(1)).result()
    pages = int(galleries._store._writer._db.execute("PRAGMA page_count").fetchone()[0])
    galleries._store._writer._db.execute(f"PRAGMA max_page_count = {pages + 3}")
    futures = [galleries.enroll("g", f"s{i}", vectors(1), labels={"x": "y" * 2000}) for i in range(60)]
    outcomes = [future.exception() for future in futures]
    assert any(isinstance(error, StoreFull) for error in outcomes)
    assert outcomes[0] is None  # there was room for some
    assert all(error is None or isinstance(error, StoreFull) for error in outcomes)
    stored = galleries.get_gallery("g").subjects
    assert stored == 1 + sum(error is None for error in outcomes)
    assert asking.nearest(galleries, "g", vectors(1), 100).subjects == stored
    galleries._store._writer._db.execute("PRAGMA max_page_count = 1000000")
    galleries.enroll("g", "after", vectors(1)).result()
    with reopened(galleries) as again:
        assert again.get_gallery("g").subjects == stored + 1


def test_a_failing_commit_fails_its_group_and_changes_nothing(galleries: LocalGalleries) -> None:
    class Broken:
        """The connection, whose commits fail."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self.db = db

        def __getattr__(self, name: str) -> Any:
            return getattr(self.db, name)

        def execute(self, statement: str, *arguments: Any) -> Any:
            if statement == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return self.db.execute(statement, *arguments)

    writer = galleries._store._writer
    whole = writer._db
    writer._db = Broken(whole)  # type: ignore[assignment]
    futures = [galleries.enroll("g", f"s{i}", vectors(1)) for i in range(20)]
    assert all(isinstance(future.exception(), StoreIOError) for future in futures)
    writer._db = whole
    assert galleries.get_gallery("g").subjects == 0
    assert asking.nearest(galleries, "g", vectors(1), 5).candidates == ((),)
    assert galleries.enroll("g", "s", vectors(1)).result().revision == 1


def test_one_process_at_a_time(galleries: LocalGalleries) -> None:
    with pytest.raises(StoreLocked):
        LocalGalleries.open(galleries.data_dir)
    script = f"""
import sys
from oneglance_index import LocalGalleries, StoreLocked
try:
    LocalGalleries.open({str(galleries.data_dir)!r})
except StoreLocked:
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=PATIENCE_SECONDS, check=False).returncode == 7
    reopened(galleries).close()  # and free again afterwards


def test_a_newer_store_is_left_alone(galleries: LocalGalleries) -> None:
    path = galleries.data_dir / "store.sqlite3"
    galleries.close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNew):
        LocalGalleries.open(galleries.data_dir)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["not a database", "another database", "pages", "truncated", "contradiction"])
def test_a_damaged_store_is_typed(galleries: LocalGalleries, damage: str) -> None:
    for i in range(200):
        galleries.enroll("g", f"s{i}", vectors(2))
    path = galleries.data_dir / "store.sqlite3"
    galleries.close()
    content = path.read_bytes()
    if damage == "not a database":
        path.write_bytes(b"hello" * 1000)
    elif damage == "another database":
        path.unlink()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE other (x)")
        db.close()
    elif damage == "pages":
        path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM encodings WHERE number = 7")
        db.close()
    for file in (galleries.data_dir / "snapshots").iterdir():
        file.unlink()
    with pytest.raises(StoreDamaged):
        LocalGalleries.open(galleries.data_dir)


def test_a_search_that_is_overtaken_by_close_says_so(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    galleries.enroll("g", "s", vectors(1)).result()
    search = flat.ExactIndex.search

    def overtaken(index: flat.ExactIndex, searches: Sequence[Search]) -> list[Found | GalleryError]:
        galleries.close()
        return search(index, searches)

    monkeypatch.setattr(flat.ExactIndex, "search", overtaken)
    with pytest.raises(StoreClosed):
        asking.nearest(galleries, "g", vectors(1), 1)


def test_after_close(galleries: LocalGalleries) -> None:
    galleries.close()
    galleries.close()
    with pytest.raises(StoreClosed):
        galleries.enroll("g", "s", vectors(1)).result()
    with pytest.raises(StoreClosed):
        asking.nearest(galleries, "g", vectors(1), 1)
    with pytest.raises(StoreClosed):
        galleries.get_gallery("g")
    assert issubclass(StoreClosed, GalleryError)


def test_who_reads_sees_the_present_state_though_a_reading_before_was_cut_off(galleries: LocalGalleries) -> None:
    """SQLite keeps the state that a cursor was reading, and a failure's traceback keeps the cursor."""
    for i in range(3):
        galleries.enroll("g", f"s{i}", vectors(1, i)).result()
    kept: list[sqlite3.Cursor] = []
    with contextlib.suppress(RuntimeError), galleries._store.reading() as former:
        kept.append(former.execute("SELECT id FROM subjects"))
        kept[0].fetchone()
        raise RuntimeError
    galleries.enroll("g", "since", vectors(1, 3)).result()
    with galleries._store.reading() as db:
        assert db is former
        assert [row["id"] for row in db.execute("SELECT id FROM subjects").fetchall()] == ["s0", "s1", "s2", "since"]
    galleries.compact()  # no reader is in the way
