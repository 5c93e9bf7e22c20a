"""What everything of one run is repainted with, and a picture repainted with it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneglance.client.errors import ResourceExhaustedError
from oneglance.client.requests import PictureFormatName
from oneglance.client.sync_client import Client
from oneglance.v1.stylization_pb2 import StylizedPicture

QUEUE_FULL = "QUEUE_FULL"
PAUSE_SECONDS = 0.5  # before a call is tried again that found the server's queue full


@dataclass(frozen=True)
class Look:
    """Settings that pictures, folders and videos have in common; ``oneglance.stylize_settings`` tells them."""

    styles: str | Mapping[str, float]
    stylizer: str = ""
    strength: float | None = None
    keep_colors: bool = False
    quality: int = 0
    max_side: int = 0

    @property
    def arguments(self) -> dict[str, Any]:
        """Of ``stylize`` and ``stylize_stream``, but for the styles, the format and the quality."""
        return {
            "stylizer": self.stylizer,
            "strength": self.strength,
            "keep_colors": self.keep_colors,
            "max_side": self.max_side,
        }


def repaint(
    client: Client, look: Look, picture: bytes, format: PictureFormatName, *, patience_seconds: float = 0.0
) -> StylizedPicture:
    """One picture. While the server's queue is full the call is tried again, for ``patience_seconds``. Raises
    OneglanceError."""
    until = time.monotonic() + patience_seconds
    while True:
        try:
            return client.stylize(picture, look.styles, format=format, quality=look.quality, **look.arguments)
        except ResourceExhaustedError as error:
            if error.reason != QUEUE_FULL or time.monotonic() + PAUSE_SECONDS > until:
                raise
        time.sleep(PAUSE_SECONDS)
