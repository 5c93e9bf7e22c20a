"""What every call goes through: status translation, metrics, logging of bugs."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import structlog

from oneglance_server.admission import Limiter
from oneglance_server.metrics import Metrics
from oneglance_server.servicers.status import status_of, to_error, trailers
from oneglance_server.servicers.under_way import CallsUnderWay, draining

log = structlog.get_logger()
PREFIX = "/oneglance."


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Turns exceptions into statuses with details, and measures every call of ours.

    ``request_bytes``: the bytes of unary calls pass it; streams let theirs pass message by message.
    """

    def __init__(self, metrics: Metrics, request_bytes: Limiter) -> None:
        self._request_bytes = request_bytes
        self._metrics = metrics
        self._wrapped: dict[str, Any] = {}
        self.under_way = CallsUnderWay()

    def _end(self, method: str, code: grpc.StatusCode, started: float) -> None:
        self._metrics.call(method, code.name, time.perf_counter() - started)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method: str = handler_call_details.method
        if not method.startswith(PREFIX):
            return await continuation(handler_call_details)
        if self.under_way.refusing:
            return self._refused(method.removeprefix("/oneglance.v1."))
        self.under_way.add()
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(method.removeprefix("/oneglance.v1."), handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> Any:
        if handler.response_streaming:

            async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
                started = time.perf_counter()
                code = grpc.StatusCode.CANCELLED
                try:
                    responses = handler.stream_stream(request, context)
                    while True:
                        try:
                            with self.under_way.ended_by_drain():
                                response = await anext(responses)
                        except StopAsyncIteration:
                            break
                        yield response
                    code = grpc.StatusCode.OK
                except Exception as error:
                    code = self._code(method, error)
                    await _abort(context, code, error)
                finally:
                    self._end(method, code, started)

            return grpc.stream_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )

        streamed = handler.request_streaming
        call = handler.stream_unary if streamed else handler.unary_unary

        def deserialize(data: bytes) -> tuple[Any, int]:
            return handler.request_deserializer(data), len(data)  # to ask a message for its size serializes it

        async def unary(received: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = time.perf_counter()
            code = grpc.StatusCode.CANCELLED
            request, size = (received, 0) if streamed else received
            taken = 0
            try:
                self._request_bytes.take(size)
                taken = size
                with self.under_way.ended_by_drain():
                    response = await call(request, context)
                code = grpc.StatusCode.OK
                return response
            except Exception as error:
                code = self._code(method, error)
                return await _abort(context, code, error)
            finally:
                self._request_bytes.give(taken)
                self._end(method, code, started)

        if streamed:
            return grpc.stream_unary_rpc_method_handler(
                unary, handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(unary, deserialize, handler.response_serializer)

    def _refused(self, method: str) -> Any:
        """Refuses a call of any kind while draining, before its message is there."""

        async def refuse(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            started = time.perf_counter()
            error = draining()
            code = self._code(method, error)
            self._end(method, code, started)
            await _abort(context, code, error)

        return grpc.stream_unary_rpc_method_handler(refuse)

    def _code(self, method: str, error: Exception) -> grpc.StatusCode:
        found = status_of(error)
        code = found[0] if found else grpc.StatusCode.INTERNAL
        if code is grpc.StatusCode.INTERNAL:
            log.error("call failed", method=method, exc_info=error)
        else:
            log.debug("call refused", method=method, code=code.name, error=str(error))
        return code


async def _abort(context: grpc.aio.ServicerContext[Any, Any], code: grpc.StatusCode, error: Exception) -> None:
    message = to_error(error)
    await context.abort(code, message.message, trailers(message))
