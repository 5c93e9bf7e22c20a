"""One call as it is measured and told of in the log."""

import time

import grpc
import structlog

from oneglance_server.metrics import Metrics
from oneglance_server.servicers.status import status_of

log = structlog.get_logger()
_TOLD_EVERY_SECONDS = 10.0


class Run:
    """One call of ours, from request to answer. ``code``: that of a cancelled call, until it has another."""

    def __init__(self, metrics: Metrics, told: "Told", method: str) -> None:
        self.code = grpc.StatusCode.CANCELLED
        self._metrics: Metrics | None = metrics
        self._told = told
        self._method = method
        self._started = time.perf_counter()

    def failed(self, error: Exception) -> None:
        found = status_of(error)
        self.code = found[0] if found else grpc.StatusCode.INTERNAL
        if self.code is grpc.StatusCode.INTERNAL:
            log.error("call failed", method=self._method, exc_info=error)
        else:
            log.debug("call refused", method=self._method, code=self.code.name, error=str(error))
            if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self._told.refused(self._method, error)

    @property
    def seconds(self) -> float:
        """So far."""
        return time.perf_counter() - self._started

    def end(self) -> None:
        """Measure it. A second time does nothing."""
        if self._metrics is not None:
            self._metrics.call(self._method, self.code.name, self.seconds)
            self._metrics = None


class Told:
    """Tells of refusals for want of room, but not of each: there may be thousands a second."""

    def __init__(self) -> None:
        self._calls = 0
        self._told: float | None = None

    def refused(self, method: str, error: Exception) -> None:
        self._calls += 1
        now = time.monotonic()
        if self._told is None or now - self._told >= _TOLD_EVERY_SECONDS:
            log.warning("calls refused for want of room", calls=self._calls, last_method=method, last_error=str(error))
            self._calls, self._told = 0, now
