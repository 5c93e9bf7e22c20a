"""Bidirectional streams: many items under way, answers in the order of the requests."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc
import structlog

from oneglance.v1.error_pb2 import Error
from oneglance_server.calls import Call
from oneglance_server.errors import InvalidRequest
from oneglance_server.limiter import Limiter
from oneglance_server.servicers.receiving import Account, Received, Request
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

    A response of bytes, a large one, is charged until the consumer asks for the next. A request that fails, can't be
    read, or for whose response there is no room, has an Error for its outcome; the others go on. Reading stops while
    there is no room, so that a fast sender is held back by flow control. When the consumer goes away, what is under way
    is cancelled. ``call`` is a patient one.
    """
    underway: asyncio.Queue[_Item[Response] | None] = asyncio.Queue()
    items = Limiter("stream", window, unit="items")

    async def outcome(request: Request | InvalidRequest, answer: _AnswerBytes) -> Response | Error:
        try:
            if isinstance(request, InvalidRequest):
                raise request
            response = await handle(request)
            if isinstance(response, bytes):
                answer.charge(len(response))
            return response
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
                answer = _AnswerBytes(received.account)
                task = asyncio.create_task(outcome(request, answer))
                task.add_done_callback(received.release)  # cancelled before it began, too
                underway.put_nowait((task, answer))
                del received, request  # while the next one is awaited
                await items.acquire(call)
        finally:
            underway.put_nowait(None)

    reader = asyncio.create_task(read())
    reader.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, if nobody awaits it
    answer: _AnswerBytes | None = None
    try:
        index = 0
        while (item := await underway.get()) is not None:
            task, answer = item
            result = await task
            items.give()
            yield index, result
            answer.release()
            del item, task, result  # while the next one is awaited
            index += 1
        await reader  # raises what reading raised
    finally:
        reader.cancel()
        if answer is not None:
            answer.release()
        while not underway.empty():
            if (item := underway.get_nowait()) is not None:
                task, answer = item
                task.cancel()
                task.add_done_callback(answer.release)


class _AnswerBytes:
    """What one answer is charged with, from when it is made until it is sent."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._size = 0

    def charge(self, size: int) -> None:
        """Raises Overloaded."""
        self._account.charge_answer(size)
        self._size = size

    def release(self, _: object = None) -> None:
        size, self._size = self._size, 0
        if size:
            self._account.release_answer(size)


_Item = tuple["asyncio.Task[Response | Error]", _AnswerBytes]


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
