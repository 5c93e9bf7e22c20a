"""What every call goes through: bytes to messages and back, refusals, status translation."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf import descriptor_pool

from oneglance_index import Actor, acting
from oneglance_server.accepting import time_left
from oneglance_server.access.access import Access
from oneglance_server.access.identity import ANONYMOUS, Identity
from oneglance_server.backlog import Backlog, is_own_socket
from oneglance_server.byte_budget import ByteBudget
from oneglance_server.calls import Caller
from oneglance_server.errors import (
    RETRY_AFTER,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    ServiceError,
    StreamIdle,
    Unauthenticated,
)
from oneglance_server.metrics import Metrics
from oneglance_server.offload import Threads, turns
from oneglance_server.service.auditing import Audit
from oneglance_server.servicers.receiving import Incoming, Parser
from oneglance_server.servicers.recent_calls import Arrivals, Lately, UsualTime
from oneglance_server.servicers.requests import call_of, calling
from oneglance_server.servicers.run import Run, Told
from oneglance_server.servicers.status import status_of, to_error, trailers
from oneglance_server.servicers.under_way import CallsUnderWay, draining
from oneglance_server.tracing import traced

log = structlog.get_logger()
PREFIX = "/oneglance."
_OURS = "/oneglance.v1."
_REFLECTION = "/grpc.reflection."
_FOR_ANYBODY = ("AccessService/GetIdentity", "GalleryService/ListGalleries")  # they say that there is nothing
_TOO_LATE = Overloaded(
    "more calls come than can be done; it would not be done before its deadline",
    metadata={"queue": "calls", RETRY_AFTER: 200},
)
_TOO_MANY_CALLS = Overloaded("more calls come than can be looked at", metadata={"queue": "calls", RETRY_AFTER: 200})
_WORKED = (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)  # until it was over
_PAUSE_SECONDS = 0.2
_WAITING_SECONDS = 0.01  # more calls come than can be done at once
_MESSAGE_SECONDS = 0.05
_LATE_SECONDS = 0.005  # gRPC's timer and ours
_CHARGED_BYTES = 64 << 10  # smaller answers are not charged

Context = grpc.aio.ServicerContext[Any, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Turns bytes into messages and exceptions into statuses with details, and measures every call of ours.

    gRPC itself neither parses nor serialises for our methods. A unary handler is given the message, a streaming one an
    Incoming; both return messages, or bytes where they serialised a large answer themselves, off the event loop.

    Args:
        call_bytes, stream_bytes: charged with requests, and with large answers until the caller has them.
        max_message_bytes: the largest request.
        access: who may what; None: everybody everything.
        idle_seconds: how long a stream may neither send nor have anything under way, and how long it may take its peer
            to read an answer.

    Attributes:
        off_loop: does what a call has done off the event loop; see offload.off_loop.
        audit: hears of calls without a good credential; None: there is no audit trail.
    """

    def __init__(
        self,
        metrics: Metrics,
        backlog: Backlog,
        call_bytes: ByteBudget,
        stream_bytes: ByteBudget,
        *,
        max_message_bytes: int,
        idle_seconds: float,
        access: Access | None = None,
    ) -> None:
        self._metrics = metrics
        self._backlog = backlog
        self._call_bytes = call_bytes
        self._stream_bytes = stream_bytes
        self._max_message_bytes = max_message_bytes
        self._idle_seconds = idle_seconds
        self._access = access
        self._streams: dict[Incoming[Any], Identity] = {}
        self._wrapped: dict[str, Any] = {}
        self._refusals: dict[tuple[str, str], Any] = {}
        self._told = Told()
        self._arrivals = Arrivals()
        self._refused = Lately()
        self._singles = 0  # calls under way
        self._entering: set[Any] = set()  # tasks of calls that were let in and have not begun
        self._usual = UsualTime()
        self.under_way = CallsUnderWay()
        self.off_loop: Threads | None = None
        self.audit: Audit | None = None

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method: str = handler_call_details.method
        under_way = self._singles + len(self._entering)
        if self._backlog.seen(handler_call_details, method.startswith(PREFIX) and method in self._wrapped, under_way):
            return None
        if method.startswith(PREFIX):
            if self.under_way.refusing:
                return await self._refusal(method, draining(), continuation, handler_call_details)
            if self._backlog.too_long(method, under_way, time_left.get()):
                return await self._refusal(method, _TOO_MANY_CALLS, continuation, handler_call_details)
            self.under_way.add()
            self._enter()
        return await self._handler(method, continuation, handler_call_details)

    def enter(self, method: str, context: Context) -> None:
        """The current task carries out a call that didn't come by gRPC, whose request is not read yet.

        Raises NotServing, Overloaded, Unauthenticated, PermissionDenied, QuotaExceeded.
        """
        connection, left = context.peer(), context.time_remaining()
        if self.under_way.refusing:
            raise draining()
        crowded = self._backlog.too_long(method, self._singles + len(self._entering), left)
        if crowded and not self._arrivals.few(connection):
            self._arrivals.add(connection)
            self._refused.add()
            raise _TOO_MANY_CALLS
        self.under_way.add()
        self._know(context, method.removeprefix(_OURS))
        self._take_turns(context, patient=False)

    def refused(self, method: str, error: Exception) -> None:
        """Measure a call that was refused between ``enter`` and its handler."""
        run = Run(self._metrics, self._told, method.removeprefix(_OURS))
        run.failed(error)
        run.end()

    def handler(self, method: str, handler: Any, parser: Parser) -> Any:
        """Of calls that ``enter`` let in: from encoded requests, as ``parser`` takes them, to answers in bytes."""
        return self._wrap(method, handler, parser, known=True)

    def _enter(self) -> None:
        """The current task's call was let in. It counts as one under way until it begins, or its message is late."""
        task = asyncio.current_task()
        self._entering.add(task)
        asyncio.get_running_loop().call_later(_MESSAGE_SECONDS, self._entering.discard, task)

    def pause(self, method: str, context: Context, left: float | None) -> float:
        """How long a call has to wait until it is looked at, seconds: 0 unless it would be refused, and so many are
        that there is time for little else. Callers who ask again at once then do so less often."""
        if is_own_socket(context) or self.under_way.refusing:
            return 0.0
        connection = context.peer()
        if not self._refused.many() or self._arrivals.few(connection):
            return 0.0
        under_way = self._singles + len(self._entering)
        if not self._backlog.too_long(method, under_way, left) and not self._too_late(method, connection, left):
            return 0.0
        self._refused.add()
        self._arrivals.add(connection)
        return _PAUSE_SECONDS

    def _too_late(self, method: str, connection: str, left: float | None) -> bool:
        """Whether such calls take longer than its caller will wait, while calls wait."""
        return (
            left is not None
            and self._backlog.seconds(method) > _WAITING_SECONDS
            and left < self._usual.seconds((method, connection))
        )

    def expired(self, method: str) -> None:
        """Count a call that was dropped unread because its deadline had passed."""
        self._metrics.call(method.removeprefix(_OURS), grpc.StatusCode.DEADLINE_EXCEEDED.name, 0.0)

    async def _handler(
        self,
        method: str,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """None for a method that we don't have."""
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            descriptor = descriptor_pool.Default().FindMethodByName(method[1:].replace("/", "."))
            parser = Parser(descriptor, self._max_message_bytes)
            if method.startswith(PREFIX):
                wrapped = self._wrap(method, handler, parser)
            else:
                check = self._check_reflection if method.startswith(_REFLECTION) else _open_to_all
                wrapped = _with_parser(handler, parser, check)
            self._wrapped[method] = wrapped
        return wrapped

    def _check_reflection(self, context: Context) -> None:
        """Raises Unauthenticated, PermissionDenied."""
        self._know(context)
        call_of(context).need("reflect")

    def _wrap(self, full_method: str, handler: Any, parser: Parser, *, known: bool = False) -> Any:
        """``known``: ``enter`` has seen who calls."""
        method = full_method.removeprefix(_OURS)
        if handler.response_streaming:

            async def stream(data: AsyncIterator[bytes], context: Context) -> None:
                await _refuse_own_socket(context)
                run = Run(self._metrics, self._told, method)
                incoming = None
                try:
                    if not known:
                        self._know(context, method)
                    self._take_turns(context, patient=True)
                    incoming = self._incoming(data, context, parser)
                    async with aclosing(handler.stream_stream(incoming, context)) as answers:
                        while (answer := await self._next(answers)) is not None:
                            await self._write(self._encoded(answer), context)
                    run.code = grpc.StatusCode.OK
                except _Unread as error:
                    run.failed(error)
                    await self._abort_unread(run, context, error)
                except Exception as error:
                    run.failed(error)
                    await _abort(context, run.code, error)
                except asyncio.CancelledError:
                    await self._ended(run, context, incoming)
                finally:
                    self._close(incoming)
                    run.end()

            return grpc.stream_stream_rpc_method_handler(traced(stream, method))

        if handler.request_streaming:

            async def collect(data: AsyncIterator[bytes], context: Context) -> bytes:
                await _refuse_own_socket(context)
                run = Run(self._metrics, self._told, method)
                incoming = None
                try:
                    if not known:
                        self._know(context, method)
                    self._take_turns(context, patient=True)
                    incoming = self._incoming(data, context, parser)
                    with self.under_way.ended_by_drain():
                        answer = await handler.stream_unary(incoming, context)
                    encoded = self._charged(self._encoded(answer), context)
                    run.code = grpc.StatusCode.OK
                    return encoded
                except Exception as error:
                    run.failed(error)
                    await _abort(context, run.code, error)
                except asyncio.CancelledError:
                    await self._ended(run, context, incoming)
                    return b""  # it isn't reached
                finally:
                    self._close(incoming)
                    run.end()

            return grpc.stream_unary_rpc_method_handler(traced(collect, method))

        async def unary(data: bytes, context: Context) -> bytes:
            await _refuse_own_socket(context)
            run = Run(self._metrics, self._told, method)
            connection = context.peer()
            charged, remaining = 0, None
            self._singles += 1
            self._entering.discard(asyncio.current_task())
            self._arrivals.add(connection)
            try:
                if not known:
                    self._know(context, method)
                self._take_turns(context, patient=False)
                remaining = context.time_remaining()
                self._backlog.will_wait(full_method, remaining)
                if self._too_late(full_method, connection, remaining):
                    self._refused.add()
                    raise _TOO_LATE
                size = parser.size(data)
                self._call_bytes.take(connection, size)
                charged = size
                request = await parser.parse(data)
                del data
                with self.under_way.ended_by_drain():
                    answer = await handler.unary_unary(request, context)
                encoded = self._charged(self._encoded(answer), context)
                run.code = grpc.StatusCode.OK
                return encoded
            except Exception as error:
                run.failed(error)
                await _abort(context, run.code, error)
            finally:
                if charged:
                    self._call_bytes.give(connection, charged)
                self._singles -= 1
                if run.code is grpc.StatusCode.OK:
                    self._backlog.answered(full_method)
                elif remaining is not None and run.code in _WORKED and run.seconds >= remaining - _LATE_SECONDS:
                    self._backlog.late(full_method, remaining)
                if run.code in _WORKED:
                    self._usual.add((full_method, connection), run.seconds)
                run.end()

        return grpc.unary_unary_rpc_method_handler(traced(unary, method))

    def _know(self, context: Context, method: str = "") -> None:
        """Who makes the current task's call. Raises Unauthenticated, PermissionDenied, QuotaExceeded."""
        if self.audit is not None:
            acting.set(Actor(ANONYMOUS, context.peer()))
        if self._access is not None:
            try:
                identity = self._access.identity(context.invocation_metadata() or (), context.auth_context())
            except Unauthenticated:
                if self.audit is not None:
                    self.audit.refused(Actor(ANONYMOUS, context.peer()), "credential", None)
                raise
            if self.audit is not None:
                acting.set(Actor(identity.name, context.peer()))
            if method not in _FOR_ANYBODY:
                self._access.check_any(identity)
            self._access.spend(identity, "calls", 1)
            calling.set(Caller(context.peer(), identity, self._access))

    def end_without_credential(self) -> None:
        """End the streams whose callers' credentials are good no longer."""
        for incoming, identity in list(self._streams.items()):
            try:
                if not identity.holds():
                    incoming.end(Unauthenticated("the credential is good no longer: revoked, or over"))
            except Exception as error:
                log.error("a credential can't be looked at", identity=identity.name, error=str(error))
                incoming.end(error)

    def _take_turns(self, context: Context, *, patient: bool) -> None:
        """What the current task's call does off the loop, it does when it is its caller's turn."""
        if self.off_loop is not None:
            turns.set((self.off_loop, functools.partial(call_of, context, patient=patient)))

    def _incoming(self, data: AsyncIterator[bytes], context: Context, parser: Parser) -> Incoming[Any]:
        call = call_of(context, patient=True)
        incoming = Incoming[Any](call, data, parser, self._stream_bytes, self._idle_seconds)
        self._streams[incoming] = call.caller.identity
        return incoming

    def _close(self, incoming: Incoming[Any] | None) -> None:
        if incoming is not None:
            self._streams.pop(incoming, None)

    async def _ended(self, run: Run, context: Context, incoming: Incoming[Any] | None) -> None:
        """A stream was cancelled: by its caller, or since it is to end."""
        if incoming is None or incoming.ended is None:
            raise asyncio.CancelledError
        run.failed(incoming.ended)
        await self._abort_unread(run, context, incoming.ended)

    def _encoded(self, answer: Any) -> bytes:
        """Raises InvalidRequest for an answer that can't be sent."""
        encoded: bytes = answer if isinstance(answer, bytes) else answer.SerializeToString()
        if len(encoded) > self._max_message_bytes:
            raise InvalidRequest(
                f"the answer has {len(encoded)} bytes, at most {self._max_message_bytes}: ask for less",
                reason="ANSWER_TOO_LARGE",
                metadata={"bytes": len(encoded), "limit": self._max_message_bytes},
            )
        return encoded

    def _charged(self, answer: bytes, context: Context) -> bytes:
        """Charge a call's large answer until the caller has it. Raises Overloaded."""
        if len(answer) > _CHARGED_BYTES:
            self._call_bytes.take(context.peer(), len(answer))
            _give_when_over(self._call_bytes, len(answer), context)
        return answer

    async def _next(self, answers: AsyncIterator[Any]) -> Any:
        """The next answer; None after the last."""
        with self.under_way.ended_by_drain():
            return await anext(answers, None)

    async def _write(self, answer: bytes, context: Context) -> None:
        """Raises _Unread when the peer doesn't read it."""
        try:
            async with asyncio.timeout(self._idle_seconds):
                await context.write(answer)
        except TimeoutError as error:
            # gRPC keeps it until the peer reads it or leaves.
            self._stream_bytes.charge_anyway(context.peer(), len(answer))
            _give_when_over(self._stream_bytes, len(answer), context)
            raise _Unread(f"an answer was not read for {self._idle_seconds:g} seconds") from error

    async def _abort_unread(self, run: Run, context: Context, error: Exception) -> None:
        """End a call whose peer may not even read that it is over: until it does or leaves, only gRPC knows of it."""
        run.end()
        self.under_way.leave()
        with suppress(grpc.aio.InternalError):  # the peer left
            await _abort(context, run.code, error)

    async def _refusal(
        self,
        method: str,
        error: ServiceError,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Refuses a call of any kind before its message is there; None for a method that we don't have.

        When there is only too much to do, single calls of connections that call seldom are let in nevertheless.
        """
        known = self._refusals.get((method, error.reason))
        if known is not None:
            return known
        wrapped = await self._handler(method, continuation, handler_call_details)
        if wrapped is None:
            return None
        single = None if error is not _TOO_MANY_CALLS else wrapped.unary_unary
        message = to_error(error)
        details = trailers(message)

        async def refuse(data: AsyncIterator[bytes], context: Context) -> bytes:
            connection = context.peer()
            if single is not None and self._arrivals.few(connection):
                self.under_way.add()
                async for request in data:
                    answer: bytes = await single(request, context)
                    return answer
            self._arrivals.add(connection)
            self._refused.add()
            run = Run(self._metrics, self._told, method.removeprefix(_OURS))
            run.failed(error)
            run.end()
            await context.abort(run.code, message.message, details)
            return b""  # it isn't reached

        handler = self._refusals[method, error.reason] = grpc.stream_unary_rpc_method_handler(refuse)
        return handler


class _Unread(StreamIdle):
    """The peer doesn't read."""


async def _refuse_own_socket(context: Context) -> None:
    if is_own_socket(context):
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this socket is the server's own")


def _give_when_over(budget: ByteBudget, size: int, context: Context) -> None:
    connection = context.peer()
    context.add_done_callback(lambda _: budget.give(connection, size))  # type: ignore[arg-type]


async def _abort(context: Context, code: grpc.StatusCode, error: Exception) -> NoReturn:
    message = to_error(error)
    await context.abort(code, message.message, trailers(message))


def _open_to_all(context: Context) -> None:
    pass


def _with_parser(handler: Any, parser: Parser, check: Callable[[Context], None]) -> Any:
    """A handler of a standard service, health or reflection, behind our parser."""

    async def message(data: bytes, context: Context, first: bool = True) -> Any:
        try:
            if first:
                await _refuse_own_socket(context)
                check(context)
            return await parser.parse(data)
        except (InvalidRequest, Unauthenticated, PermissionDenied, Overloaded) as error:
            found = status_of(error)
            await _abort(context, found[0] if found else grpc.StatusCode.INTERNAL, error)

    async def unary(data: bytes, context: Context) -> Any:
        return await handler.unary_unary(await message(data, context), context)

    async def watch(data: bytes, context: Context) -> Any:
        await handler.unary_stream(await message(data, context), context)

    async def messages(data: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        first = True
        async for one in data:
            yield await message(one, context, first)
            first = False

    async def stream(data: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        async for answer in handler.stream_stream(messages(data, context), context):
            yield answer

    serializer = handler.response_serializer
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, None, serializer)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(watch, None, serializer)
    return grpc.unary_unary_rpc_method_handler(unary, None, serializer)
