"""Many pictures at once: queues, turns, deadlines, who comes first."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance import AsyncClient, Client, OneglanceError
from oneglance_core.pictures import decode_layers
from oneglance_core.sessions.onnx_runtime import OnnxSession
from oneglance_server.app import Server
from oneglance_server.calls import Call, Caller
from oneglance_server.engines.background import NICENESS, yield_to_others
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.service.stylizing import StylizationService
from tests.pictures import picture, png
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS, until

SMALL = png(np.full((64, 64, 3), 90, np.uint8))  # one run of 64 x 64
LARGE = png(np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8))  # tiles of 128 x 128
TILES = 36
ME = Caller("me")


class Gate:
    """Holds every run of a stylizer while it is shut, and notes each that began: (height, niceness)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: list[tuple[int, int]] = []
        self._open = threading.Event()
        self._open.set()
        run = Stylizer.run

        def held(stylizer: Stylizer, image: Any, *rest: Any) -> Any:
            self.runs.append((image.shape[0], os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
            assert self._open.wait(PATIENCE_SECONDS)
            return run(stylizer, image, *rest)

        monkeypatch.setattr(Stylizer, "run", held)

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


def service_of(server: Server) -> StylizationService:
    return server._gate.services.stylization


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open()


@pytest.fixture
def settings(tints: Path, models: tuple[Path, Path], tmp_path: Path) -> dict[str, Any]:
    return {"data_dir": tmp_path, "models": (tints, models[0]), "stylize_tile": 128, "drain_seconds": 0.1}


def test_a_full_queue_refuses_at_once(settings: dict[str, Any], gate: Gate) -> None:
    with (
        server_thread(**settings, stylize_queue=3, stylize_streams=1) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        gate.shut()
        calls = [pool.submit(client.stylize, SMALL, "ember") for _ in range(3)]
        until(lambda: service_of(server).calls.under_way == 3)
        with pytest.raises(OneglanceError) as caught:
            client.stylize(SMALL, "ember")
        assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert caught.value.metadata == {"queue": "stylize", "max_calls": "3"}
        gate.open()
        assert all(call.result(PATIENCE_SECONDS).width == 64 for call in calls)
        assert client.stylize(SMALL, "ember").width == 64


def test_identification_goes_on_while_stylization_is_stuck(settings: dict[str, Any], gate: Gate) -> None:
    with (
        server_thread(**settings) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        gate.shut()
        calls = [pool.submit(client.stylize, LARGE, "ember") for _ in range(8)]
        until(lambda: service_of(server).calls.under_way == 8)
        client.create_gallery("g")
        client.enroll("g", "it", picture(1))
        assert client.identify("g", picture(1)).results[0].subject_id == "it"
        gate.open()
        assert {call.result(PATIENCE_SECONDS).tiles for call in calls} == {TILES}


def test_a_small_picture_and_a_stream_pass_a_large_one(settings: dict[str, Any], gate: Gate) -> None:
    frame = png(np.full((128, 64, 3), 90, np.uint8))
    with (
        server_thread(**settings) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        service = service_of(server)
        gate.shut()
        large = [pool.submit(client.stylize, LARGE, "ember")]
        until(lambda: len(gate.runs) == 1)
        large.append(pool.submit(client.stylize, LARGE, "ember"))
        until(lambda: service.steps_waiting == 1)
        small = pool.submit(client.stylize, SMALL, "ember")
        until(lambda: service.steps_waiting == 2)
        stream = pool.submit(lambda: list(client.stylize_stream([frame], "ember")))
        until(lambda: service.steps_waiting == 3)
        gate.open()
        assert small.result(PATIENCE_SECONDS).tiles == 1
        assert stream.result(PATIENCE_SECONDS)[0].HasField("picture")
        assert [call.result(PATIENCE_SECONDS).tiles for call in large] == [TILES, TILES]
        heights = [height for height, _ in gate.runs]
        shown = heights.index(64)
        assert shown < 6  # after a few tiles, not after two pictures of them
        assert len(heights) == 2 * (TILES + 1) + 2


def test_streams_and_calls_take_turns_whatever_their_number(settings: dict[str, Any], gate: Gate) -> None:
    frame = png(np.full((128, 64, 3), 90, np.uint8))
    with (
        server_thread(**settings) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        ThreadPoolExecutor(12) as pool,
    ):
        service = service_of(server)
        gate.shut()
        calls = [pool.submit(client.stylize, SMALL, "ember")]
        until(lambda: len(gate.runs) == 1)
        calls += [pool.submit(client.stylize, SMALL, "ember") for _ in range(9)]
        until(lambda: service.steps_waiting == 9)
        stream = pool.submit(lambda: list(client.stylize_stream([frame], "ember")))
        until(lambda: service.steps_waiting == 10)
        gate.open()
        stream.result(PATIENCE_SECONDS)
        for call in calls:
            call.result(PATIENCE_SECONDS)
        assert [height for height, _ in gate.runs].index(128) <= 2


def test_of_a_picture_whose_deadline_passes_nothing_more_is_painted(settings: dict[str, Any], gate: Gate) -> None:
    with (
        server_thread(**settings) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        Client(server.address, timeout_seconds=0.5) as hasty,
        ThreadPoolExecutor(2) as pool,
    ):
        gate.shut()
        calls = [pool.submit(hasty.stylize, LARGE, "ember") for _ in range(2)]
        for call in calls:
            with pytest.raises(OneglanceError) as caught:
                call.result(PATIENCE_SECONDS)
            assert caught.value.code.name == "DEADLINE_EXCEEDED"
        until(lambda: service_of(server).calls.under_way == 0)
        gate.open()
        assert client.stylize(SMALL, "ember").width == 64
        assert len(gate.runs) <= 3  # of 74


async def test_a_deadline_that_passes_in_the_queue_is_told(settings: dict[str, Any], gate: Gate) -> None:
    """gRPC ends a call by itself at its deadline, so the service is asked directly."""
    import asyncio

    from oneglance_server.errors import DeadlinePassed
    from oneglance_server.service.styles import AskedStyle, StyleSettings
    from oneglance_server.settings import Settings

    async with Server(Settings(listen="127.0.0.1:0", **settings)) as server:
        service, look = service_of(server), StyleSettings((AskedStyle("ember", 0),))
        now = asyncio.get_running_loop().time()
        with pytest.raises(DeadlinePassed, match="in the stylize queue"):
            await service.stylize(Call(ME, now), SMALL, look)
        service.pixels.take(service.pixels.capacity)  # as if a picture were under way
        with pytest.raises(DeadlinePassed, match="in the stylize queue"):
            await service.stylize(Call(ME, now + 0.05), SMALL, look)
        service.pixels.give(service.pixels.capacity)
        assert (await service.stylize(Call(ME, now + PATIENCE_SECONDS), SMALL, look)).painted.tiles == 1
        assert service.calls.under_way == 0
        assert len(gate.runs) == 1


async def test_a_caller_that_leaves_costs_a_tile_at_most(settings: dict[str, Any], gate: Gate) -> None:
    import asyncio

    with server_thread(**settings) as server:
        async with AsyncClient(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
            gate.shut()
            call = asyncio.create_task(client.stylize(LARGE, "ember"))
            await asyncio.to_thread(until, lambda: len(gate.runs) == 1)
            call.cancel()
            await asyncio.to_thread(until, lambda: service_of(server).calls.under_way == 0)
            gate.open()
            assert (await client.stylize(SMALL, "ember")).width == 64
            assert len(gate.runs) == 2
            assert service_of(server).pixels.under_way == 0


def test_pixels_under_way_are_bounded(settings: dict[str, Any], gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counted(data: bytes, *rest: Any, **options: Any) -> Any:
        decoded.append(len(data))
        return decode_layers(data, *rest, **options)

    monkeypatch.setattr("oneglance_server.engines.painting.decode_layers", counted)
    with (
        server_thread(**settings, stylize_inflight_pixels=450_000) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        gate.shut()
        first = pool.submit(client.stylize, LARGE, "ember")
        until(lambda: len(gate.runs) == 1)
        small = pool.submit(client.stylize, SMALL, "ember")
        until(lambda: service_of(server).steps_waiting == 1)  # there is room for it
        second = pool.submit(client.stylize, LARGE, "moss")
        until(lambda: service_of(server).pixels.waiting)
        assert decoded == [len(LARGE)]
        gate.open()
        assert [call.result(PATIENCE_SECONDS).tiles for call in (first, small, second)] == [TILES, 1, TILES]
        assert sorted(decoded) == sorted([len(LARGE), len(LARGE), len(SMALL)])
        assert service_of(server).pixels.under_way == 0


def test_every_tile_is_measured(settings: dict[str, Any]) -> None:
    with server_thread(**settings) as server, Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        assert client.stylize(LARGE, "ember").tiles == TILES
        sample = server._metrics.registry.get_sample_value
        steps = TILES + 3  # decoding, the small copy, the tiles, encoding
        assert sample("oneglance_stage_seconds_count", {"stage": "stylize"}) == steps
        assert sample("oneglance_batch_rows_sum", {"stage": "stylize"}) == steps
        assert sample("oneglance_queue_rows", {"stage": "stylize"}) == 0


def test_want_of_memory_is_told_as_such(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with server_thread(**settings) as server, Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:

        def no_room(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr(Stylizer, "run", no_room)
        with pytest.raises(OneglanceError) as caught:
            client.stylize(SMALL, "ember")
        assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        monkeypatch.undo()
        assert client.stylize(SMALL, "ember").width == 64


@pytest.mark.parametrize("spoil", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_a_bug_and_no_picture(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, spoil: float
) -> None:
    with server_thread(**settings) as server, Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        run = OnnxSession.run

        def spoilt(self: OnnxSession, outputs: Any, inputs: Any) -> Any:
            stylized, used = run(self, outputs, inputs)
            return [np.where([True, False, False], np.float32(spoil), stylized), used]

        monkeypatch.setattr(OnnxSession, "run", spoilt)
        with pytest.raises(OneglanceError) as caught:
            client.stylize(SMALL, "ember")
        assert (caught.value.code.name, caught.value.reason) == ("INTERNAL", "INTERNAL")


def test_stylization_runs_at_low_priority_and_nothing_else_does(settings: dict[str, Any], gate: Gate) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if before >= NICENESS:
        pytest.skip("these tests run at low priority themselves")
    with server_thread(**settings) as server, Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        client.stylize(SMALL, "ember")
        assert {niceness for _, niceness in gate.runs} == {NICENESS}
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_where_priorities_may_not_be_set_it_serves_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    with ThreadPoolExecutor(1, initializer=yield_to_others) as pool:
        assert pool.submit(lambda: 1).result() == 1


async def test_a_picture_that_would_be_late_is_refused_at_once(settings: dict[str, Any], gate: Gate) -> None:
    import asyncio

    from oneglance_server.errors import Overloaded
    from oneglance_server.service.styles import AskedStyle, StyleSettings
    from oneglance_server.settings import Settings

    async with Server(Settings(listen="127.0.0.1:0", **settings)) as server:
        service, look = service_of(server), StyleSettings((AskedStyle("ember", 0),))
        await service.stylize(Call(ME), SMALL, look)  # now it is known how long a step takes
        pace = service._pictures.batcher.pace
        soon = Call(ME, asyncio.get_running_loop().time() + PATIENCE_SECONDS)
        with service._pictures._counted(round(2 * PATIENCE_SECONDS / pace), Call(ME)):  # as if so much were before it
            with pytest.raises(Overloaded, match="before its deadline") as caught:
                await service.stylize(soon, SMALL, look)
            assert int(caught.value.metadata["retry_after_ms"]) > 1000 * PATIENCE_SECONDS
            assert (await service.stylize(Call(ME), SMALL, look)).painted.tiles == 1
        assert (await service.stylize(soon, SMALL, look)).painted.tiles == 1
        assert service._pictures._steps_ahead == 0
