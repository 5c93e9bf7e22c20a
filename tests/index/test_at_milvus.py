"""MilvusIndex without a Milvus: every promise, and the model of a move, with one that is in dictionaries. What the real
one does tests/index/milvus tries, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from oneglance_index import LocalGalleries
from tests.index.conformance import PROMISES, Trial
from tests.index.fake_milvus import URL, FakeMilvus
from tests.index.milvus.test_milvus_conformance import REFUSED
from tests.index.test_conformance import SETTINGS
from tests.index.test_succession import MovingMachine


@pytest.mark.parametrize("restarting", [False, True], ids=["fresh", "reopened"])
@pytest.mark.parametrize("name", sorted(PROMISES.keys() - REFUSED))
def test_every_promise_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, restarting: bool) -> None:
    FakeMilvus.installed(monkeypatch)
    trial = Trial(lambda: LocalGalleries.open(tmp_path, device=URL, settings=SETTINGS), restarting)
    try:
        PROMISES[name](trial)
    finally:
        trial.store.close()


def test_a_move_is_as_its_model_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class AtMilvus(MovingMachine):
        device = URL

        def open(self) -> None:
            if not hasattr(self, "milvus"):  # a restart finds the rows that are there
                self.milvus = FakeMilvus.installed(monkeypatch)
            super().open()

    run_state_machine_as_test(AtMilvus, settings=settings(max_examples=20, stateful_step_count=25, deadline=None))
