"""Which frames are looked at, when they were taken, and how late answers may be: on numbers, without a clock."""

import asyncio

import pytest

from oneglance_apps.frames.frame_clock import FrameClock
from oneglance_apps.frames.gaps import Gaps
from oneglance_apps.frames.pace import FilePace, LivePace
from oneglance_apps.frames.positions import Positions
from oneglance_apps.frames.source_error import SourceError
from oneglance_apps.watch.camera_state import CameraState
from oneglance_apps.watch.lateness import AGAIN_SECONDS, Lateness, percentile
from oneglance_apps.watch.window import MOST_UNDER_WAY, Window
from tests.waiting import loop_turns


def looked_at(pace: FilePace | LivePace, times: list[float]) -> list[float]:
    return [seconds for seconds in times if pace.due(seconds)]


@pytest.mark.parametrize("jitter", [0.0, 0.001, 0.02, 0.04])
@pytest.mark.parametrize("fps", [5, 10, 25])
def test_a_camera_of_the_rate_asked_for_loses_no_frame(fps: int, jitter: float) -> None:
    jitter = min(jitter, 0.4 / fps)
    times = [100 + i / fps + (jitter if i % 3 == 0 else -jitter) for i in range(20 * fps)]
    assert looked_at(LivePace(fps), times) == times


@pytest.mark.parametrize(("camera", "fps"), [(30, 5), (30, 10), (25, 10), (12, 10), (10, 7)])
def test_of_a_faster_camera_the_rate_asked_for_is_looked_at(camera: int, fps: int) -> None:
    found = looked_at(LivePace(fps), [i / camera for i in range(100 * camera)])
    assert len(found) == pytest.approx(100 * fps, abs=2)


def test_after_a_pause_frames_do_not_come_in_a_burst() -> None:
    assert looked_at(LivePace(10), [0.0, 60.0, 60.004, 60.008, 60.012, 60.1, 60.2]) == [0.0, 60.0, 60.1, 60.2]


def test_of_a_file_the_first_frame_of_each_slot() -> None:
    assert looked_at(FilePace(5), [0, 0.05, 0.1, 0.2, 1.0, 1.01, 1.02, 1.03, 3.5]) == [0, 0.2, 1.0, 3.5]


def positions(times: list[float | None], start: float | None = 0.0, *, may_step: bool = False) -> list[float]:
    found = Positions(start, 0.1, may_step=may_step)
    return [round(found.of(at), 3) for at in times]


def test_a_position_counts_from_the_start_of_the_file() -> None:
    assert positions([1.5, 1.6]) == [1.5, 1.6]  # the sound begins first
    assert positions([7.0, 7.5], start=7.0) == [0.0, 0.5]
    assert positions([7.0, 7.5], start=None) == [0.0, 0.5]
    assert positions([3.0, 3.1], start=5.0) == [0.0, 0.1]
    assert positions([None, None, 5.0], start=None) == [0.0, 0.1, 0.2]
    assert positions([30.0, 30.1]) == [30.0, 30.1]


def test_a_clock_that_steps_does_not_move_the_position() -> None:
    assert positions([3600.0, 3600.1, 0.2, 0.3], start=3600.0) == [0.0, 0.1, 0.2, 0.3]
    assert positions([0.0, 0.1, 3600.2, 3600.3], may_step=True) == [0.0, 0.1, 0.2, 0.3]
    assert positions([0.0, 0.1, 3600.2, 3600.3]) == [0.0, 0.1, 3600.2, 3600.3]  # a clock that doesn't: a long gap
    assert positions([90_000.0, 90_000.1], may_step=True) == [0.0, 0.1]  # the start that is told is another clock's
    assert positions([0.0, None, 0.05, 0.3]) == [0.0, 0.1, 0.2, 0.3]
    assert positions([0.0, 0.1, 1.3, 0.2, 1.45, 0.3, 1.6]) == [0.0, 0.1, 1.3, 1.4, 1.45, 1.55, 1.6]  # damaged


def test_a_frame_that_was_held_up_keeps_its_time() -> None:
    clock = FrameClock()
    assert [clock.taken(i / 10, 50 + i / 10) for i in range(3)] == pytest.approx([50, 50.1, 50.2])
    # A stall of 16 seconds: then all frames at once.
    assert [clock.taken(i / 10, 66.3) for i in range(3, 163)] == pytest.approx([50 + i / 10 for i in range(3, 163)])
    assert clock.taken(16.3, 66.4) == pytest.approx(66.3)


def test_a_camera_s_clock_may_step() -> None:
    clock = FrameClock()
    assert clock.taken(5000.0, 50.0) == 50.0
    assert clock.taken(1400.0, 50.1) == pytest.approx(50.1)  # an hour back
    assert clock.taken(1400.1, 50.2) == pytest.approx(50.2)
    assert clock.taken(9000.0, 50.3) == pytest.approx(50.3)  # ahead
    assert clock.taken(9000.1, 50.4) == pytest.approx(50.4)
    assert clock.taken(9000.2, 51.5) == pytest.approx(50.5)  # held up for a second
    assert clock.taken(None, 51.6) == 51.6


