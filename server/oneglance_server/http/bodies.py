"""Bodies of requests: charged as they come, and no more of them than a request may have."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from oneglance_server.byte_budget import ByteBudget
from oneglance_server.calls import Call
from oneglance_server.errors import DeadlinePassed, InvalidRequest
from oneglance_server.http.protocols import COMPRESSED, HEADER
from oneglance_server.servicers.receiving import Parser

_SILENT_SECONDS = 20.0
_SLOW_SECONDS, _LEAST_BYTES_PER_SECOND = 30.0, 64 << 10  # in each such time so many on average
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CODINGS = ("", "identity", "gzip")  # Parser unpacks gzip, and sees by itself what it is
_CODING_HEADERS = ("content-encoding", "connect-content-encoding", "grpc-encoding")


async def begin(request: web.BaseRequest) -> None:
    """Raises InvalidRequest for a body that is packed in a way that isn't known; tell the caller to send it."""
    for name in _CODING_HEADERS:
        if request.headers.get(name, "").strip().lower() not in _CODINGS:
            raise InvalidRequest.field(name, "is none of identity and gzip", reason="ENCODING_UNKNOWN")
    if request.headers.get("expect", "").lower() == "100-continue":
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0


async def whole(request: web.BaseRequest, parser: Parser, budget: ByteBudget, connection: str, frame: int) -> bytes:
    """The body, of so many bytes around the message as ``frame`` says. It is charged until this returns.

    Raises InvalidRequest, Overloaded, DeadlinePassed.
    """
    declared = request.content_length
    if declared is not None:
        parser.check_size(declared - frame)
    await begin(request)
    size, parts, arriving = 0, list[bytes](), _Arriving(request)
    try:
        while part := await arriving.part():
            budget.take(connection, len(part))
            size += len(part)
            parser.check_size(size - frame)
            parts.append(part)
        return b"".join(parts)
    finally:
        budget.give(connection, size)


async def envelopes(request: web.BaseRequest, parser: Parser, budget: ByteBudget, call: Call) -> AsyncIterator[bytes]:
    """The messages of a stream, each read when there is room for it. Raises InvalidRequest, DeadlinePassed."""
    await begin(request)
    while True:
        try:
            header = await request.content.readexactly(HEADER.size)
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return
            raise _broken() from error
        except (web.RequestPayloadError, OSError) as error:
            raise _broken() from error
        flags, size = HEADER.unpack(header)
        if flags not in (0, COMPRESSED):
            raise InvalidRequest("an envelope has flags that aren't known", reason="MALFORMED")
        parser.check_size(size)
        parts, left, arriving = list[bytes](), size, _Arriving(request)
        try:
            while left:
                part = await arriving.part(left)
                if not part:
                    raise _broken()
                await budget.acquire(call, len(part))
                left -= len(part)
                parts.append(part)
        finally:
            budget.give(call.caller.connection, size - left)
        data = b"".join(parts)
        del parts
        yield data


class _Arriving:
    """A body, or an envelope of one, as it comes: not too slowly, whatever came before."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._content = request.content
        self._clock = asyncio.get_running_loop().time
        self._seconds, self._bytes = 0.0, 0  # lately

    async def part(self, most: int = -1) -> bytes:
        """The next bytes; none at the end. Raises DeadlinePassed, InvalidRequest."""
        begun = self._clock()
        try:
            async with asyncio.timeout(_SILENT_SECONDS):
                part = await (self._content.readany() if most < 0 else self._content.read(most))
        except TimeoutError:
            raise _too_slow() from None
        except (web.RequestPayloadError, OSError) as error:
            raise _broken() from error
        self._bytes += len(part)
        self._seconds += self._clock() - begun
        if self._seconds > _SLOW_SECONDS:
            if part and self._bytes < self._seconds * _LEAST_BYTES_PER_SECOND:
                raise _too_slow()
            self._seconds, self._bytes = 0.0, 0
        return part


def only(body: bytes) -> bytes:
    """The message of a body that is one envelope. Raises InvalidRequest."""
    if len(body) >= HEADER.size:
        flags, size = HEADER.unpack_from(body)
        if flags in (0, COMPRESSED) and size == len(body) - HEADER.size:
            return body[HEADER.size :]
    raise InvalidRequest("the body is not one message in an envelope", reason="MALFORMED")


def _broken() -> InvalidRequest:
    return InvalidRequest("the body ends before its end, or isn't sent as HTTP says", reason="MALFORMED")


def _too_slow() -> DeadlinePassed:
    return DeadlinePassed("the body comes too slowly")
