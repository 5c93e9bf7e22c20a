"""Metrics sent by OTLP: what Prometheus would read, told to a collector again and again.

Where they go, how often and by which protocol is said by the variables ``OTEL_*``, as for traces (tracing.py).
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from oneglance_core.error_words import in_words
from oneglance_server.errors import StartupError
from oneglance_server.tracing import otlp_protocol, resource

log = logging.getLogger(__name__)
_EVERY_MS = "60000"
_SEND_MS = 10_000
_END_SECONDS = 2.0  # to send them once more when the server stops


def begin_sending(registry: CollectorRegistry, exporter: Any = None) -> Callable[[], None]:
    """Send the metrics of ``registry`` from now on. Returns what sends them once more and ends it, within two seconds.

    ``exporter``: of OpenTelemetry's SDK; None: the one that ``OTEL_*`` asks for. Raises StartupError where
    oneglance[otel] isn't installed, or a variable is no good.
    """
    try:
        from opentelemetry.sdk.metrics import export
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        exporter = exporter or _exporter()
    except ImportError as error:
        raise StartupError(f"--send-metrics on: {error}; pip install 'oneglance[otel]'") from error
    every = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "") or _EVERY_MS
    if not every.isdecimal() or int(every) < 1:
        raise StartupError(f"OTEL_METRIC_EXPORT_INTERVAL is {every}: expected milliseconds")
    if exporter is None:
        return lambda: None
    about, begun, ending = resource(), time.time_ns(), threading.Event()

    def send() -> None:
        now = time.time_ns()
        try:
            metrics = [one for family in registry.collect() if (one := _told(export, family, begun, now)) is not None]
            scope = export.ScopeMetrics(InstrumentationScope("oneglance"), metrics, "")
            exporter.export(export.MetricsData([export.ResourceMetrics(about, [scope], "")]), timeout_millis=_SEND_MS)
        except Exception as error:  # a collector must never end what it watches
            log.warning("metrics could not be sent: %s", in_words(error))

    def go_on() -> None:
        while not ending.wait(int(every) / 1000):
            send()
        send()
        exporter.shutdown()

    sending = threading.Thread(target=go_on, name="oneglance-metrics", daemon=True)
    sending.start()

    def end() -> None:
        ending.set()
        sending.join(_END_SECONDS)

    return end


def _exporter() -> Any:
    kind = os.environ.get("OTEL_METRICS_EXPORTER", "") or "otlp"
    if kind == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if kind == "console":
        from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

        return ConsoleMetricExporter()
    if kind != "otlp":
        raise StartupError(f"OTEL_METRICS_EXPORTER is {kind}: expected otlp, console or none")
    if otlp_protocol("METRICS") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter

    return HttpExporter()


def _told(export: Any, family: Metric, begun: int, now: int) -> Any:
    """A family of Prometheus as OpenTelemetry has it: same name, description and labels. None: it has no samples."""
    if family.type == "histogram":
        points = list(_histograms(export, family, begun, now))
        data = export.Histogram(points, export.AggregationTemporality.CUMULATIVE)
    else:
        counter = family.type == "counter"
        points = [
            export.NumberDataPoint(dict(sample.labels), begun if counter else 0, now, sample.value)
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        data = export.Gauge(points)
        if counter:
            data = export.Sum(points, export.AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return export.Metric(family.name, family.documentation, "", data) if points else None


def _histograms(export: Any, family: Metric, begun: int, now: int) -> Iterator[Any]:
    """One point for each set of labels. Prometheus counts what is in a bucket or below, OpenTelemetry what is in it."""
    series: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        one = series.setdefault(labels, {"buckets": []})
        if sample.name.endswith("_bucket"):
            one["buckets"].append((float(sample.labels["le"]), int(sample.value)))
        elif sample.name.endswith("_sum"):
            one["sum"] = sample.value
    for labels, one in series.items():
        bounds, counts = zip(*sorted(one["buckets"]), strict=True)
        inside = [count - before for count, before in zip(counts, (0, *counts), strict=False)]
        finite = [bound for bound in bounds if bound != math.inf]
        yield export.HistogramDataPoint(
            dict(labels), begun, now, counts[-1], one["sum"], inside, finite, -math.inf, math.inf
        )
