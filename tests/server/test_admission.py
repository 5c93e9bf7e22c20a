"""The one mechanism of admission: bounded, in turns by cost, each caller in order, nothing kept of those who left."""

import asyncio
import math
import random
import time
from collections import defaultdict
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneglance_server.access.identity import Identity
from oneglance_server.admission import FairQueue, Ticket
from oneglance_server.calls import Call, Caller
from oneglance_server.errors import DeadlinePassed, Overloaded
from oneglance_server.limiter import Limiter
from tests.waiting import PATIENCE_SECONDS, loop_turns, reached

A, B = Caller("a"), Caller("b")
Item = TypeVar("Item")


def patient(caller: Caller = A, deadline: float | None = None) -> Call:
    return Call(caller, deadline, patient=True)


def put(queue: FairQueue[Item, None], items: list[Item], cost: int, call: Call) -> list[Ticket[Item, None]]:
    return queue.put(items, call, costs=[cost] * len(items))


def order(tickets: list[Ticket[str, None]]) -> list[str]:
    return [ticket.item for ticket in tickets]


async def test_a_limiter_refuses_waits_and_lets_one_of_any_size_through() -> None:
    limiter = Limiter("requests", 100, unit="bytes")
    limiter.take(1_000_000)  # alone
    with pytest.raises(Overloaded) as caught:
        limiter.take(1)
    assert caught.value.metadata == {"queue": "requests", "max_bytes": "100"}
    with pytest.raises(Overloaded):
        await limiter.acquire(Call(A), 1)
    limiter.take(0)
    waiting = [asyncio.create_task(limiter.acquire(patient(), cost)) for cost in (60, 60, 10)]
    await loop_turns(1)
    waiting[1].cancel()
    await loop_turns(1)
    limiter.give(1_000_000)
    await asyncio.gather(waiting[0], waiting[2])
    limiter.take(30)
    with pytest.raises(Overloaded):
        limiter.take(1)
    for cost in (60, 10, 30):
        limiter.give(cost)
    limiter.take(100)


async def test_who_no_longer_waits_is_in_nobodys_way() -> None:
    limiter = Limiter("requests", 100, unit="bytes")
    loop = asyncio.get_running_loop()
    limiter.take(50)
    large, small = (asyncio.create_task(limiter.acquire(patient(), cost)) for cost in (80, 20))
    await loop_turns(1)
    assert not small.done()  # in the order of asking
    large.cancel()
    await asyncio.wait_for(small, PATIENCE_SECONDS)
    late = asyncio.create_task(limiter.acquire(patient(A, loop.time() + 0.01), 80))
    await loop_turns(1)
    small = asyncio.create_task(limiter.acquire(patient(), 30))
    with pytest.raises(DeadlinePassed, match="in the requests queue"):
        await late  # at that moment: nothing was given back meanwhile
    await asyncio.wait_for(small, PATIENCE_SECONDS)
    assert (limiter.under_way, limiter.waiting) == (100, 0)


async def test_who_is_let_through_and_leaves_at_once_gives_it_back() -> None:
    limiter = Limiter("requests", 10, unit="bytes")
    limiter.take(10)
    waiting = asyncio.create_task(limiter.acquire(patient(), 10))
    await loop_turns(1)
    limiter.give(10)  # it is let through
    waiting.cancel()  # before it could learn of it
    await asyncio.wait([waiting])
    assert (limiter.under_way, limiter.waiting) == (0, 0)


async def test_a_caller_with_a_thousand_items_delays_anothers_single_one_by_a_batch() -> None:
    queue = FairQueue[str, None]("test", 10_000)
    put(queue, [f"a{i}" for i in range(1000)], 1, Call(A))
    assert order(queue.take(64, alone=True)) == [f"a{i}" for i in range(64)]
    put(queue, ["b"], 1, Call(B))
    assert "b" in order(queue.take(64, alone=True))


