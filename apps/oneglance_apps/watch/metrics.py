"""Prometheus metrics of ``oneglance watch``. docs/watch.md lists them; a test holds the two together."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from oneglance_apps.watch.watcher import Watcher

_SECONDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 4, 8, 16)


class WatchMetrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._latency = Histogram(
            "oneglance_watch_latency_seconds",
            "From when a frame was taken to when its faces were known",
            ["source"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._events = Counter("oneglance_watch_events", "Events", ["source", "kind"], registry=self.registry)
        self._deliveries = Counter(
            "oneglance_watch_deliveries",
            "Events by output and what became of them: delivered, expired, refused, unanswered, overflowed, unsent",
            ["output", "outcome"],
            registry=self.registry,
        )

    def follow(self, watchers: Iterable[Watcher]) -> None:
        """Report their frames and states from now on."""
        self.registry.register(_Sources(list(watchers)))

    def observer(self, source: str) -> Callable[[float], None]:
        """What takes the latencies of one source, in seconds."""
        return self._latency.labels(source).observe

    def event(self, source: str, kind: str) -> None:
        self._events.labels(source, kind).inc()

    def delivery(self, output: str, outcome: str) -> None:
        self._deliveries.labels(output, outcome).inc()


class _Sources(Collector):
    """Frames and states of the sources, as they are when asked for."""

    def __init__(self, watchers: list[Watcher]) -> None:
        self._watchers = watchers

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        frames = CounterMetricFamily(
            "oneglance_watch_frames",
            "Frames by what became of them: answered, skipped, dropped",
            labels=["source", "outcome"],
        )
        camera = GaugeMetricFamily(
            "oneglance_watch_camera_up", "1: frames come, or came to their end", labels=["source"]
        )
        server = GaugeMetricFamily("oneglance_watch_server_up", "1: the server answers", labels=["source"])
        for watcher in self._watchers:
            name, counts = watcher.source.name, watcher.frames
            for outcome in ("answered", "skipped", "dropped"):
                frames.add_metric([name, outcome], getattr(counts, outcome))
            camera.add_metric([name], watcher.camera_up)
            server.add_metric([name], watcher.server_up)
        yield from (frames, camera, server)
