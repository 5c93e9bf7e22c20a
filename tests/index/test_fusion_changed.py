"""No search compares by one rule of fusion while its gallery says another: not while the rule is changed, either."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import Found, FusionChanged, GalleryError, IndexOutOfStep, LocalGalleries, Search
from oneglance_index.opened import OpenedGalleries
from oneglance_index.search.upkeep import Upkeep
from oneglance_index.store.mutations import Effect
from tests.index.holding import Hold
from tests.waiting import PATIENCE_SECONDS, until

PROBE = np.array([[1.0, 0.0]], np.float32)
OWN = np.array([[2.0, 0.0], [4.0, 0.0]], np.float32)
DISTANCES = {"nearest": 1.0, "mean": 4.0}


@pytest.fixture
def galleries(tmp_path: Path) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=2, fusion="nearest").result()
        galleries.enroll("g", "s", OWN).result()
        yield galleries


def told(galleries: LocalGalleries, fusion: str) -> type[GalleryError] | None:
    """Asks for a search by this rule. None: it was by it."""
    try:
        (found,) = galleries.search_many("g", [Search(PROBE, "e", 1, fusion=fusion)])
    except GalleryError as error:
        return type(error)
    if isinstance(found, Found):
        assert found.candidates[0][0].distance == DISTANCES[fusion]
        return None
    return type(found)


def test_a_search_while_the_index_follows_is_told_to_wait(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment between the gallery's new rule and the end of its former index."""
    drop, seen = Upkeep.drop, []

    def dropping(self: Upkeep, generation: int) -> None:
        seen.append([told(galleries, fusion) for fusion in DISTANCES])
        drop(self, generation)

    monkeypatch.setattr(Upkeep, "drop", dropping)
    assert [told(galleries, fusion) for fusion in DISTANCES] == [None, FusionChanged]
    galleries.set_fusion("g", "mean").result()
    assert [told(galleries, fusion) for fusion in DISTANCES] == [FusionChanged, None]
    assert seen == [[IndexOutOfStep, IndexOutOfStep]]


def test_an_index_is_not_made_by_a_rule_that_is_yet_to_be_followed(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule is changed again while the index is rebuilt: that reads the second rule from the store, before the
    writer told of it."""
    committed, rebuilt = threading.Event(), threading.Event()
    rebuild: Callable[..., None] = OpenedGalleries._rebuild
    follow: Callable[..., None] = OpenedGalleries.follow
    seen = []

    def rebuilding(self: OpenedGalleries, *arguments: Any) -> None:
        assert committed.wait(PATIENCE_SECONDS)
        try:
            rebuild(self, *arguments)
        finally:
            rebuilt.set()

    def following(self: OpenedGalleries, effects: Sequence[Effect]) -> None:
        if effects[0].updated is not None and effects[0].updated.active.fusion == "nearest":
            committed.set()
            assert rebuilt.wait(PATIENCE_SECONDS)
            seen.append(told(galleries, "mean"))
        follow(self, effects)

    monkeypatch.setattr(OpenedGalleries, "_rebuild", rebuilding)
    monkeypatch.setattr(OpenedGalleries, "follow", following)
    begun = galleries.set_fusion("g", "mean")
    until(lambda: galleries.known("g").active.fusion == "mean")
    galleries.set_fusion("g", "nearest").result()
    assert seen == [IndexOutOfStep]
    begun.result()
    assert told(galleries, "nearest") is None


def test_by_margin_nobody_is_verified_among_others_by_another_rule(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store goes by margin already, the index doesn't yet."""
    galleries.enroll("g", "other", -OWN).result()
    follow: Callable[..., None] = OpenedGalleries.follow
    seen: list[float | None] = []

    def following(self: OpenedGalleries, effects: Sequence[Effect]) -> None:
        try:
            seen.append(galleries.verify("g", "s", PROBE, fusion="margin").candidates[0][0].score)
        except IndexOutOfStep:
            seen.append(None)
        follow(self, effects)

    with monkeypatch.context() as patched:
        patched.setattr(OpenedGalleries, "follow", following)
        galleries.set_fusion("g", "margin").result()
    assert seen == [None]
    (verified,) = galleries.verify("g", "s", PROBE, fusion="margin").candidates[0]
    assert verified.score == pytest.approx(4.0 - 0.3 * 16.0)


def test_a_change_that_is_cancelled_in_time_never_happens(galleries: LocalGalleries) -> None:
    hold = Hold(galleries)
    changed = galleries.set_fusion("g", "mean")
    assert changed.cancel()
    hold.end.set()
    with pytest.raises(CancelledError):
        changed.result(PATIENCE_SECONDS)
    assert galleries.set_quality("g", "{}").result().active.fusion == "nearest"
