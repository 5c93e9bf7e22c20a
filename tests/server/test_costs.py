"""What counts is the cost of the work and not the number of calls, and large calls are done in steps."""

import asyncio
import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from oneglance import AsyncClient, Client, encoding
from oneglance.client.requests import example
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance.v1.identification_pb2_grpc import IdentificationServiceStub
from oneglance_core.pictures import encoder_input
from oneglance_index import LocalGalleries
from oneglance_index.records import Search
from oneglance_server.calls import Call, Caller
from oneglance_server.engines.batcher import Batcher
from oneglance_server.engines.lanes import LARGE_PIXELS, PictureLanes
from oneglance_server.errors import Overloaded
from oneglance_server.limiter import Limiter
from tests.pictures import picture
from tests.running import measured, server_thread
from tests.waiting import PATIENCE_SECONDS, reached, until

A, B = Caller("a"), Caller("b")
SIDE = 2100  # LARGE_PIXELS and some


class Held:
    """Work that waits while it is shut; ``items`` that came to it."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._open = threading.Event()

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        self.items += items
        assert self._open.wait(PATIENCE_SECONDS)
        return list(items)

    def open(self) -> None:
        self._open.set()

    # It observes, too.
    def batch(self, rows: int) -> None: ...
    def queue(self, change: int) -> None: ...


def large_picture() -> bytes:
    """A few kilobytes that take long to decode."""
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "gray").save(buffer, "WEBP")
    return buffer.getvalue()


def another_connection(address: str) -> grpc.Channel:
    # Channels of one process share a connection unless told otherwise, and a connection is a caller.
    return grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


async def test_small_pictures_pass_large_ones() -> None:
    work = Held()
    with ThreadPoolExecutor(2) as executor:

        def run(items: Sequence[str]) -> list[str]:
            return work(items) if "large" in items else list(items)

        lanes = PictureLanes[str, str](
            "test", run, executor, workers=1, max_batch=4, unit=1000, max_wait=1.0, observer=work
        )
        sizes = {"large": LARGE_PIXELS + 1, "small": LARGE_PIXELS}
        slow = asyncio.create_task(lanes.submit_settled(["large"] * 9, [sizes["large"]] * 9, Call(A)))
        await reached(lambda: bool(work.items))
        assert await lanes.submit_settled(["small"], [sizes["small"]], Call(B)) == ["small"]
        mixed = asyncio.create_task(
            lanes.submit_settled(["small", "large", "small"], [sizes["small"], sizes["large"], 0], Call(B))
        )
        assert await lanes.submit_settled([], [], Call(B)) == []
        work.open()
        assert await slow == ["large"] * 9
        assert await mixed == ["small", "large", "small"]


async def test_a_call_that_one_lane_refuses_does_not_wait_for_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Held()

    async def refuse(*_: object, **__: object) -> None:
        await reached(lambda: bool(work.items))
        raise Overloaded("full")

    with ThreadPoolExecutor(2) as executor:
        lanes = PictureLanes[str, str](
            "test", work, executor, workers=1, max_batch=1, unit=1000, max_wait=1.0, observer=work
        )
        monkeypatch.setattr(lanes._large, "submit_settled", refuse)
        call = asyncio.create_task(lanes.submit_settled(["large", "small"], [LARGE_PIXELS + 1, 1], Call(A)))
        await reached(lambda: bool(work.items))
        try:
            await reached(call.done)
            assert isinstance(call.exception(), Overloaded)
        finally:
            work.open()


async def test_scans_of_many_galleries_take_turns_by_caller() -> None:
    """One caller's hundred galleries delay another's single one by a scan."""
    order: list[str] = []
    work = Held()

    def run(items: Sequence[str]) -> list[str]:
        order.extend(items)
        return work(items)

    with ThreadPoolExecutor(1) as executor:
        slots = Limiter("search", 1, unit="scans")
        batchers = [
            Batcher[str, str]("test", run, executor, workers=1, max_cost=8, max_wait=1.0, observer=work, slots=slots)
            for _ in range(101)
        ]
        many = [asyncio.create_task(one.submit("attack", Call(A))) for one in batchers[:100]]
        await reached(lambda: bool(order))
        single = asyncio.create_task(batchers[100].submit("bystander", Call(B)))
        await reached(lambda: slots.waiting == 100)
        work.open()
        assert await single == "bystander"
        assert order.index("bystander") <= 2
        assert await asyncio.gather(*many) == ["attack"] * 100
        await reached(lambda: slots.under_way == 0)


async def test_a_gallery_has_its_turn_when_it_is_the_turn_of_any_who_waits_for_it() -> None:
    order: list[str] = []
    work = Held()

    def run(items: Sequence[str]) -> list[str]:
        order.extend(items)
        return work(items)

    with ThreadPoolExecutor(1) as executor:
        slots = Limiter("search", 1, unit="scans")
        batchers = [
            Batcher[str, str]("test", run, executor, workers=1, max_cost=8, max_wait=1.0, observer=work, slots=slots)
            for _ in range(100)
        ]
        many = [asyncio.create_task(one.submit("greedy", Call(A))) for one in batchers]
        await reached(lambda: bool(order) and slots.waiting == 99)
        single = asyncio.create_task(batchers[99].submit("light", Call(B)))  # where the greedy one was first
        await reached(lambda: slots.waiting == 100)
        work.open()
        assert await single == "light"
        assert order.index("light") <= 3
        assert await asyncio.gather(*many) == ["greedy"] * 100
        await reached(lambda: slots.under_way == slots.waiting == 0)


async def test_who_leaves_while_a_slot_is_asked_for_leaves_nothing() -> None:
    work = Held()
    with ThreadPoolExecutor(1) as executor:
        slots = Limiter("search", 1, unit="scans")
        first, second = (
            Batcher[str, str]("test", work, executor, workers=1, max_cost=8, max_wait=1.0, observer=work, slots=slots)
            for _ in range(2)
        )
        running = asyncio.create_task(first.submit("runs", Call(A)))
        await reached(lambda: work.items == ["runs"])
        leaving = asyncio.create_task(second.submit("leaves", Call(B)))
        await reached(lambda: slots.waiting == 1)
        leaving.cancel()
        await asyncio.wait([leaving])
        work.open()
        assert await running == "runs"
        await reached(lambda: slots.under_way == slots.waiting == 0)
        assert await second.submit("comes", Call(B)) == "comes"
        assert work.items == ["runs", "comes"]


@pytest.fixture
def held_scans(monkeypatch: pytest.MonkeyPatch) -> "HeldScans":
    return HeldScans(monkeypatch)


class HeldScans:
    """Scans wait until they are let through, one by one. ``probes``: of each that began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.probes: list[int] = []
        self._passes = threading.Semaphore(0)
        search_many = LocalGalleries.search_many

        def held(store: LocalGalleries, gallery_id: str, searches: Sequence[Search]) -> Any:
            self.probes.append(sum(len(search.probes) for search in searches))
            assert self._passes.acquire(timeout=PATIENCE_SECONDS)
            return search_many(store, gallery_id, searches)

        monkeypatch.setattr(LocalGalleries, "search_many", held)

    def let_through(self, scans: int) -> None:
        self._passes.release(scans)


