"""Galleries on a real Milvus keep every promise of the conformance suite but those that are refused there."""

from pathlib import Path

import pytest

from oneglance_index import EngineUnsupported, LocalGalleries
from tests.index.conformance import PROMISES, Trial
from tests.index.milvus.engine import Engine
from tests.index.test_conformance import SETTINGS

# Deciding by probability would have to fetch every vector for each probe; nothing approximate is built here.
REFUSED = {
    *("where_probability_decides_the_likeliest_are_found", "what_decides_can_be_changed"),
    *("what_answers_may_lose_is_known", "what_answers_may_lose_survives_a_restart"),
}


@pytest.mark.parametrize("restarting", [False, True], ids=["fresh", "reopened"])
@pytest.mark.parametrize("name", PROMISES)
def test_galleries_on_milvus_keep_every_promise(tmp_path: Path, empty: Engine, name: str, restarting: bool) -> None:
    trial = Trial(lambda: LocalGalleries.open(tmp_path, device=empty.url(), settings=SETTINGS), restarting)
    try:
        if name in REFUSED:
            with pytest.raises(EngineUnsupported):
                PROMISES[name](trial)
        else:
            PROMISES[name](trial)
    finally:
        trial.store.close()
