"""The loaded models."""

from collections.abc import Sequence
from dataclasses import dataclass

from oneglance_server.calls import Call
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.faces import Detector, Landmarks
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.errors import ThresholdMissing
from oneglance_server.service.content import Tau
from oneglance_server.service.encoders import Encoders
from oneglance_server.service.thresholds import Thresholds

OtherModel = Detector | Landmarks | Stylizer


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """``tau``: None when it has no threshold of its own."""

    encoder: Encoder
    tau: Tau | None


class ModelService:
    """``others``: the models that are no encoders."""

    def __init__(self, encoders: Encoders, others: Sequence[OtherModel], thresholds: Thresholds) -> None:
        self._encoders = encoders
        self._others = others
        self._thresholds = thresholds

    def all(self, call: Call) -> Sequence[LoadedEncoder | OtherModel]:
        """By name."""
        found = [*map(self._with_tau, self._encoders.all()), *self._others]
        return sorted(found, key=lambda one: (one.encoder if isinstance(one, LoadedEncoder) else one).manifest.name)

    def describe(self, call: Call, name_or_digest: str) -> LoadedEncoder | OtherModel:
        """Raises ModelNotFound, InvalidRequest."""
        for model in self._others:
            if name_or_digest in (model.manifest.name, model.digest):
                return model
        return self._with_tau(self._encoders.find("model", name_or_digest))

    def _with_tau(self, encoder: Encoder) -> LoadedEncoder:
        calibration = encoder.manifest.threshold
        try:
            tau = self._thresholds.of_model(encoder.digest, calibration.gallery_size if calibration else 0)
        except ThresholdMissing:
            return LoadedEncoder(encoder, None)
        return LoadedEncoder(encoder, tau)
