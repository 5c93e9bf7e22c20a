"""The wait of calls that gRPC holds is known, though nothing tells how many they are."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from oneglance_server.backlog import Backlog
from tests.waiting import reached

SLOW, QUICK = "/tests.Calls/Slow", "/tests.Calls/Quick"


class Looking(grpc.aio.ServerInterceptor):
    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self.own = 0

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if self.backlog.seen(handler_call_details):
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
        looking.backlog.close()


def calling(channel: grpc.aio.Channel, method: str) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
    return channel.unary_unary(method)


async def test_many_calls_of_a_method_wait_and_others_do_not() -> None:
    async with watched_server() as (looking, address), grpc.aio.insecure_channel(address) as channel:
        backlog = looking.backlog
        calls = [calling(channel, SLOW)(b"") for _ in range(100)]  # for 2 s
        await reached(lambda: backlog.too_long(SLOW, 64))
        assert backlog.seconds(SLOW) > 0.25
        assert not backlog.too_long(SLOW, 0)  # nothing under way: there is time for one more
        await reached(lambda: backlog.too_long(SLOW, 48))  # the longer they wait, the fewer
        assert backlog.seconds(QUICK) == 0.0
        assert not backlog.too_long(QUICK, 64)
        await calling(channel, QUICK)(b"")
        await asyncio.gather(*calls)
        await reached(lambda: not backlog.too_long(SLOW, 64))
        assert looking.own


async def test_nobody_elses_call_is_taken_for_our_own() -> None:
    async with watched_server() as (looking, address), grpc.aio.insecure_channel(address) as channel:
        calls = [calling(channel, SLOW)(b"x", metadata=(("oneglance-backlog", "a guess"),)) for _ in range(100)]
        await reached(lambda: looking.own)
        assert await asyncio.gather(*calls) == [b"x"] * 100


async def test_its_socket_is_for_this_user_only_and_goes_with_the_server() -> None:
    async with watched_server() as (looking, _):
        assert looking.backlog._directory is not None
        directory = Path(looking.backlog._directory.name)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "backlog").is_socket()
    assert not directory.exists()


async def test_a_server_without_a_place_for_a_socket_times_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    async with watched_server() as (looking, address), grpc.aio.insecure_channel(address) as channel:
        await asyncio.gather(*[calling(channel, QUICK)(b"") for _ in range(20)])
        assert not looking.own
