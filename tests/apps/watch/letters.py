"""Records and letters for tests."""

from typing import Any

from oneglance_apps.clock import Clock
from oneglance_apps.watch.outbox import Letter
from oneglance_apps.watch.records import AppearanceRecord, Frames, HeartbeatRecord, Latency, View
from oneglance_apps.watch.settings import DeliveryRules

ALONE = View(faces=1, identified=1, unknown=0, unclear=0, nearest_other=None)


def appearance(**fields: Any) -> AppearanceRecord:
    """Ann, identified."""
    usual: dict[str, Any] = {
        "id": "e1",
        "gallery": "people",
        "source": "gate.mp4",
        "time": None,
        "seconds": 12.4,
        "kind": "identified",
        "appearance": 3,
        "frame": 62,
        "picture": None,
        "subject_id": "ann",
        "distance": 0.12345,
        "tau": 0.254,
        "nearest": None,
        "box": None,
        "frames": 2,
        "duration": 0.2,
        "view": ALONE,
        "unknown_reason": None,
        "rival": None,
        "follows": None,
    }
    return AppearanceRecord(**usual | fields)


def heartbeat(**fields: Any) -> HeartbeatRecord:
    usual: dict[str, Any] = {
        "id": "h1",
        "gallery": "people",
        "source": "gate.mp4",
        "time": None,
        "seconds": 30.0,
        "camera": True,
        "server": True,
        "latency": Latency(bound=0.5, p50=0.1, p99=0.2),
        "frames": Frames(read=10, answered=4, skipped=5, dropped=1, under_way=0),
    }
    return HeartbeatRecord(**usual | fields)


def letter(clock: Clock, record: Any = None, rules: DeliveryRules | None = None) -> Letter:
    """One whose frame was taken just now."""
    record = record or appearance()
    return Letter(record, clock.now(), clock.now() + (rules or DeliveryRules()).lifetime(record.kind))
