"""Request ids: how many are remembered, and how long, whatever the clock does."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import IndexSettings, LocalGalleries, SubjectNotFound
from oneglance_index.records import OnExisting

VECTOR = np.ones((1, 4), np.float32)


def enrolled(galleries: LocalGalleries, request_id: str) -> bool:
    """Whether it was new."""
    return not galleries.enroll("g", "s", VECTOR, request_id=request_id).result().replayed


@pytest.mark.parametrize("jump", [-1e9, 0.0, 1e9])
def test_the_last_ones_are_remembered_whatever_the_clock_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    clock = time.time
    with LocalGalleries.open(tmp_path, settings=IndexSettings(min_requests_kept=5)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        assert all(enrolled(galleries, f"a{i}") for i in range(8))
        monkeypatch.setattr(time, "time", lambda: clock() + jump)
        assert enrolled(galleries, "b")
        assert not any(enrolled(galleries, f"a{i}") for i in range(4, 8))
        assert not enrolled(galleries, "b")
        if jump > 0:
            assert enrolled(galleries, "a0")  # it is old by the clock, and not among the last 5


def test_a_retry_after_a_restart_does_not_bring_back_who_was_deleted(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        assert enrolled(galleries, "r")
        galleries.delete_subject("g", "s").result()
    with LocalGalleries.open(tmp_path) as galleries:
        for i in range(2):
            with pytest.raises(SubjectNotFound):
                enrolled(galleries, "r")
            with pytest.raises(SubjectNotFound):
                galleries.replay("g", "s", "r", b"")
            assert enrolled(galleries, f"somebody new {i}")
            galleries.delete_subject("g", "s").result()


def test_there_are_never_more_than_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.time
    settings = IndexSettings(min_requests_kept=0, max_requests_kept=5)
    with LocalGalleries.open(tmp_path, settings=settings) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i in range(20):
            monkeypatch.setattr(time, "time", lambda i=i: clock() - 1e6 * i)  # each older than the one before
            assert enrolled(galleries, f"a{i}")
        assert not enrolled(galleries, "a16")
        assert enrolled(galleries, "a10")
        with galleries._store.reading() as db:
            assert db.execute("SELECT COUNT(*) AS n FROM requests").fetchall()[0]["n"] == 5


@pytest.mark.parametrize("change", ["add", "replace"])
def test_an_answer_outlives_the_key_that_it_was_encrypted_with(tmp_path: Path, change: OnExisting) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        first = galleries.enroll("g", "s", VECTOR, request_id="a", request_digest=b"1").result()
        galleries.enroll("g", "s", 2 * VECTOR, labels={"new": "key"}, on_existing=change).result()
        for _ in range(2):
            again = galleries.replay("g", "s", "a", b"1")
            assert again is not None
            assert (again.encoding_ids, again.replayed) == (first.encoding_ids, True)
            negative = galleries.add_negative("g", "s", -VECTOR[0]).result()
            galleries.delete_negative("g", "s", negative.id).result()


def test_of_a_deleted_subject_only_the_id_of_its_request_is_left(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "somebody", VECTOR, request_id="a", request_digest=b"the digest").result()
        galleries.delete_subject("g", "somebody").result()
        with galleries._store.reading() as db:
            (row,) = db.execute("SELECT id, answer FROM requests").fetchall()
        assert row["id"] == "a"
        assert b"somebody" not in row["answer"]
        for digest in (b"the digest", b"another"):
            with pytest.raises(SubjectNotFound, match="nobody"):
                galleries.replay("g", "nobody", "a", digest)
            with pytest.raises(SubjectNotFound, match="nobody"):
                galleries.enroll("g", "nobody", VECTOR, request_id="a", request_digest=digest).result()
