"""Which tau applies: the request's, else the gallery's, else the model's, else its author's."""

import functools
from collections.abc import Sequence

from oneglance_core.manifests import Calibration
from oneglance_index import Gallery, ThresholdVersion
from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import ThresholdMissing
from oneglance_server.service.content import Tau, check_tau


class Thresholds:
    """The thresholds of the loaded encoders, and how those of a gallery or a request take their place."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        manifests = {encoder.digest: encoder.manifest for encoder in encoders}
        self._calibrated = {
            digest: _Calibrated(manifest.threshold) for digest, manifest in manifests.items() if manifest.threshold
        }
        self._recommended = {
            digest: manifest.author_threshold.tau for digest, manifest in manifests.items() if manifest.author_threshold
        }

    def of_gallery(self, gallery: Gallery, size: int, requested: float | None = None) -> Tau:
        """The tau that applies in a gallery. ``size``: subjects enrolled, for the expected FPIR.

        Raises ThresholdMissing, InvalidRequest.
        """
        known, active = self._known(gallery), gallery.active
        if requested is None and active.threshold is not None:
            version = active.threshold_revision
            fitted = active.calibration if active.calibration_revision == version else None
            return _gallery_tau(active.threshold, version, active.threshold_since, fitted, known, size)
        return self._model_tau(active.encoder_digest, size, requested, known, active.fusion)

    def in_force(self, gallery: Gallery) -> Tau | None:
        """The tau that applies in a gallery at its present size; None where there is none."""
        try:
            return self.of_gallery(gallery, gallery.subjects)
        except ThresholdMissing:
            return None

    def of_model(self, digest: str, size: int, requested: float | None = None) -> Tau:
        """The request's tau, else that of encoder ``digest``, for distances: calibrated, or its author's.

        Raises ThresholdMissing, InvalidRequest.
        """
        return self._model_tau(digest, size, requested, self._calibrated.get(digest), "nearest")

    def of_version(self, gallery: Gallery, version: ThresholdVersion) -> tuple[Tau | None, Calibration | None]:
        """An earlier tau of the gallery as it would apply now, None where its own was cleared; and its evidence."""
        calibration = _ready(version.calibration).calibration if version.calibration else None
        if version.threshold is None:
            return None, calibration
        known = self._known(gallery)
        tau = _gallery_tau(
            version.threshold, version.version, version.since, version.calibration, known, gallery.subjects
        )
        return tau, calibration

    def evidence(self, gallery: Gallery, tau: Tau) -> Calibration | None:
        """What ``tau`` was fitted on, if it was."""
        if tau.source == "calibration" and gallery.active.calibration is not None:
            return _ready(gallery.active.calibration).calibration
        known = self._calibrated.get(gallery.active.encoder_digest) if tau.source == "model" else None
        return known.calibration if known else None

    def _model_tau(
        self, digest: str, size: int, requested: float | None, known: "_Calibrated | None", fusion: str
    ) -> Tau:
        """``known``: what gives its FMR; ``fusion``: the rule whose scores it is for."""
        own = self._calibrated.get(digest)
        target = None
        if requested is not None:
            value, source, id = check_tau("tau", requested, fusion), "request", ""
        elif fusion == "margin":
            raise ThresholdMissing(
                "no tau: the request gives none, the gallery has none, and its model's is not for scores by margin; "
                "calibrate the gallery",
                metadata={"encoder_digest": digest},
            )
        elif own is not None:
            value, source, id, target = own.tau, "model", own.id, own.target_fpir
        elif digest in self._recommended:
            value, source, id = self._recommended[digest], "author", ""
        else:
            raise ThresholdMissing(
                "no tau: the request gives none, the gallery has none, and its model is not calibrated or not loaded",
                metadata={"encoder_digest": digest},
            )
        return Tau(value, source, id, known.fmr(value) if known else None, size, target)

    def _known(self, gallery: Gallery) -> "_Calibrated | None":
        """What is known of error rates in this gallery by its rule of fusion: from its own newest calibration, else the
        model's, which is for distances."""
        fusion = gallery.active.fusion
        if gallery.active.calibration is not None:
            own = _ready(gallery.active.calibration)
            if own.calibration.fusion == fusion:
                return own
        return None if fusion == "margin" else self._calibrated.get(gallery.active.encoder_digest)


class _Calibrated:
    """A calibration made ready once: every answer asks for it."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.tau = calibration.tau
        self.id = calibration.id
        self.target_fpir = calibration.target_fpir
        self.fmr = functools.lru_cache(maxsize=1024)(calibration.fmr)


@functools.lru_cache(maxsize=1024)
def _ready(calibration: str) -> _Calibrated:
    return _Calibrated(Calibration.model_validate_json(calibration))


def _gallery_tau(
    value: float, version: int, since: float | None, calibration: str | None, known: _Calibrated | None, size: int
) -> Tau:
    """``calibration``: what this very tau came from; ``known``: what gives its FMR."""
    return Tau(
        value,
        "gallery" if calibration is None else "calibration",
        str(version),
        known.fmr(value) if known else None,
        size,
        None if calibration is None else _ready(calibration).target_fpir,
        since,
    )
