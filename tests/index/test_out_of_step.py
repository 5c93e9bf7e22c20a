"""An index that fails to follow a commit answers nothing wrong: it says so, and is rebuilt in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import Change, IndexOutOfStep, LocalGalleries, Search
from oneglance_index import opened as opened_module
from oneglance_index.search import flat, loading, upkeep
from oneglance_index.store.mutations import Effect
from tests.index import asking
from tests.index.holding import Hold
from tests.waiting import PATIENCE_SECONDS, until

VECTORS = np.eye(8, dtype=np.float32)


class Rebuilding:
    """Rebuilding, which fails as long as `failing`."""

    def __init__(self) -> None:
        self.failing = True
        self.tries = 0
        self.load: Callable[..., Any] = loading.load_index

    def __call__(self, *arguments: Any) -> Any:
        self.tries += 1
        if self.failing:
            raise MemoryError
        return self.load(*arguments)


@pytest.fixture
def galleries(tmp_path: Path) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path) as galleries:
        for gallery_id in ("g", "h"):
            galleries.create_gallery(gallery_id, encoder_digest="e", dimension=8).result()
        galleries.enroll("g", "first", VECTORS[:1]).result()
        yield galleries


@pytest.fixture
def rebuilding(galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> Rebuilding:
    """Gallery "g" is out of step: its index failed to follow the enrollment of "lost"."""
    rebuilding = Rebuilding()
    monkeypatch.setattr(opened_module, "load_index", rebuilding)
    monkeypatch.setattr(upkeep, "_FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(upkeep, "_RETRY_SECONDS", 0.001)
    apply = flat.ExactIndex.apply

    def broken(index: flat.ExactIndex, *changes: Change) -> None:
        if any(change.subject_id == "lost" for change in changes):
            raise ZeroDivisionError
        apply(index, *changes)

    monkeypatch.setattr(flat.ExactIndex, "apply", broken)
    hold = Hold(galleries)
    lost = galleries.enroll("g", "lost", VECTORS[1:2])  # these are committed together
    after = galleries.enroll("g", "after", VECTORS[2:3])
    kept = galleries.enroll("h", "kept", VECTORS[1:2])
    hold.end.set()
    # They are durable, so they are done.
    assert [future.result().revision for future in (lost, after, kept)] == [2, 3, 1]
    return rebuilding


def test_it_says_so_instead_of_answering(galleries: LocalGalleries, rebuilding: Rebuilding) -> None:
    with pytest.raises(IndexOutOfStep):
        asking.nearest(galleries, "g", VECTORS[:1], 1)
    with pytest.raises(IndexOutOfStep):
        galleries.index_info("g")
    with pytest.raises(IndexOutOfStep):  # there would be no index with room for it
        galleries.enroll("g", "more", VECTORS[3:4]).result()
    assert galleries.get_gallery("g").subjects == 3
    assert galleries.verify("g", "lost", VECTORS[1:2]).candidates[0][0].distance == 0
    assert asking.nearest(galleries, "h", VECTORS[1:2], 1).candidates[0][0].subject_id == "kept"
    until(galleries.trouble)
    assert (
        galleries.trouble()
        == "the index of generation number 1 can't be rebuilt: OutOfMemory: not enough memory for the store"
    )


def test_it_is_rebuilt_with_what_happened_meanwhile(galleries: LocalGalleries, rebuilding: Rebuilding) -> None:
    until(lambda: rebuilding.tries > 1)
    galleries.delete_subject("g", "first").result()
    galleries.set_threshold("g", 0.5).result()
    assert galleries.known("g").active.threshold == 0.5
    assert galleries.trouble()
    rebuilding.failing = False
    until(lambda: galleries.trouble() is None)
    found = asking.nearest(galleries, "g", VECTORS[:3], 5)
    assert {c.subject_id for c in found.candidates[0]} == {"lost", "after"}
    assert (found.revision, found.subjects) == (5, 2)
    galleries.enroll("g", "more", VECTORS[3:4]).result()
    assert asking.nearest(galleries, "g", VECTORS[3:4], 1).candidates[0][0].subject_id == "more"
    assert galleries.index_info("g").encodings == galleries.get_gallery("g").encodings == 3


def test_what_happens_while_it_is_rebuilt_is_not_missed(galleries: LocalGalleries, rebuilding: Rebuilding) -> None:
    loaded, go_on = threading.Event(), threading.Event()
    load = rebuilding.load

    def held(*arguments: Any) -> Any:
        made = load(*arguments)
        loaded.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return made

    rebuilding.load, rebuilding.failing = held, False
    until(loaded.is_set)
    galleries.delete_subject("g", "first").result()
    with pytest.raises(IndexOutOfStep):
        asking.nearest(galleries, "g", VECTORS[:1], 1)
    go_on.set()
    until(lambda: galleries.trouble() is None and isinstance(_asked(galleries), list))
    found = asking.nearest(galleries, "g", VECTORS[:1], 5)
    assert {c.subject_id for c in found.candidates[0]} == {"lost", "after"}


def test_what_it_was_rebuilt_with_is_not_done_once_more(
    galleries: LocalGalleries, rebuilding: Rebuilding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit can be read before it is followed: a deletion would hit the rows of others."""
    opened = galleries._opened
    follow = opened.follow

    def late(effects: Sequence[Effect]) -> None:
        rebuilding.failing = False
        until(lambda: opened._opened["g"].index is not None)
        follow(effects)

    with monkeypatch.context() as patched:
        patched.setattr(opened, "follow", late)
        galleries.delete_subject("g", "first").result()
    found = asking.nearest(galleries, "g", VECTORS[:1], 5)
    assert {c.subject_id for c in found.candidates[0]} == {"lost", "after"}
    assert (found.subjects, found.encodings, galleries.index_info("g").encodings) == (2, 2, 2)
    galleries.enroll("g", "more", VECTORS[3:4]).result()  # this is new to it
    assert asking.nearest(galleries, "g", VECTORS[:1], 5).subjects == 3


