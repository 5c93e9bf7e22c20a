"""One face followed over frames: what was observed of it, and whether another box can be the same face."""

import math
from collections import deque
from dataclasses import dataclass, field

from oneglance_apps.frames.moment import Moment

OTHER_SUBJECT = ""  # never a subject's id


@dataclass(frozen=True, order=True)
class Box:
    """An upright rectangle in pixels of the frame; x to the right, y downwards, both sides > 0."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def side(self) -> float:
        """Side of the square of the same area."""
        return math.sqrt(self.width * self.height)


@dataclass(frozen=True)
class Observation:
    """A face in one frame, as the server decided.

    subject_id: the identified subject; None: unknown.
    nearest, distance: the nearest subject whatever tau, and the squared L2 to it; None when nobody is enrolled.
    box: None when the whole frame was the probe.
    clear: it is inside the limits of the gallery's quality policy. frontal: and looks at the camera.
    rival: of an unknown face that could be the nearest subject or the next one, the next one; else None.
    withheld: it is unknown because whoever is under tau has a negative that is nearer.
    """

    subject_id: str | None
    nearest: str | None
    distance: float | None
    box: Box | None
    clear: bool = True
    frontal: bool = False
    rival: str | None = None
    withheld: bool = False


@dataclass
class Track:
    """One face over frames.

    started: seconds of its first frame. recent: for its last frames the subject identified, None for unknown, and
    OTHER_SUBJECT for a frame in which another subject stood in its place.
    last, box: of the frame in which it was seen last. frames: in how many it was seen.
    announced: the subject that it was decided to be. announced_unknown, announced_unclear: whether that was announced.
    identified_at: seconds of the last frame in which it was identified.
    told_at: seconds when "identified" or "present" was announced last; None: not yet, as somebody else was in view.
    alone_frames: number of the latest frames in a row in which nobody else was in view.
    unknown_since, unknown_frames: first time and number of the latest frames in a row in which it was unknown;
    clear_frames: how many of those were clear. frontal_frames: number of the latest clear ones from the front, in a
    row.
    follows: the subject who was identified in its place just before it came.
    best: per subject (None: unknown) the observation with the smallest distance so far.
    """

    id: int
    started: float
    recent: deque[str | None]
    last: Moment
    box: Box | None = None
    frames: int = 0
    announced: str | None = None
    identified_at: float = -math.inf
    announced_unknown: bool = False
    announced_unclear: bool = False
    told_at: float | None = None
    alone_frames: int = 0
    unknown_since: float | None = None
    unknown_frames: int = 0
    clear_frames: int = 0
    frontal_frames: int = 0
    follows: str | None = None
    best: dict[str | None, Observation] = field(default_factory=dict)

    @property
    def candidate(self) -> str | None:
        """The announced subject, or else the one that its recent frames show; never more than one."""
        return self.announced or next((subject for subject in self.recent if subject), None)

    @property
    def lead(self) -> int:
        """Recent frames that show the candidate, less those that show another subject in its place."""
        return self.recent.count(self.candidate) - self.recent.count(OTHER_SUBJECT)

    @property
    def is_announced(self) -> bool:
        return self.announced is not None or self.announced_unknown or self.announced_unclear

    def distance_to(self, box: Box | None, seconds: float) -> float:
        """How badly ``box`` at time ``seconds`` fits as the next box of this face.

        Distance of the centres in sides, plus the change of size in octaves. Infinite if the size changed by more than
        a factor of 2, or the centre moved by more than 1 side + 1 side a second (walking pace).
        """
        if box is None or self.box is None:
            return 0.0 if box is self.box else math.inf
        moved = math.dist(self.box.centre, box.centre) / ((self.box.side + box.side) / 2)
        grown = abs(math.log2(box.side / self.box.side))
        return moved + grown if grown <= 1 and moved <= 1 + (seconds - self.last.seconds) else math.inf
