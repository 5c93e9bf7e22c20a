"""Which style to repaint in, and how."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oneglance.client.requests import StylesLike


@dataclass(frozen=True)
class StyleChoice:
    """Settings that all pictures, or frames, of one run have in common; ``stylize_settings`` of the client explains
    each."""

    styles: StylesLike
    stylizer: str = ""
    strength: float | None = None
    keep_colors: bool = False
    quality: int = 0
    max_side: int = 0
    stroke_size: float | None = None
    keep_faces: float = 0.0

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the client's ``stylize`` and ``stylize_stream``, except styles, format and quality."""
        return {
            "stylizer": self.stylizer,
            "strength": self.strength,
            "keep_colors": self.keep_colors,
            "max_side": self.max_side,
            "stroke_size": self.stroke_size,
            "keep_faces": self.keep_faces,
        }

    def told(self) -> dict[str, Any]:
        """All of it, as JSON can hold it; of a picture its digest. Raises OSError for one that can't be read."""
        weights: Mapping[Any, float] = self.styles if isinstance(self.styles, Mapping) else {self.styles: 1.0}
        return {**asdict(self), "styles": {_name(style): weight for style, weight in weights.items()}}


def _name(style: Any) -> str:
    return hashlib.sha256(style.read_bytes()).hexdigest() if isinstance(style, Path) else str(style)