def _asked(galleries: LocalGalleries) -> object:
    try:
        return galleries.search_many("g", [Search(VECTORS[:1], "e", 1)])
    except IndexOutOfStep as error:
        return error


def test_a_gallery_out_of_step_can_be_deleted(galleries: LocalGalleries, rebuilding: Rebuilding) -> None:
    galleries.delete_gallery("g").result()
    galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
    galleries.enroll("g", "new", VECTORS[:1]).result()
    assert asking.nearest(galleries, "g", VECTORS[:1], 5).subjects == 1
    until(lambda: galleries.trouble() is None)


def test_one_deleted_while_it_is_rebuilt_leaves_no_snapshot(
    galleries: LocalGalleries, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    galleries.snapshot("g")
    snapshots = galleries.data_dir / "snapshots"
    assert list(snapshots.iterdir())
    rebuild, follow = galleries._opened._rebuild, galleries._opened._follow
    ended = 0

    def counted(gallery_id: str, generation: int) -> None:
        nonlocal ended
        try:
            rebuild(gallery_id, generation)
        finally:
            ended += 1

    def late(effect: Effect) -> None:
        if effect.dropped:  # so that a rebuilding begins and ends while the gallery is gone from the store only
            before = ended
            until(lambda: ended > before + 1 or not galleries._upkeep._repairs)
        follow(effect)

    monkeypatch.setattr(galleries._opened, "_rebuild", counted)
    monkeypatch.setattr(galleries._opened, "_follow", late)
    request.getfixturevalue("rebuilding")
    galleries.delete_gallery("g").result()
    assert not list(snapshots.iterdir())
    until(lambda: galleries.trouble() is None)


def test_closing_does_not_wait_for_it(galleries: LocalGalleries, rebuilding: Rebuilding) -> None:
    galleries.close()
    rebuilding.failing = False
    with LocalGalleries.open(galleries.data_dir) as again:
        assert asking.nearest(again, "g", VECTORS[:1], 5).subjects == 3
