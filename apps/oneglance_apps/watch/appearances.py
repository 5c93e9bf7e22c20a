"""From the faces of each frame to one event per appearance. Pure: no clock, no I/O.

An appearance is a face followed over frames. What holds, whatever comes in:

- A face belongs to the appearance of its name, wherever its box is: names win over boxes. Boxes decide only for unknown
  faces, and for the first face with a name.
- A name is announced when, of the appearance's last ``5 * confirm`` frames, ``confirm`` more say it than say somebody
  else's name in the same place instead, once. It is never taken back, and no other name joins the appearance. So a face
  whose name changes from frame to frame is nobody's, while somebody who takes another's place is announced as fast as
  anybody.
- "unknown" is announced when a face without a name stayed unknown for ``unknown_after`` seconds and ``confirm``
  frames without a break, once. A name that is found later is announced as well.
- While somebody is there, no second appearance gets the same name.
- An unknown face where somebody was just identified is taken for them (a turned head) only while they are nearest to it
  and were identified within the last ``gone`` seconds; else it is a face of its own.
- The order of the faces within a frame makes no difference.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

RECENT = 5  # times ``confirm``: how far back a name counts towards its announcement
SAME_PLACE = 0.5  # faces nearer than half a face's side stand on the same spot
ROUNDING = 1e-6  # seconds
SOMEBODY_ELSE = ""  # no subject's id
Kind = Literal["identified", "unknown", "left"]


@dataclass(frozen=True)
class Rules:
    """When to announce what.

    confirm: frames that must agree, >= 1.
    unknown_after: seconds that a face must stay unknown, >= 0.
    gone: seconds unseen after which an appearance is over, > 0.
    """

    confirm: int = 2
    unknown_after: float = 1.0
    gone: float = 3.0


@dataclass(frozen=True, order=True)
class Box:
    """An upright rectangle in pixels of the frame; x to the right, y downwards, both sides > 0."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Moment:
    """Where a frame stands.

    frame: its number in the source, from 0.
    seconds: into the file, or since the start of a live source.
    time: of a live source; else None.
    picture: name of the file, of a folder of pictures; else None.
    """

    frame: int
    seconds: float
    time: datetime | None = None
    picture: str | None = None


@dataclass(frozen=True)
class Observation:
    """A face in one frame, as the server decided.

    subject_id: who it is; None: unknown.
    nearest, distance: the nearest subject whatever tau, and the squared L2 to it; None when nobody is enrolled.
    box: None when the whole frame was the probe.
    """

    subject_id: str | None
    nearest: str | None
    distance: float | None
    box: Box | None


@dataclass(frozen=True)
class Event:
    """What is announced.

    kind: "identified", "unknown", or "left" when an announced appearance is over.
    appearance: its number, from 1.
    moment, box: of the frame that made it sure; for "left", of the last frame in which the face was seen.
    subject_id: who it is; None: unknown.
    nearest, distance: the nearest subject and the squared L2 to it, the best of the frames so far that agree.
    tau: that the last answer was decided by; None when there is none.
    frames: in which the face was seen so far.
    duration: seconds from the first to the last of them.
    """

    kind: Kind
    appearance: int
    moment: Moment
    subject_id: str | None
    nearest: str | None
    distance: float | None
    tau: float | None
    box: Box | None
    frames: int
    duration: float


@dataclass
class _Track:
    id: int
    since: float
    recent: deque[str | None]  # its own names, and SOMEBODY_ELSE for a frame that showed somebody else in its place
    last: Moment = Moment(0, 0.0)
    box: Box | None = None
    frames: int = 0
    name: str | None = None  # announced
    named_at: float = -math.inf
    told_unknown: bool = False
    unknown_since: float | None = None
    unknown_frames: int = 0
    best: dict[str | None, tuple[float, str | None]] = field(default_factory=dict)

    @property
    def candidate(self) -> str | None:
        """Its name, or the one that its recent frames suggest: never more than one."""
        return self.name or next((name for name in self.recent if name), None)

    @property
    def lead(self) -> int:
        """By how many recent frames its candidate is ahead of the others in its place."""
        return self.recent.count(self.candidate) - self.recent.count(SOMEBODY_ELSE)

    @property
    def told(self) -> bool:
        return self.name is not None or self.told_unknown

    def far(self, box: Box | None, seconds: float) -> float:
        """How ill ``box`` fits as this face's next one: distance of the centres in sides, plus the change of size in
        octaves; inf beyond a walking pace of one side a second."""
        if box is None or self.box is None:
            return 0.0 if box is self.box else math.inf
        ours, theirs = _side(self.box), _side(box)
        moved = math.dist(_centre(self.box), _centre(box)) / ((ours + theirs) / 2)
        grown = abs(math.log2(theirs / ours))
        return moved + grown if grown <= 1 and moved <= 1 + (seconds - self.last.seconds) else math.inf


