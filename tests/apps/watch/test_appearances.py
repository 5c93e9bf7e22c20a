"""The rules of appearances, on examples and on random input."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oneglance_apps.frames.moment import Moment
from oneglance_apps.watch.appearances import Appearances
from oneglance_apps.watch.events import Event
from oneglance_apps.watch.settings import AppearanceRules
from oneglance_apps.watch.track import Box, Observation

STEP = 0.2  # 5 frames a second
TAU = 0.5
Frames = list[list[Observation]]


def seen(name: str | None, x: float = 100, distance: float = 0.2, nearest: str | None = None) -> Observation:
    """A face with sides of 100 pixels at x."""
    return Observation(name, name or nearest or "zoe", distance if name else distance + TAU, Box(x, 50, 100, 100))


def whole(name: str | None) -> Observation:
    return Observation(name, name or "zoe", 0.2 if name else 0.9, None)


def play(frames: Frames, rules: AppearanceRules | None = None, step: float = STEP) -> list[Event]:
    appearances = Appearances(rules or AppearanceRules())
    events = [event for i, faces in enumerate(frames) for event in appearances.see(Moment(i, i * step), faces, TAU)]
    return events + appearances.end()


def told(frames: Frames, rules: AppearanceRules | None = None) -> list[tuple[str, str | None]]:
    """The announced events, without "left"."""
    return [(e.kind, e.subject_id) for e in play(frames, rules) if e.kind != "left"]


def test_somebody_is_announced_once_and_leaves_once() -> None:
    frames: Frames = [
        [seen("ann", distance=0.3)],
        [seen("ann", distance=0.1)],
        [seen("ann", distance=0.05)],
        *[[]] * 20,
    ]
    identified, left = play(frames)
    assert (identified.kind, identified.subject_id, identified.moment.frame, identified.appearance) == (
        "identified",
        "ann",
        1,
        1,
    )
    assert (identified.distance, identified.tau, identified.frames) == (0.1, TAU, 2)  # the best so far
    assert (left.kind, left.subject_id, left.moment.frame, left.appearance) == ("left", "ann", 2, 1)
    assert (left.distance, left.frames) == (0.05, 3)
    assert left.duration == pytest.approx(2 * STEP)


def test_leaving_is_noticed_when_the_time_has_passed() -> None:
    appearances = Appearances(AppearanceRules(gone=3.0))
    for i in range(2):
        appearances.see(Moment(i, i * STEP), [seen("ann")], TAU)
    assert appearances.until(STEP + 3.0) == []
    assert [e.kind for e in appearances.until(STEP + 3.1)] == ["left"]
    assert appearances.end() == []


def test_one_frame_is_not_enough() -> None:
    assert play([[seen("ann")], *[[]] * 20]) == []
    assert told([[seen("ann")]], AppearanceRules(confirm=1)) == [("identified", "ann")]


def test_unknown_needs_its_time() -> None:
    assert told([[seen(None)]] * 5) == []  # 0.8 s
    (event,) = [e for e in play([[seen(None)]] * 30) if e.kind != "left"]
    assert (event.kind, event.subject_id, event.nearest, event.moment.frame) == ("unknown", None, "zoe", 5)
    assert event.distance == 0.2 + TAU


def test_an_unknown_who_is_recognised_gets_one_event_for_the_name() -> None:
    frames = [[seen(None)]] * 10 + [[seen("ann")]] * 10 + [[seen(None, nearest="ann")]] * 10 + [[seen("ann")]] * 10
    assert told(frames) == [("unknown", None), ("identified", "ann")]
    assert {e.appearance for e in play(frames)} == {1}


def test_a_turned_head_raises_no_alarm() -> None:
    # Nearest to it is still Ann, or somebody else for a moment.
    assert told([[seen("ann")]] * 5 + [[seen(None, nearest="ann")]] * 10 + [[seen("ann")]] * 5) == [
        ("identified", "ann")
    ]
    assert told([[seen("ann")]] * 5 + [[seen(None)]] * 4 + [[seen("ann")]] * 5) == [("identified", "ann")]
    # Every other frame, for long.
    assert told([[seen("ann")], [seen(None)]] * 30) == [("identified", "ann")]


def test_a_stranger_who_follows_on_the_spot_is_not_taken_for_the_one_before() -> None:
    assert told([[seen("ann")]] * 5 + [[seen(None)]] * 7) == [("identified", "ann"), ("unknown", None)]
    # Even when Ann is nearest to the stranger, too: not for longer than ``gone``.
    assert told([[seen("ann")]] * 5 + [[seen(None, nearest="ann")]] * 25) == [("identified", "ann"), ("unknown", None)]


def test_a_wrong_name_now_and_then_is_not_announced() -> None:
    stranger = ([[seen(None)]] * 12 + [[seen("bea")]]) * 5
    assert told(stranger) == [("unknown", None)]


def test_names_win_over_boxes() -> None:
    jumped = [[seen("ann", x=0)], [seen("ann", x=3000)], [seen("ann", x=0)]]
    assert told(jumped) == [("identified", "ann")]
    # Two who change places between two frames, and two who walk through each other.
    swapped = [[seen("ann", x=0), seen("bea", x=300)]] + [[seen("ann", x=300), seen("bea", x=0)]] * 3
    crossing = [[seen("ann", x=20 * i), seen("bea", x=600 - 20 * i)] for i in range(30)]
    for frames in (swapped, crossing):
        events = play(frames)
        assert Counter((e.kind, e.subject_id) for e in events) == {
            (kind, name): 1 for kind in ("identified", "left") for name in ("ann", "bea")
        }
        assert len({(e.appearance, e.subject_id) for e in events}) == 2


def test_a_stranger_who_crosses_somebody_known_stays_one_stranger() -> None:
    frames = [[seen("ann", x=20 * i), seen(None, x=600 - 20 * i)] for i in range(30)]
    assert sorted(told(frames)) == [("identified", "ann"), ("unknown", None)]


def test_two_strangers_are_two() -> None:
    assert told([[seen(None, x=0), seen(None, x=400)]] * 10) == [("unknown", None)] * 2


def test_a_face_whose_name_changes_from_frame_to_frame_is_nobody() -> None:
    for face in (seen, whole):
        assert told([[face("ann")], [face("bea")]] * 20) == []
        assert told([[face("ann")], [face("bea")], [face("cem")]] * 20) == []
        # Two of three frames agree.
        assert told([[face("ann")], [face("bea")], [face("ann")]] * 20) == [("identified", "ann")]


def test_somebody_who_takes_another_s_place_is_announced_at_once() -> None:
    events = play([[seen("ann")]] * 30 + [[seen("bea")]] * 5)
    assert [(e.subject_id, e.moment.frame) for e in events if e.kind == "identified"] == [("ann", 1), ("bea", 31)]


def test_back_after_a_while_is_another_appearance() -> None:
    here = [[seen("ann")]] * 3
    assert told(here + [[]] * 14 + here) == [("identified", "ann")]
    assert told(here + [[]] * 16 + here) == [("identified", "ann")] * 2


def test_a_name_in_between_starts_the_unknown_time_anew() -> None:
    unsure = [[seen(None)]] * 4 + [[seen("ann")]] + [[seen(None)]] * 4
    assert told(unsure) == []
    assert told(unsure + [[seen(None)]] * 2) == [("unknown", None)]


def test_a_stranger_close_by_is_not_overlooked() -> None:
    assert told([[seen("ann", x=100), seen(None, x=140)]] * 10) == [("identified", "ann"), ("unknown", None)]


def test_an_unknown_face_is_followed_by_place_and_size() -> None:
    near = replace(seen(None), box=Box(0, 0, 300, 300))
    assert told([[seen(None)]] * 3 + [[near]] * 3) == []  # two, neither for long
    walking = [[seen(None, x=100)]] * 3 + [[]] * 5 + [[seen(None, x=250)]] * 3
    assert told(walking) == [("unknown", None)]
    assert told([[seen(None, x=100)]] * 3 + [[seen(None, x=250)]] * 3) == []
    # Each to the nearest: not by the distances, which change.
    first = [seen(None, x=0, distance=0.1), seen(None, x=60, distance=0.2)]
    later = [seen(None, x=0, distance=0.4), seen(None, x=60, distance=0.3)]
    places = {(e.appearance, e.box.x) for e in play([first] * 3 + [later] * 10) if e.box}
    assert places == {(1, 0), (2, 60)}


def test_whole_frames_are_followed_by_name() -> None:
    frames = [[whole(name)] for name in ("ann", "bea", None, "ann", None) for _ in range(10)]
    kinds = ["identified", "identified", "unknown", "identified", "unknown"]
    assert told(frames) == list(zip(kinds, ["ann", "bea", None, "ann", None], strict=True))


def test_a_second_face_of_the_same_name_adds_nothing() -> None:
    assert told([[seen("ann", x=0), seen("ann", x=500)]] * 20) == [("identified", "ann")]


def test_an_empty_gallery_knows_nobody() -> None:
    nobody = Observation(None, None, None, Box(0, 0, 10, 10))
    (event, _) = play([[nobody]] * 10)
    assert (event.kind, event.nearest, event.distance) == ("unknown", None, None)


boxes = st.builds(Box, st.integers(0, 600), st.integers(0, 200), *[st.integers(60, 200)] * 2) | st.none()
faces = st.builds(
    lambda name, nearest, distance, box: Observation(name, name or nearest, distance, box),
    st.sampled_from([None, None, "ann", "bea", "cem"]),
    st.sampled_from(["ann", "bea"]),
    st.floats(0, 4, width=32),
    boxes,
)
videos = st.lists(st.lists(faces, max_size=3), max_size=60)
all_rules = st.builds(AppearanceRules, st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.5, 3.0]))


@settings(max_examples=300)
@given(videos, all_rules, st.sampled_from([0.2, 1.0]))
@example([[seen("ann")]] * 3, AppearanceRules(), 0.2)
def test_what_holds_whatever_comes_in(frames: Frames, rules: AppearanceRules, step: float) -> None:
    events = play(frames, rules, step)
    # Never two events of a kind for one appearance, and one name at most.
    assert max(Counter((e.kind, e.appearance) for e in events).values(), default=1) == 1
    names: dict[int, set[str]] = {}
    for event in events:
        if event.subject_id is not None:
            names.setdefault(event.appearance, set()).add(event.subject_id)
    assert all(len(of_one) == 1 for of_one in names.values())

    for event in events:
        until = [f for i, f in enumerate(frames) if i <= event.moment.frame]
        if event.kind == "identified":
            # Not before enough frames said it, and with a distance that one of them had.
            own = [f.distance for faces in until for f in faces if f.subject_id == event.subject_id]
            assert sum(any(f.subject_id == event.subject_id for f in faces) for faces in until) >= rules.confirm
            assert event.distance in own
        elif event.kind == "unknown":
            assert event.subject_id is None
            assert event.frames >= rules.confirm
            assert event.duration >= rules.unknown_after - 1e-6
            assert sum(any(f.subject_id is None for f in faces) for faces in until) >= rules.confirm

    # Whoever was announced leaves, once, and nobody else.
    assert {e.appearance for e in events if e.kind == "left"} == {e.appearance for e in events if e.kind != "left"}

    # While somebody is there, the name isn't given twice.
    for name in {e.subject_id for e in events if e.subject_id}:
        starts = [e for e in events if e.kind == "identified" and e.subject_id == name]
        ends = {e.appearance: e.moment.seconds for e in events if e.kind == "left"}
        for earlier, later in pairwise(starts):
            assert later.moment.seconds > ends[earlier.appearance] + rules.gone


@settings(max_examples=200)
@given(videos, all_rules, st.randoms(use_true_random=False))
def test_the_order_of_the_faces_makes_no_difference(
    frames: Frames, rules: AppearanceRules, chance: random.Random
) -> None:
    shuffled = [chance.sample(faces, len(faces)) for faces in frames]
    assert play(frames, rules) == play(shuffled, rules)


@settings(max_examples=100)
@given(st.lists(st.permutations(["ann", "bea", "cem"]), min_size=2, max_size=40))
def test_known_people_who_swap_places_at_random_are_announced_once_each(order: list[list[str]]) -> None:
    frames = [[seen(name, x=150 * place) for place, name in enumerate(names)] for names in order]
    assert sorted(told(frames)) == [("identified", name) for name in ("ann", "bea", "cem")]


@settings(max_examples=300)
@given(st.lists(st.sampled_from([None, "ann", "bea"]), max_size=60), st.sampled_from([1, 2, 3]), st.booleans())
@example(["ann", "bea"] * 10, 2, False)
def test_a_name_needs_more_frames_than_other_names_in_its_place(
    spot: list[str | None], confirm: int, of_whole_frames: bool
) -> None:
    """Of one face that stands still: some stretch of frames before the announcement has the name ahead of the
    other by ``confirm``."""
    face = whole if of_whole_frames else seen
    for event in play([[face(name)] for name in spot], AppearanceRules(confirm)):
        if event.kind == "identified":
            before = spot[: event.moment.frame + 1]
            leads = [
                sum(1 if name == event.subject_id else -1 for name in before[-n:] if name)
                for n in range(1, len(before) + 1)
            ]
            assert max(leads) >= confirm
