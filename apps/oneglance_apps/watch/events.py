"""An event: what is announced about an appearance; as text and as JSON."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from oneglance_apps.frames.moment import Moment
from oneglance_apps.text import distance
from oneglance_apps.watch.track import Box

EventKind = Literal["identified", "unknown", "left"]


@dataclass(frozen=True)
class Event:
    """What is announced.

    kind: "identified", "unknown", or "left" when an announced appearance is over.
    appearance: its number, from 1.
    moment, box: of the frame that decided it; for "left", of the last frame in which the face was seen.
    subject_id: the identified subject; None: unknown.
    nearest, distance: the nearest subject and the squared L2 to it: the smallest of the frames so far that agree.
    rival: of an unknown, the next subject, where the nearest is under tau, but not nearer than the next one by the
        least gap.
    tau: the threshold of the last answer; None when there is none.
    frames: in how many the face was seen so far.
    duration: seconds from the first to the last of them.
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
    rival: str | None = None


def as_record(event: Event, gallery: str, source: str) -> dict[str, Any]:
    """The event in JSON's types. Every event has every key (docs/watch.md)."""
    unknown = event.subject_id is None and event.nearest is not None
    box = event.box
    reason = "ambiguous" if event.rival is not None else "nobody_near"
    return {
        "kind": event.kind,
        "gallery": gallery,
        "source": source,
        "appearance": event.appearance,
        "time": event.moment.time.isoformat(timespec="milliseconds") if event.moment.time else None,
        "seconds": round(event.moment.seconds, 3),
        "frame": event.moment.frame,
        "picture": event.moment.picture,
        "subject_id": event.subject_id,
        "distance": event.distance,
        "tau": event.tau,
        "nearest": {"subject_id": event.nearest, "distance": event.distance} if unknown else None,
        "unknown_reason": reason if event.subject_id is None else None,
        "rival": event.rival,
        "box": {"x": box.x, "y": box.y, "width": box.width, "height": box.height} if box else None,
        "frames": event.frames,
        "duration": round(event.duration, 3),
    }


def as_json(record: dict[str, Any]) -> str:
    """The record as one line of JSON."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def as_text(event: Event) -> str:
    """One line for people, in columns."""
    moment = event.moment
    when = moment.time.isoformat(" ", "seconds") if moment.time else f"{moment.seconds:8.1f} s"
    words = [when, f"{event.kind:10}", f"{event.subject_id or 'unknown':24}"]
    if event.distance is not None:
        words.append(f"d {distance(event.distance)}")
    if event.tau is not None:
        words.append(f"tau {distance(event.tau)}")
    if event.subject_id is None and event.nearest:
        words.append(f"{event.nearest} or {event.rival}" if event.rival else f"nearest {event.nearest}")
    if event.kind == "left":
        words.append(f"after {event.duration:.1f} s in {event.frames} frames")
    if event.box:
        words.append(f"at {event.box.x:.0f},{event.box.y:.0f} {event.box.width:.0f}x{event.box.height:.0f}")
    words.append(moment.picture or f"frame {moment.frame}")
    return "  ".join([*words, f"#{event.appearance}"])
