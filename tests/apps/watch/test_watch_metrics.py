"""The metrics of watch: those that the docs tell, and no others, with what they count."""

import re
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from oneglance_apps.watch.metrics import WatchMetrics
from oneglance_apps.watch.records import Frames

DOCS = Path(__file__).parents[3] / "docs" / "watch.md"


class Watching:
    """What the metrics ask a watcher for."""

    frames = Frames(read=10, answered=4, skipped=5, dropped=1, under_way=0)
    camera_up = True
    server_up = False

    class source:  # noqa: N801
        name = "door"


def test_the_docs_tell_every_metric_and_no_other() -> None:
    metrics = WatchMetrics()
    watching: Any = Watching()
    metrics.follow([watching])
    metrics.observer("door")(0.3)
    metrics.event("door", "identified")
    metrics.delivery("http://gate/", "expired")
    text = generate_latest(metrics.registry).decode()
    found = {name for name in re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE) if not name.endswith("_created")}
    section = DOCS.read_text().partition("## Metrics")[2].partition("\n## ")[0]
    assert found == set(re.findall(r"`(oneglance_watch_\w+)`", section))
    for line in (
        'oneglance_watch_frames_total{outcome="answered",source="door"} 4.0',
        'oneglance_watch_frames_total{outcome="skipped",source="door"} 5.0',
        'oneglance_watch_frames_total{outcome="dropped",source="door"} 1.0',
        'oneglance_watch_camera_up{source="door"} 1.0',
        'oneglance_watch_server_up{source="door"} 0.0',
        'oneglance_watch_latency_seconds_bucket{le="0.3",source="door"} 1.0',
        'oneglance_watch_events_total{kind="identified",source="door"} 1.0',
        'oneglance_watch_deliveries_total{outcome="expired",output="http://gate/"} 1.0',
    ):
        assert line in text.splitlines()
