"""What ``watch`` is told, with its defaults."""

from dataclasses import dataclass, field
from typing import Literal

from oneglance.client.requests import SmallFaces
from oneglance_apps.frames.region import WHOLE, Region

Delivery = Literal["at-most-once", "at-least-once"]
Alone = Literal["", "strangers", "anybody"]
USUAL_MAX_SIDE = 1280
URGENT = ("identified", "present", "accompanied")
"""Kinds of events that something may be opened by."""


@dataclass(frozen=True)
class AppearanceRules:
    """When to announce what.

    confirm: frames that must agree, >= 1.
    unknown_after: seconds that a face must stay unknown, >= 0.
    gone: seconds unseen after which an appearance is over, > 0.
    follower_faces: clear unknown faces in a row, in the place of somebody identified less than ``gone`` seconds ago,
    that make a stranger, whatever ``unknown_after`` says; >= 1.
    alone: somebody is announced as identified only while nobody else, or no stranger, is in view; "": whoever is.
    repeat: seconds after which somebody who is still identified is announced again; None: once per appearance.
    """

    confirm: int = 2
    unknown_after: float = 1.0
    gone: float = 3.0
    follower_faces: int = 3
    alone: Alone = ""
    repeat: float | None = None


@dataclass(frozen=True)
class WatchSettings:
    """How to watch.

    tau: threshold, squared L2; None: the gallery's.
    fps: frames a second that are looked at, at most.
    latency: bound, in seconds, from when a frame of a live source is taken to when its faces are known.
    lost_after: seconds without a frame after which a camera is lost.
    max_side: frames are sent with at most so many pixels on the longer side; when it is more than usual, the server
    is asked to search them at that size, too.
    region: the part of the frame that is looked at: left, top, width, height as shares of the frame in [0, 1].
    turned: a frame without an upright face is searched in its other three turns, too.
    """

    gallery: str
    tau: float | None = None
    fps: float = 5.0
    latency: float = 0.5
    lost_after: float = 3.0
    max_side: int = USUAL_MAX_SIDE
    region: Region = WHOLE
    small_faces: SmallFaces = "never"
    turned: bool = False
    rules: AppearanceRules = field(default_factory=AppearanceRules)


@dataclass(frozen=True)
class DeliveryRules:
    """How events are delivered.

    delivery: "at-most-once": what may have arrived is never sent again. "at-least-once": an event is sent until the
    output takes it, as long as it lives.
    identified_seconds: age up to which "identified", "present" and "accompanied" are sent. other_seconds: of other
    kinds.
    answer_seconds: how long an output may take to answer.
    """

    delivery: Delivery = "at-most-once"
    identified_seconds: float = 2.0
    other_seconds: float = 60.0
    answer_seconds: float = 5.0

    def lifetime(self, kind: str) -> float:
        return self.identified_seconds if kind in URGENT else self.other_seconds
