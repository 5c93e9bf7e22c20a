"""From a request of HTTP to the handler that gRPC calls, and back."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from oneglance_server.byte_budget import ByteBudget
from oneglance_server.errors import DeadlinePassed, ServiceError
from oneglance_server.http.bodies import envelopes, only, whole
from oneglance_server.http.context import Aborted, HttpContext
from oneglance_server.http.protocols import HEADER, Protocol, error_json, http_status, protocols, retry_after_seconds
from oneglance_server.servicers.interceptor import CallInterceptor
from oneglance_server.servicers.json_requests import JsonParser, json_text
from oneglance_server.servicers.receiving import Parser
from oneglance_server.servicers.requests import call_of
from oneglance_server.servicers.status import to_error, trailers

_PARSERS: tuple[tuple[bool, type[Parser]], ...] = ((True, JsonParser), (False, Parser))  # by whether it is JSON
_END_SECONDS = 1.0  # to tell somebody who may not read that the call is over


class _Method:
    """One method: its handlers by whether requests are JSON, and the protocols that it speaks."""

    def __init__(self, path: str, handler: Any, interceptor: CallInterceptor, max_message_bytes: int) -> None:
        self.path = path
        descriptor: MethodDescriptor = descriptor_pool.Default().FindMethodByName(path[1:].replace("/", "."))
        self.streams = handler.request_streaming or handler.response_streaming
        self.protocols = protocols(stream=self.streams)
        self.answer = GetMessageClass(descriptor.output_type)
        self.parsers = {json: kind(descriptor, max_message_bytes) for json, kind in _PARSERS}
        self.handlers = {json: interceptor.handler(path, handler, parser) for json, parser in self.parsers.items()}


class Calls:
    """Carries out calls that come over HTTP.

    Args:
        methods: gRPC's handlers by path, as ``/oneglance.v1.GalleryService/GetGallery``.
        call_bytes, stream_bytes: charged with bodies while they are read.
        idle_seconds: how long a caller may leave an answer unread.
    """

    def __init__(
        self,
        methods: Mapping[str, Any],
        interceptor: CallInterceptor,
        call_bytes: ByteBudget,
        stream_bytes: ByteBudget,
        *,
        max_message_bytes: int,
        idle_seconds: float,
    ) -> None:
        self.interceptor = interceptor
        self.call_bytes = call_bytes
        self.stream_bytes = stream_bytes
        self.idle_seconds = idle_seconds
        self._methods = {
            path: _Method(path, handler, interceptor, max_message_bytes) for path, handler in methods.items()
        }

    async def answer(self, request: web.BaseRequest, headers: Mapping[str, str]) -> web.StreamResponse:
        """``headers``: of every answer."""
        method = self._methods.get(request.path)
        if method is None:
            return _told(404, "unimplemented", "there is no such method; /openapi.json lists them", headers)
        if request.method != "POST":
            return _told(405, "unimplemented", "methods are called by POST", {**headers, "Allow": "POST"})
        protocol = method.protocols.get(_content_type(request))
        if protocol is None:
            known = ", ".join(method.protocols)
            return _told(
                415, "invalid_argument", f"the content type is none of {known}", {**headers, "Accept-Post": known}
            )
        return await _Call(self, request, method, protocol, headers).run()


class _Call:
    """One call."""

    def __init__(
        self, calls: Calls, request: web.BaseRequest, method: _Method, protocol: Protocol, headers: Mapping[str, str]
    ) -> None:
        self._calls = calls
        self._request = request
        self._method = method
        self._protocol = protocol
        self._headers = headers
        self._response: web.StreamResponse | None = None

    async def run(self) -> web.StreamResponse:
        try:
            context = HttpContext(self._request, self._send)
        except ServiceError as error:
            return await self._failed(_aborted(error))
        if context.time_remaining() == 0.0:
            return await self._failed(_aborted(DeadlinePassed("the deadline passed")))
        try:
            async with asyncio.timeout_at(context.deadline):
                try:
                    answer = await self._result(context)
                    body = None if answer is None else await self._spoken(answer)
                except Aborted as aborted:
                    return await self._failed(aborted)
                except Exception as error:
                    return await self._failed(_aborted(error))
            return await self._done(body)
        except TimeoutError:
            return await self._failed(_aborted(DeadlinePassed("the deadline passed")))
        finally:
            context.done()

    async def _result(self, context: HttpContext) -> bytes | None:
        """The answer of a single one; None of a stream, whose answers are sent. Raises Aborted."""
        calls, method, json = self._calls, self._method, self._protocol.json
        parser, connection = method.parsers[json], context.peer()
        handler: Any = method.handlers[json]
        frame = HEADER.size if self._protocol.envelopes else 0
        grpc_context: Any = context
        try:
            calls.interceptor.enter(method.path, grpc_context)
            if not method.streams:
                with calls.interceptor.under_way.ended_by_drain():
                    body = await whole(self._request, parser, calls.call_bytes, connection, frame)
                data = only(body) if frame else body
        except Exception as error:
            calls.interceptor.refused(method.path, error)
            raise _aborted(error) from error
        if not method.streams:
            answer: bytes = await handler.unary_unary(data, context)
            return answer
        messages = envelopes(self._request, parser, calls.stream_bytes, call_of(grpc_context, patient=True))
        if handler.stream_unary is not None:
            await context.write(await handler.stream_unary(messages, context))
        else:
            await handler.stream_stream(messages, context)
        return None

    async def _send(self, answer: bytes) -> None:
        """One answer of a stream."""
        message = await self._spoken(answer)
        try:
            await (await self._begun()).write(self._protocol.envelope(message))
        except OSError:  # the caller left
            raise asyncio.CancelledError from None

    async def _spoken(self, answer: bytes) -> bytes:
        return await json_text(self._method.answer(), answer) if self._protocol.json else answer

    async def _begun(self) -> web.StreamResponse:
        """The answer, with its head sent."""
        if self._response is None:
            self._response = web.StreamResponse(headers={**self._headers, "Content-Type": self._protocol.content_type})
            await self._response.prepare(self._request)
        return self._response

    async def _done(self, body: bytes | None) -> web.StreamResponse:
        """``body``: the answer of a single call."""
        if not self._protocol.envelopes:
            self._response = web.Response(body=body, headers=self._headers, content_type=self._protocol.content_type)
            return await self._sent(b"", self._calls.idle_seconds)
        answer = b"" if body is None else self._protocol.envelope(body)
        return await self._sent(answer + self._protocol.end(None), self._calls.idle_seconds)

    async def _failed(self, aborted: Aborted) -> web.StreamResponse:
        if not self._protocol.envelopes:
            return _error(aborted, self._headers)
        return await self._sent(self._protocol.end(aborted), _END_SECONDS)

    async def _sent(self, last: bytes, seconds: float) -> web.StreamResponse:
        """The whole answer, once the caller has all but what fits into buffers; cut off when that takes too long."""
        response = await self._begun()
        try:
            async with asyncio.timeout(seconds):
                await response.prepare(self._request)
                await response.write_eof(last)
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
        except OSError:
            pass  # the caller left
        return response


def refused(error: Exception, headers: Mapping[str, str]) -> web.Response:
    """An answer to a request that is not looked at."""
    return _error(_aborted(error), headers)


def _aborted(error: Exception) -> Aborted:
    message = to_error(error)
    return Aborted(message, trailers(message))


def _error(aborted: Aborted, headers: Mapping[str, str]) -> web.Response:
    wait = retry_after_seconds(aborted.error)
    more = {} if wait is None else {"Retry-After": wait}
    return web.json_response(error_json(aborted), status=http_status(aborted.error), headers={**headers, **more})


def _told(status: int, code: str, message: str, headers: Mapping[str, str]) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status, headers=headers)


def _content_type(request: web.BaseRequest) -> str:
    """Without a charset: texts are UTF-8."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
