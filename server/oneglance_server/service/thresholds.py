"""Which tau applies: the request's, else the gallery's, else one that follows the gallery's size and keeps the FPIR it
asks for, else the model's, else its author's."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from oneglance_core.calibration import Prior
from oneglance_core.expectation import Expectation, Rate
from oneglance_core.manifests import Calibration, EncoderManifest, PairHeadPart
from oneglance_core.measures import expected_fpir, fmr_for_fpir
from oneglance_index import Followable, Followed, Gallery, Generation, ThresholdVersion
from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import ThresholdMissing
from oneglance_server.service.content import Tau, check_tau
from oneglance_server.service.encoders import where_bundled
from oneglance_server.service.following import MadeFor, Measured, examples_of, moved

_POINTS = 60  # of a curve, between the least and the largest tau that was measured

_ACCEPTED_OF_DOUBTFUL = 0.05  # share of wrong claims that are not seen to be unlike the subject


@dataclass(frozen=True, slots=True)
class Deciding:
    """What decides in a gallery, before its size is known: ``at`` gives the tau. See Tau for the fields.

    value: None where it is made for the size and the examples at hand, so that the FPIR to expect is ``target``.
    own: a calibration on strangers, which tells the FPIR to expect; else ``model`` does, what was measured of the
    model. one_to_one: Verify: FMR in place of FPIR, at any size.
    """

    value: float | None
    source: str
    id: str
    fusion: str
    own: "_Calibrated | None"
    model: Measured | None
    target: float | None = None
    set_time: float | None = None
    version: int = 0
    one_to_one: bool = False

    def at(self, subjects: int, encodings: int) -> Tau:
        """The tau for a gallery of so many subjects with so many encodings together."""
        alone = self.one_to_one and self.fusion != "margin"  # by margin the others count against a claim, too
        size = 1 if alone else subjects
        examples = examples_of(subjects, encodings)
        value, id = self.value, self.id
        if value is None:
            assert self.model is not None
            assert self.target is not None
            made = self.model.made_for(self.fusion, size, examples)
            # That one of so many is accepted is likelier than that the claimed one is.
            target = expected_fpir(self.target, made.size) if self.one_to_one else self.target
            value, id = self.model.tau(target, made), str(made)
        rate = self._rate(value, size, examples)
        if rate is not None and self.one_to_one and size > 1:
            low, high = (None if each is None else fmr_for_fpir(each, size) for each in (rate.low, rate.high))
            rate = Rate(fmr_for_fpir(rate.value, size), low, high)
        fpir, fmr = (None, rate) if self.one_to_one else (rate, None)
        target_fpir = None if self.one_to_one else self.target
        return Tau(value, self.source, id, fpir, fmr, target_fpir, self.set_time, self.version)

    def _rate(self, value: float, size: int, examples: float) -> Rate | None:
        if self.own is not None:
            return self.own.rate(value, size)
        if self.model is None:
            return None
        return self.model.expectation.fpir(value, self.fusion, examples, size) if size else Rate(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Strangers:
    """What share of strangers has a score of at most each tau, both rising, as so many people told it."""

    taus: Sequence[float]
    rates: Sequence[float]
    people: int


class Thresholds:
    """The thresholds of the loaded encoders, and how those of a gallery or a request take their place."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        manifests = {encoder.digest: encoder.manifest for encoder in encoders}
        self._loaded = frozenset(manifests)
        # By digest, and what decides.
        parts: dict[tuple[str, str], EncoderManifest | PairHeadPart] = {}
        for digest, manifest in manifests.items():
            parts[digest, "distance"] = manifest
            if manifest.pair_head is not None:
                parts[digest, "probability"] = manifest.pair_head
        self._calibrated = {key: _Calibrated(part.threshold) for key, part in parts.items() if part.threshold}
        self._measured = {
            key: Measured(Expectation(part.false_positives)) for key, part in parts.items() if part.false_positives
        }
        self._recommended = {
            digest: manifest.author_threshold.tau for digest, manifest in manifests.items() if manifest.author_threshold
        }

    def of_gallery(self, gallery: Gallery, requested: float | None = None) -> Deciding:
        """What decides in a gallery. Raises ThresholdMissing, InvalidRequest."""
        active = gallery.active
        if requested is None and active.threshold is not None:
            version = active.threshold_revision
            fitted = active.calibration if active.calibration_revision == version else None
            return self._own(gallery, active.threshold, version, active.threshold_since, fitted)
        if requested is None and active.followed is not None:
            version, since = active.threshold_revision, active.threshold_since
            return self._followed(gallery, active.followed, gallery.target_fpir, version, since)
        model = self._model_of(active)
        if requested is None and gallery.target_fpir is not None and model is not None:
            own = self._calibration(gallery)
            return Deciding(None, "model", "", active.fusion, own, model, gallery.target_fpir)
        own = self._calibration(gallery)
        return self._of_model(active.encoder_digest, requested, active.fusion, own, active.decided_by)

    def prior(self, gallery: Gallery) -> Prior | None:
        """What the model's measurements say of the gallery at its present size, before any stranger came."""
        model = self._model_of(gallery.active)
        if model is None or not gallery.subjects:
            return None
        fusion, examples = gallery.active.fusion, examples_of(gallery.subjects, gallery.encodings)
        expectation, size = model.expectation, gallery.subjects
        return Prior(
            lambda tau: expectation.fpir(tau, fusion, examples, size).value,
            expectation.measured.people,
            *expectation.reach(fusion),
        )

    def strangers(self, gallery: Gallery, subjects: int, encodings: int) -> Strangers | None:
        """The scores to expect of strangers in a gallery of this size, >= 1: by its own calibration, else by what was
        measured of the model, else by the model's calibration; None where nothing was measured."""
        known = self._strangers_of(gallery)
        if isinstance(known, Measured):
            fusion, examples = gallery.active.fusion, max(1.0, round(encodings / subjects, 1))
            taus = np.linspace(*known.expectation.reach(fusion), _POINTS).tolist()
            rates = [known.expectation.fpir(tau, fusion, examples, subjects).value for tau in taus]
            return Strangers(taus, rates, known.expectation.measured.people)
        if known is None or not known.calibration.fmr_curve:
            return None
        taus = [tau for tau, _ in known.calibration.fmr_curve]
        rates = [expected_fpir(rate, subjects) for _, rate in known.calibration.fmr_curve]
        return Strangers(taus, rates, known.calibration.non_mated_probes)

    def knows_strangers(self, gallery: Gallery) -> bool:
        """Whether ``strangers`` has anything to go by."""
        return self._strangers_of(gallery) is not None

    def _strangers_of(self, gallery: Gallery) -> "_Calibrated | Measured | None":
        active = gallery.active
        return self._calibration(gallery) or self._model_of(active) or self._calibration_of(active)

    def one_to_one(self, gallery: Gallery, requested: float | None, target_fmr: float) -> Deciding:
        """What decides whether a probe is one subject of a gallery: at ``target_fmr`` where tau follows.

        Raises ThresholdMissing, InvalidRequest.
        """
        active = gallery.active
        model = self._model_of(active)
        follows = requested is None and active.threshold is None and gallery.target_fpir is not None
        if follows and model is not None:
            own = self._calibration(gallery)
            return Deciding(None, "model", "", active.fusion, own, model, target_fmr, one_to_one=True)
        return replace(self.of_gallery(gallery, requested), one_to_one=True)

    def of_pair(self, digest: str, requested: float | None, target_fmr: float) -> Deciding:
        """What decides whether two examples show one subject: the request's tau, else one for ``target_fmr`` where
        encoder ``digest`` was measured, else the encoder's or its author's.

        Raises ThresholdMissing, InvalidRequest.
        """
        model = self._model(digest, "nearest")
        if requested is None and model is not None:
            return Deciding(None, "model", "", "nearest", None, model, target_fmr, one_to_one=True)
        return replace(self._of_model(digest, requested, "nearest", None), one_to_one=True)

    def moved(self, found: Followable) -> Followed | None:
        """The tau that takes the place of the one that a gallery follows; a TauRule."""
        model = self._model(found.encoder_digest, found.fusion, found.decided_by)
        if model is None:
            return None
        return moved(model, found.fusion, found.target_fpir, found.subjects, found.encodings, found.followed)

    def doubt_limits(self, gallery: Gallery, subjects: int, encodings: int) -> tuple[float | None, float | None]:
        """(at most how far from another subject, beyond what distance from its own others) an example to enroll is
        doubtful, by single encodings; None where there is no tau. For a gallery of so many subjects and encodings.

        The first is the gallery's tau, if it is one for distances that was set; else that of the rule ``nearest``. The
        second is the tau at which one in 20 wrong claims is accepted, where the model was measured; else the first.
        """
        active = gallery.active
        of_distances = active.decided_by == "distance"
        own = active.threshold if of_distances and active.fusion != "margin" else None
        followed = active.followed if of_distances and active.fusion == "nearest" else None
        singly = replace(active, fusion="nearest", decided_by="distance", threshold=own, followed=followed)
        try:
            like = self.of_gallery(replace(gallery, active=singly))
        except ThresholdMissing:
            like_another = None
        else:
            like_another = like.at(subjects, encodings).value
        model = self._model(active.encoder_digest, "nearest")
        if model is None:
            return like_another, like_another
        far = model.expectation.tau(_ACCEPTED_OF_DOUBTFUL, "nearest", 1, 1)
        return like_another, far if like_another is None else max(far, like_another)

    def in_force(self, gallery: Gallery, subjects: int | None = None, encodings: int | None = None) -> Tau | None:
        """The tau that applies in a gallery at its present size, or at another; None where there is none."""
        subjects = gallery.subjects if subjects is None else subjects
        encodings = gallery.encodings if encodings is None else encodings
        try:
            return self.of_gallery(gallery).at(subjects, encodings)
        except ThresholdMissing:
            return None

    def of_model(self, digest: str, size: int) -> Tau:
        """That of encoder ``digest``, for distances: calibrated, or its author's. Raises ThresholdMissing."""
        return self._of_model(digest, None, "nearest", None).at(size, size)

    def of_version(self, gallery: Gallery, version: ThresholdVersion) -> tuple[Tau | None, Calibration | None]:
        """An earlier tau of the gallery as it would apply now, None where its own was cleared; and its evidence."""
        calibration = _ready(version.calibration).calibration if version.calibration else None
        if version.threshold is None:
            return None, calibration
        if version.followed is not None:
            followed = Followed(version.threshold, version.followed)
            found = self._followed(gallery, followed, version.target_fpir, version.version, version.since)
        else:
            found = self._own(gallery, version.threshold, version.version, version.since, version.calibration)
        return found.at(gallery.subjects, gallery.encodings), calibration

    def evidence(self, gallery: Gallery, tau: Tau) -> Calibration | None:
        """What ``tau`` was fitted on, if it was fitted once."""
        if tau.source == "calibration" and gallery.active.calibration is not None:
            return _ready(gallery.active.calibration).calibration
        key = gallery.active.encoder_digest, gallery.active.decided_by
        known = self._calibrated.get(key) if tau.source == "model" else None
        return known.calibration if known is not None and known.id == tau.id else None

    def _own(
        self, gallery: Gallery, value: float, version: int, since: float | None, calibration: str | None
    ) -> Deciding:
        """``calibration``: what this very tau of the gallery came from."""
        active = gallery.active
        former = calibration is not None and _ready(calibration).calibration.decided_by != active.decided_by
        return Deciding(
            value,
            "gallery" if calibration is None else "calibration",
            str(version),
            active.fusion,
            None if former else self._calibration(gallery) or self._calibration_of(active),
            None if former else self._model_of(active),
            None if calibration is None else _ready(calibration).target_fpir,
            since,
            version,
        )

    def _followed(
        self, gallery: Gallery, followed: Followed, target_fpir: float | None, version: int, since: float | None
    ) -> Deciding:
        made, active = MadeFor.parse(followed.id), gallery.active
        fusion = made.fusion  # of an earlier version perhaps not the gallery's present rule
        other = "distance" if active.decided_by == "probability" else "probability"
        decided_before = self._model(active.encoder_digest, fusion, other)
        if decided_before is not None and decided_before.id == made.model:
            return Deciding(
                followed.tau, "model", followed.id, fusion, None, decided_before, target_fpir, since, version
            )
        own = self._calibration(gallery) if fusion == active.fusion else None
        model = self._model(active.encoder_digest, fusion, active.decided_by)
        return Deciding(followed.tau, "model", followed.id, fusion, own, model, target_fpir, since, version)

    def _of_model(
        self,
        digest: str,
        requested: float | None,
        fusion: str,
        own: "_Calibrated | None",
        decided_by: str = "distance",
    ) -> Deciding:
        """``own``: the gallery's newest calibration; ``fusion``, ``decided_by``: whose scores it is for."""
        calibrated, target = self._calibrated.get((digest, decided_by)), None
        if requested is not None:
            value, source, id = check_tau("tau", requested, fusion, decided_by), "request", ""
        elif fusion == "margin":
            raise ThresholdMissing(
                "no tau: the request gives none, the gallery has none, and its model's is not for scores by margin; "
                "calibrate the gallery",
                metadata={"encoder_digest": digest},
            )
        elif calibrated is not None:
            value, source, id, target = calibrated.tau, "model", calibrated.id, calibrated.target_fpir
        elif digest in self._recommended and decided_by == "distance":
            value, source, id = self._recommended[digest], "author", ""
        else:
            why = "not calibrated" if digest in self._loaded else f"not loaded here{where_bundled(digest)}"
            raise ThresholdMissing(
                f"no tau: the request gives none, the gallery has none, and its model is {why}",
                metadata={"encoder_digest": digest},
            )
        known = own or self._fitted(digest, fusion, decided_by)
        return Deciding(value, source, id, fusion, known, self._model(digest, fusion, decided_by), target)

    def _calibration(self, gallery: Gallery) -> "_Calibrated | None":
        """The gallery's own newest calibration, if it is for its rule of fusion and what decides in it."""
        active = gallery.active
        if active.calibration is None:
            return None
        own = _ready(active.calibration)
        made_for = own.calibration.fusion, own.calibration.decided_by
        return own if made_for == (active.fusion, active.decided_by) else None

    def _calibration_of(self, active: Generation) -> "_Calibrated | None":
        return self._fitted(active.encoder_digest, active.fusion, active.decided_by)

    def _fitted(self, digest: str, fusion: str, decided_by: str) -> "_Calibrated | None":
        """The model's own calibration, where nothing better was measured of it. It is for no scores by margin."""
        if fusion == "margin" or (digest, decided_by) in self._measured:
            return None
        return self._calibrated.get((digest, decided_by))

    def _model_of(self, active: Generation) -> Measured | None:
        return self._model(active.encoder_digest, active.fusion, active.decided_by)

    def _model(self, digest: str, fusion: str, decided_by: str = "distance") -> Measured | None:
        measured = self._measured.get((digest, decided_by))
        return measured if measured is not None and measured.expectation.knows(fusion) else None


class _Calibrated:
    """A calibration made ready once: every answer asks for it."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.tau = calibration.tau
        self.id = calibration.id
        self.target_fpir = calibration.target_fpir
        self.fmr = functools.lru_cache(maxsize=1024)(calibration.fmr)

    def rate(self, tau: float, size: int) -> Rate | None:
        """The FPIR to expect at a size, as if comparisons were independent; its interval at the fitted tau only."""
        fmr = self.fmr(tau)
        if fmr is None:
            return None
        value = expected_fpir(fmr, size)
        if tau != self.tau:
            return Rate(value, None, None)
        low, high = (
            expected_fpir(fmr_for_fpir(rate, self.calibration.gallery_size), size)
            for rate in (self.calibration.fpir_low, self.calibration.fpir_high)
        )
        return Rate(value, min(low, value), max(high, value))


@functools.lru_cache(maxsize=1024)
def _ready(calibration: str) -> _Calibrated:
    return _Calibrated(Calibration.model_validate_json(calibration))
