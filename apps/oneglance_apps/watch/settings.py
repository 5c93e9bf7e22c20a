"""What ``watch`` is told, with its defaults. No pydantic: the command needs little more than the bare install."""

from dataclasses import dataclass, field

from oneglance.client.requests import SmallFaces


@dataclass(frozen=True)
class AppearanceRules:
    """When to announce what.

    confirm: frames that must agree, >= 1.
    unknown_after: seconds that a face must stay unknown, >= 0.
    gone: seconds unseen after which an appearance is over, > 0.
    """

    confirm: int = 2
    unknown_after: float = 1.0
    gone: float = 3.0


@dataclass(frozen=True)
class WatchSettings:
    """How to watch.

    tau: threshold, squared L2; None: the gallery's.
    max_side: frames are sent with at most so many pixels on the longer side.
    turned: a frame without an upright face is searched in its other three turns, too.
    """

    gallery: str
    tau: float | None = None
    max_side: int = 1280
    small_faces: SmallFaces = "never"
    turned: bool = False
    rules: AppearanceRules = field(default_factory=AppearanceRules)
