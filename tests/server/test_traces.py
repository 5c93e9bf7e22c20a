"""Traces: what is told of a call, to whom, and that nothing is by default."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from oneglance import Client, OneglanceError
from oneglance_server import tracing
from oneglance_server.errors import StartupError
from oneglance_server.logs import _with_trace
from tests.pictures import picture
from tests.running import ServerProcess, server_thread
from tests.waiting import until

sdk: Any = pytest.importorskip("opentelemetry.sdk.trace")
export: Any = pytest.importorskip("opentelemetry.sdk.trace.export")
memory: Any = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")


@contextmanager
def traced() -> Iterator[Any]:
    """The exporter that the spans come to."""
    kept = memory.InMemorySpanExporter()
    end = tracing.begin_tracing(export.SimpleSpanProcessor(kept))
    try:
        yield kept
    finally:
        end()


def below(spans: Any, parent: Any) -> dict[str, Any]:
    return {span.name: span for span in spans if span.parent and span.parent.span_id == parent.context.span_id}


def test_an_enrollment_tells_what_it_waited_for(models: tuple[Path, Path], tmp_path: Path) -> None:
    with traced() as kept, server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels", fusion="nearest")
        client.enroll("g", "it", picture(5), picture(6))
        client.identify("g", picture(5), tau=0.1)
        with pytest.raises(OneglanceError):
            client.identify("nobody", picture(5))
        until(lambda: len([span for span in kept.get_finished_spans() if span.parent is None]) == 4)
        spans = kept.get_finished_spans()
    calls = {span.name: span for span in spans if span.parent is None}
    enroll = calls["oneglance.v1.SubjectService/Enroll"]
    assert enroll.attributes["rpc.method"] == "Enroll"
    parts = below(spans, enroll)
    assert {"queue", "encode", "write"} <= set(parts)
    assert parts["encode"].attributes["oneglance.rows"] == 2
    assert enroll.start_time <= parts["encode"].start_time <= parts["write"].start_time <= enroll.end_time
    identify = [span for span in spans if span.name == "oneglance.v1.IdentificationService/Identify"]
    assert {"encode", "search"} <= set().union(*(below(spans, one) for one in identify))
    assert [span.status.description for span in identify if not span.status.is_ok] == ["NOT_FOUND"]


def test_stages_of_a_batch_stand_below_each_call_in_it() -> None:
    with traced() as kept:
        tracer = tracing._tracer
        for _ in range(2):
            with tracer.start_as_current_span("call"):
                waiting = tracing.waiting()
        with tracer.start_as_current_span("other"):
            other = tracing.waiting()
        spans = tracing.begin_batch("photo", [(waiting, 1), (other, 1), (waiting, 2), (None, 3)])
        assert spans is not None
        tracing.in_batch(spans, lambda items: tracing.stage_took("decode", 0.001))([])
        tracing.stage_took("decode", 0.001)  # of a batch that nobody traces
        tracing.end_batch(spans)
        found = kept.get_finished_spans()
    photos = [span for span in found if span.name == "photo"]
    assert sorted(span.attributes["oneglance.rows"] for span in photos) == [1, 3]
    assert {span.attributes["oneglance.batch_rows"] for span in photos} == {7}
    assert [span.parent.span_id for span in found if span.name == "decode"] == [one.context.span_id for one in photos]


def test_lines_of_the_log_have_the_trace() -> None:
    assert _with_trace(None, "info", {"event": "a"}) == {"event": "a"}
    with traced():
        assert tracing.ids() == {}
        with tracing.span("call") as span:
            line = _with_trace(None, "info", {"event": "a"})
    assert int(line["trace_id"], 16) == span.context.trace_id
    assert int(line["span_id"], 16) == span.context.span_id


class Collector(HTTPServer):
    """Receives OTLP over HTTP, and keeps (path, the service's name, names of spans, trace ids)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, str, set[str], set[str]]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        for one in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {value.key: value.value.string_value for value in one.resource.attributes}
            spans = [span for scope in one.scope_spans for span in scope.spans]
            self.server.received.append(
                (self.path, named["service.name"], {s.name for s in spans}, {s.trace_id.hex() for s in spans})
            )
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_real_server_sends_to_a_real_receiver_below_the_callers_trace(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    import grpc

    from oneglance.v1.gallery_pb2 import ListGalleriesRequest
    from oneglance.v1.gallery_pb2_grpc import GalleryServiceStub

    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "door")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    trace = "0af7651916cd43dd8448eb211c80319c"
    with ServerProcess(tmp_path, models=models[0], traces="on") as server:
        with grpc.insecure_channel(server.address) as channel:
            GalleryServiceStub(channel).ListGalleries(
                ListGalleriesRequest(),
                metadata=(("traceparent", f"00-{trace}-b7ad6b7169203331-01"),),
                wait_for_ready=True,
            )
        server.terminate()
    collector.shutdown()
    collector.server_close()
    assert collector.received
    assert {(path, service) for path, service, _, _ in collector.received} == {("/v1/traces", "door")}
    assert "oneglance.v1.GalleryService/ListGalleries" in set().union(*(names for _, _, names, _ in collector.received))
    assert trace in set().union(*(ids for *_, ids in collector.received))


def test_a_collector_that_is_not_there_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(tracing, "_END_SECONDS", 0.01)
    end = tracing.begin_tracing()
    with tracing.span("call"):
        pass
    ending = threading.Thread(target=end)
    ending.start()
    ending.join(60)
    assert not ending.is_alive()
    assert tracing.waiting() is None


@pytest.mark.parametrize(
    ("variable", "value"), [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]
)
def test_what_can_not_be_sent_is_refused_at_the_start(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartupError, match=value):
        tracing.begin_tracing()


def test_by_default_nothing_of_it_is_loaded() -> None:
    code = (
        "import sys, oneglance_server.app, oneglance_server.tracing as t\n"
        "assert t.waiting() is None and t.ids() == {} and t.begin_batch('a', []) is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"