def test_a_thousand_probes_are_scanned_in_steps_between_which_others_have_their_turn(
    models: tuple[Path, Path], tmp_path: Path, held_scans: HeldScans
) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        another_connection(server.address) as channel,
        ThreadPoolExecutor(2) as pool,
    ):
        digest = client.create_gallery("g", encoder="pixels", doubt_policy="off").encoder_digest
        client.enroll("g", "it", encoding(np.eye(64)[0] + 1, digest))
        client.enroll("g", "other", encoding(np.eye(64)[1] + 1, digest))
        probes = [encoding(np.eye(64)[i % 2] + 1, digest) for i in range(1000)]
        large = pool.submit(client.identify, "g", *probes)
        until(lambda: len(held_scans.probes) == 1)
        request = IdentifyRequest(gallery_id="g", probes=[example(probes[0])])
        single = IdentificationServiceStub(channel).Identify.future(request, timeout=PATIENCE_SECONDS)
        until(lambda: measured(server, "oneglance_queue_rows", stage="search") == 1000 - held_scans.probes[0] + 1)
        held_scans.let_through(2)
        assert single.result(PATIENCE_SECONDS).results[0].subject_id == "it"
        assert not large.done()
        held_scans.let_through(1000)
        assert [result.subject_id for result in large.result(PATIENCE_SECONDS).results] == ["it", "other"] * 500
        assert max(held_scans.probes) <= 257


