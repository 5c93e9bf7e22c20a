"""Join the faces of many frames into appearances, and decide when to announce one. Pure: no clock, no I/O.

An appearance is one face followed over frames. For every input:

- An identified face belongs to the appearance of its subject, wherever its box is. Boxes decide only for unknown faces,
  and for the first face of a subject.
- A subject is announced once per appearance: when, among the appearance's last ``5 * confirm`` frames, those that show
  the subject are ``confirm`` more than those that show another subject in the same place. An announcement is never
  taken back, and no other subject joins the appearance. So a face that is identified as another subject in every frame
  is not announced, while a subject that takes the place of another is announced without delay.
- "unknown" is announced once per appearance: when the face was unknown for ``unknown_after`` seconds and ``confirm``
  frames in a row, and clear in ``confirm`` of them. When it was not, "unclear" is announced instead, once; "unknown"
  may follow. If it is identified later, that is announced as well.
- While a subject is there, no second appearance gets the same subject.
- An unknown face in the place of an identified subject counts as that subject (a turned head) while the subject is the
  nearest one and was identified within the last ``gone`` seconds. Otherwise it is another face.
- A follower: ``follower_faces`` faces in a row that are unknown, clear and from the front, in the place of a subject
  who was identified within the last ``gone`` seconds, are a stranger, whoever is nearest: "unknown" is announced at
  once.
- With ``alone``, a subject is announced as identified when nobody else (or no stranger) was in view in ``confirm``
  frames in a row, and for a second before; until then as "accompanied", once. A face that is not compared is nobody.
- With ``repeat``, somebody who was announced as identified, and still is, is announced again as "present".
- The order of the faces within a frame makes no difference.
"""

import math
from collections import deque
from collections.abc import Iterable

from oneglance_apps.frames.moment import Moment
from oneglance_apps.watch.events import Event, EventKind, InView
from oneglance_apps.watch.settings import AppearanceRules
from oneglance_apps.watch.track import OTHER_SUBJECT, Box, Observation, Track

RECENT = 5  # times ``confirm``: how many frames count for an announcement
SAME_PLACE = 0.5  # of a face's side: faces nearer to each other than that are in the same place
ALONE_SECONDS = 1.0  # so long somebody who was in view still counts as company
ROUNDING = 1e-6  # seconds