class Appearances:
    """Follows faces over the frames of one source. Memory is bounded by the faces seen within ``gone`` seconds."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._tracks: list[_Track] = []
        self._started = 0
        self._tau: float | None = None

    def see(self, moment: Moment, observations: Iterable[Observation], tau: float | None) -> list[Event]:
        """The events that a frame brings about. ``moment.seconds`` must not decrease from call to call."""
        events = self.until(moment.seconds)
        self._tau = tau
        faces = _one_per_name(observations)
        matched = self._match(faces, moment.seconds)
        for face, track in zip(faces, matched, strict=True):
            if event := self._add(track or self._start(moment.seconds), moment, face):
                events.append(event)
        self._doubt(faces, moment)
        self._forget_doubles(faces, moment)
        return events

    def until(self, seconds: float) -> list[Event]:
        """The "left" events up to ``seconds``."""
        gone = [t for t in self._tracks if seconds - t.last.seconds > self._rules.gone + ROUNDING]
        self._tracks = [t for t in self._tracks if t not in gone]
        return [self._event("left", t) for t in gone if t.told]

    def end(self) -> list[Event]:
        """The "left" events of everybody who is still there when the source ends."""
        return self.until(math.inf)

    def _match(self, faces: list[Observation], seconds: float) -> list[_Track | None]:
        """The track that each face continues; None: a new one."""
        matched: list[_Track | None] = [self._of_name(face, seconds) if face.subject_id else None for face in faces]
        pairs = [
            (track.far(face.box, seconds), track.id, i, track)
            for i, face in enumerate(faces)
            if matched[i] is None
            for track in self._tracks
            if self._may_continue(track, face, seconds)
        ]
        for far, _, i, track in sorted(pairs, key=lambda pair: pair[:3]):
            if far < math.inf and matched[i] is None and not any(track is other for other in matched):
                matched[i] = track
        return matched

    def _of_name(self, face: Observation, seconds: float) -> _Track | None:
        """The track that this face continues by its name."""
        tracks = [t for t in self._tracks if t.candidate == face.subject_id]
        for track in tracks:
            if track.name:
                return track
        # Not announced yet: near, or elsewhere when every frame of it says the name.
        near = [
            (far, track.id, track)
            for track in tracks
            if (far := track.far(face.box, seconds)) < math.inf or None not in track.recent
        ]
        return min(near, key=lambda found: found[:2])[2] if near else None

    def _may_continue(self, track: _Track, face: Observation, seconds: float) -> bool:
        if face.subject_id:
            return track.candidate is None
        if track.name:
            return face.nearest == track.name and seconds - track.named_at <= self._rules.gone + ROUNDING
        return True

    def _start(self, seconds: float) -> _Track:
        self._started += 1
        track = _Track(self._started, seconds, deque(maxlen=RECENT * self._rules.confirm))
        self._tracks.append(track)
        return track

    def _add(self, track: _Track, moment: Moment, face: Observation) -> Event | None:
        track.last, track.box = moment, face.box
        track.frames += 1
        track.recent.append(face.subject_id)
        if face.distance is not None:
            known = track.best.get(face.subject_id, (math.inf, None))
            track.best[face.subject_id] = min(known, (face.distance, face.nearest), key=lambda pair: pair[0])
        if face.subject_id:
            track.named_at, track.unknown_since, track.unknown_frames = moment.seconds, None, 0
            if track.name is None and track.lead >= self._rules.confirm:
                track.name = face.subject_id
                return self._event("identified", track)
            return None
        if track.unknown_since is None:
            track.unknown_since = moment.seconds
        track.unknown_frames += 1
        long = moment.seconds - track.unknown_since >= self._rules.unknown_after - ROUNDING
        if not track.told and long and track.unknown_frames >= self._rules.confirm:
            track.told_unknown = True
            return self._event("unknown", track)
        return None

    def _doubt(self, faces: list[Observation], moment: Moment) -> None:
        """Somebody with another name stands where a face that is not announced yet was."""
        boxes = [face.box for face in faces if face.subject_id]
        for track in self._tracks:
            waits = track.name is None and track.candidate and track.last != moment
            if waits and any(track.far(box, moment.seconds) <= SAME_PLACE for box in boxes):
                track.recent.append(SOMEBODY_ELSE)

    def _forget_doubles(self, faces: list[Observation], moment: Moment) -> None:
        """An unknown face that nobody heard of is forgotten when somebody identified stands on its spot instead."""
        boxes = [face.box for face in faces if face.subject_id]
        self._tracks = [
            t
            for t in self._tracks
            if t.told
            or t.candidate
            or t.last == moment
            or all(t.far(box, moment.seconds) > SAME_PLACE for box in boxes)
        ]

    def _event(self, kind: Kind, track: _Track) -> Event:
        distance, nearest = track.best.get(track.name, (None, None))
        return Event(
            kind=kind,
            appearance=track.id,
            moment=track.last,
            subject_id=track.name,
            nearest=nearest,
            distance=distance,
            tau=self._tau,
            box=track.box,
            frames=track.frames,
            duration=track.last.seconds - track.since,
        )


def _one_per_name(observations: Iterable[Observation]) -> list[Observation]:
    """In an order of their own. Of several faces with one name the nearest to the subject: the others add nothing to
    what is announced."""
    names: set[str] = set()
    kept = []
    for face in sorted(observations, key=_order):
        if face.subject_id is None or face.subject_id not in names:
            kept.append(face)
        if face.subject_id is not None:
            names.add(face.subject_id)
    return kept


def _order(face: Observation) -> tuple[float, tuple[float, ...], str, str]:
    box = (face.box.x, face.box.y, face.box.width, face.box.height) if face.box else ()
    distance = math.inf if face.distance is None else face.distance
    return distance, box, face.subject_id or "", face.nearest or ""


def _centre(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2


def _side(box: Box) -> float:
    return math.sqrt(box.width * box.height)
