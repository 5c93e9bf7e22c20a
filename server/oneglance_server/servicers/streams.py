"""Bidirectional streams: many items under way, answers in the order of the requests."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import TypeVar

import structlog

from oneglance.v1.error_pb2 import Error
from oneglance_server.servicers.status import status_of, to_error

Request = TypeVar("Request")
Response = TypeVar("Response")
log = structlog.get_logger()


async def in_order(
    requests: AsyncIterable[Request], handle: Callable[[Request], Awaitable[Response]], window: int
) -> AsyncIterator[tuple[int, Response | Error]]:
    """(position, outcome) for each request, at most ``window`` of them under way.

    A request that fails has an Error for its outcome; the others go on. Reading stops while the window is full, so
    that a fast sender is held back by flow control. When the consumer goes away, what is under way is cancelled.
    """
    underway: asyncio.Queue[asyncio.Task[Response | Error] | None] = asyncio.Queue(maxsize=window)

    async def outcome(request: Request) -> Response | Error:
        try:
            return await handle(request)
        except Exception as error:
            if status_of(error) is None:
                log.error("stream item failed", exc_info=error)
            return to_error(error)

    async def read() -> None:
        try:
            async for request in requests:
                await underway.put(asyncio.create_task(outcome(request)))
        finally:
            await underway.put(None)

    reader = asyncio.create_task(read())
    try:
        index = 0
        while (task := await underway.get()) is not None:
            yield index, await task
            index += 1
        await reader  # raises what reading raised
    finally:
        reader.cancel()
        while not underway.empty():
            if (task := underway.get_nowait()) is not None:
                task.cancel()
