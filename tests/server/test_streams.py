"""Streams: order of answers, order of effects, what a consumer that leaves takes with it."""

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BytesValue, Int64Value

from oneglance import AsyncClient, Client, encoding, enroll_request
from oneglance.v1.error_pb2 import Error
from oneglance.v1.subject_pb2 import EnrollRequest
from oneglance_server.app import Server
from oneglance_server.byte_budget import ByteBudget
from oneglance_server.calls import Call, Caller
from oneglance_server.servicers.receiving import Account, Received
from oneglance_server.servicers.streams import KeyedLock, in_order
from tests.pictures import picture, png
from tests.waiting import PATIENCE_SECONDS, loop_turns, reached

STREAM = Call(Caller("me"), patient=True)


async def received(messages: AsyncIterable[Message], budget: ByteBudget | None = None) -> AsyncIterator[Received[Any]]:
    """``messages`` as a stream's requests; the size of each is that of its encoding."""
    account = Account(STREAM, budget or ByteBudget(1 << 20))
    async for message in messages:

        async def parse(message: Message = message) -> Message:
            return message

        yield Received(message.ByteSize(), parse, account)


async def numbers(count: int) -> AsyncIterator[Int64Value]:
    for i in range(count):
        yield Int64Value(value=i)


async def test_answers_keep_the_order_and_the_window_is_kept() -> None:
    running = most = 0

    async def handle(request: Int64Value) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await loop_turns(10 * (7 - request.value % 7))
        running -= 1
        return 10 * request.value

    answers = [pair async for pair in in_order(STREAM, received(numbers(50)), handle, 5)]
    assert answers == [(i, 10 * i) for i in range(50)]
    assert most == 5


async def test_requests_under_way_stay_within_the_bytes_of_all_streams_together() -> None:
    budget = ByteBudget(2000)  # 1000 for one connection
    running = most = 0

    async def photos(count: int) -> AsyncIterator[BytesValue]:
        for _ in range(count):
            yield BytesValue(value=bytes(300))

    async def handle(request: BytesValue) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await loop_turns(100)
        running -= 1
        return len(request.value)

    async def read(count: int) -> list[int | Error]:
        return [answer async for _, answer in in_order(STREAM, received(photos(count), budget), handle, 100)]

    for answers in await asyncio.gather(read(20), read(20)):
        assert answers == [300] * 20
    assert most == 3
    assert budget.under_way == 0


async def test_a_consumer_that_leaves_cancels_what_is_under_way() -> None:
    begun: list[int] = []
    cancelled: list[int] = []

    async def handle(request: Int64Value) -> int:
        begun.append(request.value)
        if request.value:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(request.value)
                raise
        return request.value

    stream = in_order(STREAM, received(numbers(100)), handle, 3)
    assert await anext(stream) == (0, 0)
    await reached(lambda: begun == [0, 1, 2, 3])
    await stream.aclose()
    await reached(lambda: cancelled == [1, 2, 3])
    await loop_turns(10)
    assert begun == [0, 1, 2, 3]


async def test_what_a_consumer_leaves_before_it_began_gives_its_bytes_back() -> None:
    asked = asyncio.Event()

    async def requests() -> AsyncIterator[BytesValue]:
        yield BytesValue(value=b"a")
        await asked.wait()
        for _ in range(3):
            yield BytesValue(value=bytes(300))

    async def handle(request: BytesValue) -> int:
        return len(request.value)

    for turns in range(6):
        asked.clear()
        budget = ByteBudget(4000)
        stream = in_order(STREAM, received(requests(), budget), handle, 10)
        assert await anext(stream) == (0, 1)
        asked.set()
        await loop_turns(turns)
        await stream.aclose()
        await loop_turns(10)
        assert budget.under_way == 0


async def test_large_answers_are_charged_until_they_are_taken() -> None:
    budget = ByteBudget(2000)  # 1000 for one connection

    async def handle(request: Int64Value) -> bytes:
        return bytes(300)

    stream = in_order(STREAM, received(numbers(5), budget), handle, 5)
    assert await anext(stream) == (0, bytes(300))
    await reached(lambda: budget.under_way == 900)  # there is no room for a fourth
    assert [await anext(stream) for _ in range(2)] == [(1, bytes(300)), (2, bytes(300))]
    for index in (3, 4):
        at, refused = await anext(stream)
        assert at == index
        assert isinstance(refused, Error)
        assert refused.reason == "QUEUE_FULL"
    await stream.aclose()
    for taken in range(3):  # a consumer that leaves gives back what it did not take
        stream = in_order(STREAM, received(numbers(5), budget), handle, 5)
        for _ in range(taken + 1):
            await anext(stream)
        await stream.aclose()
        await loop_turns(10)
        assert budget.under_way == 0


async def test_a_keyed_lock_is_given_in_order_even_past_a_cancelled_one() -> None:
    lock = KeyedLock()
    log: list[str] = []
    gone = asyncio.Event()

    async def work(name: str) -> None:
        async with lock.hold("it"):
            await gone.wait()
            log.append(name)

    first, second, third = (asyncio.create_task(work(name)) for name in ("first", "second", "third"))
    await loop_turns(10)  # all have asked
    second.cancel()
    await asyncio.wait([second])
    gone.set()
    await asyncio.gather(first, third)
    assert log == ["first", "third"]
    assert not lock._locks


def test_items_of_one_subject_are_carried_out_in_their_order(client: Client, gallery: str) -> None:
    digest = client.get_gallery(gallery).encoder_digest
    large = png(np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8))
    items = []
    for i in range(4):  # the picture takes far longer than the encoding after it
        items.append(enroll_request(gallery, f"s{i}", [large], on_existing="replace"))
        items.append(enroll_request(gallery, f"s{i}", [encoding(np.eye(64)[i], digest)]))
    answers = list(client.bulk_enroll(iter(items)))
    assert all(answer.HasField("enrolled") for answer in answers)
    for i in range(4):
        assert len(client.get_subject(gallery, f"s{i}").encodings) == 2


async def test_an_async_consumer_that_leaves_stops_the_sending(server: Server, gallery: str) -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[EnrollRequest]:
        try:
            for i in itertools.count():
                yield enroll_request(gallery, f"s{i}", [picture(i)])
        finally:
            ended.set()

    async with AsyncClient(server.address) as client:
        answers = client.bulk_enroll(endless())
        async for _ in answers:
            break
        await answers.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(ended.wait(), PATIENCE_SECONDS)


def test_a_message_over_the_limit_is_refused_by_the_server(server: Server) -> None:
    """The Python client would refuse it itself, so it goes out on a channel without limits."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/oneglance.v1.SubjectService/Enroll")
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(server.settings.max_message_bytes + 1), timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "Received message larger" in (caught.value.details() or "")


async def test_an_empty_message_is_given_back_though_its_connection_was_dropped_meanwhile() -> None:
    budget = ByteBudget(1 << 20)
    account = Account(STREAM, budget)
    await account.charge_request(0)
    for i in range(2000):  # connections that hold nothing are forgotten
        budget.take(f"connection {i}", 1)
        budget.give(f"connection {i}", 1)
    account.release_request(0)
    assert account.under_way == budget.under_way == 0
