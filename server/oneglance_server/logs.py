"""Structured logs on stderr: readable lines for people, JSON for machines. To log never fails, and never waits."""

import atexit
import io
import logging
import sys
import threading
from collections.abc import Callable, MutableMapping, Sequence
from types import TracebackType
from typing import Any, TextIO, cast

import structlog

from oneglance_server.log_sink import LogSink
from oneglance_server.tracing import ids

# Without the frames' variables, which hold requests: pictures, encodings, labels.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_STDERR = 2
LOG_SECONDS = 1.0  # to write what waits when the process ends

Event = MutableMapping[str, Any]
Processor = Callable[[Any, str, Event], Any]


_sink: LogSink | None = None


def configure_logs(log_format: str, level: str) -> LogSink:
    """``log_format``: "text" or "json"; ``level``: "debug" to "error". Returns what writes the lines, to stderr."""
    global _sink
    sink = _sink = LogSink(
        _STDERR, lambda lines: render(None, "warning", {"event": "log lines were lost", "lines": lines}) + "\n"
    )
    as_json = log_format == "json"
    render = _rendering(
        (
            structlog.contextvars.merge_contextvars,
            _with_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([_TRACEBACKS] if as_json else []),
            structlog.processors.JSONRenderer()
            if as_json
            else structlog.dev.ConsoleRenderer(colors=sink.isatty(), exception_formatter=structlog.dev.plain_traceback),
        )
    )
    structlog.configure(
        processors=[render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, sink)),
        cache_logger_on_first_use=True,
    )
    return sink


def log_everything(sink: LogSink, log_format: str) -> None:
    """In this process, what asyncio, libraries, Python's warnings, ending threads and errors that nobody caught have to
    say becomes log lines, too, from warnings on; and what is printed to ``sys.stderr`` goes through ``sink``: as it is,
    or with "json" as a log line for each line."""
    sys.stderr = cast(TextIO, _PrintedLines() if log_format == "json" else sink)
    logging.basicConfig(handlers=[_Handler()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    threading.excepthook = _log_end_of_thread
    sys.excepthook = _log_end
    sys.unraisablehook = _log_unraisable
    atexit.register(sink.wait_until_written, LOG_SECONDS)


def lines_lost() -> int:
    """How many lines of the log could not be written."""
    return _sink.lost if _sink else 0


def _with_trace(logger: Any, level: str, event: Event) -> Event:
    event.update(ids())
    return event


def _rendering(processors: Sequence[Processor]) -> Callable[[Any, str, Event], str]:
    """All of ``processors`` as one. What they can't render becomes a line that says so."""

    def render(logger: Any, level: str, event: Event) -> str:
        text = event["event"]
        try:
            return _through(processors, logger, level, event)
        except Exception as error:
            return _through(processors, logger, level, {"event": str(text), "not_rendered": type(error).__name__})

    return render


def _through(processors: Sequence[Processor], logger: Any, level: str, event: Event) -> str:
    result: Any = event
    for processor in processors:
        result = processor(logger, level, result)
    return str(result)


class _Handler(logging.Handler):
    """Hands what is logged by the standard library's ``logging`` over to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        if _peer_left(record):
            return
        try:
            level = max(known for known in _LEVELS if known <= max(record.levelno, logging.DEBUG))
            structlog.get_logger().log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info)
        except Exception:
            self.handleError(record)  # prints to sys.stderr, the sink


def _peer_left(record: logging.LogRecord) -> bool:
    """Whether gRPC tells, with a traceback, that it could not send a status: its peer left at that moment."""
    error = record.exc_info[1] if record.exc_info else None
    return record.name.startswith("grpc.") and type(error).__name__ == "ExecuteBatchError"


class _PrintedLines(io.TextIOBase):
    """Logs what is printed, line by line."""

    def __init__(self) -> None:
        self._begun = threading.local()

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        *lines, self._begun.text = (getattr(self._begun, "text", "") + text).split("\n")
        for line in filter(str.strip, lines):
            structlog.get_logger().warning(line, logger="stderr")
        return len(text)


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    structlog.get_logger().critical("ended by an error", exc_info=error)


def _log_unraisable(found: "sys.UnraisableHookArgs") -> None:
    structlog.get_logger().error(found.err_msg or "an error that nobody can catch", exc_info=found.exc_value)


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    name = ended.thread.name if ended.thread else ""
    structlog.get_logger().error("a thread ended by an error", thread=name, exc_info=ended.exc_value)
