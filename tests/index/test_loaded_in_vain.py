"""An index that was loaded in vain, or whose gallery is deleted meanwhile, leaves no rows at its Milvus."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import LocalGalleries, opened
from oneglance_index.search import upkeep
from oneglance_index.search.loading import Loaded, load_index
from oneglance_index.search.milvus.index import MilvusIndex
from tests.index import asking
from tests.index.fake_milvus import URL, FakeMilvus
from tests.waiting import PATIENCE_SECONDS, until

VECTORS = np.eye(8, dtype=np.float32)


@pytest.fixture
def milvus(monkeypatch: pytest.MonkeyPatch) -> FakeMilvus:
    monkeypatch.setattr(upkeep, "_FIRST_RETRY_SECONDS", 0.001)
    return FakeMilvus.installed(monkeypatch)


@pytest.fixture
def galleries(tmp_path: Path, milvus: FakeMilvus) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8, fusion="mean").result()
        galleries.enroll("g", "s", VECTORS[:1]).result()
        until(lambda: milvus.collections)
        yield galleries


def test_one_that_another_takes_the_place_of_writes_nothing(
    galleries: LocalGalleries, milvus: FakeMilvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, in_place, ended = MilvusIndex.write, threading.Event(), threading.Event()

    def load(*arguments: Any) -> Loaded:
        loaded = load_index(*arguments)
        if arguments[3].place.fusion == "nearest":  # its rule of fusion is changed again before it is in its place
            galleries.set_fusion("g", "mean")
            until(lambda: galleries.known("g").active.fusion == "mean")
        return loaded

    def late(index: MilvusIndex) -> bool:
        if index._collection.part != "encodings":
            return write(index)
        assert in_place.wait(PATIENCE_SECONDS)
        try:
            return write(index)
        finally:
            ended.set()

    monkeypatch.setattr(opened, "load_index", load)
    monkeypatch.setattr(MilvusIndex, "write", late)
    galleries.set_fusion("g", "nearest").result()
    assert asking.nearest(galleries, "g", VECTORS[:1], 1).candidates[0][0].subject_id == "s"
    in_place.set()
    until(ended.is_set)
    galleries.close()
    remote = galleries._device.remote
    assert remote is not None
    assert not remote.writer._thread.is_alive(), "it tries for ever"
    assert [name for name in milvus.collections if name.endswith("encodings")] == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_one_whose_gallery_is_deleted_while_it_is_loaded_writes_nothing(
    galleries: LocalGalleries, milvus: FakeMilvus, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    begun, deleted = threading.Event(), threading.Event()

    def load(*arguments: Any) -> Loaded:
        loaded = load_index(*arguments) if when == "after" else None
        begun.set()
        assert deleted.wait(PATIENCE_SECONDS)
        return loaded or load_index(*arguments)

    monkeypatch.setattr(opened, "load_index", load)
    galleries.set_fusion("g", "nearest")
    until(begun.is_set)
    galleries.delete_gallery("g").result()
    deleted.set()
    galleries.close()
    assert milvus.collections == {}
