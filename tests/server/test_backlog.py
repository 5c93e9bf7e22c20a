"""The wait of calls that gRPC holds is known, though nothing tells how many they are."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from oneglance.v1.model_pb2 import ListModelsRequest
from oneglance.v1.model_pb2_grpc import ModelServiceStub
from oneglance.v1.stylization_pb2_grpc import StylizationServiceStub
from oneglance.v1.subject_pb2_grpc import SubjectServiceStub
from oneglance_server.app import Server
from oneglance_server.backlog import Backlog
from oneglance_server.settings import Settings
from tests.waiting import reached

SLOW, QUICK = "/tests.Calls/Slow", "/tests.Calls/Quick"


class Looking(grpc.aio.ServerInterceptor):
    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self.own = 0
        self.under_way = 64

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if self.backlog.seen(handler_call_details, True, self.under_way):
            self.own += 1
            return None
        return await continuation(handler_call_details)


@asynccontextmanager
async def watched_server() -> AsyncIterator[tuple[Looking, str]]:
    """A server whose Slow calls keep the event loop for 20 ms each, and its address."""

    async def slow(request: bytes, context: object) -> bytes:
        time.sleep(0.02)
        return request

    async def quick(request: bytes, context: object) -> bytes:
        return request

    looking = Looking(Backlog())
    server = grpc.aio.server(interceptors=[looking])
    handlers: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(do) for name, do in (("Slow", slow), ("Quick", quick))
    }
    server.add_registered_method_handlers("tests.Calls", handlers)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Calls", handlers),))
    looking.backlog.listen(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    watching = asyncio.create_task(looking.backlog.watch())
    try:
        yield looking, f"127.0.0.1:{port}"
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await server.stop(None)


def calling(channel: grpc.aio.Channel, method: str) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
    return channel.unary_unary(method)


async def test_many_calls_of_a_method_wait_and_others_do_not() -> None:
    async with watched_server() as (looking, address), grpc.aio.insecure_channel(address) as channel:
        backlog = looking.backlog
        calls = [calling(channel, SLOW)(b"") for _ in range(100)]  # for 2 s
        await reached(lambda: backlog.too_long(SLOW, 64))
        assert backlog.seconds(SLOW) > 0.1
        assert not backlog.too_long(SLOW, 0)  # nothing under way: there is time for one more
        await reached(lambda: backlog.too_long(SLOW, 48))  # the longer they wait, the fewer
        assert backlog.seconds(QUICK) == 0.0
        assert not backlog.too_long(QUICK, 64)
        await calling(channel, QUICK)(b"")
        await asyncio.gather(*calls)
        await reached(lambda: not backlog.too_long(SLOW, 64))
        assert looking.own


async def test_while_few_are_under_way_none_is_timed() -> None:
    async with watched_server() as (looking, address), grpc.aio.insecure_channel(address) as channel:
        looking.under_way = 2
        await asyncio.gather(*[calling(channel, SLOW)(b"") for _ in range(20)])
        assert not looking.own


async def test_nobody_elses_call_is_taken_for_our_own() -> None:
    async with watched_server() as (looking, address), grpc.aio.insecure_channel(address) as channel:
        calls = [calling(channel, SLOW)(b"x", metadata=(("oneglance-backlog", "a guess"),)) for _ in range(100)]
        await reached(lambda: looking.own)
        assert await asyncio.gather(*calls) == [b"x"] * 100


async def test_a_call_of_ours_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backlog, "listen", lambda self, server: setattr(self, "_listening", True))  # it doesn't
    answer, given_up = Backlog._answer, 0

    async def counted(self: Backlog, call: Any, sent: float) -> None:
        nonlocal given_up
        await answer(self, call, sent)
        given_up += 1

    monkeypatch.setattr(Backlog, "_answer", counted)
    async with watched_server() as (looking, address), grpc.aio.insecure_channel(address) as channel:

        async def go_on() -> None:
            while True:
                await calling(channel, QUICK)(b"")

        calls = asyncio.create_task(go_on())
        await reached(lambda: given_up == 3)  # each after the one before
        assert not looking.own
        calls.cancel()


async def test_nothing_else_comes_through_its_socket(models: tuple[Path, Path], tmp_path: Path) -> None:
    settings = Settings(listen="127.0.0.1:0", data_dir=tmp_path, models=models)
    async with Server(settings) as server, grpc.aio.insecure_channel(server._backlog._socket) as channel:
        for call in (
            ModelServiceStub(channel).ListModels(ListModelsRequest()),
            SubjectServiceStub(channel).BulkEnroll(iter(())),
            StylizationServiceStub(channel).StylizeStream(iter(())),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await (call.read() if hasattr(call, "read") else call)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_server_without_such_sockets_times_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda *_: "x" * 200)  # no socket has so long a name
    async with watched_server() as (looking, address), grpc.aio.insecure_channel(address) as channel:
        await asyncio.gather(*[calling(channel, QUICK)(b"") for _ in range(20)])
        assert not looking.own


async def test_short_deadlines_of_some_do_not_refuse_others() -> None:
    backlog = Backlog()
    backlog._method = SLOW
    for _ in range(1000):
        backlog.will_wait(SLOW, 0.001)
    backlog._last = 0.02  # a busy machine, but no overload
    assert not backlog.too_long(SLOW, 10_000)
    backlog._last = 0.06
    assert backlog.too_long(SLOW, 64)
    assert not backlog.too_long(SLOW, 15)  # enough are under way, however short their deadlines
    for _ in range(1000):
        backlog.will_wait(SLOW, None)
    assert not backlog.too_long(SLOW, 64)


async def test_calls_that_are_never_refused_are_not_timed() -> None:
    async with watched_server() as (looking, address), grpc.aio.insecure_channel(address) as channel:
        seen = looking.backlog.seen
        looking.backlog.seen = lambda call, ours, under_way: seen(call, False, under_way)  # type: ignore[method-assign]
        await asyncio.gather(*[calling(channel, SLOW)(b"") for _ in range(20)])
        assert not looking.own


async def test_a_call_is_too_much_when_those_under_way_take_until_its_deadline() -> None:
    backlog = Backlog()
    backlog._method = SLOW
    assert not backlog.too_long(SLOW, 100, 0.1)  # nobody was late
    for _ in range(1000):
        backlog.late(SLOW, 1.0)
    assert backlog.too_long(SLOW, 100, 0.1)
    assert not backlog.too_long(SLOW, 100, 10.0)  # there is time for this one
    assert not backlog.too_long(SLOW, 5, 0.1)
    assert not backlog.too_long(QUICK, 100, 0.1)  # whose calls don't wait
    for _ in range(1000):
        backlog.answered(SLOW)
    assert not backlog.too_long(SLOW, 100, 0.1)  # they are done in time again


async def test_deadlines_that_nobody_could_keep_change_nothing() -> None:
    backlog = Backlog()
    backlog._method = SLOW
    for _ in range(1000):
        backlog.late(SLOW, 0.02)
    assert not backlog.too_long(SLOW, 100, 0.1)


async def test_a_few_patient_callers_do_not_hide_that_the_others_wait_too_long() -> None:
    backlog = Backlog()
    backlog._method = SLOW
    for number in range(1000):
        backlog.will_wait(SLOW, None if number % 20 == 0 else 0.1)
    backlog._last = 0.09
    assert backlog.too_long(SLOW, 64)
