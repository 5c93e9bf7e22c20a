"""The loaded stylizers and their styles, and what a request may ask of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from oneglance_core.defaults import LEAST_STROKE_SIZE, MOST_STROKE_SIZE, PICTURE_QUALITY, STEADINESS
from oneglance_core.manifests import Style
from oneglance_server.engines.painting import Painter, PaintOptions
from oneglance_server.engines.picture_output import OutputFormat
from oneglance_server.engines.style_reader import StyleReader
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.errors import InvalidRequest, ModelNotFound, StyleNotFound, StylizerNotLoaded
from oneglance_server.kept_styles import KeptStyles

Weights = npt.NDArray[np.float64]
MAX_STYLE_PICTURES = 8  # of a request
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class AskedStyle:
    """A style by its name, or a picture of it; see oneglance.v1.StyleWeight."""

    name: str
    weight: float
    picture: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class StyleSettings:
    """As a request states it, unchecked; see oneglance.v1.StylizeSettings.

    format: None for that of the picture.
    """

    styles: tuple[AskedStyle, ...]
    stylizer: str = ""
    strength: float | None = None
    keep_colors: bool = False
    format: OutputFormat | None = None
    quality: int = 0
    max_side: int = 0
    stroke_size: float | None = None
    keep_faces: float = 0.0


@dataclass(frozen=True, slots=True)
class StylePicture:
    """A picture whose style is to be read, the share ``weight`` of it. ``path`` names it in errors."""

    data: bytes = field(repr=False)
    weight: float
    path: str


@dataclass(frozen=True, slots=True)
class Order:
    """Checked settings: who paints, and how. ``pictures``: whose styles are still to be added to the weights."""

    painter: Painter
    options: PaintOptions
    format: OutputFormat | None
    pictures: tuple[StylePicture, ...] = ()


class Stylizers:
    """The loaded stylizers. ``kept``: styles of pictures, for those for any style."""

    def __init__(self, painters: Sequence[Painter], kept: KeptStyles) -> None:
        self.kept = kept
        self._by_name = {painter.stylizer.manifest.name: painter for painter in painters}
        self._by_digest = {painter.stylizer.digest: painter for painter in painters}

    def all(self) -> list[tuple[Stylizer, Sequence[Style]]]:
        """By name, with the styles of each."""
        stylizers = [self._by_name[name].stylizer for name in sorted(self._by_name)]
        return [
            (one, self.kept.of(space) if (space := one.manifest.space) else one.manifest.styles) for one in stylizers
        ]

    def for_any(self, name_or_digest: str) -> tuple[Stylizer, StyleReader]:
        """The one for any style, and its reader. Raises StylizerNotLoaded, ModelNotFound, InvalidRequest."""
        able = self._asked_for(name_or_digest)
        if name_or_digest and able[0].reader is None:
            raise InvalidRequest.field("stylizer", f"{name_or_digest} paints in its own styles only")
        readers = {painter.stylizer: painter.reader for painter in able if painter.reader is not None}
        stylizer = self._only([painter for painter in able if painter.stylizer in readers], "stylizer").stylizer
        return stylizer, readers[stylizer]

    def check_loaded(self) -> None:
        """Raises StylizerNotLoaded when there is none."""
        if not self._by_name:
            raise StylizerNotLoaded("no stylizer is loaded; add one to --models")

    def order(self, settings: StyleSettings, path: str) -> Order:
        """``path`` names the settings in errors.

        Raises StylizerNotLoaded, ModelNotFound, StyleNotFound, InvalidRequest.
        """
        painter = self._find(path, settings)
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
        weights, pictures = _blend(painter, self._named(painter), settings.styles, f"{path}.styles")
        options = PaintOptions(
            weights,
            strength,
            settings.keep_colors,
            settings.quality or PICTURE_QUALITY,
            settings.max_side,
            stroke_size,
            settings.keep_faces,
        )
        return Order(painter, options, settings.format, pictures)

    def _named(self, painter: Painter) -> Mapping[str, Weights]:
        """What weights each style has by its name."""
        manifest = painter.stylizer.manifest
        if manifest.space is not None:
            return self.kept.vectors(manifest.space)
        return {style.name: row for style, row in zip(manifest.styles, np.eye(manifest.numbers), strict=False)}

    def _find(self, path: str, settings: StyleSettings) -> Painter:
        """Raises StylizerNotLoaded, ModelNotFound, InvalidRequest."""
        able = self._asked_for(settings.stylizer)
        pictured = next((i for i, asked in enumerate(settings.styles) if asked.picture), None)
        if pictured is not None:
            able = [painter for painter in able if painter.reader is not None]
            if not able and settings.stylizer:
                raise InvalidRequest.field(
                    f"{path}.styles[{pictured}].picture", f"{settings.stylizer} paints in its own styles only"
                )
        elif len(able) > 1:
            names = {asked.name for asked in settings.styles}
            able = [painter for painter in able if names <= self._named(painter).keys()] or able
        return self._only(able, f"{path}.stylizer")

    def _asked_for(self, name_or_digest: str) -> list[Painter]:
        """The stylizer of that name or digest; without one, all by name. Raises StylizerNotLoaded, ModelNotFound."""
        self.check_loaded()
        if not name_or_digest:
            return [self._by_name[name] for name in sorted(self._by_name)]
        found = self._by_name.get(name_or_digest) or self._by_digest.get(name_or_digest)
        if found is None:
            shown = _short(name_or_digest)
            raise ModelNotFound(f"no loaded stylizer {shown!r}", metadata={"model": shown})
        return [found]

    def _only(self, able: Sequence[Painter], path: str) -> Painter:
        """The only one of those that can. Raises StylizerNotLoaded, InvalidRequest."""
        if not able:
            raise StylizerNotLoaded("no stylizer for the style of a picture is loaded; add one to --models")
        if len(able) > 1:
            known = ", ".join(painter.stylizer.manifest.name for painter in able)
            raise InvalidRequest.field(path, f"name one of the loaded stylizers: {known}", reason="MODEL_REQUIRED")
        return able[0]


def check_steadiness(path: str, steadiness: float | None) -> float:
    """[0, 1), the default for None. Raises InvalidRequest."""
    if steadiness is None:
        return STEADINESS
    if not 0 <= steadiness < 1:
        raise InvalidRequest.field(path, f"must be at least 0 and below 1, got {steadiness}")
    return steadiness


def _blend(
    painter: Painter, named: Mapping[str, Weights], asked: Sequence[AskedStyle], path: str
) -> tuple[npt.NDArray[np.float32], tuple[StylePicture, ...]]:
    """The sum of the named styles, float32 [S], each times its share, and the pictures with theirs."""
    if len(asked) == 1 and asked[0].weight == 0:
        asked = [replace(asked[0], weight=1.0)]
    if sum(bool(one.picture) for one in asked) > MAX_STYLE_PICTURES:
        raise InvalidRequest.field(path, f"at most {MAX_STYLE_PICTURES} pictures", reason="TOO_MANY")
    seen = set()
    for i, one in enumerate(asked):
        if one.picture and one.name:
            raise InvalidRequest.field(f"{path}[{i}]", "has a name and a picture; send one of them")
        if not one.picture and one.name not in named:
            shown, known = _short(one.name), ", ".join(named) or "none by name"
            raise StyleNotFound(
                f"no style {shown!r}; there are {known}",
                fields=((f"{path}[{i}].style", f"one of {known}" if named else "send a picture of the style"),),
                metadata={"style": shown},
            )
        if one.name in seen:
            raise InvalidRequest.field(f"{path}[{i}].style", f"{one.name} is there twice", reason="WEIGHTS_INVALID")
        seen.update([one.name] if one.name else [])
        if not (math.isfinite(one.weight) and one.weight >= 0):
            raise InvalidRequest.field(
                f"{path}[{i}].weight", f"must be finite and >= 0, got {one.weight}", reason="WEIGHTS_INVALID"
            )
    total = sum(one.weight for one in asked)
    if not abs(total - 1) <= _SUM_TOLERANCE:
        raise InvalidRequest.field(path, f"the weights must sum to 1, not {total:g}", reason="WEIGHTS_INVALID")
    weights = np.zeros(painter.stylizer.manifest.numbers, np.float64)
    for one in asked:
        if not one.picture:
            weights += one.weight / total * named[one.name]
    pictures = tuple(
        StylePicture(one.picture, one.weight / total, f"{path}[{i}].picture")
        for i, one in enumerate(asked)
        if one.picture
    )
    return weights.astype(np.float32), pictures


def _short(name: str) -> str:
    return name if len(name) <= 128 else name[:125] + "..."