async def test_turns_are_by_cost_and_not_by_number() -> None:
    queue = FairQueue[str, None]("test", 10_000)
    put(queue, ["large"] * 10, 50, Call(A))
    put(queue, ["small"] * 500, 1, Call(B))
    taken = order(queue.take(500, alone=True))
    assert taken.count("large") * 50 == pytest.approx(250, abs=50)
    # Who comes back after each item has no advantage over who lets all of them wait.
    served: dict[str, int] = defaultdict(int)
    queue = FairQueue[str, None]("test", 10_000)
    put(queue, ["waits"] * 1000, 1, Call(B))
    put(queue, ["comes back"], 20, Call(A))
    for _ in range(500):
        (ticket,) = queue.take(1, alone=True)
        served[ticket.item] += ticket.cost
        if ticket.item == "comes back":
            put(queue, ["comes back"], 20, Call(A))
    assert abs(served["waits"] - served["comes back"]) <= 20


async def test_who_comes_back_after_each_item_does_not_starve_who_waits_with_large_ones() -> None:
    served: dict[str, int] = defaultdict(int)
    queue = FairQueue[str, None]("test", 10_000)
    put(queue, ["waits"] * 50, 20, Call(B))
    put(queue, ["comes back"], 1, Call(A))
    for _ in range(500):
        (ticket,) = queue.take(1, alone=True)
        served[ticket.item] += ticket.cost
        if ticket.item == "comes back":
            put(queue, ["comes back"], 1, Call(A))
    assert abs(served["waits"] - served["comes back"]) <= 21


@given(
    callers=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 4)), min_size=1, max_size=4),  # cost, at once
    waiting_cost=st.integers(1, 50),
    room=st.integers(1, 60),
)
def test_nobody_gets_more_than_an_item_ahead_of_who_always_waits(
    callers: list[tuple[int, int]], waiting_cost: int, room: int
) -> None:
    """The bound of start-time fair queueing, for callers that come back with so many items once they were served."""

    async def run() -> None:
        queue = FairQueue[int, None]("test", 1)
        put(queue, [-1] * 6001, waiting_cost, patient(Caller("waits")))
        served: dict[int, int] = defaultdict(int)
        waiting: dict[int, int] = defaultdict(int)
        for _ in range(100):
            for number, (cost, at_once) in enumerate(callers):
                if not waiting[number]:
                    put(queue, [number] * at_once, cost, patient(Caller(str(number))))
                    waiting[number] = at_once
            for ticket in queue.take(room, alone=True):
                served[ticket.item] += ticket.cost
                waiting[ticket.item] -= 1
            for number, (cost, _) in enumerate(callers):
                assert served[number] - served[-1] <= cost + waiting_cost

    asyncio.run(run())


async def test_calls_and_streams_of_one_caller_take_turns() -> None:
    queue = FairQueue[str, None]("test", 100)
    put(queue, [f"stream{i}" for i in range(5)], 1, patient())
    put(queue, ["call0", "call1"], 1, Call(A))
    taken = order(queue.take(100, alone=True))
    assert taken.index("call1") <= 3
    assert [item for item in taken if item.startswith("stream")] == [f"stream{i}" for i in range(5)]


async def test_streams_however_many_leave_calls_half() -> None:
    queue = FairQueue[str, None]("test", 100)
    for i in range(50):
        put(queue, ["stream"] * 10, 1, patient(Caller(f"camera {i}")))
    put(queue, [f"call{i}" for i in range(10)], 1, Call(A))
    taken = order(queue.take(20, alone=True))
    assert taken.count("stream") == 10
    assert not any(item.startswith("call") for item in order(queue.take(20, alone=True)))
    put(queue, ["late call"], 1, Call(A))  # has no claim to the turns that nobody asked for meanwhile
    put(queue, ["later calls"] * 10, 1, Call(B))
    assert order(queue.take(12, alone=True)).count("stream") in (5, 6)


