"""Subjects are deleted when their time is over; who that concerns can be seen before."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from oneglance_index import IndexSettings, LocalGalleries, Retention, StoreDamaged
from oneglance_index.store.mutations import DeleteEncodings
from oneglance_index.sweeping import Sweeper
from tests.waiting import until

VECTORS = np.eye(4, dtype=np.float32)
PAST, FUTURE = Retention(1.0, "entrance", "c-1"), Retention(time.time() + 1e6, "entrance", "c-2")


def subjects(galleries: LocalGalleries) -> list[str]:
    return [subject.id for subject in galleries.list_subjects("g").subjects]


def test_who_is_over_is_swept_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Sweeper, "sweep", lambda _: None)
        with LocalGalleries.open(tmp_path) as galleries:
            galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
            for name, retention in (("over", PAST), ("later", FUTURE), ("always", None)):
                galleries.enroll("g", name, VECTORS[:1], retention=retention).result()
            assert galleries.get_subject("g", "later").retention == FUTURE
            assert galleries.get_subject("g", "always").retention == Retention()
            (over,) = galleries.expired(time.time())
            assert (over.gallery_id, over.subject_id, over.retention) == ("g", "over", PAST)
            rehearsed = galleries.expired(time.time() + 2e6)
            assert [one.subject_id for one in rehearsed] == ["over", "later"]
            assert subjects(galleries) == ["always", "later", "over"]
    with LocalGalleries.open(tmp_path, settings=IndexSettings(sweep_every_seconds=0.01)) as galleries:
        until(lambda: subjects(galleries) == ["always", "later"])
        galleries.set_retention("g", "later", PAST).result()
        until(lambda: subjects(galleries) == ["always"])
        assert galleries.expired(time.time()) == []


def test_enrolling_again_keeps_or_renews_it(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        galleries.enroll("g", "s", VECTORS[:1], retention=FUTURE).result()
        galleries.enroll("g", "s", VECTORS[1:2], on_existing="replace").result()
        assert galleries.get_subject("g", "s").retention == FUTURE
        galleries.enroll("g", "s", VECTORS[1:2], retention=Retention(None, "other")).result()
        assert galleries.get_subject("g", "s").retention == Retention(None, "other")
        for wrong in (float("nan"), -1.0, float("inf")):
            with pytest.raises(ValueError, match="expiry"):
                galleries.set_retention("g", "s", Retention(wrong)).result()


def test_a_sweep_ends_though_somebody_can_not_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where an index of the database is damaged. Others are deleted, behind many of those, too."""
    monkeypatch.setattr("oneglance_index.sweeping._SWEPT_AT_ONCE", 1)
    with LocalGalleries.open(tmp_path, settings=IndexSettings(sweep_every_seconds=3600)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for name in ("s1", "s2", "s3"):
            galleries.enroll("g", name, VECTORS[:1], retention=PAST).result()
        write = galleries._write

        def missing(mutation: Any, **options: Any) -> Any:
            if mutation.subject_id in ("s1", "s2"):
                return write(DeleteEncodings("g", "nobody", None), **options)
            return write(mutation, **options)

        monkeypatch.setattr(galleries, "_write", missing)
        galleries._sweeper.sweep()
        assert subjects(galleries) == ["s1", "s2"]
        assert "2 subjects whose time is over can't be deleted" in caplog.text
        monkeypatch.setattr(galleries._sweeper, "expired", Mock(side_effect=StoreDamaged(tmp_path, "a row")))
        galleries._sweeper.sweep()
        assert "a row" in caplog.text
