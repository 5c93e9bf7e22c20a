"""The loaded stylizers and their styles, and what a request may ask of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.defaults import LEAST_STROKE_SIZE, MOST_STROKE_SIZE, PICTURE_QUALITY, STEADINESS
from oneglance_core.manifests import Style
from oneglance_server.engines.painting import Painter, PaintOptions
from oneglance_server.engines.picture_output import OutputFormat
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.errors import InvalidRequest, ModelNotFound, StyleNotFound, StylizerNotLoaded

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class StyleSettings:
    """As a request states it, unchecked; see oneglance.v1.StylizeSettings.

    styles: (name, weight) pairs. format: None for that of the picture.
    """

    styles: tuple[tuple[str, float], ...]
    stylizer: str = ""
    strength: float | None = None
    keep_colors: bool = False
    format: OutputFormat | None = None
    quality: int = 0
    max_side: int = 0
    stroke_size: float | None = None
    keep_faces: float = 0.0


@dataclass(frozen=True, slots=True)
class Order:
    """Checked settings: who paints, and how."""

    painter: Painter
    options: PaintOptions
    format: OutputFormat | None


class Stylizers:
    """The loaded stylizers."""

    def __init__(self, painters: Sequence[Painter]) -> None:
        self._by_name = {painter.stylizer.manifest.name: painter for painter in painters}
        self._by_digest = {painter.stylizer.digest: painter for painter in painters}

    def all(self) -> list[Stylizer]:
        """By name."""
        return [self._by_name[name].stylizer for name in sorted(self._by_name)]

    def check_loaded(self) -> None:
        """Raises StylizerNotLoaded when there is none."""
        if not self._by_name:
            raise StylizerNotLoaded("no stylizer is loaded; add one to --models")

    def order(self, settings: StyleSettings, path: str) -> Order:
        """``path`` names the settings in errors.

        Raises StylizerNotLoaded, ModelNotFound, StyleNotFound, InvalidRequest.
        """
        painter = self._find(f"{path}.stylizer", settings.stylizer)
        strength = 1.0 if settings.strength is None else settings.strength
        if not 0 <= strength <= 1:  # nor NaN
            raise InvalidRequest.field(f"{path}.strength", f"must be 0 to 1, got {strength}")
        if not 0 <= settings.quality <= 100:
            raise InvalidRequest.field(f"{path}.quality", f"must be 1 to 100, or 0, got {settings.quality}")
        if settings.max_side < 0:
            raise InvalidRequest.field(f"{path}.max_side", f"must be 0 or more, got {settings.max_side}")
        stroke_size = 1.0 if settings.stroke_size is None else settings.stroke_size
        if not LEAST_STROKE_SIZE <= stroke_size <= MOST_STROKE_SIZE:
            raise InvalidRequest.field(
                f"{path}.stroke_size", f"must be {LEAST_STROKE_SIZE:g} to {MOST_STROKE_SIZE:g}, got {stroke_size}"
            )
        if not 0 <= settings.keep_faces <= 1:
            raise InvalidRequest.field(f"{path}.keep_faces", f"must be 0 to 1, got {settings.keep_faces}")
        options = PaintOptions(
            _weights(painter.stylizer.manifest.styles, settings.styles, f"{path}.styles"),
            strength,
            settings.keep_colors,
            settings.quality or PICTURE_QUALITY,
            settings.max_side,
            stroke_size,
            settings.keep_faces,
        )
        return Order(painter, options, settings.format)

    def _find(self, path: str, name_or_digest: str) -> Painter:
        self.check_loaded()
        if not name_or_digest:
            if len(self._by_name) == 1:
                return next(iter(self._by_name.values()))
            known = ", ".join(sorted(self._by_name))
            raise InvalidRequest.field(path, f"name one of the loaded stylizers: {known}", reason="MODEL_REQUIRED")
        found = self._by_name.get(name_or_digest) or self._by_digest.get(name_or_digest)
        if found is None:
            shown = _short(name_or_digest)
            raise ModelNotFound(f"no loaded stylizer {shown!r}", metadata={"model": shown})
        return found


def check_steadiness(path: str, steadiness: float | None) -> float:
    """[0, 1), the default for None. Raises InvalidRequest."""
    if steadiness is None:
        return STEADINESS
    if not 0 <= steadiness < 1:
        raise InvalidRequest.field(path, f"must be at least 0 and below 1, got {steadiness}")
    return steadiness


def _weights(styles: Sequence[Style], asked: Sequence[tuple[str, float]], path: str) -> npt.NDArray[np.float32]:
    """float32 [S], summing to 1."""
    if len(asked) == 1 and asked[0][1] == 0:
        asked = [(asked[0][0], 1.0)]
    places = {style.name: i for i, style in enumerate(styles)}
    weights = np.zeros(len(styles), np.float64)
    seen = set()
    for i, (name, weight) in enumerate(asked):
        if name not in places:
            shown, known = _short(name), ", ".join(places)
            raise StyleNotFound(
                f"no style {shown!r}; there are {known}",
                fields=((f"{path}[{i}].style", f"one of {known}"),),
                metadata={"style": shown},
            )
        if name in seen:
            raise InvalidRequest.field(f"{path}[{i}].style", f"{name} is there twice", reason="WEIGHTS_INVALID")
        seen.add(name)
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidRequest.field(
                f"{path}[{i}].weight", f"must be finite and >= 0, got {weight}", reason="WEIGHTS_INVALID"
            )
        weights[places[name]] = weight
    total = float(weights.sum())
    if abs(total - 1) > _SUM_TOLERANCE:
        raise InvalidRequest.field(path, f"the weights must sum to 1, not {total:g}", reason="WEIGHTS_INVALID")
    return (weights / total).astype(np.float32)


def _short(name: str) -> str:
    return name if len(name) <= 128 else name[:125] + "..."