async def test_who_would_wait_for_more_than_a_round_is_refused_at_once() -> None:
    queue = FairQueue[str, None]("test", 4)
    queue.pace = 1.0
    for i in range(5):
        put(queue, ["one"], 1, Call(Caller(f"caller {i}")))
    with pytest.raises(Overloaded, match="the test queue is full") as caught:
        put(queue, ["one"], 1, Call(Caller("another")))
    assert caught.value.metadata == {"queue": "test", "retry_after_ms": "5000"}
    put(queue, ["one"] * 5, 1, Call(Caller("who asks for more")))  # and would be slow anyway
    put(queue, ["s"] * 100, 1, patient())  # a stream waits
    put(queue, ["later stage"], 1, Call(B).let_in)
    assert queue.cost == 111
    queue.take(110, alone=True)
    put(queue, ["one"], 1, Call(B))


async def test_one_call_has_its_turn_however_much_another_waits_for() -> None:
    queue = FairQueue[str, None]("test", 4)
    put(queue, ["large"] * 1000, 1, Call(A))
    put(queue, ["small"], 1, Call(B))
    with pytest.raises(Overloaded):
        put(queue, ["small"], 1, Call(A))  # behind its own thousand
    with pytest.raises(Overloaded):
        put(queue, ["large"] * 400, 1, Call(A))
    put(queue, ["large"] * 400, 1, Call(B))  # in turns with the others


async def test_who_asks_for_little_is_let_in_and_goes_first() -> None:
    """However many others want more than there is."""
    queue = FairQueue[str, None]("test", 2)
    refused = 0
    for i in range(200):
        for greedy in range(8):
            try:
                put(queue, ["much"], 1, Call(Caller(f"greedy {greedy}")))
            except Overloaded:
                refused += 1
        if i % 10 == 9:
            put(queue, ["little"], 1, Call(B))
            assert order(queue.take(2, alone=True))[0] == "little"
        else:
            queue.take(2, alone=True)
    assert refused > 1000
    assert queue.cost <= 6


async def test_callers_who_left_are_forgotten() -> None:
    queue = FairQueue[str, None]("test", 2)
    put(queue, ["stays"] * 5000, 1, patient())
    for i in range(2000):
        put(queue, ["comes once"], 1, Call(Caller(str(i))).let_in)
        put(queue, ["stream comes once"], 1, patient(Caller(str(i))))
        queue.take(4, alone=True)
    assert len(queue._streams._left) < 1000
    assert not queue._calls._left
    assert len(queue._streams.lines) < 100


async def test_half_of_the_turns_are_the_streams_and_count_as_waiting() -> None:
    queue = FairQueue[str, None]("test", 4)
    put(queue, ["s"] * 100, 1, patient())
    for name in "ab":
        put(queue, ["one"], 1, Call(Caller(name)))
    with pytest.raises(Overloaded):
        put(queue, ["one"], 1, Call(Caller("c")))


async def test_a_burst_may_wait_a_moment_but_not_what_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    queue = FairQueue[str, None]("test", 1)
    queue.pace = 0.01
    for i in range(11):
        put(queue, ["one"], 1, Call(Caller(f"caller {i}")))
    with pytest.raises(Overloaded):
        put(queue, ["one"], 1, Call(A))
    queue.take(9, alone=True)  # 2 are left
    now += 0.2
    with pytest.raises(Overloaded):
        put(queue, ["one"], 1, Call(Caller("caller 0")))  # they have been waiting all the time
    queue.take(9, alone=True)
    for i in range(3):
        put(queue, ["one"], 1, Call(Caller(f"caller {i}")))


async def test_what_would_be_late_is_refused_at_once() -> None:
    queue = FairQueue[str, None]("test", 100)
    now = asyncio.get_running_loop().time()
    soon, later = Call(A, now + PATIENCE_SECONDS), Call(A, now + 10 * PATIENCE_SECONDS)
    put(queue, ["the first"] * 20, 1, soon)  # how long it takes isn't known yet
    queue.pace = PATIENCE_SECONDS / 10
    with pytest.raises(Overloaded, match="before its deadline") as caught:
        put(queue, ["one"], 1, soon)
    assert caught.value.reason == "QUEUE_FULL"
    put(queue, ["one"], 1, later)
    assert queue.cost == 21
    queue.take(100, alone=True)
    queue.put(["one"] * 20, soon, busy=False)  # nothing is before it: who knows


