"""Many calls are taken from gRPC at once."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from oneglance_server import accepting
from oneglance_server.accepting import MethodServer, accept_more
from tests.waiting import reached

ECHO = "/tests.Calls/Echo"


class Counting(grpc.aio.ServerInterceptor):
    """Counts the calls that are looked at; lets them on once ``open`` is set."""

    def __init__(self) -> None:
        self.looked_at = 0
        self.open = asyncio.Event()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        self.looked_at += 1
        await self.open.wait()
        return await continuation(handler_call_details)


async def echo(request: bytes, context: Any) -> bytes:
    if request == b"bad":
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad")
    return request


@asynccontextmanager
async def served(
    expired: list[str], pause: Callable[[float | None], float] = lambda left: 0.0
) -> AsyncIterator[tuple[Counting, bool, grpc.aio.Channel]]:
    counting = Counting()
    server = grpc.aio.server(interceptors=[counting])
    ours = MethodServer(server)
    ours.add_registered_method_handlers("tests.Calls", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    more = accept_more(server, ours.methods, counting, expired.append, lambda method, peer, left: pause(left))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield counting, more, channel
    await server.stop(None)


def calling(channel: grpc.aio.Channel) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
    return channel.unary_unary(ECHO)


async def answers(channel: grpc.aio.Channel, counting: Counting) -> list[bytes]:
    calls = [calling(channel)(b"%d" % number) for number in range(200)]
    counting.open.set()
    return await asyncio.gather(*calls)


async def test_every_call_is_served_once_and_refusals_reach_their_callers() -> None:
    async with served([]) as (counting, more, channel):
        assert more  # by the gRPC that is installed
        assert await answers(channel, counting) == [b"%d" % number for number in range(200)]
        assert counting.looked_at == 200
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calling(channel)(b"bad")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stopped_server_asks_for_no_more_calls() -> None:
    def asking() -> bool:
        return any("take" in repr(task.get_coro()) for task in asyncio.all_tasks())

    async with served([]):
        assert asking()
    await reached(lambda: not asking())


async def test_a_caller_who_leaves_ends_its_call() -> None:
    async with served([]) as (counting, _, channel):
        call = calling(channel)(b"")
        await reached(lambda: counting.looked_at == 1)
        call.cancel()
        await reached(lambda: not any("HandleExceptions" in task.get_name() for task in asyncio.all_tasks()))


async def test_a_call_whose_deadline_has_passed_is_dropped_unread() -> None:
    expired: list[str] = []
    async with served(expired) as (counting, _, channel):
        counting.open.set()
        await calling(channel)(b"")
        while not expired:
            calls = [calling(channel)(b"", timeout=0.1) for _ in range(100)]
            for _ in range(5):
                await asyncio.sleep(0)  # they are sent
            time.sleep(0.3)  # and nobody looks at them
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert set(expired) == {ECHO}


async def test_a_call_that_has_to_wait_is_looked_at_later_or_not_at_all() -> None:
    expired: list[str] = []
    seen: list[float | None] = []

    def pause(left: float | None) -> float:
        seen.append(left)
        return 0.05 if left is None else 0.2

    async with served(expired, pause) as (counting, _, channel):
        counting.open.set()
        await calling(channel)(b"")  # gRPC's own loop has asked for it
        assert await calling(channel)(b"patient") == b"patient"
        assert (counting.looked_at, len(seen)) == (2, 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calling(channel)(b"hasty", timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        leaving = calling(channel)(b"leaving")
        await reached(lambda: len(seen) == 3)
        leaving.cancel()
        assert await calling(channel)(b"last") == b"last"
        assert expired == [ECHO]
        assert counting.looked_at <= 4  # the one who left may be looked at


@pytest.mark.parametrize("name", [*accepting.NEEDED, "_MethodResolver"])
async def test_another_gRPC_goes_on_by_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    have = {one: getattr(cygrpc, one) for one in (*accepting.NEEDED, "_MethodResolver")}
    del have[name]
    monkeypatch.setattr(accepting, "cygrpc", SimpleNamespace(**have))
    async with served([]) as (counting, more, channel):
        assert not more
        assert len(await answers(channel, counting)) == 200
