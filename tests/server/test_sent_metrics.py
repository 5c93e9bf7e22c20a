"""Metrics by OTLP: what Prometheus would read, over HTTP and gRPC; and which call took so long."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from oneglance import Client
from oneglance_server.errors import StartupError
from oneglance_server.sent_metrics import begin_sending
from tests.running import ServerProcess, server_thread
from tests.waiting import PATIENCE_SECONDS, until

sdk: Any = pytest.importorskip("opentelemetry.sdk.metrics.export")
pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")
service: Any = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
service_grpc: Any = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc")


class Kept:
    """An exporter that keeps what it is given; the first time it fails."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.ended = False

    def export(self, data: Any, timeout_millis: float) -> None:
        self.sent.append(data)
        if len(self.sent) == 1:
            raise OSError("no route")

    def shutdown(self) -> None:
        self.ended = True


def test_what_prometheus_reads_is_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    Counter("calls", "Calls", ["method"], registry=registry).labels("Enroll").inc(3)
    Gauge("rows", "Rows", registry=registry).set(-2.5)
    Gauge("nothing", "No samples", ["label"], registry=registry)
    took = Histogram("seconds", "Time", ["method"], buckets=(1, 2, 4), registry=registry)
    for seconds in (0.5, 1, 1.5, 3, 100):
        took.labels("Enroll").observe(seconds)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
    kept = Kept()
    end = begin_sending(registry, kept)
    until(lambda: len(kept.sent) >= 2)
    end()
    assert kept.ended
    metrics = {one.name: one for one in kept.sent[-1].resource_metrics[0].scope_metrics[0].metrics}
    assert set(metrics) == {"calls", "rows", "seconds"}
    (calls,) = metrics["calls"].data.data_points
    assert (calls.attributes, calls.value) == ({"method": "Enroll"}, 3)
    assert metrics["calls"].data.is_monotonic
    assert [point.value for point in metrics["rows"].data.data_points] == [-2.5]
    (seconds,) = metrics["seconds"].data.data_points
    assert seconds.attributes == {"method": "Enroll"}
    assert (list(seconds.explicit_bounds), list(seconds.bucket_counts)) == ([1, 2, 4], [2, 1, 1, 1])
    assert (seconds.count, seconds.sum) == (5, 106)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "smoke"),
    ],
)
def test_what_is_no_good_is_a_start_up_error(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=value):
        begin_sending(CollectorRegistry())


def test_none_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    before = threading.active_count()
    begin_sending(CollectorRegistry())()
    assert threading.active_count() == before


@contextmanager
def by_http(received: list[Any]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/metrics":
                received.append(service.ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def by_grpc(received: list[Any]) -> Iterator[str]:
    class Servicer(service_grpc.MetricsServiceServicer):  # type: ignore[misc]
        def Export(self, request: Any, context: Any) -> Any:
            received.append(request)
            return service.ExportMetricsServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    service_grpc.add_MetricsServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(("protocol", "receiver"), [("http/protobuf", by_http), ("grpc", by_grpc)])
def test_a_real_server_sends_to_a_real_receiver(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, receiver: Any
) -> None:
    received: list[Any] = []
    with receiver(received) as endpoint:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "door")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "600000")  # at the end only
        with ServerProcess(tmp_path, models=models[0], send_metrics="on") as server:
            with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
                client.create_gallery("g", encoder="pixels")
            server.terminate()
    (about,) = received[-1].resource_metrics
    assert {one.key: one.value.string_value for one in about.resource.attributes}["service.name"] == "door"
    metrics = {one.name: one for one in about.scope_metrics[0].metrics}
    calls = metrics["oneglance_call_seconds"].histogram.data_points
    labels = [{one.key: one.value.string_value for one in point.attributes} for point in calls]
    assert {"method": "GalleryService/CreateGallery", "code": "OK"} in labels
    assert [point.as_double for point in metrics["oneglance_gallery_subjects"].gauge.data_points] == [0]


def test_a_traced_call_is_an_exemplar_of_its_time(models: tuple[Path, Path], tmp_path: Path) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from oneglance_server import tracing

    kept = InMemorySpanExporter()
    end = tracing.begin_tracing(SimpleSpanProcessor(kept))
    try:
        with server_thread(data_dir=tmp_path, models=models[:1], metrics="127.0.0.1:0") as server:
            with Client(server.address) as client:
                client.list_models()
            assert server._metrics_server is not None
            asked = urllib.request.Request(
                f"http://127.0.0.1:{server._metrics_server[0].server_port}/metrics",
                headers={"Accept": "application/openmetrics-text"},
            )
            with urllib.request.urlopen(asked) as answer:
                text = answer.read().decode()
    finally:
        end()
    traces = {f"{span.context.trace_id:032x}" for span in kept.get_finished_spans()}
    lines = [line for line in text.splitlines() if line.startswith("oneglance_call_seconds_bucket") and "# {" in line]
    assert lines
    assert any(trace in line for line in lines for trace in traces)
