"""Traces, by OpenTelemetry: one span a call, and below it what the call waited for and what was done for it.

    oneglance.v1.SubjectService/Enroll
    ├── queue (of photo, encode, search, ...)    until a batch took it
    ├── photo ── decode, detect, align, turn     the batch that it was in; other calls may share it
    ├── encode
    ├── search
    └── write                                    until it is on the disk

Off unless ``--traces on``: then nothing of OpenTelemetry is loaded, and each of these functions costs one comparison.
Where spans go, how many are kept and what the service is called is said by the variables ``OTEL_*``, as everywhere.
"""

import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

from oneglance_server.errors import StartupError

T = TypeVar("T")
_END_SECONDS = 2.0  # to send what waits when the server stops
_tracer: Any = None
_of_batch = threading.local()  # spans: of the batch that this thread runs
_NOTHING: AbstractContextManager[None] = nullcontext()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that waits in a queue. context: OpenTelemetry's, below which its spans belong. since: ns of the clock."""

    context: Any
    since: int


def begin_tracing(processor: Any = None) -> Callable[[], None]:
    """Trace from now on. Returns what ends it. Raises StartupError where oneglance[otel] isn't installed.

    processor: takes the spans; None: a BatchSpanProcessor with the exporter that ``OTEL_*`` asks for.
    """
    global _tracer
    try:
        from opentelemetry.sdk.trace import TracerProvider

        if processor is None and (exporter := _exporter()) is not None:
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            processor = BatchSpanProcessor(exporter)
    except ImportError as error:
        raise StartupError(f"--traces on: {error}; pip install 'oneglance[otel]'") from error
    provider = TracerProvider(resource=resource())
    if processor is not None:
        provider.add_span_processor(processor)
    _tracer = provider.get_tracer("oneglance", version("oneglance"))

    def end() -> None:
        global _tracer
        _tracer = None
        # A collector that doesn't answer must not hold up the end.
        ending = threading.Thread(target=provider.shutdown, name="oneglance-traces", daemon=True)
        ending.start()
        ending.join(_END_SECONDS)

    return end


def resource() -> Any:
    """What OpenTelemetry is told of this server. Raises ImportError."""
    from opentelemetry.sdk.resources import Resource

    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "oneglance"}
    return Resource.create({**name, "service.version": version("oneglance")})


def otlp_protocol(signal: str) -> str:
    """By which "TRACES" or "METRICS" are sent: "http/protobuf" or "grpc". Raises StartupError for another one."""
    common = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "") or common or "http/protobuf"
    if protocol not in ("http/protobuf", "grpc"):
        raise StartupError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}: expected http/protobuf or grpc")
    return protocol


def _exporter() -> Any:
    """As OTEL_TRACES_EXPORTER (otlp, console, none) and OTEL_EXPORTER_OTLP_[TRACES_]PROTOCOL say."""
    kind = os.environ.get("OTEL_TRACES_EXPORTER", "") or "otlp"
    if kind == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if kind == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if kind != "otlp":
        raise StartupError(f"OTEL_TRACES_EXPORTER is {kind}: expected otlp, console or none")
    if otlp_protocol("TRACES") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    return HttpExporter()


def traced(handle: Callable[[Any, Any], Awaitable[T]], method: str) -> Callable[[Any, Any], Awaitable[T]]:
    """The same handler of a gRPC method, ``Service/Method``, with a span, below the caller's (``traceparent``)."""
    if _tracer is None:
        return handle
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind, Status, StatusCode

    service, _, name = method.rpartition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": f"oneglance.v1.{service}", "rpc.method": name}

    async def handle_traced(data: Any, context: Any) -> T:
        tracer = _tracer
        if tracer is None:
            return await handle(data, context)
        sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        with tracer.start_as_current_span(
            f"oneglance.v1.{method}",
            context=extract(sent),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await handle(data, context)
            except BaseException:
                code = context.code()
                span.set_status(Status(StatusCode.ERROR, getattr(code, "name", "")))
                raise

    return handle_traced


def span(name: str) -> AbstractContextManager[Any]:
    """Of something that the current task waits for."""
    return _NOTHING if _tracer is None else _tracer.start_as_current_span(name)


def waiting() -> Waiting | None:
    """That the current task's call waits from now on; None where it isn't traced."""
    if _tracer is None:
        return None
    from opentelemetry.context import get_current
    from opentelemetry.trace import get_current_span

    return Waiting(get_current(), time.time_ns()) if get_current_span().is_recording() else None


def begin_batch(stage: str, waited: Iterable[tuple[Waiting | None, int]]) -> list[Any] | None:
    """Spans of a batch, one for each call that has rows in it; None where none is traced. ``waited``: of each item
    what ``waiting`` told, and its rows."""
    tracer = _tracer
    if tracer is None:
        return None
    rows: dict[int, int] = {}
    calls: dict[int, Waiting] = {}
    total = 0
    for call, count in waited:
        total += count
        if call is not None:
            calls[id(call)] = call
            rows[id(call)] = rows.get(id(call), 0) + count
    now = time.time_ns()
    spans = []
    for key, call in calls.items():
        queued = tracer.start_span(
            "queue", context=call.context, start_time=call.since, attributes={"oneglance.stage": stage}
        )
        queued.end(now)
        attributes = {"oneglance.rows": rows[key], "oneglance.batch_rows": total}
        spans.append(tracer.start_span(stage, context=call.context, start_time=now, attributes=attributes))
    return spans or None


def in_batch(spans: Sequence[Any], run: Callable[[Any], T]) -> Callable[[Any], T]:
    """``run``, for a thread: what ``stage_took`` tells there belongs below ``spans``."""

    def run_traced(items: Any) -> T:
        _of_batch.spans = spans
        try:
            return run(items)
        finally:
            _of_batch.spans = ()

    return run_traced


def end_batch(spans: Iterable[Any]) -> None:
    for one in spans:
        one.end()


def stage_took(stage: str, seconds: float) -> None:
    """A stage of the batch that this thread runs has just ended."""
    tracer = _tracer
    if tracer is None:
        return
    spans = getattr(_of_batch, "spans", ())
    if spans:
        from opentelemetry.trace import set_span_in_context

        now = time.time_ns()
        for one in spans:
            begun = tracer.start_span(stage, context=set_span_in_context(one), start_time=now - round(seconds * 1e9))
            begun.end(now)


def ids() -> dict[str, str]:
    """``trace_id`` and ``span_id`` of the current task's call, for its lines of the log; empty: it isn't traced."""
    if _tracer is None:
        return {}
    from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

    current = get_current_span().get_span_context()
    if not current.is_valid:
        return {}
    return {"trace_id": format_trace_id(current.trace_id), "span_id": format_span_id(current.span_id)}
