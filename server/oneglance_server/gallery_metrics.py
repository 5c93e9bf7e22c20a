"""What is told of each gallery when Prometheus asks: sizes, the FPIR to expect, and what approximate answers lose."""

import contextlib
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from oneglance_index import ApproximationState, Gallery, GalleryError

MOST_GALLERIES, OTHERS = 1000, "(others)"
"""So many galleries have series of their own; the rest is told as one, of a name that no gallery has had so far."""

Rates = Callable[[Gallery], tuple[float | None, float | None]]
"""The FPIR to expect in a gallery, and the one that it is to have; None where nobody knows, or nobody said."""


class GalleryCollector(Collector):
    """``approximation``: how a gallery's answers come about; None where they may lose nothing."""

    def __init__(
        self,
        galleries: Callable[[], Iterable[Gallery]],
        rates: Rates,
        approximation: Callable[[Gallery], ApproximationState | None],
    ) -> None:
        self._galleries = galleries
        self._rates = rates
        self._approximation = approximation
        self._known: dict[str, tuple[int, tuple[float | None, float | None]]] = {}  # by uid: revision, rates

    def collect(self) -> Iterator[Metric]:
        families = [
            GaugeMetricFamily(f"oneglance_gallery_{name}", text, labels=["gallery"])
            for name, text in (
                ("subjects", "Subjects enrolled"),
                ("encodings", "Encodings enrolled"),
                ("mapped_subjects", "Subjects whose encodings a map made of another encoder's"),
                ("expected_fpir", "Share of strangers to expect to be let in, at the present size and tau"),
                ("target_fpir", "Share of strangers that may be let in, as the gallery was told"),
            )
        ]
        lost = _Lost()
        known = {}
        others = [0, 0, 0]
        for number, gallery in enumerate(self._all()):
            if number >= MOST_GALLERIES:
                sizes = gallery.subjects, gallery.encodings, gallery.mapped.subjects if gallery.mapped else 0
                others = [one + more for one, more in zip(others, sizes, strict=True)]
                continue
            revision, rates = self._known.get(gallery.uid, (-1, (None, None)))
            if revision != gallery.revision:  # to work them out takes longer than to count
                rates = self._rates(gallery)
            known[gallery.uid] = gallery.revision, rates
            mapped = 0 if gallery.mapped is None else gallery.mapped.subjects
            values = (gallery.subjects, gallery.encodings, mapped, *rates)
            for family, value in zip(families, values, strict=True):
                if value is not None:
                    family.add_metric([gallery.id], value)
            with contextlib.suppress(GalleryError):
                state = self._approximation(gallery)
                if state is not None:
                    lost.add(gallery.id, state)
        if any(others):
            for family, count in zip(families, others, strict=False):
                family.add_metric([OTHERS], count)
        self._known = known
        yield from families
        yield from lost.families()

    def _all(self) -> list[Gallery]:
        """None while they can't be read: all other metrics are told nevertheless."""
        with contextlib.suppress(GalleryError):
            return list(self._galleries())
        return []


class _Lost:
    """The metrics of galleries whose answers may lose something."""

    def __init__(self) -> None:
        self._answers = GaugeMetricFamily(
            "oneglance_approximate_answers",
            "1: answers are approximate; 0: they may be, but are exact for now",
            labels=["gallery"],
        )
        self._checked = CounterMetricFamily(
            "oneglance_approximate_checked_probes",
            "Live probes that were searched exactly, too: known ones match by exact search, strangers don't",
            labels=["gallery", "probe"],
        )
        self._differing = CounterMetricFamily(
            "oneglance_approximate_differing_decisions",
            "Those of them for which exact search decided otherwise",
            labels=["gallery", "probe"],
        )
        self._alarms = CounterMetricFamily(
            "oneglance_approximate_alarms", "Times that more was lost than may be", labels=["gallery"]
        )
        self._alarm = GaugeMetricFamily(
            "oneglance_approximate_alarm", "1: more is lost now than may be; 0: it isn't", labels=["gallery"]
        )

    def add(self, gallery: str, state: ApproximationState) -> None:
        self._answers.add_metric([gallery], state.answers == "approximate")
        for probe, checked in (("known", state.known), ("stranger", state.strangers)):
            self._checked.add_metric([gallery, probe], checked.probes)
            self._differing.add_metric([gallery, probe], checked.differing)
        self._alarms.add_metric([gallery], state.alarms)
        self._alarm.add_metric([gallery], state.alarm)

    def families(self) -> Iterator[Metric]:
        yield from (self._answers, self._checked, self._differing, self._alarms, self._alarm)