@given(
    calls=st.lists(
        st.tuples(st.integers(0, 4), st.lists(st.integers(1, 20), min_size=1, max_size=5)), min_size=1, max_size=12
    ),
    served=st.integers(0, 8),
)
def test_what_is_ahead_is_estimated_well(calls: list[tuple[int, list[int]]], served: int) -> None:
    """To an item of every other caller."""

    async def run() -> None:
        queue = FairQueue[tuple[int, int], None]("test", 1, max_wait=math.inf)
        estimated: dict[tuple[int, int], int] = {}
        for number, (caller, costs) in enumerate(calls):
            if number == len(calls) // 2:
                for _ in range(served):
                    queue.take(1, alone=True)
            items = [(number, i) for i in range(len(costs))]
            last = items[-1]
            estimated[last] = queue._calls.ahead(str(caller), sum(costs[:-1])) + sum(costs[:-1])
            queue.put(items, Call(Caller(str(caller))), costs=costs)
        number, (caller, costs) = len(calls) - 1, calls[-1]
        before = 0
        while (ticket := queue.take(1, alone=True)[0]).item != (number, len(costs) - 1):
            before += ticket.cost
        others = len({other for other, _ in calls} - {caller})
        assert abs(before - estimated[number, len(costs) - 1]) <= 20 * others

    asyncio.run(run())


async def test_large_tickets_of_one_line_leave_room_for_others() -> None:
    queue = FairQueue[str, None]("test", 100)
    put(queue, ["large"] * 10, 10, Call(A))
    put(queue, ["small"] * 10, 1, Call(A).let_in)
    put(queue, ["also large"] * 3, 10, Call(B))
    taken = order(queue.take(100, alone=True, share=20))
    assert (taken.count("large"), taken.count("also large"), taken.count("small")) == (2, 2, 0)
    assert len(queue.take(10_000, alone=True)) == 8 + 1 + 10


async def test_all_whose_deadline_passes_leave_and_the_others_stay() -> None:
    queue = FairQueue[str, None]("test", 4)
    now = asyncio.get_running_loop().time()
    after = [PATIENCE_SECONDS, 0.02, 0.001, PATIENCE_SECONDS, -1.0, 0.02]
    tickets = [put(queue, [str(s)], 1, patient(Caller(str(i % 2)), now + s))[0] for i, s in enumerate(after)]
    staying = put(queue, ["no deadline"], 1, patient())[0]
    for seconds, ticket in zip(after, tickets, strict=True):
        if seconds < 1:
            with pytest.raises(DeadlinePassed):
                await asyncio.wait_for(ticket.future, PATIENCE_SECONDS)
            assert asyncio.get_running_loop().time() >= now + seconds - 0.001
    assert queue.cost == 3
    assert set(queue.take(10, alone=True)) == {tickets[0], tickets[3], staying}


async def test_a_late_loop_serves_nobody_whose_deadline_passed() -> None:
    """The loop comes to take before the timer."""
    queue = FairQueue[str, None]("test", 4)
    late, kept = put(queue, ["late"], 1, Call(A, 0.0)) + put(queue, ["kept"], 1, Call(A))
    assert queue.take(10, alone=True) == [kept]
    with pytest.raises(DeadlinePassed):
        await late.future


