"""Prometheus metrics. docs/operations.md lists them; a test holds the two together."""

import functools
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from oneglance_index import Gallery

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 4, 8, 16, 32)
MOST_GALLERIES, OTHERS = 1000, "(others)"
"""So many galleries have series of their own; the rest is told as one, of a name that no gallery has had so far."""
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Metrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Histogram(
            "oneglance_call_seconds",
            "Time of a call on the server, from request to answer",
            ["method", "code"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "oneglance_batch_rows",
            "Photos (photo), examples (encode) or probes (search) that shared a batch; 1 for every tile (stylize)",
            ["stage"],
            buckets=_ROWS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "oneglance_stage_seconds",
            "Time of one batch in a stage of the photo pipeline: decode, detect, align, turn; of one tile: stylize",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._queues = Gauge(
            "oneglance_queue_rows", "Photos, examples, probes or tiles waiting", ["stage"], registry=self.registry
        )
        self._loop_lag = Histogram(
            "oneglance_loop_lag_seconds",
            "How much later than it asked for a task is woken on the event loop, asked twenty times a second",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._decisions = Counter(
            "oneglance_decisions",
            "Decisions made: identified, unknown, same, different; faces that are not upright: not_compared",
            ["gallery", "decision"],
            registry=self.registry,
        )
        self._drift = Gauge(
            "oneglance_gallery_drift",
            "1: drift is suspected of the gallery's strangers or mates; 0: it isn't",
            ["gallery", "of"],
            registry=self.registry,
        )
        self._audit_lost = Counter(
            "oneglance_audit_entries_lost",
            "Entries of the audit trail that there was no room for, while it could not be written",
            registry=self.registry,
        )

        # To look a metric up by its labels takes longer than to count.
        self._calls_of = functools.cache(self._calls.labels)
        self._decided: dict[str, dict[str, Counter]] = {}  # by gallery and decision
        self._drifts: dict[str, set[str]] = {}  # by gallery

    def loop_lag(self, seconds: float) -> None:
        """See watch_loop."""
        self._loop_lag.observe(seconds)

    def audit_entries_lost(self, count: int) -> None:
        self._audit_lost.inc(count)

    def call(self, method: str, code: str, seconds: float) -> None:
        self._calls_of(method, code).observe(seconds)

    def decision(self, gallery: str, decision: str, count: int) -> None:
        if count:
            if gallery not in self._decided and len(self._decided) >= MOST_GALLERIES:
                gallery = OTHERS
            counters = self._decided.setdefault(gallery, {})
            if decision not in counters:
                counters[decision] = self._decisions.labels(gallery, decision)
            counters[decision].inc(count)

    def drift(self, gallery: str, of: str, suspected: bool) -> None:
        """See service.drift.DriftWatches."""
        if gallery not in self._drifts and len(self._drifts) >= MOST_GALLERIES:
            return
        self._drifts.setdefault(gallery, set()).add(of)
        self._drift.labels(gallery, of).set(suspected)

    def forget_gallery(self, gallery: str) -> None:
        """It was deleted; without this, every gallery there ever was would be kept and reported."""
        for decision in self._decided.pop(gallery, ()):
            self._decisions.remove(gallery, decision)
        for of in self._drifts.pop(gallery, ()):
            self._drift.remove(gallery, of)

    def stage_took(self, stage: str, seconds: float) -> None:
        """See engines.faces.StageObserver."""
        self._stages.labels(stage).observe(seconds)

    def stage(self, name: str) -> "StageMetrics":
        """The batch observer of one stage: ``photo``, ``encode``, ``search`` or ``stylize``."""
        return StageMetrics(self._batches.labels(name), self._queues.labels(name))

    def watch_galleries(self, galleries: Callable[[], Iterable[Gallery]]) -> None:
        """Report the size of every gallery, read when Prometheus asks."""
        self.registry.register(_GallerySizes(galleries))

    def watch_log(self, lines_lost: Callable[[], int]) -> None:
        """Report the lines of the log that could not be written."""
        self.registry.register(_LinesLost(lines_lost))


class StageMetrics:
    """Batch sizes and queue depth of one stage; see engines.batcher.BatchObserver."""

    def __init__(self, batches: Histogram, queue: Gauge) -> None:
        self.batch = batches.observe
        self.queue = queue.inc


class _GallerySizes(Collector):
    def __init__(self, galleries: Callable[[], Iterable[Gallery]]) -> None:
        self._galleries = galleries

    def collect(self) -> Iterator[Metric]:
        subjects = GaugeMetricFamily("oneglance_gallery_subjects", "Subjects enrolled", labels=["gallery"])
        encodings = GaugeMetricFamily("oneglance_gallery_encodings", "Encodings enrolled", labels=["gallery"])
        others = [0, 0]
        for number, gallery in enumerate(self._galleries()):
            if number < MOST_GALLERIES:
                subjects.add_metric([gallery.id], gallery.subjects)
                encodings.add_metric([gallery.id], gallery.encodings)
            else:
                others = [others[0] + gallery.subjects, others[1] + gallery.encodings]
        if any(others):
            subjects.add_metric([OTHERS], others[0])
            encodings.add_metric([OTHERS], others[1])
        yield subjects
        yield encodings


class _LinesLost(Collector):
    def __init__(self, lines_lost: Callable[[], int]) -> None:
        self._lines_lost = lines_lost

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "oneglance_log_lines_lost", "Lines of the log that could not be written", value=self._lines_lost()
        )
