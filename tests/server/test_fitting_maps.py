"""Fitting a map takes a core and much memory for a while: one at a time, whoever leaves meanwhile."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import numpy as np
import pytest

from oneglance_core.mapping import EncodingMap
from oneglance_server.errors import PairsMissing
from oneglance_server.service import mapping
from oneglance_server.service.mapping import MappingService
from tests.waiting import loop_turns

MADE = EncodingMap("ridge", 1.0, np.eye(2), np.zeros(2), unit_norm=False)


def service(pairs: AsyncMock) -> MappingService:
    generation = SimpleNamespace(encoder_digest="e", decided_by="distance", fusion="nearest")
    origin, successor = (
        SimpleNamespace(
            id=name, move=SimpleNamespace(origin=name == "g"), active=generation, subjects=1, encodings=1, mapped=None
        )
        for name in ("g", "s")
    )
    state = SimpleNamespace(gallery=origin, waiting=successor, left=1)
    made = MappingService(
        Mock(), Mock(run=AsyncMock(return_value=state)), Mock(), Mock(), Mock(did=AsyncMock(return_value=None))
    )
    made._pairs = pairs  # type: ignore[method-assign]
    return made


async def test_a_call_that_is_cancelled_keeps_others_waiting_until_its_thread_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    def fit(*_: object) -> tuple[EncodingMap, Any]:
        begun.release()
        assert go.wait(60)
        return MADE, (1, 0, 0, 0, 0)

    monkeypatch.setattr(mapping, "_fit", fit)
    monkeypatch.setattr(mapping, "_divided", lambda _: ([], []))
    pairs = AsyncMock(return_value=[])
    fitting = service(pairs)
    first = asyncio.create_task(fitting.fit(Mock(), "g"))
    assert await asyncio.to_thread(begun.acquire, timeout=60)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    assert fitting._fitting.locked()
    second = asyncio.create_task(fitting.fit(Mock(), "g"))
    await loop_turns(10)
    assert pairs.await_count == 1, "nor are its pairs in memory yet"
    go.set()
    assert (await second).made is MADE
    assert not fitting._fitting.locked()


async def test_where_there_are_no_pairs_the_next_one_may() -> None:
    fitting = service(AsyncMock(return_value=[]))
    for _ in range(2):
        with pytest.raises(PairsMissing):
            await fitting.fit(Mock(), "g")
