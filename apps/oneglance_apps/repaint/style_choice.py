"""Which style to repaint in, and how."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StyleChoice:
    """Settings that all pictures, or frames, of one run have in common; ``stylize_settings`` of the client explains
    each."""

    styles: str | Mapping[str, float]
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
