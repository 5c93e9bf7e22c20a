"""Delivery with a lifetime: in time, once, or not at all; on a clock that the test moves."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from oneglance_apps.clock import Clock, within
from oneglance_apps.watch.outbox import (
    FAST_LANES,
    MOST_WAITING,
    Letter,
    Listener,
    NoAnswer,
    NotReached,
    NotTaken,
    Outbox,
    Refused,
)
from oneglance_apps.watch.records import Record
from oneglance_apps.watch.settings import DeliveryRules
from tests.apps.watch.letters import appearance, heartbeat, letter
from tests.apps.watch.manual_clock import ManualClock

AGAIN = DeliveryRules("at-least-once")


class Door:
    """An output: keeps what arrives with its time; answers after ``answers_in`` seconds with ``problems`` in turn."""

    name = "door"

    def __init__(self, clock: Clock, answers_in: float = 0.0, *problems: Exception | None) -> None:
        self.got: list[tuple[float, Record]] = []
        self.closed = False
        self._clock = clock
        self._answers_in = answers_in
        self._problems = list(problems)

    async def send(self, record: Record, left: float) -> None:
        problem = self._problems.pop(0) if self._problems else None
        if isinstance(problem, NotReached):
            raise problem
        self.got.append((self._clock.now(), record))
        await self._clock.sleep(self._answers_in)
        if problem:
            raise problem

    async def close(self) -> None:
        self.closed = True

    @property
    def ids(self) -> list[str]:
        return [record.id for _, record in self.got]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def opened(
    clock: ManualClock, door: Door, rules: DeliveryRules | None = None
) -> tuple[Outbox, list[str], list[Letter]]:
    told: list[str] = []
    expired: list[Letter] = []
    listener = Listener(told.append, lambda letter, output: expired.append(letter))
    return Outbox(door, rules or DeliveryRules(), clock, listener), told, expired


async def test_three_people_and_a_receiver_that_takes_8_seconds(clock: ManualClock) -> None:
    """Each event arrives once, at once, whoever still waits for an answer."""
    door = Door(clock, 8.0)
    outbox, _, expired = opened(clock, door)
    for name in ("ann", "bea", "cem"):
        outbox.put(letter(clock, appearance(id=name)))
        await clock.advance(1.5)
    await clock.advance(120)
    assert [(when, record.id) for when, record in door.got] == [(0, "ann"), (1.5, "bea"), (3.0, "cem")]
    assert (outbox.counts.unanswered, outbox.counts.failed, expired) == (3, 3, [])


async def test_an_event_tells_its_age(clock: ManualClock) -> None:
    door = Door(clock)
    outbox, _, _ = opened(clock, door)
    taken = letter(clock)
    clock.move(0.75)
    outbox.put(taken)
    await clock.advance(0)
    assert [(record.id, record.age) for _, record in door.got] == [("e1", 0.75)]


async def test_what_is_too_old_is_not_sent_but_told(clock: ManualClock) -> None:
    door = Door(clock)
    outbox, told, expired = opened(clock, door)
    late = letter(clock)
    clock.move(2.0)
    outbox.put(late)
    await clock.advance(0)
    assert (door.got, expired, outbox.counts.expired) == ([], [late], 1)
    assert told == ["door: it came too late; an event was not delivered"]


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
async def test_while_nothing_could_be_sent_it_is_tried_until_it_expires(clock: ManualClock, delivery: str) -> None:
    rules = DeliveryRules(delivery)  # type: ignore[arg-type]
    door = Door(clock, 0, NotReached("down"), NotReached("down"), NotReached("down"))
    outbox, told, expired = opened(clock, door, rules)
    outbox.put(letter(clock))
    await clock.advance(1.9)
    ((when, record),) = door.got
    assert 0 < when < 2
    assert record.age == pytest.approx(when)
    assert (outbox.counts.delivered, told, expired) == (1, [], [])

    dead = Door(clock, 0, *[NotReached("down")] * 1000)
    outbox, told, expired = opened(clock, dead, rules)
    sent = letter(clock)
    outbox.put(sent)
    await clock.advance(3600)
    assert (dead.got, expired, outbox.counts.expired) == ([], [sent], 1)
    assert told == ["door: down; an event was not delivered"]


@pytest.mark.parametrize("problem", [NotTaken("HTTP status 500"), NoAnswer("it hung up"), Refused("HTTP status 404")])
async def test_at_most_once_nothing_is_sent_again(clock: ManualClock, problem: Exception) -> None:
    door = Door(clock, 0, problem)
    outbox, told, expired = opened(clock, door)
    outbox.put(letter(clock))
    await clock.advance(3600)
    assert (len(door.got), outbox.counts.failed, expired) == (1, 1, [])
    assert told == [f"door: {problem}; an event was not delivered"]


async def test_at_least_once_it_is_sent_until_it_is_taken(clock: ManualClock) -> None:
    door = Door(clock, 0, NotTaken("HTTP status 500"), NoAnswer("it hung up"))
    outbox, told, _ = opened(clock, door, AGAIN)
    outbox.put(letter(clock))
    await clock.advance(3600)
    assert door.ids == ["e1"] * 3
    assert all(when < 2 for when, _ in door.got)
    assert (outbox.counts.delivered, told) == (1, [])


async def test_at_least_once_ends_with_the_lifetime_and_with_a_refusal(clock: ManualClock) -> None:
    door = Door(clock, 0, *[NotTaken("HTTP status 500")] * 1000)
    outbox, _, _ = opened(clock, door, AGAIN)
    outbox.put(letter(clock))
    await clock.advance(3600)
    assert 3 <= len(door.got) < 20
    assert all(when < 2 for when, _ in door.got)
    assert outbox.counts.refused == 1

    door = Door(clock, 0, Refused("HTTP status 404"))
    outbox, _, _ = opened(clock, door, AGAIN)
    outbox.put(letter(clock))
    await clock.advance(3600)
    assert len(door.got) == 1


async def test_other_events_hold_up_nobody_who_is_identified(clock: ManualClock) -> None:
    door = Door(clock, 4.0)
    outbox, _, expired = opened(clock, door)
    for i in range(20):
        outbox.put(letter(clock, heartbeat(id=f"h{i}")))
    await clock.advance(1.0)
    outbox.put(letter(clock))
    await clock.advance(0)
    assert door.got[-1][1].id == "e1"
    await clock.advance(600)
    beats = [(when, record.id) for when, record in door.got if record.kind == "heartbeat"]
    assert beats == [(4.0 * i, f"h{i}") for i in range(15)]  # in order, and none after a minute
    assert [one.record.id for one in expired] == [f"h{i}" for i in range(15, 20)]


async def test_more_at_once_than_can_be_sent_wait_and_expire(clock: ManualClock) -> None:
    door = Door(clock, 3.0)
    outbox, _, expired = opened(clock, door)
    for i in range(FAST_LANES + 2):
        outbox.put(letter(clock, appearance(id=str(i))))
    await clock.advance(2.0)
    assert door.ids == [str(i) for i in range(FAST_LANES)]
    assert [one.record.id for one in expired] == [str(FAST_LANES), str(FAST_LANES + 1)]  # told when they expire


async def test_a_flood_is_bounded(clock: ManualClock) -> None:
    door = Door(clock, 1.0)
    outbox, _, _ = opened(clock, door)
    for i in range(MOST_WAITING + 5):
        outbox.put(letter(clock, heartbeat(id=str(i))))
    assert outbox.counts.overflowed == 5
    await clock.advance(600)
    assert outbox.counts.delivered + outbox.counts.failed == MOST_WAITING + 5


async def test_trouble_is_told_once_and_its_end_too(clock: ManualClock) -> None:
    door = Door(clock, 0, Refused("HTTP status 404"), Refused("HTTP status 404"))
    outbox, told, _ = opened(clock, door)
    for _ in range(4):
        outbox.put(letter(clock))
        await clock.advance(0)
    assert told == [
        "door: HTTP status 404; an event was not delivered",
        "door: takes events again; 2 were not delivered",
    ]


async def finished(clock: ManualClock, work: Callable[[], Awaitable[None]], seconds: float) -> None:
    task = asyncio.ensure_future(work())
    await clock.advance(seconds)
    assert task.done()
    task.result()


async def test_closing_delivers_what_waits_for_so_long(clock: ManualClock) -> None:
    door = Door(clock, 4.0)
    outbox, _, _ = opened(clock, door)
    for i in range(5):
        outbox.put(letter(clock, heartbeat(id=str(i))))
    await finished(clock, lambda: outbox.close(10.0), 10.0)
    assert door.closed
    assert door.ids == ["0", "1", "2"]
    assert (outbox.counts.delivered, outbox.counts.unsent) == (2, 3)
    outbox.put(letter(clock))
    assert outbox.counts.unsent == 4


async def test_closing_waits_no_longer_than_it_must(clock: ManualClock) -> None:
    door = Door(clock, 1.0)
    outbox, _, _ = opened(clock, door)
    await finished(clock, lambda: opened(clock, door)[0].close(10.0), 0.0)
    outbox.put(letter(clock))
    await finished(clock, lambda: outbox.close(10.0), 1.0)
    assert outbox.counts.delivered == 1


async def test_a_deadline_cancels_what_it_limits(clock: ManualClock) -> None:
    cancelled: list[bool] = []

    async def endless() -> None:
        try:
            await clock.sleep(1e9)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    task = asyncio.ensure_future(within(clock, 5, endless()))
    await clock.advance(4.9)
    assert not task.done()
    await clock.advance(0.2)
    with pytest.raises(TimeoutError):
        await task
    assert cancelled == [True]
