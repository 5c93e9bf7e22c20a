"""Join the faces of many frames into appearances, and decide when to announce one. Pure: no clock, no I/O.

An appearance is one face followed over frames. For every input:

- An identified face belongs to the appearance of its subject, wherever its box is. Boxes decide only for unknown faces,
  and for the first face of a subject.
- A subject is announced once per appearance: when, among the appearance's last ``5 * confirm`` frames, those that show
  the subject are ``confirm`` more than those that show another subject in the same place. An announcement is never
  taken back, and no other subject joins the appearance. So a face that is identified as another subject in every frame
  is not announced, while a subject that takes the place of another is announced without delay.
- "unknown" is announced once per appearance: when the face was unknown for ``unknown_after`` seconds and ``confirm``
  frames in a row. If it is identified later, that is announced as well.
- While a subject is there, no second appearance gets the same subject.
- An unknown face in the place of an identified subject counts as that subject (a turned head) while the subject is the
  nearest one and was identified within the last ``gone`` seconds. Otherwise it is another face.
- The order of the faces within a frame makes no difference.
"""

import math
from collections import deque
from collections.abc import Iterable

from oneglance_apps.frames.moment import Moment
from oneglance_apps.watch.events import Event, EventKind
from oneglance_apps.watch.settings import AppearanceRules
from oneglance_apps.watch.track import OTHER_SUBJECT, Observation, Track

RECENT = 5  # times ``confirm``: how many frames count for an announcement
SAME_PLACE = 0.5  # of a face's side: faces nearer to each other than that are in the same place
ROUNDING = 1e-6  # seconds


class Appearances:
    """Follows faces over the frames of one source. Its memory is bounded by the faces of the last ``gone`` seconds."""

    def __init__(self, rules: AppearanceRules) -> None:
        self._rules = rules
        self._tracks: list[Track] = []
        self._started = 0
        self._tau: float | None = None

    def see(self, moment: Moment, observations: Iterable[Observation], tau: float | None) -> list[Event]:
        """The events caused by the faces of one frame. ``moment.seconds`` must not decrease from call to call."""
        events = self.until(moment.seconds)
        self._tau = tau
        faces = _one_per_subject(observations)
        matched = self._match(faces, moment.seconds)
        for face, track in zip(faces, matched, strict=True):
            if event := self._add(track or self._start(moment), moment, face):
                events.append(event)
        self._count_other_subjects(faces, moment)
        self._drop_replaced(faces, moment)
        return events

    def until(self, seconds: float) -> list[Event]:
        """The "left" events up to ``seconds``."""
        gone = [t for t in self._tracks if seconds - t.last.seconds > self._rules.gone + ROUNDING]
        self._tracks = [t for t in self._tracks if t not in gone]
        return [self._event("left", t) for t in gone if t.is_announced]

    def end(self) -> list[Event]:
        """The "left" events of all appearances, when the source ends."""
        return self.until(math.inf)

    def _match(self, faces: list[Observation], seconds: float) -> list[Track | None]:
        """The track that each face continues; None: a new one."""
        matched: list[Track | None] = [
            self._track_of_subject(face, seconds) if face.subject_id else None for face in faces
        ]
        pairs = [
            (track.distance_to(face.box, seconds), track.id, i, track)
            for i, face in enumerate(faces)
            if matched[i] is None
            for track in self._tracks
            if self._may_continue(track, face, seconds)
        ]
        for distance, _, i, track in sorted(pairs, key=lambda pair: pair[:3]):
            if distance < math.inf and matched[i] is None and not any(track is other for other in matched):
                matched[i] = track
        return matched

    def _track_of_subject(self, face: Observation, seconds: float) -> Track | None:
        """The track of the subject that this face was identified as."""
        tracks = [t for t in self._tracks if t.candidate == face.subject_id]
        for track in tracks:
            if track.announced:
                return track
        # Not announced yet: the face must be near, unless every recent frame of the track shows the subject.
        near = [
            (distance, track.id, track)
            for track in tracks
            if (distance := track.distance_to(face.box, seconds)) < math.inf or None not in track.recent
        ]
        return min(near, key=lambda found: found[:2])[2] if near else None

    def _may_continue(self, track: Track, face: Observation, seconds: float) -> bool:
        if face.subject_id:
            return track.candidate is None
        if track.announced:
            return face.nearest == track.announced and seconds - track.identified_at <= self._rules.gone + ROUNDING
        return True

    def _start(self, moment: Moment) -> Track:
        self._started += 1
        track = Track(self._started, moment.seconds, deque(maxlen=RECENT * self._rules.confirm), moment)
        self._tracks.append(track)
        return track

    def _add(self, track: Track, moment: Moment, face: Observation) -> Event | None:
        track.last, track.box = moment, face.box
        track.frames += 1
        track.recent.append(face.subject_id)
        if face.distance is not None:
            known = track.best.get(face.subject_id)
            if known is None or known.distance is None or face.distance < known.distance:
                track.best[face.subject_id] = face
        if face.subject_id:
            track.identified_at, track.unknown_since, track.unknown_frames = moment.seconds, None, 0
            if track.announced is None and track.lead >= self._rules.confirm:
                track.announced = face.subject_id
                return self._event("identified", track)
            return None
        if track.unknown_since is None:
            track.unknown_since = moment.seconds
        track.unknown_frames += 1
        long = moment.seconds - track.unknown_since >= self._rules.unknown_after - ROUNDING
        if not track.is_announced and long and track.unknown_frames >= self._rules.confirm:
            track.announced_unknown = True
            return self._event("unknown", track)
        return None

    def _count_other_subjects(self, faces: list[Observation], moment: Moment) -> None:
        """Note in each track that is not announced yet if another subject stands in its place now."""
        boxes = [face.box for face in faces if face.subject_id]
        for track in self._tracks:
            waiting = track.announced is None and track.candidate and track.last != moment
            if waiting and any(track.distance_to(box, moment.seconds) <= SAME_PLACE for box in boxes):
                track.recent.append(OTHER_SUBJECT)

    def _drop_replaced(self, faces: list[Observation], moment: Moment) -> None:
        """Drop each unknown, unannounced track if an identified face stands in its place now."""
        boxes = [face.box for face in faces if face.subject_id]
        self._tracks = [
            t
            for t in self._tracks
            if t.is_announced
            or t.candidate
            or t.last == moment
            or all(t.distance_to(box, moment.seconds) > SAME_PLACE for box in boxes)
        ]

    def _event(self, kind: EventKind, track: Track) -> Event:
        best = track.best.get(track.announced)
        return Event(
            kind=kind,
            appearance=track.id,
            moment=track.last,
            subject_id=track.announced,
            nearest=best.nearest if best else None,
            rival=best.rival if best else None,
            distance=best.distance if best else None,
            tau=self._tau,
            box=track.box,
            frames=track.frames,
            duration=track.last.seconds - track.started,
        )


def _one_per_subject(observations: Iterable[Observation]) -> list[Observation]:
    """Sorted by distance. Of several faces of one subject only the nearest: the others change no announcement."""
    subjects: set[str] = set()
    kept = []
    for face in sorted(observations, key=_order):
        if face.subject_id is None or face.subject_id not in subjects:
            kept.append(face)
        if face.subject_id is not None:
            subjects.add(face.subject_id)
    return kept


def _order(face: Observation) -> tuple[float, tuple[float, ...], str, str]:
    box = (face.box.x, face.box.y, face.box.width, face.box.height) if face.box else ()
    distance = math.inf if face.distance is None else face.distance
    return distance, box, face.subject_id or "", face.nearest or ""