@given(
    capacity=st.integers(1, 40),
    callers=st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 60),  # cost
                st.sampled_from(["stay", "stay", "stay", "leave waiting", "leave holding", "late"]),
                st.integers(0, 6),  # loop turns before it asks, and that it holds
                st.booleans(),  # patient
            ),
            min_size=1,
            max_size=12,
        ),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 2**32),
)
def test_whatever_happens_the_limit_holds_all_are_served_in_order_and_all_is_given_back(
    capacity: int, callers: list[list[tuple[int, str, int, bool]]], seed: int
) -> None:
    async def run() -> None:
        limiter = Limiter("test", capacity, unit="bytes")
        loop = asyncio.get_running_loop()
        held: list[int] = []
        costs = {cost for items in callers for cost, *_ in items}
        through: dict[tuple[int, bool], list[int]] = defaultdict(list)
        rng = random.Random(seed)
        take = limiter._queue.take

        def noted(room: int, *, alone: bool) -> list[Ticket[None, None]]:
            """Who waited learns a turn later that it was let through."""
            taken = take(room, alone=alone)
            for ticket in taken:
                through[int(ticket.call.caller.connection), True].append(int(ticket.call.caller.identity.name))
            return taken

        monkeypatch.setattr(limiter._queue, "take", noted)

        async def item(caller: int, number: int, cost: int, fate: str, turns: int, is_patient: bool) -> None:
            deadline = loop.time() if fate == "late" else None
            async with limiter.hold(Call(Caller(str(caller), Identity(str(number))), deadline, is_patient), cost):
                held.append(cost)
                if number not in through[caller, is_patient]:
                    through[caller, is_patient].append(number)
                try:
                    assert sum(held) <= limiter.under_way  # who was let through may not know it yet
                    assert limiter.under_way <= capacity or limiter.under_way in costs  # one, alone
                    await loop_turns(turns)
                finally:
                    held.remove(cost)

        tasks: list[tuple[str, bool, asyncio.Task[None]]] = []
        todo = [(c, n, *given_item) for c, items in enumerate(callers) for n, given_item in enumerate(items)]
        leaving = []
        for caller, number, cost, fate, turns, is_patient in todo:
            task = asyncio.create_task(item(caller, number, cost, fate, turns, is_patient))
            tasks.append((fate, is_patient, task))
            if fate.startswith("leave"):
                leaving.append(task)
            await loop_turns(turns if rng.random() < 0.3 else 0)
            if leaving and rng.random() < 0.5:
                leaving.pop(rng.randrange(len(leaving))).cancel()
        for task in leaving:
            task.cancel()
        outcomes = await asyncio.wait_for(
            asyncio.gather(*(task for *_, task in tasks), return_exceptions=True), PATIENCE_SECONDS
        )
        for (fate, is_patient, _), outcome in zip(tasks, outcomes, strict=True):
            if isinstance(outcome, Overloaded):
                assert not is_patient
            elif isinstance(outcome, DeadlinePassed):
                assert fate == "late"
            elif isinstance(outcome, asyncio.CancelledError):
                assert fate.startswith("leave")
            else:
                assert outcome is None  # nobody starves
        for numbers in through.values():
            assert numbers == sorted(numbers)
        assert (limiter.under_way, limiter.waiting, held) == (0, 0, [])
        limiter.take(capacity)

    with pytest.MonkeyPatch.context() as monkeypatch:
        asyncio.run(run())


async def test_a_waiter_is_let_through_by_an_event_and_not_by_a_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a deadline nothing is timed: a limiter that polled would set a timer."""
    limiter = Limiter("test", 1, unit="items")
    limiter.take()
    timers: list[float] = []
    loop = asyncio.get_running_loop()
    set_timer = loop.call_at

    def noted(when: float, *rest: object, **options: object) -> asyncio.TimerHandle:
        timers.append(when)
        return set_timer(when, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_at", noted)
    waiting = asyncio.create_task(limiter.acquire(patient()))
    await loop_turns(5)
    limiter.give()
    await waiting
    assert not timers


async def test_a_thousand_that_leave_at_once_leave_nothing() -> None:
    limiter = Limiter("test", 1, unit="items")
    limiter.take()
    waiting = [asyncio.create_task(limiter.acquire(patient(Caller(str(i % 7))))) for i in range(1000)]
    await reached(lambda: limiter.waiting == 1000)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert limiter.waiting == 0
    assert not limiter._queue._calls.lines
    assert not limiter._queue._streams.lines
    limiter.give()
    limiter.take()
