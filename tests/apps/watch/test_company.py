"""Who else is there: faces in view, followers, being alone, faces that are not clear, and repeats."""

from dataclasses import replace

import pytest

from oneglance_apps.frames.moment import Moment
from oneglance_apps.watch.appearances import Appearances
from oneglance_apps.watch.events import Event, InView
from oneglance_apps.watch.settings import AppearanceRules
from oneglance_apps.watch.track import Box, Observation

STEP = 0.1  # 10 frames a second
Frames = list[list[Observation]]


def face(name: str | None, x: float = 100, nearest: str = "zoe", *, clear: bool = True) -> Observation:
    """A face from the front with sides of 100 pixels; ``name`` None: unknown."""
    box = Box(x, 50, 100, 100)
    return Observation(name, name or nearest, 0.2 if name else 0.9, box, clear=clear, frontal=clear)


def play(frames: Frames, rules: AppearanceRules | None = None) -> list[Event]:
    appearances = Appearances(rules or AppearanceRules())
    events = [event for i, faces in enumerate(frames) for event in appearances.see(Moment(i, i * STEP), faces, 0.5)]
    return [event for event in events if event.kind != "left"]


def told(frames: Frames, rules: AppearanceRules | None = None) -> list[tuple[str, str | None, int]]:
    """Kind, subject and frame of each event."""
    return [(event.kind, event.subject_id, event.moment.frame) for event in play(frames, rules)]


def test_an_event_says_who_else_is_in_view() -> None:
    frames = [[face("ann"), face(None, 400), face(None, 700, clear=False), face("bea", 1000)]] * 2
    ann, _ = play(frames)
    assert ann.view == InView(faces=4, identified=2, unknown=1, unclear=1, nearest_other=3.0)
    (alone,) = play([[face("ann")]] * 2)
    assert alone.view == InView(faces=1, identified=1, unknown=0, unclear=0, nearest_other=None)
    whole = Observation("ann", "ann", 0.1, None)
    assert play([[whole, replace(whole, subject_id=None)]] * 2)[0].view.nearest_other is None


@pytest.mark.parametrize("nearest", ["ann", "zoe"])
def test_a_stranger_in_the_place_of_somebody_known_is_told_although_short(nearest: str) -> None:
    """Three clear faces are enough, less than the usual second, whoever is nearest to the stranger."""
    frames: Frames = [[face("ann")]] * 10 + [[face(None, nearest=nearest)]] * 3 + [[]] * 5
    assert told(frames) == [("identified", "ann", 1), ("unknown", None, 12)]
    assert play(frames)[1].follows == "ann"
    after_a_gap: Frames = [[face("ann")]] * 10 + [[]] * 8 + [[face(None, nearest=nearest)]] * 3
    assert told(after_a_gap) == [("identified", "ann", 1), ("unknown", None, 20)]
    two: Frames = [[face("ann")]] * 10 + [[face(None, nearest=nearest)]] * 2 + [[]] * 5
    assert told(two) == [("identified", "ann", 1)]
    assert told(two, AppearanceRules(follower_faces=2)) == [("identified", "ann", 1), ("unknown", None, 11)]


def test_elsewhere_or_later_a_stranger_needs_the_usual_time() -> None:
    for frames in (
        [[face("ann")]] * 10 + [[face(None, 900)]] * 8,
        [[face("ann")]] * 10 + [[]] * 40 + [[face(None)]] * 8,
    ):
        assert told(frames) == [("identified", "ann", 1)]


def test_a_head_that_turns_is_no_stranger() -> None:
    """Not clear, or not from the front."""
    turned = replace(face(None, nearest="ann"), frontal=False)
    frames: Frames = [[face("ann")]] * 5 + [[turned]] * 20 + [[face("ann")]] * 5 + [[face(None, nearest="ann")]] * 2
    assert told([*frames, [face("ann")]]) == [("identified", "ann", 1)]


def test_somebody_blurred_is_unclear_and_not_unknown() -> None:
    blurred = face(None, clear=False)
    assert told([[blurred]] * 30) == [("unclear", None, 10)]
    assert told([[blurred]] * 12 + [[face("ann")]] * 3) == [("unclear", None, 10), ("identified", "ann", 13)]
    assert told([[blurred]] * 12 + [[face(None)]] * 3) == [("unclear", None, 10), ("unknown", None, 13)]
    assert told([[face(None)]] * 12) == [("unknown", None, 10)]
    assert told([[face(None), face(None, 500, clear=False)]] * 12) == [("unknown", None, 10), ("unclear", None, 10)]


@pytest.mark.parametrize("other", [face("bea", 400), face(None, 400)])
def test_alone_means_that_nobody_else_is_in_view_nor_was_a_second_ago(other: Observation) -> None:
    rules = AppearanceRules(alone="anybody")
    assert told([[face("ann")]] * 5, rules) == [("identified", "ann", 1)]
    frames: Frames = [[face("ann"), other]] * 5 + [[face("ann")]] * 20
    events = [event for event in told(frames, rules) if event[1] == "ann"]
    assert events == [("accompanied", "ann", 1), ("identified", "ann", 16)]  # a second after frame 4, twice
    assert [event for event in told([[face("ann"), other]] * 9, rules) if event[1] == "ann"] == [
        ("accompanied", "ann", 1)
    ]


def test_alone_with_colleagues_only() -> None:
    rules = AppearanceRules(alone="strangers")
    pair: Frames = [[face("ann"), face("bea", 400)]] * 5
    assert told(pair, rules) == [("identified", "ann", 1), ("identified", "bea", 1)]
    assert told([[face("ann"), face(None, 400)]] * 5, rules) == [("accompanied", "ann", 1)]
    assert told([[face("ann"), face(None, 400, clear=False)]] * 5, rules) == [("accompanied", "ann", 1)]
    twice: Frames = [[face("ann"), face("ann", 400)]] * 5  # one of them is somebody else, or a photo
    assert told(twice, rules) == [("accompanied", "ann", 1)]


def test_somebody_who_stays_is_told_again_by_choice() -> None:
    frames: Frames = [[face("ann")]] * 35
    assert told(frames) == [("identified", "ann", 1)]
    assert told(frames, AppearanceRules(repeat=1.0)) == [
        ("identified", "ann", 1),
        ("present", "ann", 11),
        ("present", "ann", 21),
        ("present", "ann", 31),
    ]
    gone: Frames = [[face("ann")]] * 5 + [[face(None, nearest="ann", clear=False)]] * 20
    assert told(gone, AppearanceRules(repeat=1.0)) == [("identified", "ann", 1)]
