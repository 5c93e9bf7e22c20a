"""An event about an appearance, as the rules of appearances make it."""

from dataclasses import dataclass, field
from typing import Literal

from oneglance_apps.frames.moment import Moment
from oneglance_apps.watch.track import Box

EventKind = Literal["identified", "unknown", "unclear", "accompanied", "present", "left"]


@dataclass(frozen=True)
class InView:
    """The faces of a frame. nearest_other: from the face of the event to the nearest one that isn't identified, in
    sides of its own, from centre to centre; None when there is none, or no boxes."""

    faces: int = 0
    identified: int = 0
    unknown: int = 0
    unclear: int = 0
    nearest_other: float | None = None


@dataclass(frozen=True)
class Event:
    """What is announced.

    kind: "identified"; "unknown"; "unclear": not identified, and never seen well; "accompanied": identified, and not
    yet alone; "present": announced as identified before, and still there; "left": an announced appearance is over.
    appearance: its number, from 1.
    moment, box: of the frame that decided it; for "left", of the last frame in which the face was seen.
    subject_id: the identified subject; None: unknown.
    nearest, distance: the nearest subject and the squared L2 to it: the smallest of the frames so far that agree.
    tau: the threshold of the last answer; None when there is none.
    frames: in how many the face was seen so far.
    duration: seconds from the first to the last of them.
    follows: the subject who was identified in the same place just before; None: nobody was.
    rival: of an unknown face that could be the nearest subject or the next one, the next one; else None.
    withheld: it is unknown because whoever is under tau has a negative that is nearer.
    """

    kind: EventKind
    appearance: int
    moment: Moment
    subject_id: str | None
    nearest: str | None
    distance: float | None
    tau: float | None
    box: Box | None
    frames: int
    duration: float
    view: InView = field(default_factory=InView)
    follows: str | None = None
    rival: str | None = None
    withheld: bool = False
