"""A record as one line for people, in columns."""

from oneglance_apps.text import distance
from oneglance_apps.watch.records import (
    AppearanceRecord,
    BehindRecord,
    CameraRecord,
    ExpiredRecord,
    HeartbeatRecord,
    Latency,
    Record,
    ServerRecord,
)


def as_text(record: Record) -> str:
    """One line."""
    when = record.time[:19].replace("T", " ") + record.time[23:] if record.time else f"{record.seconds:8.1f} s"
    return "  ".join([when, f"{record.kind:11}", *_words(record)])


def _words(record: Record) -> list[str]:
    match record:
        case AppearanceRecord():
            return _appearance(record)
        case CameraRecord() | ServerRecord():
            return [record.message]
        case BehindRecord():
            return [latency(record.latency), f"{record.frames.dropped} frames dropped so far"]
        case HeartbeatRecord():
            parts = "camera" if record.camera else "no camera", "server" if record.server else "no server"
            return [*parts, latency(record.latency)]
        case ExpiredRecord():
            who = record.subject_id or "unknown"
            return [f"{record.event_kind} {who}  #{record.appearance}  was not sent in time to {record.output}"]


def _appearance(record: AppearanceRecord) -> list[str]:
    words = [f"{record.subject_id or 'unknown':24}"]
    if record.distance is not None:
        words.append(f"d {distance(record.distance)}")
    if record.tau is not None:
        words.append(f"tau {distance(record.tau)}")
    if record.nearest:
        name = record.nearest.subject_id
        words.append(f"{name} or {record.rival}" if record.rival else f"nearest {name}")
    if record.kind == "left":
        words.append(f"after {record.duration:.1f} s in {record.frames} frames")
    if record.follows:
        words.append(f"follows {record.follows}")
    if record.view.faces > 1:
        words.append(f"{record.view.faces} faces in view, {record.view.unknown} unknown")
    if record.box:
        box = record.box
        words.append(f"at {box.x:.0f},{box.y:.0f} {box.width:.0f}x{box.height:.0f}")
    words.append(record.picture or f"frame {record.frame}")
    return [*words, f"#{record.appearance}"]


def latency(of: Latency) -> str:
    """``latency p50 0.12 s, p99 0.31 s, bound 0.5 s``."""
    if of.p50 is None or of.p99 is None:
        return "no answers lately"
    return f"latency p50 {of.p50:.2f} s, p99 {of.p99:.2f} s, bound {of.bound:g} s"