async def test_of_a_call_whose_caller_leaves_no_more_than_a_step_is_done(
    models: tuple[Path, Path], tmp_path: Path, held_scans: HeldScans
) -> None:
    with server_thread(data_dir=tmp_path, models=models) as server:
        async with AsyncClient(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
            digest = (await client.create_gallery("g", encoder="pixels", doubt_policy="off")).encoder_digest
            probes = [encoding(np.eye(64)[i % 64] + 1, digest) for i in range(1000)]
            call = asyncio.create_task(client.identify("g", *probes))
            await reached(lambda: len(held_scans.probes) == 1)
            call.cancel()
            await reached(lambda: measured(server, "oneglance_queue_rows", stage="search") == 0)
            held_scans.let_through(1000)
            await client.identify("g", probes[0])
            assert held_scans.probes[1:] == [1]


async def test_of_a_list_of_look_alikes_whose_caller_leaves_no_more_than_a_step_is_done(
    models: tuple[Path, Path], tmp_path: Path, held_scans: HeldScans
) -> None:
    with server_thread(data_dir=tmp_path, models=models) as server:
        async with AsyncClient(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
            digest = (await client.create_gallery("g", encoder="pixels", doubt_policy="off")).encoder_digest
            for i in range(4):
                rows = [encoding(np.eye(64)[j] + np.eye(64)[i], digest) for j in range(64)]
                await client.enroll("g", f"s{i}", *rows)
            await client.set_fusion("g", "nearest")
            call = asyncio.create_task(client.list_look_alikes("g", 0.0))
            await reached(lambda: len(held_scans.probes) == 1)
            assert held_scans.probes[0] < 256
            call.cancel()
            await reached(lambda: measured(server, "oneglance_queue_rows", stage="search") == 0)
            held_scans.let_through(1000)
            await client.identify("g", encoding(np.eye(64)[0], digest))
            assert held_scans.probes[1:] == [1]


def test_a_call_of_large_pictures_holds_nobody_up(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding: list[int] = []
    opened = threading.Event()

    def held(data: bytes, *rest: Any) -> Any:
        if len(data) == len(large):
            decoding.append(1)
            assert opened.wait(PATIENCE_SECONDS)
        return encoder_input(data, *rest)

    large = large_picture()
    monkeypatch.setattr("oneglance_server.service.batch_encoding.encoder_input", held)
    with (
        server_thread(data_dir=tmp_path, models=models, encoder_workers=1) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
        another_connection(server.address) as channel,
    ):
        client.create_gallery("g", encoder="pixels", doubt_policy="off")
        client.enroll("g", "it", picture(1))
        request = IdentifyRequest(gallery_id="g", probes=[example(large)] * 100)
        attack = IdentificationServiceStub(channel).Identify.future(request, timeout=PATIENCE_SECONDS)
        until(lambda: bool(decoding))
        assert client.identify("g", picture(1)).results[0].subject_id == "it"
        attack.cancel()
        until(lambda: measured(server, "oneglance_queue_rows", stage="encode") == 0)
        opened.set()
        assert client.identify("g", picture(1)).results[0].subject_id == "it"
    assert len(decoding) <= 3  # what one step takes
