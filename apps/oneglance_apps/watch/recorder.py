"""Make the records of one source: each with an id, the time, and when it expires."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

from oneglance_apps.clock import Clock
from oneglance_apps.watch.camera_state import CameraChange
from oneglance_apps.watch.events import Event
from oneglance_apps.watch.outbox import Letter
from oneglance_apps.watch.records import (
    AppearanceRecord,
    BehindRecord,
    CameraRecord,
    ExpiredRecord,
    Frames,
    HeartbeatRecord,
    Latency,
    Nearest,
    Record,
    Rectangle,
    ServerKind,
    ServerRecord,
    View,
)
from oneglance_apps.watch.settings import DeliveryRules


class Recorder:
    """Turns what happens at one source into letters, and gives them to ``send``."""

    def __init__(
        self, gallery: str, source: str, rules: DeliveryRules, clock: Clock, send: Callable[[Letter], None]
    ) -> None:
        self.live = False  # known when the source is open
        self._gallery = gallery
        self._source = source
        self._rules = rules
        self._clock = clock
        self._send = send
        self._started = clock.now()

    def appearance(self, event: Event, taken: float) -> None:
        """``taken``: when the frame was taken, by the clock's ``now``. Of a file an event is as old as its finding."""
        moment, box = event.moment, event.box
        unknown = event.subject_id is None and event.nearest is not None
        self._record(
            AppearanceRecord,
            taken if self.live and event.kind != "left" else self._clock.now(),
            moment.time,
            moment.seconds,
            kind=event.kind,
            appearance=event.appearance,
            frame=moment.frame,
            picture=moment.picture,
            subject_id=event.subject_id,
            distance=event.distance,
            tau=event.tau,
            nearest=Nearest(subject_id=event.nearest or "", distance=event.distance or 0.0) if unknown else None,
            box=Rectangle(x=box.x, y=box.y, width=box.width, height=box.height) if box else None,
            frames=event.frames,
            duration=round(event.duration, 3),
            view=View(**vars(event.view)),
            unknown_reason=_unknown_reason(event),
            rival=event.rival,
            follows=event.follows,
        )

    def camera(self, change: CameraChange) -> None:
        self._now(
            CameraRecord,
            kind=change.kind,
            reason=change.reason,
            message=change.message,
            silent=round(change.silent, 3),
        )

    def server(self, kind: ServerKind, message: str) -> None:
        self._now(ServerRecord, kind=kind, message=message)

    def behind(self, latency: Latency, frames: Frames) -> None:
        self._now(BehindRecord, latency=latency, frames=frames)

    def heartbeat(self, latency: Latency, frames: Frames, *, camera: bool, server: bool) -> None:
        self._now(HeartbeatRecord, latency=latency, frames=frames, camera=camera, server=server)

    def expired(self, letter: Letter, output: str) -> None:
        """Tell that ``letter`` was not sent to ``output`` in time; only of those about an appearance."""
        record = letter.record
        if isinstance(record, AppearanceRecord):
            self._now(
                ExpiredRecord,
                event=record.id,
                event_kind=record.kind,
                appearance=record.appearance,
                subject_id=record.subject_id,
                output=output,
            )

    def _now(self, record: type[Record], **fields: Any) -> None:
        now = self._clock.now()
        self._record(record, now, self._clock.wall() if self.live else None, now - self._started, **fields)

    def _record(self, record: Any, taken: float, time: datetime | None, seconds: float, **fields: Any) -> None:
        made: Record = record(
            id=uuid.uuid4().hex,
            gallery=self._gallery,
            source=self._source,
            time=_text(time) if time else None,
            seconds=round(seconds, 3),
            **fields,
        )
        now = self._clock.now()
        lifetime = self._rules.lifetime(made.kind)
        expires = self._clock.wall() + timedelta(seconds=taken + lifetime - now)
        made = made.model_copy(update={"age": round(now - taken, 3), "expires": _text(expires)})
        self._send(Letter(made, taken, taken + lifetime))


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")


def _unknown_reason(event: Event) -> Literal["nobody_near", "ambiguous", "negative"] | None:
    if event.subject_id:
        return None
    if event.rival:
        return "ambiguous"
    return "negative" if event.withheld else "nobody_near"
