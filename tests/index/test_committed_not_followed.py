"""What is committed can be read from the store before an index is told of it: no answer mixes the two states."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import EVERYBODY, Gallery, LocalGalleries, StoreIOError, SubjectFilter
from oneglance_index.search.arrivals import Arrivals
from oneglance_index.search.loading import StoredSubjects
from oneglance_index.store.mutations import Effect
from tests.index import asking
from tests.index.fake_milvus import URL, FakeMilvus
from tests.index.holding import Hold
from tests.waiting import PATIENCE_SECONDS, until

VECTORS = np.eye(8, dtype=np.float32)
ODD = SubjectFilter((("odd", "1"),))


@pytest.fixture(params=["cpu", "milvus"])
def galleries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[LocalGalleries]:
    """ "g" with s0 to s3, whose ids aren't in memory."""
    FakeMilvus.installed(monkeypatch)
    device = "cpu" if request.param == "cpu" else URL
    with LocalGalleries.open(tmp_path, device=device) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8, fusion="mean").result()
        for i in range(4):
            galleries.enroll("g", f"s{i}", VECTORS[i : i + 1], labels={"odd": str(i % 2)}).result()
    with LocalGalleries.open(tmp_path, device=device) as galleries:
        yield galleries


@pytest.mark.parametrize(
    ("among", "others"), [(EVERYBODY, {"s0", "s2", "s3"}), (ODD, {"s3"})], ids=["everybody", "by a filter"]
)
def test_a_search_waits_until_the_index_is_told(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch, among: SubjectFilter, others: set[str]
) -> None:
    follow, have_come = galleries._opened.follow, Arrivals.have_come
    committed, waits, go_on = threading.Event(), threading.Event(), threading.Event()

    def late(effects: Sequence[Effect]) -> None:
        committed.set()
        assert go_on.wait(PATIENCE_SECONDS)
        follow(effects)

    def noted(arrivals: Arrivals, revision: int) -> bool:
        waits.set()
        return have_come(arrivals, revision)

    monkeypatch.setattr(galleries._opened, "follow", late)
    monkeypatch.setattr(Arrivals, "have_come", noted)
    with ThreadPoolExecutor(1) as pool:
        deleted = galleries.delete_subject("g", "s1")
        until(committed.is_set)
        search = pool.submit(asking.nearest, galleries, "g", VECTORS[:1], 4, among=among)
        until(lambda: waits.is_set() or search.done())
        go_on.set()
        assert {one.subject_id for one in search.result().candidates[0]} == others
    deleted.result()
    found = asking.nearest(galleries, "g", VECTORS[:1], 4)
    assert {one.subject_id for one in found.candidates[0]} == {"s0", "s2", "s3"}


def test_changes_are_kept_no_longer_where_everybody_could_not_be_read(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: StoredSubjects) -> None:
        raise StoreIOError(galleries.data_dir, "a sector")

    with monkeypatch.context() as patched:
        patched.setattr(StoredSubjects, "everybody", fails)
        with pytest.raises(StoreIOError):
            asking.nearest(galleries, "g", VECTORS[:1], 4, among=ODD)
    index = galleries._opened._opened["g"].in_step()
    assert index._templates._subjects._since is None  # type: ignore[attr-defined]
    galleries.enroll("g", "new", VECTORS[:1], labels={"odd": "1"}).result()
    found = asking.nearest(galleries, "g", VECTORS[:1], 4, among=ODD)
    assert {one.subject_id for one in found.candidates[0]} == {"s1", "s3", "new"}


def test_all_of_a_transaction_is_followed_before_others_are_told_of_galleries(tmp_path: Path) -> None:
    """Who is told may take its time."""
    seen: list[int] = []
    opened: list[LocalGalleries] = []

    def told(galleries: Mapping[str, Gallery | None]) -> None:
        if "g" in galleries:
            seen.append(asking.nearest(opened[0], "h", VECTORS[:1], 1).subjects)

    with LocalGalleries.open(tmp_path) as store:
        for name in "gh":
            store.create_gallery(name, encoder_digest="e", dimension=8).result()
    with LocalGalleries.open(tmp_path, on_galleries=told) as store:
        opened.append(store)
        hold = Hold(store)
        both = store.set_threshold("g", 0.5), store.enroll("h", "s", VECTORS[:1])  # are committed together
        hold.end.set()
        for one in both:
            one.result()
    assert seen == [1]
