"""Prometheus metrics. docs/operations.md lists them; a test holds the two together."""

import functools
import platform
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from oneglance_index import ApproximationState, Gallery
from oneglance_server import tracing
from oneglance_server.gallery_metrics import MOST_GALLERIES, OTHERS, GalleryCollector, Rates

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 4, 8, 16, 32)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Metrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Gauge(
            "oneglance_build_info",
            "1; the labels tell the versions of the server and of what it runs on",
            ["version", "python", "onnxruntime", "faiss"],
            registry=self.registry,
        ).labels(
            version("oneglance"),
            platform.python_version(),
            _version_of("onnxruntime", "onnxruntime-gpu"),
            _version_of("faiss-cpu", "faiss-gpu"),
        ).set(1)
        self._models = Gauge(
            "oneglance_model_info",
            "1 for each loaded model; the labels tell which, and what runs it",
            ["model", "kind", "digest", "provider"],
            registry=self.registry,
        )
        self._trouble = Gauge(
            "oneglance_trouble",
            "1 while the store or a model has trouble that makes calls fail: health says NOT_SERVING; else 0",
            registry=self.registry,
        )
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
        self._every_row = Counter(
            "oneglance_every_row_probes",
            "Probes that lie so equally far from many encodings that every encoding was looked at: slow, and exact",
            ["gallery"],
            registry=self.registry,
        )
        self._compared = Counter(
            "oneglance_move_compared_probes",
            "Live probes that both galleries of a move to another encoder decided about: alike or otherwise",
            ["gallery", "decided"],
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
        self._slow: dict[str, Counter] = {}  # by gallery
        self._moving: set[str] = set()

    def loop_lag(self, seconds: float) -> None:
        """See watch_loop."""
        self._loop_lag.observe(seconds)

    def audit_entries_lost(self, count: int) -> None:
        self._audit_lost.inc(count)

    def call(self, method: str, code: str, seconds: float) -> None:
        """The trace that the call is told in, if any, is an exemplar of its time."""
        self._calls_of(method, code).observe(seconds, tracing.ids() or None)

    def decision(self, gallery: str, decision: str, count: int) -> None:
        if count:
            if gallery not in self._decided and len(self._decided) >= MOST_GALLERIES:
                gallery = OTHERS
            counters = self._decided.setdefault(gallery, {})
            if decision not in counters:
                counters[decision] = self._decisions.labels(gallery, decision)
            counters[decision].inc(count)

    def every_row(self, gallery: str, probes: int) -> None:
        """See service.identification.IdentificationService."""
        if gallery not in self._slow and len(self._slow) >= MOST_GALLERIES:
            gallery = OTHERS
        if gallery not in self._slow:
            self._slow[gallery] = self._every_row.labels(gallery)
        self._slow[gallery].inc(probes)

    def compared(self, gallery: str, alike: int, otherwise: int) -> None:
        """See service.comparing.LiveComparisons."""
        if gallery not in self._moving and len(self._moving) >= MOST_GALLERIES:
            gallery = OTHERS
        self._moving.add(gallery)
        self._compared.labels(gallery, "alike").inc(alike)
        self._compared.labels(gallery, "otherwise").inc(otherwise)

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
        if self._slow.pop(gallery, None) is not None:
            self._every_row.remove(gallery)
        if gallery in self._moving:
            self._moving.remove(gallery)
            for decided in ("alike", "otherwise"):
                self._compared.remove(gallery, decided)

    def stage_took(self, stage: str, seconds: float) -> None:
        """See engines.faces.StageObserver."""
        self._stages.labels(stage).observe(seconds)

    def stage(self, name: str) -> "StageMetrics":
        """The batch observer of one stage: ``photo``, ``encode``, ``search`` or ``stylize``."""
        return StageMetrics(self._batches.labels(name), self._queues.labels(name))

    def model(self, name: str, kind: str, digest: str, provider: str) -> None:
        self._models.labels(name, kind, digest, provider).set(1)

    def trouble(self, has_trouble: bool) -> None:
        """See app.Server."""
        self._trouble.set(has_trouble)

    def watch_galleries(
        self,
        galleries: Callable[[], Iterable[Gallery]],
        rates: Rates,
        approximation: Callable[[Gallery], ApproximationState | None],
    ) -> None:
        """Report the size of every gallery, the FPIR to expect there and what approximate answers lose, read when
        Prometheus asks."""
        self.registry.register(GalleryCollector(galleries, rates, approximation))

    def watch_certificate(self, expires: Callable[[], float | None]) -> None:
        """Report when the server's certificate is over, seconds since the epoch; None: there is none."""
        self.registry.register(_Certificate(expires))

    def watch_log(self, lines_lost: Callable[[], int]) -> None:
        """Report the lines of the log that could not be written."""
        self.registry.register(_LinesLost(lines_lost))


class StageMetrics:
    """Batch sizes and queue depth of one stage; see engines.batcher.BatchObserver."""

    def __init__(self, batches: Histogram, queue: Gauge) -> None:
        self.batch = batches.observe
        self.queue = queue.inc


class _Certificate(Collector):
    def __init__(self, expires: Callable[[], float | None]) -> None:
        self._expires = expires

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "oneglance_tls_certificate_expires_seconds",
            "When the server's certificate is over, seconds since the epoch",
            value=self._expires(),
        )


class _LinesLost(Collector):
    def __init__(self, lines_lost: Callable[[], int]) -> None:
        self._lines_lost = lines_lost

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "oneglance_log_lines_lost", "Lines of the log that could not be written", value=self._lines_lost()
        )


def _version_of(*distributions: str) -> str:
    """Of the first one that is installed; "" where none is."""
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            pass
    return ""
