"""Bidirectional streams: many items under way, answers in the order of the requests."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc
import structlog
from google.protobuf.message import Message

from oneglance.v1.error_pb2 import Error
from oneglance_server.servicers.budget import Budget
from oneglance_server.servicers.status import to_error

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")
log = structlog.get_logger()


async def in_order(
    requests: AsyncIterable[Request], handle: Callable[[Request], Awaitable[Response]], window: int, budget: Budget
) -> AsyncGenerator[tuple[int, Response | Error], None]:
    """(position, outcome) for each request, at most ``window`` of them under way, and within ``budget``.

    A request that fails has an Error for its outcome; the others go on. Reading stops while there is no room, so
    that a fast sender is held back by flow control. When the consumer goes away, what is under way is cancelled.
    """
    underway: asyncio.Queue[asyncio.Task[Response | Error] | None] = asyncio.Queue()
    room = asyncio.Semaphore(window)

    async def outcome(request: Request, size: int) -> Response | Error:
        try:
            return await handle(request)
        except Exception as error:
            return error_of(error)
        finally:
            budget.give(size)

    async def read() -> None:
        try:
            await room.acquire()
            async for request in requests:
                size = request.ByteSize()
                await budget.wait(size)
                underway.put_nowait(asyncio.create_task(outcome(request, size)))
                del request  # while the next one is awaited
                await room.acquire()
        finally:
            underway.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        index = 0
        while (task := await underway.get()) is not None:
            result = await task
            room.release()
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


class Turns:
    """Lets items that concern the same thing take their turns, in the order in which they asked."""

    def __init__(self) -> None:
        self._last: dict[Hashable, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        before = self._last.get(key)
        mine = self._last[key] = asyncio.get_running_loop().create_future()
        try:
            if before is not None:
                await asyncio.shield(before)
            yield
        finally:
            # A cancelled item must not let the next one pass those before it.
            if before is None or before.done():
                mine.set_result(None)
            else:
                before.add_done_callback(lambda _: mine.set_result(None))
            if self._last[key] is mine:
                del self._last[key]