def test_a_camera_s_clock_may_be_a_little_slow() -> None:
    clock = FrameClock()
    late = [50 + i / 10 - clock.taken(0.9999 * i / 10, 50 + i / 10) for i in range(36_000)]
    assert max(late) < 0.01


def test_gaps_of_a_regular_video_are_frames_missing() -> None:
    def missing(times: list[float], damaged_at: float = -1, *, long_ones_count: bool = True) -> int:
        gaps = Gaps(0.1)
        for seconds in times:
            gaps.add(seconds, damaged=seconds == damaged_at)
        return gaps.missing(long_ones_count=long_ones_count)

    steady = [i / 10 for i in range(100)]
    assert missing(steady) == 0
    assert missing(steady[:40] + steady[60:]) == 20
    assert missing(steady[:40] + steady[60:], long_ones_count=False) == 0
    assert missing(steady[:40] + steady[42:]) == 0  # a camera may leave one out
    assert missing(steady[:40] + steady[42:], damaged_at=steady[42], long_ones_count=False) == 2
    assert missing([0, 0.1, 1.0, 1.2, 1.3, 5.0, 5.1, 9.0, 9.5, 9.6, 9.9, 11.0], damaged_at=5.0) == 0  # irregular


async def test_a_window_shrinks_when_answers_are_late_and_grows_when_they_are_not() -> None:
    window = Window(0.5)
    sizes = []
    entering = asyncio.ensure_future(window.enter())
    for latency in [0.01] * 60 + [0.6] * 5 + [0.32] * 60:
        await loop_turns(3)
        while entering.done():  # always more frames than may be under way
            entering = asyncio.ensure_future(window.enter())
            await loop_turns(3)
        window.leave(latency)
        sizes.append(window.size)
    entering.cancel()
    assert sizes[0] == 1
    assert sizes[59] == MOST_UNDER_WAY
    assert sizes[64] == 1
    assert sizes[-1] == 1  # with 2 under way it would be 0.64
    assert min(sizes) == 1


async def test_a_window_without_a_bound_or_without_demand_stays() -> None:
    free = Window(None)
    assert free.size == MOST_UNDER_WAY
    for _ in range(MOST_UNDER_WAY):
        await free.enter()
    free.leave(100.0)
    assert free.size == MOST_UNDER_WAY
    idle = Window(0.5)
    for _ in range(50):
        await idle.enter()
        idle.leave(0.01)
    assert idle.size == 1


def test_percentiles() -> None:
    assert percentile([], 0.5) is None
    assert [percentile(range(1, 101), share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([7.0], 0.99) == 7.0


def test_behind_is_told_when_half_of_the_answers_are_late_and_then_not_again_for_a_while() -> None:
    lateness = Lateness(0.5)
    for i in range(10):
        lateness.answered(i / 10, 0.4)
        assert not lateness.is_behind(i / 10, None)
    told = []
    for i in range(10, 400):
        lateness.answered(i / 10, 0.6)
        if lateness.is_behind(i / 10, None):
            told.append(i / 10)
    assert told == pytest.approx([2.0, 2.0 + AGAIN_SECONDS])
    assert (lateness.of_late(39.9, 0.5), lateness.of_run(0.01)) == (0.6, 0.4)
    assert Lateness(None).is_behind(100.0, 0.0) is False


def test_a_frame_that_gets_no_answer_is_behind_too() -> None:
    lateness = Lateness(0.5)
    assert not lateness.is_behind(12.0, 10.0)
    assert lateness.is_behind(12.6, 10.0)
    assert lateness.of_late(12.6, 0.5) is None


def test_a_camera_that_stops_is_told_after_the_time_that_is_set_and_so_is_its_return() -> None:
    state = CameraState("door", 3.0, 100.0)
    assert state.look(102.9, None, None) is None  # it has just been opened
    assert state.look(103.0, 103.0, None) is None
    assert state.look(106.0, 103.0, None) is None
    lost = state.look(106.1, 103.0, None)
    assert lost is not None
    assert (lost.kind, lost.reason) == ("camera_lost", "silent")
    assert lost.silent == pytest.approx(3.1)
    assert "no frame for 3.1 s" in lost.message
    assert state.look(119.0, 103.0, None) is None  # once
    back = state.look(119.3, 119.25, None)
    assert back is not None
    assert (back.kind, back.reason) == ("camera_back", None)
    assert back.silent == pytest.approx(16.25)
    assert state.look(119.5, 119.4, None) is None


def test_a_camera_that_hangs_up_is_lost_at_once_and_every_new_reason_is_told() -> None:
    state = CameraState("door", 3.0, 0.0)
    ended, password = SourceError("door: ended", "ended"), SourceError("door: wrong password", "password")
    looks = [(1.0, 0.9, ended), (1.5, 0.9, ended), (2.0, 0.9, password), (9.0, 0.9, password), (9.5, 9.4, None)]
    told = [change and (change.kind, change.reason) for change in (state.look(*look) for look in looks)]
    assert told == [("camera_lost", "ended"), None, ("camera_lost", "password"), None, ("camera_back", None)]
