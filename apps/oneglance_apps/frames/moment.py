"""When a frame was taken."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Moment:
    """The number and the time of a frame.

    frame: its number in the source, from 0.
    seconds: position in a file, or seconds since the start of a live source.
    time: wall-clock time of a frame of a live source; None for files.
    picture: file name of a picture of a folder; None for videos.
    """

    frame: int
    seconds: float
    time: datetime | None = None
    picture: str | None = None