class Appearances:
    """Follows faces over the frames of one source. Its memory is bounded by the faces of the last ``gone`` seconds."""

    def __init__(self, rules: AppearanceRules) -> None:
        self._rules = rules
        self._tracks: list[Track] = []
        self._started = 0
        self._tau: float | None = None
        self._all: list[Observation] = []  # the faces of the last frame

    def see(self, moment: Moment, observations: Iterable[Observation], tau: float | None) -> list[Event]:
        """The events caused by the faces of one frame. ``moment.seconds`` must not decrease from call to call."""
        events = self.until(moment.seconds)
        self._tau = tau
        self._all = list(observations)
        faces = _one_per_subject(self._all)
        matched = self._match(faces, moment.seconds)
        tracks = [track or self._start(moment, face) for face, track in zip(faces, matched, strict=True)]
        for face, track in zip(faces, tracks, strict=True):
            self._add(track, moment, face)
        for face, track in zip(faces, tracks, strict=True):
            if kind := self._due(track, moment, face, tracks):
                events.append(self._event(kind, track))
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
            follower = face.frontal and track.frontal_frames + 1 >= self._rules.follower_faces
            return face.nearest == track.announced and self._is_recent(track, seconds) and not follower
        return True

    def _is_recent(self, track: Track, seconds: float) -> bool:
        """Whether somebody was identified so shortly ago that an unknown face in that place may be theirs."""
        return seconds - track.identified_at <= self._rules.gone + ROUNDING

    def _start(self, moment: Moment, face: Observation) -> Track:
        self._started += 1
        track = Track(self._started, moment.seconds, deque(maxlen=RECENT * self._rules.confirm), moment)
        if face.subject_id is None and (before := self._before(face, moment.seconds)):
            track.follows, track.frontal_frames = before.announced, before.frontal_frames
        self._tracks.append(track)
        return track

    def _before(self, face: Observation, seconds: float) -> Track | None:
        """Who was identified in the place of this unknown face, and isn't seen elsewhere now."""
        found = [
            (distance, track.id, track)
            for track in self._tracks
            if track.announced and track.last.seconds < seconds and self._is_recent(track, seconds)
            if (distance := track.distance_to(face.box, seconds)) < math.inf
        ]
        return min(found, key=lambda one: one[:2])[2] if found else None

    def _add(self, track: Track, moment: Moment, face: Observation) -> None:
        track.last, track.box = moment, face.box
        track.frames += 1
        track.recent.append(face.subject_id)
        if face.distance is not None:
            known = track.best.get(face.subject_id)
            if known is None or known.distance is None or face.distance < known.distance:
                track.best[face.subject_id] = face
        if face.subject_id:
            track.identified_at, track.unknown_since = moment.seconds, None
            track.unknown_frames = track.clear_frames = track.frontal_frames = 0
            return
        if track.unknown_since is None:
            track.unknown_since = moment.seconds
        track.unknown_frames += 1
        track.clear_frames += face.clear
        track.frontal_frames = track.frontal_frames + 1 if face.frontal else 0

    def _due(self, track: Track, moment: Moment, face: Observation, seen: list[Track]) -> EventKind | None:
        """What is to be announced of this face now."""
        alone = not self._rules.alone or self._is_alone(track, face, moment, seen)
        track.alone_frames = track.alone_frames + 1 if alone else 0
        if face.subject_id:
            return self._identified(track, moment)
        if track.announced or track.announced_unknown:
            return None
        assert track.unknown_since is not None
        confirm = self._rules.confirm
        long = moment.seconds - track.unknown_since >= self._rules.unknown_after - ROUNDING
        follower = track.follows is not None and track.frontal_frames >= self._rules.follower_faces
        if follower or (long and track.unknown_frames >= confirm and track.clear_frames >= confirm):
            track.announced_unknown = True
            return "unknown"
        if long and track.unknown_frames >= confirm and not track.announced_unclear:
            track.announced_unclear = True
            return "unclear"
        return None

    def _identified(self, track: Track, moment: Moment) -> EventKind | None:
        rules = self._rules
        first = track.announced is None and track.lead >= rules.confirm
        if first:
            track.announced = track.candidate
        if track.announced is None:
            return None
        may_pass = track.alone_frames >= (rules.confirm if rules.alone else 1)
        if track.told_at is None:
            if not may_pass:
                return "accompanied" if first else None
            track.told_at = moment.seconds
            return "identified"
        if rules.repeat is not None and may_pass and moment.seconds - track.told_at >= rules.repeat - ROUNDING:
            track.told_at = moment.seconds
            return "present"
        return None

    def _is_alone(self, track: Track, face: Observation, moment: Moment, seen: list[Track]) -> bool:
        anybody = self._rules.alone == "anybody"
        names = [other.subject_id for other in self._all]
        strangers = names.count(None) - (face.subject_id is None)
        twice = names.count(face.subject_id) - 1 if face.subject_id else 0
        if (len(self._all) - 1 if anybody else strangers + twice) > 0:
            return False
        return not any(
            moment.seconds - other.last.seconds <= ALONE_SECONDS
            for other in self._tracks
            if other is not track and other not in seen and (anybody or other.candidate is None)
        )

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
            withheld=best.withheld if best else False,
            distance=best.distance if best else None,
            tau=self._tau,
            box=track.box,
            frames=track.frames,
            duration=track.last.seconds - track.started,
            view=self._view(track.box) if kind != "left" else InView(),
            follows=track.follows if track.announced is None else None,
        )

    def _view(self, box: Box | None) -> InView:
        """The faces of the last frame, as the one at ``box`` has them in view."""
        unknown = [face for face in self._all if face.subject_id is None]
        others = [face.box for face in unknown if face.box and box and face.box != box]
        distances = [math.dist(box.centre, other.centre) / box.side for other in others if box]
        clear = sum(face.clear for face in unknown)
        return InView(
            faces=len(self._all),
            identified=len(self._all) - len(unknown),
            unknown=clear,
            unclear=len(unknown) - clear,
            nearest_other=min(distances, default=None),
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
