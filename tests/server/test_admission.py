"""The one mechanism of admission: bounded, in turns by cost, each caller in order, nothing kept of those who left."""

import asyncio
import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneglance_server.admission import FairQueue, Limiter, Ticket
from oneglance_server.calls import Call, Caller
from oneglance_server.errors import DeadlinePassed, Overloaded
from tests.waiting import PATIENCE_SECONDS, loop_turns, reached

A, B = Caller("a"), Caller("b")


def patient(caller: Caller = A, deadline: float | None = None) -> Call:
    return Call(caller, deadline, patient=True)


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
    queue = FairQueue[str, None]("test", 10_000, unit="rows")
    queue.put([f"a{i}" for i in range(1000)], 1, Call(A))
    assert order(queue.take(64, alone=True)) == [f"a{i}" for i in range(64)]
    queue.put(["b"], 1, Call(B))
    assert "b" in order(queue.take(64, alone=True))


async def test_turns_are_by_cost_and_not_by_number() -> None:
    queue = FairQueue[str, None]("test", 10_000, unit="rows")
    queue.put(["large"] * 10, 50, Call(A))
    queue.put(["small"] * 500, 1, Call(B))
    taken = order(queue.take(500, alone=True))
    assert taken.count("large") * 50 == pytest.approx(250, abs=50)
    # Who comes back after each item has no advantage over who lets all of them wait.
    served: dict[str, int] = defaultdict(int)
    queue = FairQueue[str, None]("test", 10_000, unit="rows")
    queue.put(["waits"] * 1000, 1, Call(B))
    queue.put(["comes back"], 20, Call(A))
    for _ in range(500):
        (ticket,) = queue.take(1, alone=True)
        served[ticket.item] += ticket.cost
        if ticket.item == "comes back":
            queue.put(["comes back"], 20, Call(A))
    assert abs(served["waits"] - served["comes back"]) <= 20


async def test_who_comes_back_after_each_item_does_not_starve_who_waits_with_large_ones() -> None:
    served: dict[str, int] = defaultdict(int)
    queue = FairQueue[str, None]("test", 10_000, unit="rows")
    queue.put(["waits"] * 50, 20, Call(B))
    queue.put(["comes back"], 1, Call(A))
    for _ in range(500):
        (ticket,) = queue.take(1, alone=True)
        served[ticket.item] += ticket.cost
        if ticket.item == "comes back":
            queue.put(["comes back"], 1, Call(A))
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
        queue = FairQueue[int, None]("test", 1, unit="rows")
        queue.put([-1] * 6001, waiting_cost, patient(Caller("waits")))
        served: dict[int, int] = defaultdict(int)
        waiting: dict[int, int] = defaultdict(int)
        for _ in range(100):
            for number, (cost, at_once) in enumerate(callers):
                if not waiting[number]:
                    queue.put([number] * at_once, cost, patient(Caller(str(number))))
                    waiting[number] = at_once
            for ticket in queue.take(room, alone=True):
                served[ticket.item] += ticket.cost
                waiting[ticket.item] -= 1
            for number, (cost, _) in enumerate(callers):
                assert served[number] - served[-1] <= cost + waiting_cost

    asyncio.run(run())


async def test_calls_and_streams_of_one_caller_take_turns() -> None:
    queue = FairQueue[str, None]("test", 100, unit="rows")
    queue.put([f"stream{i}" for i in range(5)], 1, patient())
    queue.put(["call0", "call1"], 1, Call(A))
    taken = order(queue.take(100, alone=True))
    assert taken.index("call1") <= 3
    assert [item for item in taken if item.startswith("stream")] == [f"stream{i}" for i in range(5)]


async def test_what_streams_have_waiting_takes_no_room_from_calls() -> None:
    queue = FairQueue[str, None]("test", 4, unit="rows")
    queue.put(["s"] * 100, 1, patient())
    queue.put(["c"] * 4, 1, Call(A))
    with pytest.raises(Overloaded):
        queue.put(["c"], 1, Call(B))
    assert queue.cost == 104


async def test_all_whose_deadline_passes_leave_and_the_others_stay() -> None:
    queue = FairQueue[str, None]("test", 4, unit="rows")
    now = asyncio.get_running_loop().time()
    after = [PATIENCE_SECONDS, 0.02, 0.001, PATIENCE_SECONDS, -1.0, 0.02]
    tickets = [queue.put([str(s)], 1, patient(Caller(str(i % 2)), now + s))[0] for i, s in enumerate(after)]
    staying = queue.put(["no deadline"], 1, patient())[0]
    for seconds, ticket in zip(after, tickets, strict=True):
        if seconds < 1:
            with pytest.raises(DeadlinePassed):
                await asyncio.wait_for(ticket.future, PATIENCE_SECONDS)
            assert asyncio.get_running_loop().time() >= now + seconds - 0.001
    assert queue.cost == 3
    assert set(queue.take(10, alone=True)) == {tickets[0], tickets[3], staying}


async def test_a_late_loop_serves_nobody_whose_deadline_passed() -> None:
    """The loop comes to take before the timer."""
    queue = FairQueue[str, None]("test", 4, unit="rows")
    late, kept = queue.put(["late"], 1, Call(A, 0.0)) + queue.put(["kept"], 1, Call(A))
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
                through[int(ticket.call.caller.connection), True].append(int(ticket.call.caller.name))
            return taken

        monkeypatch.setattr(limiter._queue, "take", noted)

        async def item(caller: int, number: int, cost: int, fate: str, turns: int, is_patient: bool) -> None:
            deadline = loop.time() if fate == "late" else None
            async with limiter.hold(Call(Caller(str(caller), str(number)), deadline, is_patient), cost):
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
    assert not limiter._queue._lines
    limiter.give()
    limiter.take()
