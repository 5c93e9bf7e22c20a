"""Repaint one picture."""

import time

from oneglance.client.errors import ResourceExhaustedError
from oneglance.client.requests import PictureFormatName
from oneglance.client.sync_client import Client
from oneglance.v1.stylization_pb2 import StylizedPicture
from oneglance_apps.repaint.style_choice import StyleChoice

QUEUE_FULL = "QUEUE_FULL"
PAUSE_SECONDS = 0.5  # before the next try, when the server's queue was full


def repaint_picture(
    client: Client,
    choice: StyleChoice,
    picture: bytes,
    format: PictureFormatName,
    *,
    patience_seconds: float = 0.0,
) -> StylizedPicture:
    """Repaint an encoded picture. While the server's queue is full it tries again, for ``patience_seconds``.

    Raises OneglanceError.
    """
    until = time.monotonic() + patience_seconds
    while True:
        try:
            return client.stylize(picture, choice.styles, format=format, quality=choice.quality, **choice.arguments)
        except ResourceExhaustedError as error:
            if error.reason != QUEUE_FULL or time.monotonic() + PAUSE_SECONDS > until:
                raise
        time.sleep(PAUSE_SECONDS)
