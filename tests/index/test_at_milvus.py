"""MilvusIndex without a Milvus: every promise, and the model of a move, with one that is in dictionaries. What the real
one does tests/index/milvus tries, where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from oneglance_index import LocalGalleries
from oneglance_index.search.milvus import index
from tests.index.conformance import PROMISES, Trial
from tests.index.fake_milvus import URL, FakeMilvus
from tests.index.milvus.test_milvus_conformance import REFUSED
from tests.index.test_conformance import SETTINGS
from tests.index.test_succession import MovingMachine
from tests.waiting import until


@pytest.mark.parametrize("restarting", [False, True], ids=["fresh", "reopened"])
@pytest.mark.parametrize("name", sorted(PROMISES.keys() - REFUSED))
def test_every_promise_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, restarting: bool) -> None:
    FakeMilvus.installed(monkeypatch)
    trial = Trial(lambda: LocalGalleries.open(tmp_path, device=URL, settings=SETTINGS), restarting)
    try:
        PROMISES[name](trial)
    finally:
        trial.store.close()


def test_rows_that_came_are_sealed_once_they_are_many_and_nothing_more_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_MANY_ROWS", 20)
    milvus = FakeMilvus.installed(monkeypatch)
    with LocalGalleries.open(tmp_path, device=URL) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i in range(19):
            galleries.enroll("g", f"s{i}", np.full((1, 4), i + 1, np.float32)).result()
        until(lambda: len(next(iter(milvus.collections.values()), ())) == 19)
        assert milvus.sealed == []
        galleries.enroll("g", "last", np.full((1, 4), 20, np.float32)).result()
        until(lambda: milvus.sealed == [20])
        galleries.enroll("g", "one more", np.full((1, 4), 21, np.float32)).result()
        until(lambda: len(next(iter(milvus.collections.values()))) == 21)
    assert milvus.sealed == [20]


def test_a_move_is_as_its_model_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class AtMilvus(MovingMachine):
        device = URL

        def open(self) -> None:
            if not hasattr(self, "milvus"):  # a restart finds the rows that are there
                self.milvus = FakeMilvus.installed(monkeypatch)
            super().open()

    run_state_machine_as_test(AtMilvus, settings=settings(max_examples=20, stateful_step_count=25, deadline=None))
