"""Watch, for each gallery, whether its probes are still what its calibration was measured on. See oneglance_core.drift.

Only counts of scores are kept, and whose subjects were nearest to the last message of a stream; all in memory.
"""

import bisect
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from oneglance_core.drift import (
    FALSE_ALARM,
    OTHERS,
    WINDOW,
    Of,
    Region,
    log_evidence,
    nearer,
    region_of_mates,
    region_of_strangers,
)
from oneglance_core.manifests import MateScores
from oneglance_index import Candidate, Found, Gallery, Generation
from oneglance_server.calls import Call
from oneglance_server.service.following import size_step
from oneglance_server.service.thresholds import Thresholds

log = structlog.get_logger()

_EVERY = 10  # probes of a region, after which it is judged
_ALARM = math.log(1 / FALSE_ALARM)
_STREAMS = 1024  # that are known at a time
_CALIBRATE = "Look at recent pictures, and calibrate the gallery on strangers of today (Calibrate)."
_ADVICE: dict[tuple[Of, bool], str] = {
    ("strangers", True): (
        "Strangers are nearer to the gallery than those it was calibrated on: more of them are let in than "
        "expected_fpir says. Other people, another camera, worse pictures or another encoder build do that. "
        f"{_CALIBRATE}"
    ),
    ("strangers", False): (
        "Strangers are farther from the gallery than those it was calibrated on: fewer of them are let in than "
        f"expected_fpir says, and tau could be larger. {_CALIBRATE}"
    ),
    ("mates", True): (
        "Subjects are nearer to their own examples than was measured of the model: fewer of them are missed. Do the "
        "pictures that were enrolled come again as probes?"
    ),
    ("mates", False): (
        "Subjects are farther from their own examples than was measured of the model: more of them are missed. Blur, "
        "bad light, another camera than at enrollment, age or another encoder build do that. Look at the camera, and "
        "enroll examples that it took."
    ),
}

DriftStateName = Literal["not_watched", "none", "suspected"]
OnDrift = Callable[[str, Of, bool], None]


@dataclass(frozen=True, slots=True)
class DriftFound:
    """What one region of a gallery's scores tells. ``probes``: counted in the present window. ``since``: when drift was
    first suspected, seconds since the epoch; None: it isn't."""

    of: Of
    state: DriftStateName
    probes: int = 0
    since: float | None = None
    advice: str = ""


@dataclass(slots=True)
class _Count:
    """The scores of one region. ``others``: probes of the other regions meanwhile."""

    region: Region
    bins: list[int]
    seen: int = 0
    others: int = 0
    since: float | None = None
    nearer: bool = False

    def begin(self, region: Region) -> None:
        """Counts anew."""
        self.region, self.bins, self.seen, self.others = region, [0] * len(region.shares), 0, 0


@dataclass(slots=True)
class _Watch:
    """A gallery's counts, while it is ``active`` and has ``least`` to ``most`` subjects. ``rests_on``: what they are
    held against.
    """

    active: Generation
    rests_on: tuple[object, ...]
    least: int
    most: int
    examples: int
    counts: list[_Count] = field(default_factory=list)


