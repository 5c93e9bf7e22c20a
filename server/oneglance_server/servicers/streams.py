"""Bidirectional streams: many items under way, answers in the order of the requests."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc
import structlog

from oneglance.v1.error_pb2 import Error
from oneglance_server.admission import Limiter
from oneglance_server.calls import Call
from oneglance_server.errors import InvalidRequest
from oneglance_server.servicers.receiving import Received, Request
from oneglance_server.servicers.status import to_error

Response = TypeVar("Response")
log = structlog.get_logger()


async def in_order(
    call: Call,
    requests: AsyncIterable[Received[Request]],
    handle: Callable[[Request], Awaitable[Response]],
    window: int,
) -> AsyncGenerator[tuple[int, Response | Error], None]:
    """(position, outcome) for each request, at most ``window`` of them under way, each charged until it is done.

    A request that fails, or can't be read, has an Error for its outcome; the others go on. Reading stops while there is
    no room, so that a fast sender is held back by flow control. When the consumer goes away, what is under way is
    cancelled. ``call`` is a patient one.
    """
    underway: asyncio.Queue[asyncio.Task[Response | Error] | None] = asyncio.Queue()
    items = Limiter("stream", window, unit="items")

    async def outcome(request: Request | InvalidRequest) -> Response | Error:
        try:
            if isinstance(request, InvalidRequest):
                raise request
            return await handle(request)
        except Exception as error:
            return error_of(error)

    async def read() -> None:
        try:
            await items.acquire(call)
            async for received in requests:
                request: Request | InvalidRequest
                try:
                    request = await received.message()  # one after another: items of one subject keep their order
                except InvalidRequest as error:
                    request = error
                task = asyncio.create_task(outcome(request))
                task.add_done_callback(received.release)  # cancelled before it began, too
                underway.put_nowait(task)
                del received, request  # while the next one is awaited
                await items.acquire(call)
        finally:
            underway.put_nowait(None)

    reader = asyncio.create_task(read())
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
