"""Bidirectional streams: many items under way, answers in the order of the requests."""

import asyncio
import functools
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc
import structlog
from google.protobuf.message import Message

from oneglance.v1.error_pb2 import Error
from oneglance_server.admission import Limiter
from oneglance_server.calls import Call
from oneglance_server.servicers.status import to_error

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")
log = structlog.get_logger()


async def in_order(
    call: Call,
    requests: AsyncIterable[Request],
    handle: Callable[[Request], Awaitable[Response]],
    window: int,
    request_bytes: Limiter,
) -> AsyncGenerator[tuple[int, Response | Error], None]:
    """(position, outcome) for each request, at most ``window`` of them under way, and within ``request_bytes``.

    A request that fails has an Error for its outcome; the others go on. Reading stops while there is no room, so
    that a fast sender is held back by flow control. When the consumer goes away, what is under way is cancelled.
    ``call`` is a patient one.
    """
    underway: asyncio.Queue[asyncio.Task[Response | Error] | None] = asyncio.Queue()
    items = Limiter("stream", window, unit="items")

    async def outcome(request: Request) -> Response | Error:
        try:
            return await handle(request)
        except Exception as error:
            return error_of(error)

    async def read() -> None:
        try:
            await items.acquire(call)
            async for request in requests:
                size = request.ByteSize()
                await request_bytes.acquire(call, size)
                task = asyncio.create_task(outcome(request))
                task.add_done_callback(functools.partial(_give, request_bytes, size))  # cancelled before it began, too
                underway.put_nowait(task)
                del request  # while the next one is awaited
                await items.acquire(call)
        finally:
            underway.put_nowait(None)

    reader = asyncio.create_task(read())
    reader.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, if nobody awaits it
    try:
        index = 0
        while (task := await underway.get()) is not None:
            result = await task
            items.give()
            yield index, result
            index += 1
        await reader  # raises what reading raised
    finally:
        reader.cancel()
        while not underway.empty():
            if (task := underway.get_nowait()) is not None:
                task.cancel()


def _give(limiter: Limiter, size: int, _: object) -> None:
    limiter.give(size)


def error_of(error: Exception) -> Error:
    """What takes the place of a failed item's result. Bugs are logged."""
    message = to_error(error)
    if message.code == grpc.StatusCode.INTERNAL.value[0]:
        log.error("stream item failed", exc_info=error)
    return message


class KeyedLock:
    """A lock for every key: those who want the same one get it in the order in which they asked."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._users: Counter[Hashable] = Counter()  # who holds or awaits it

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._locks[key], self._users[key]