class DriftWatches:
    """Belongs to one event loop; ``of`` may be called from any thread.

    ``mates``: by digest of an encoder, and what decides. ``on_drift(gallery_id, of, suspected)`` hears of every gallery
    that is watched, and of every change.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        mates: Mapping[tuple[str, str], MateScores],
        on_drift: OnDrift,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._thresholds = thresholds
        self._mates = mates
        self._on_drift = on_drift
        self._clock = clock
        self._watches: dict[str, _Watch] = {}
        self._last: OrderedDict[tuple[str, str], set[str]] = OrderedDict()

    def saw(self, call: Call, gallery: Gallery, found: Found, probes: int) -> None:
        """Counts what a search found, once for each face of a message's ``probes``.

        A stream's message of one probe is taken for a frame of a video, which shows who was in the frame before: faces
        whose nearest subject was nearest in that one, too, don't count again.
        """
        if not found.subjects:
            return
        watch = self._watch(gallery, found)
        given = (next((one for one in near if one.negative is None), None) for near in found.candidates)
        nearest = [one for one in given if one is not None]
        if call.patient and probes == 1:
            nearest = self._new_in_frame((call.caller.connection, gallery.id), nearest)
        for count in watch.counts:
            self._add(gallery.id, count, [one.score for one in nearest])

    def of(self, gallery: Gallery) -> list[DriftFound]:
        """What is known of a gallery: of strangers, then of mates."""
        watch = self._watches.get(gallery.id)
        if watch is not None and watch.rests_on != _rests_on(gallery):
            watch = None  # calibrated anew since the last probe
        counts = {count.region.of: count for count in watch.counts} if watch is not None else {}
        return [self._found(of, counts.get(of), gallery, watch is None) for of in ("strangers", "mates")]

    def forget(self, gallery_id: str) -> None:
        """The gallery was deleted."""
        self._watches.pop(gallery_id, None)
        for key in [key for key in self._last if key[1] == gallery_id]:
            del self._last[key]

    def _found(self, of: Of, count: _Count | None, gallery: Gallery, unseen: bool) -> DriftFound:
        if count is None:
            known = unseen and self._may_be_watched(of, gallery)
            return DriftFound(of, "none" if known else "not_watched")
        if count.since is None:
            return DriftFound(of, "none", count.seen)
        return DriftFound(of, "suspected", count.seen, count.since, _ADVICE[of, count.nearer])

    def _may_be_watched(self, of: Of, gallery: Gallery) -> bool:
        known = self._thresholds.knows_strangers(gallery)
        return known and (of == "strangers" or _scored_by(gallery.active) in self._mates)

    def _watch(self, gallery: Gallery, found: Found) -> _Watch:
        """The gallery's, begun anew where it was changed or has outgrown it."""
        active, watch = gallery.active, self._watches.get(gallery.id)
        examples = round(found.encodings / found.subjects)
        if (
            watch is not None
            and watch.active is active
            and watch.least <= found.subjects <= watch.most
            and watch.examples == examples
        ):
            return watch
        rests_on = _rests_on(gallery)
        least, most = size_step(found.subjects)
        fresh = _Watch(active, rests_on, least, most, examples)
        kept = watch.counts if watch is not None and watch.rests_on == rests_on else []
        if watch is not None and kept and (watch.least, watch.most, watch.examples) == (least, most, examples):
            fresh.counts = kept  # another setting was changed
        else:
            suspected = {count.region.of: count for count in kept}
            for former in watch.counts if watch is not None else ():
                self._on_drift(gallery.id, former.region.of, False)
            for region in self._regions(gallery, found):
                count = _Count(region, [0] * len(region.shares))
                if region.of in suspected:
                    count.since, count.nearer = suspected[region.of].since, suspected[region.of].nearer
                fresh.counts.append(count)
                self._on_drift(gallery.id, region.of, count.since is not None)
        self._watches[gallery.id] = fresh
        return fresh

    def _regions(self, gallery: Gallery, found: Found) -> list[Region]:
        curve = self._thresholds.strangers(gallery, found.subjects, found.encodings)
        if curve is None:
            return []
        regions = [region_of_strangers(curve.taus, curve.rates, curve.people)]
        mates, active = self._mates.get(_scored_by(gallery.active)), gallery.active
        scores = mates.scores(active.fusion, found.encodings / found.subjects, found.subjects) if mates else None
        if mates is not None and scores is not None:
            regions.append(region_of_mates(scores, mates.shares, mates.people, curve.taus, curve.rates))
        return [region for region in regions if region is not None]

    def _new_in_frame(self, stream: tuple[str, str], nearest: Sequence[Candidate]) -> list[Candidate]:
        before = self._last.pop(stream, set())
        self._last[stream] = {one.subject_id for one in nearest}
        if len(self._last) > _STREAMS:
            self._last.popitem(last=False)
        return [one for one in nearest if one.subject_id not in before]

    def _add(self, gallery_id: str, count: _Count, scores: Sequence[float]) -> None:
        for score in scores:
            edges = count.region.edges
            if not edges[0] < score <= edges[-1]:
                count.others += 1
                continue
            count.bins[bisect.bisect_left(edges, score) - 1] += 1
            count.seen += 1
            if count.seen % _EVERY == 0:
                self._judge(gallery_id, count)

    def _judge(self, gallery_id: str, count: _Count) -> None:
        region = count.region
        if count.seen >= OTHERS * count.others and log_evidence(count.bins, region) >= _ALARM:
            count.nearer = nearer(count.bins, region)
            if count.since is None:
                count.since = self._clock()
                self._on_drift(gallery_id, region.of, True)
                advice = _ADVICE[region.of, count.nearer]
                log.warning("drift suspected", gallery=gallery_id, of=region.of, probes=count.seen, advice=advice)
            count.begin(region)
        elif count.seen >= WINDOW:
            if count.since is not None:
                count.since = None
                self._on_drift(gallery_id, region.of, False)
                log.info("drift no longer suspected", gallery=gallery_id, of=region.of, probes=count.seen)
            count.begin(region)


def _rests_on(gallery: Gallery) -> tuple[object, ...]:
    """Changes when a gallery's probes are held against something else."""
    return (gallery.created, *_scored_by(gallery.active), gallery.active.fusion, gallery.active.calibration)


def _scored_by(active: Generation) -> tuple[str, str]:
    return active.encoder_digest, active.decided_by
