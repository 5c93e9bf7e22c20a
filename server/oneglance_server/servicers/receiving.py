"""From the bytes of a request to its message: charged before they are read, counted before they are parsed."""

import asyncio
import functools
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

import numpy as np
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from oneglance_server.byte_budget import ByteBudget
from oneglance_server.calls import Call
from oneglance_server.errors import InvalidRequest, StreamIdle
from oneglance_server.offload import off_loop
from oneglance_server.servicers.message_limits import max_request_bytes, request_shape
from oneglance_server.servicers.wire import malformed

Request = TypeVar("Request", bound=Message)
_PARSED_ON_THE_LOOP = 16 << 10  # bytes: 3 ms at most, whatever is in them
_LIGHT_ON_THE_LOOP = 1 << 20  # bytes of few fields, such as one picture: to copy them takes 0.2 ms
_BYTES_PER_COST = 4096  # take half a millisecond at most
GZIP = b"\x1f\x8b\x08"  # no encoded message begins with a byte of wire type 7
_PARSED_TIMES = 2  # a message takes so many times its bytes
_GZIP_WINDOW = 31  # zlib's word for: with gzip's header, the largest window


class Parser:
    """Makes the request messages of one method.

    gRPC's own decompression is off (see app.py): it would be done before anybody is asked whether there is room.

    limit: the most bytes of a request, unpacked.
    """

    def __init__(self, method: MethodDescriptor, max_message_bytes: int) -> None:
        self._message: Callable[[], Message] = GetMessageClass(method.input_type)
        self._shape = request_shape(method)
        self.limit = max_request_bytes(method, max_message_bytes)

    def size(self, data: bytes) -> int:
        """Bytes to charge for a request: its own, and those it says it has unpacked."""
        return len(data) if data[:3] != GZIP else len(data) + min(unpacked_size(data), self.limit)

    def check_size(self, size: int) -> None:
        """Raises InvalidRequest for more bytes than a request may have."""
        if size > self.limit:
            raise InvalidRequest(
                f"the request has {size} bytes, at most {self.limit}",
                reason="MESSAGE_TOO_LARGE",
                metadata={"bytes": size, "limit": self.limit},
            )

    async def parse(self, data: bytes) -> Any:
        """The message. Raises InvalidRequest: MESSAGE_TOO_LARGE, TOO_MANY, MALFORMED; Overloaded, DeadlinePassed,
        MemoryError."""
        packed = data[:3] == GZIP
        size = unpacked_size(data) if packed else len(data)
        self.check_size(size)
        if size <= _PARSED_ON_THE_LOOP >= len(data):
            return self._parsed(data, packed)
        light = not packed and self._shape.is_light(data)
        if light and size <= _LIGHT_ON_THE_LOOP:
            return self._parsed(data, packed)
        cost = 1 + (size + len(data)) // (_LIGHT_ON_THE_LOOP if light else _BYTES_PER_COST)
        return await off_loop(functools.partial(self._parsed, data, packed), cost=cost, refuse=True)

    def _parsed(self, data: bytes, packed: bool) -> Message:
        if packed:
            data = unpacked(data)
        self._shape.check(data)
        message = self._message()
        try:
            message.MergeFromString(data)
        except DecodeError:  # want of memory is the same to it
            np.empty(_PARSED_TIMES * len(data), np.uint8)
            raise malformed() from None
        return message


def unpacked_size(data: bytes) -> int:
    """What the end of gzip data says."""
    return int.from_bytes(data[-4:], "little")


def unpacked(data: bytes) -> bytes:
    """What gzip data holds: as much as its end says, or it raises InvalidRequest."""
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    size = unpacked_size(data)
    try:
        found = unpacker.decompress(data, size + 1)
    except zlib.error:
        raise malformed() from None
    if len(found) != size or not unpacker.eof or unpacker.unused_data:
        raise malformed()
    return found


class Account:
    """What a stream is charged with. ``under_way``: requests; ``on_idle`` is called when there are none any more."""

    def __init__(self, call: Call, budget: ByteBudget, on_idle: Callable[[], None] = lambda: None) -> None:
        self.under_way = 0
        self._call = call
        self._budget = budget
        self._on_idle = on_idle

    async def charge_request(self, size: int) -> None:
        """Wait until there is room for ``size`` bytes. Raises DeadlinePassed."""
        await self._budget.acquire(self._call, size)
        self.under_way += 1

    def release_request(self, size: int) -> None:
        self._budget.give(self._call.caller.connection, size)
        self.under_way -= 1
        if not self.under_way:
            self._on_idle()

    def charge_answer(self, size: int) -> None:
        """Raises Overloaded: requests wait for room, answers don't, for they would wait for each other."""
        self._budget.take(self._call.caller.connection, size)

    def release_answer(self, size: int) -> None:
        self._budget.give(self._call.caller.connection, size)


class Received(Generic[Request]):
    """One request of a stream: take its ``message``, and ``release`` it when it is dealt with."""

    def __init__(self, size: int, parse: Callable[[], Awaitable[Request]], account: Account) -> None:
        self.size = size
        self.account = account
        self._parse: Callable[[], Awaitable[Request]] | None = parse
        self._charged = False

    async def message(self) -> Request:
        """The message, once there is room for its bytes; only once. Raises InvalidRequest, DeadlinePassed."""
        assert self._parse is not None
        parse, self._parse = self._parse, None
        await self.account.charge_request(self.size)
        self._charged = True
        try:
            return await parse()
        except BaseException:
            self.release()
            raise

    def release(self, _: object = None) -> None:
        """Give its bytes back, if they were charged. May be called twice."""
        if self._charged:
            self._charged = False
            self.account.release_request(self.size)


class Incoming(Generic[Request]):
    """The requests of one stream, made by the task that runs it.

    Raises StreamIdle out of the iteration when for ``idle_seconds`` none comes and none that came is under way: charged
    and not yet released.
    """

    def __init__(
        self, call: Call, data: AsyncIterator[bytes], parser: Parser, budget: ByteBudget, idle_seconds: float
    ) -> None:
        self._data = data
        self._parser = parser
        self._account = Account(call, budget, self._nothing_under_way)
        self._idle_seconds = idle_seconds
        self._waiting: asyncio.Timeout | None = None
        self._task = asyncio.current_task()
        self.ended: Exception | None = None

    def end(self, error: Exception) -> None:
        """End the stream with ``error``, whatever it waits for."""
        if self.ended is None and self._task is not None:
            self.ended = error
            self._task.cancel()

    def __aiter__(self) -> AsyncIterator[Received[Request]]:
        return self

    async def __anext__(self) -> Received[Request]:
        try:
            async with asyncio.timeout(None if self._account.under_way else self._idle_seconds) as self._waiting:
                data = await anext(self._data)
        except TimeoutError as error:
            raise StreamIdle(f"nothing came for {self._idle_seconds:g} seconds") from error
        finally:
            self._waiting = None
        size = self._parser.size(data)
        return Received(size, functools.partial(self._parser.parse, data), self._account)

    def _nothing_under_way(self) -> None:
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time() + self._idle_seconds)
