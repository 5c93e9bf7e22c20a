"""The loaded models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oneglance_server.calls import Call
from oneglance_server.engines.loaded_model import LoadedModel
from oneglance_server.errors import ThresholdMissing
from oneglance_server.service.content import Tau
from oneglance_server.service.encoders import Encoders
from oneglance_server.service.thresholds import Thresholds


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model, and its threshold: of an encoder that has one of its own."""

    model: LoadedModel[Any]
    tau: Tau | None


class ModelService:
    """``models``: all that are loaded, of any kind."""

    def __init__(self, models: Sequence[LoadedModel[Any]], encoders: Encoders, thresholds: Thresholds) -> None:
        self._models = sorted(models, key=lambda model: model.manifest.name)
        self._encoders = encoders
        self._thresholds = thresholds

    def all(self, call: Call) -> list[ModelState]:
        """By name."""
        call.need_any()
        return [self._state(model) for model in self._models]

    def describe(self, call: Call, name_or_digest: str) -> ModelState:
        """No name means the only encoder. Raises ModelNotFound, InvalidRequest."""
        call.need_any()
        named = [model for model in self._models if name_or_digest in (model.manifest.name, model.digest)]
        return self._state(named[0] if named else self._encoders.find("model", name_or_digest))

    def _state(self, model: LoadedModel[Any]) -> ModelState:
        encoder = self._encoders.by_digest(model.digest)
        if encoder is None:
            return ModelState(model, None)
        calibration = encoder.manifest.threshold
        try:
            tau = self._thresholds.of_model(encoder.digest, calibration.gallery_size if calibration else 0)
        except ThresholdMissing:
            return ModelState(model, None)
        return ModelState(model, tau)
