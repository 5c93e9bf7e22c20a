"""The schema of events: documented, versioned, and kept by every event."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oneglance_apps.frames.moment import Moment
from oneglance_apps.watch.camera_state import CameraChange
from oneglance_apps.watch.events import Event, InView
from oneglance_apps.watch.outbox import Letter
from oneglance_apps.watch.record_text import as_text
from oneglance_apps.watch.recorder import Recorder
from oneglance_apps.watch.records import (
    SCHEMA_VERSION,
    AppearanceRecord,
    ExpiredRecord,
    Frames,
    Latency,
    Record,
    json_schema,
)
from oneglance_apps.watch.settings import DeliveryRules
from oneglance_apps.watch.track import Box
from tests.apps.watch.letters import appearance, heartbeat
from tests.apps.watch.manual_clock import ManualClock

SCHEMA = Path(__file__).parents[3] / "docs" / "watch-events.schema.json"
BOX = Box(10, 20.5, 96, 96)
VIEW = InView(faces=3, identified=1, unknown=1, unclear=1, nearest_other=1.5)
ANN = Event("identified", 3, Moment(62, 12.4), "ann", "ann", 0.12345, 0.254, BOX, 2, 0.2, VIEW)
FRAMES = Frames(read=10, answered=4, skipped=5, dropped=1, under_way=0)
LATENCY = Latency(bound=0.5, p50=0.1, p99=None)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def recorder(clock: ManualClock, letters: list[Letter], *, live: bool = False) -> Recorder:
    made = Recorder("people", "gate.mp4", DeliveryRules(), clock, letters.append)
    made.live = live
    return made


def test_the_documented_schema_is_the_one_that_is_used() -> None:
    """After a change: python -m tests.apps.watch.test_records. What a version has must stay."""
    assert json.loads(SCHEMA.read_text()) == json_schema()
    assert SCHEMA_VERSION == 1


def test_an_event_about_an_appearance_has_every_field(clock: ManualClock) -> None:
    letters: list[Letter] = []
    clock.move(20.0)
    recorder(clock, letters).appearance(ANN, taken=17.0)
    (letter,) = letters
    found = json.loads(letter.record.model_dump_json())
    assert len(found.pop("id")) == 32
    assert found == {
        "version": 1,
        "kind": "identified",
        "gallery": "people",
        "source": "gate.mp4",
        "appearance": 3,
        "time": None,
        "seconds": 12.4,
        "age": 0.0,  # of a file: since it was found
        "expires": "2026-01-01T00:00:22.000+00:00",
        "frame": 62,
        "picture": None,
        "subject_id": "ann",
        "distance": 0.12345,
        "tau": 0.254,
        "nearest": None,
        "box": {"x": 10, "y": 20.5, "width": 96, "height": 96},
        "frames": 2,
        "duration": 0.2,
        "view": {"faces": 3, "identified": 1, "unknown": 1, "unclear": 1, "nearest_other": 1.5},
        "unknown_reason": None,
        "rival": None,
        "follows": None,
    }


def test_of_an_ambiguous_face_both_names_are_told(clock: ManualClock) -> None:
    letters: list[Letter] = []
    recorder(clock, letters).appearance(replace(ANN, kind="unknown", subject_id=None, rival="bea"), taken=0.0)
    (letter,) = letters
    assert isinstance(letter.record, AppearanceRecord)
    assert letter.record.nearest is not None
    assert (letter.record.subject_id, letter.record.unknown_reason) == (None, "ambiguous")
    assert (letter.record.nearest.subject_id, letter.record.rival) == ("ann", "bea")
    assert "  ann or bea  " in "".join(as_text(letter.record))
    recorder(clock, letters).appearance(replace(ANN, kind="unknown", subject_id=None, withheld=True), taken=0.0)
    assert isinstance(letters[1].record, AppearanceRecord)
    assert letters[1].record.unknown_reason == "negative"


def test_an_event_of_a_camera_is_as_old_as_its_frame_whatever_the_time_of_day(clock: ManualClock) -> None:
    letters: list[Letter] = []
    live = recorder(clock, letters, live=True)
    clock.move(20.0)
    clock.step_wall(-3600)
    live.appearance(ANN, taken=19.25)
    (letter,) = letters
    assert letter.record.age == 0.75
    assert (letter.taken, letter.expires_at) == (19.25, 21.25)
    assert letter.record.expires == "2025-12-31T23:00:21.250+00:00"


def test_every_event_has_an_id_of_its_own(clock: ManualClock) -> None:
    letters: list[Letter] = []
    for _ in range(3):
        recorder(clock, letters).appearance(ANN, taken=0.0)
    assert len({letter.record.id for letter in letters}) == 3


def test_all_kinds_keep_the_schema_and_have_a_line_for_people(clock: ManualClock) -> None:
    letters: list[Letter] = []
    live = recorder(clock, letters, live=True)
    live.appearance(ANN, taken=0.0)
    live.camera(CameraChange("camera_lost", "silent", "door: no frame for 3.1 s", 3.1))
    live.server("server_back", "127.0.0.1:1 answers again")
    live.behind(LATENCY, FRAMES)
    live.heartbeat(LATENCY, FRAMES, camera=True, server=False)
    live.expired(letters[0], "http://door/")
    live.expired(letters[1], "http://door/")  # only those about appearances are told
    records: list[Record] = [letter.record for letter in letters]
    kinds = [record.kind for record in records]
    assert kinds == ["identified", "camera_lost", "server_back", "behind", "heartbeat", "expired"]
    schema = json_schema()
    for record in records:
        found = json.loads(record.model_dump_json())
        definition = schema["$defs"][schema["discriminator"]["mapping"][found["kind"]].rpartition("/")[2]]
        assert set(found) == set(definition["properties"])
        assert record.kind in as_text(record)
    expired = letters[-1].record
    assert isinstance(expired, ExpiredRecord)
    assert expired.event == letters[0].record.id
    assert [letter.expires_at for letter in letters] == [2.0, 60, 60, 60, 60, 60]


def test_lines_are_aligned() -> None:
    unknown: dict[str, Any] = {"kind": "unknown", "subject_id": None, "distance": None, "tau": None}
    records: list[Record] = [
        appearance(),
        appearance(seconds=12345.6, picture="x.png", subject_id="bartholomew"),
        appearance(**unknown, seconds=0.0, follows="ann"),
        appearance(kind="left"),
        appearance(kind="accompanied"),
        heartbeat(),
    ]
    lines = [as_text(record) for record in records]
    assert {line.index(" s  ") for line in lines} == {8}
    assert [line[12:23].rstrip() for line in lines] == [record.kind for record in records]
    assert "after 0.2 s in 2 frames" in lines[3]
    assert "follows ann" in lines[2]
    assert as_text(appearance(time="2026-01-02T00:00:00.000+00:00")).startswith("2026-01-02 00:00:00+00:00  identified")


def test_a_record_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="extra"):
        AppearanceRecord.model_validate(appearance().model_dump() | {"more": 1})


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
