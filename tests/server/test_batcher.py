"""Coalescing: what shares a batch, what is refused, who gets which answer."""

import asyncio
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneglance_server.calls import Call, Caller
from oneglance_server.engines import batcher as batcher_module
from oneglance_server.engines.batcher import Batcher
from oneglance_server.errors import DeadlinePassed, NotServing, Overloaded
from tests.waiting import PATIENCE_SECONDS, loop_turns, reached

ME = Caller("me")
ONE, STREAM = Call(ME), Call(ME, patient=True)


class Recorder:
    """The work: doubles each item; keeps the batches; can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = 0  # rows

    async def begun(self, batches: int = 1) -> None:
        """Return once the work has been given so many."""
        await reached(lambda: len(self.batches) == batches)

    async def queued(self, rows: int) -> None:
        await reached(lambda: self.waiting == rows)

    def run(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        assert self.gate.wait(PATIENCE_SECONDS)
        if 666 in items:
            raise RuntimeError("the whole batch fails")
        return [ValueError(f"{item} is negative") if item < 0 else 2 * item for item in items]

    def batch(self, rows: int) -> None: ...
    def queue(self, change: int) -> None:
        self.waiting += change


def make(
    recorder: Recorder, *, workers: int = 1, max_batch: int = 8, max_wait: float = 2.0, crowded: bool = False
) -> Batcher[int, int]:
    return Batcher(
        "test",
        recorder.run,
        ThreadPoolExecutor(workers),
        workers=workers,
        max_cost=max_batch,
        max_wait=max_wait,
        observer=recorder,
        crowded=lambda: crowded,
    )


async def test_items_of_one_turn_share_a_batch_and_order_is_kept() -> None:
    recorder = Recorder()
    batcher = make(recorder)
    assert await asyncio.gather(*(batcher.submit(i, ONE) for i in range(5))) == [0, 2, 4, 6, 8]
    assert recorder.batches == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(("crowded", "shared"), [(False, False), (True, True)])
async def test_while_calls_wait_unseen_a_batch_waits_for_what_comes_in_the_next_turns(
    monkeypatch: pytest.MonkeyPatch, crowded: bool, shared: bool
) -> None:
    monkeypatch.setattr(batcher_module, "_GATHER_SECONDS", 1e6)
    monkeypatch.setattr(batcher_module, "_GATHER_STEP_SECONDS", 0.0)
    recorder = Recorder()
    batcher = make(recorder, crowded=crowded)
    waiting = []
    for i in range(6):
        waiting.append(asyncio.ensure_future(batcher.submit(i, ONE)))
        await loop_turns(1)
    assert await asyncio.gather(*waiting) == [0, 2, 4, 6, 8, 10]
    assert (recorder.batches == [[0, 1, 2, 3, 4, 5]]) is shared


async def test_a_batch_waits_no_longer_than_others_come() -> None:
    recorder = Recorder()
    assert await make(recorder, crowded=True).submit(1, ONE) == 2


async def test_what_comes_while_a_batch_runs_forms_the_next_one() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = make(recorder)
    first = asyncio.create_task(batcher.submit(1, ONE))
    await recorder.begun()
    rest = [asyncio.create_task(batcher.submit(i, ONE)) for i in range(2, 14)]
    await recorder.queued(12)
    recorder.gate.set()
    assert await asyncio.gather(first, *rest) == [2 * i for i in range(1, 14)]
    assert recorder.batches == [[1], [2, 3, 4, 5, 6, 7, 8, 9], [10, 11, 12, 13]]


async def test_an_item_of_many_rows_is_never_split() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = make(recorder, max_batch=8, max_wait=8.0)
    tasks = [asyncio.create_task(batcher.submit(1, ONE))]
    await recorder.begun()
    tasks += [asyncio.create_task(batcher.submit(i, ONE, rows=rows)) for i, rows in ((2, 5), (3, 5), (4, 11))]
    await recorder.queued(21)
    recorder.gate.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert recorder.batches == [[1], [2], [3], [4]]


async def test_a_bad_item_fails_alone_and_a_bad_batch_together() -> None:
    recorder = Recorder()
    batcher = make(recorder)
    results = await asyncio.gather(*(batcher.submit(i, ONE) for i in (1, -2, 3)), return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], ValueError)
    assert results[2] == 6
    results = await asyncio.gather(*(batcher.submit(i, ONE) for i in (1, 666)), return_exceptions=True)
    assert all(isinstance(result, RuntimeError) for result in results)
    assert await batcher.submit(4, ONE) == 8  # the worker is free again


async def test_a_full_queue_refuses_all_or_nothing_and_recovers() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = make(recorder, max_wait=0.25)
    running = asyncio.create_task(batcher.submit(0, ONE))
    await recorder.begun()
    waiting = [asyncio.create_task(batcher.submit(i, ONE)) for i in (1, 2, 3)]
    await recorder.queued(3)
    with pytest.raises(Overloaded):
        await batcher.submit_all([4, 5], ONE)
    assert recorder.waiting == 3
    with pytest.raises(Overloaded):
        await batcher.submit(7, ONE)
    recorder.gate.set()
    assert await asyncio.gather(running, *waiting) == [0, 2, 4, 6]
    assert await batcher.submit_all(list(range(30)), ONE) == [2 * i for i in range(30)]  # an empty queue takes any item


async def test_expired_and_cancelled_items_are_dropped_unrun() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = make(recorder)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(batcher.submit(0, ONE))
    await recorder.begun()
    late = asyncio.create_task(batcher.submit(1, Call(ME, loop.time() + 0.01)))
    gone = asyncio.create_task(batcher.submit(2, ONE))
    kept = asyncio.create_task(batcher.submit(3, Call(ME, loop.time() + PATIENCE_SECONDS)))
    with pytest.raises(DeadlinePassed):
        await late  # at that moment, while the batch before is under way
    await recorder.queued(2)
    gone.cancel()
    recorder.gate.set()
    assert await running == 0
    assert await kept == 6
    assert recorder.batches == [[0], [3]]


async def test_workers_run_at_once_but_no_more_than_allowed() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = make(recorder, workers=2, max_batch=1)
    tasks = [asyncio.create_task(batcher.submit(i, ONE)) for i in range(4)]
    await recorder.begun(2)
    assert recorder.waiting == 2
    recorder.gate.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6]


async def test_a_single_call_is_not_held_up_by_all_that_a_stream_has_sent() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = make(recorder, max_batch=1, max_wait=64.0)
    stream = [asyncio.create_task(batcher.submit(i, STREAM)) for i in range(10)]
    await recorder.begun()
    calls = [asyncio.create_task(batcher.submit(i, ONE)) for i in (100, 101)]
    await recorder.queued(11)
    recorder.gate.set()
    await asyncio.gather(*stream, *calls)
    order = [item for batch in recorder.batches for item in batch]
    assert order.index(100) <= 2
    assert order.index(101) <= 4
    assert [item for item in order if item < 100] == list(range(10))


async def test_who_leaves_the_queue_takes_no_more_room() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    batcher = make(recorder, max_wait=0.5)
    running = asyncio.create_task(batcher.submit(0, ONE))
    await recorder.begun()
    for _ in range(3):
        leaving = [
            asyncio.create_task(batcher.submit_all([1, 2], STREAM)),
            asyncio.create_task(batcher.submit(3, ONE)),
        ]
        await recorder.queued(3)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        assert recorder.waiting == 0
    staying = asyncio.create_task(batcher.submit_all([4, 5, 6, 7], ONE))
    await recorder.queued(4)
    running.cancel()  # it runs already
    await asyncio.wait([running])
    recorder.gate.set()
    assert await staying == [8, 10, 12, 14]
    assert recorder.batches == [[0], [4, 5, 6, 7]]
    assert recorder.waiting == 0


async def test_when_the_executor_is_shut_down_nobody_waits_for_ever() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    executor = ThreadPoolExecutor(1)
    batcher = Batcher[int, int]("test", recorder.run, executor, workers=2, max_cost=1, max_wait=8.0, observer=recorder)
    tasks = [asyncio.create_task(batcher.submit(i, ONE)) for i in range(4)]
    await recorder.begun()  # the second batch is in the executor's queue, the others are in the batcher's
    executor.shutdown(wait=False, cancel_futures=True)
    recorder.gate.set()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_SECONDS)
    assert outcomes[0] == 0
    assert all(isinstance(outcome, NotServing) for outcome in outcomes[1:])
    assert recorder.waiting == 0


@given(
    items=st.lists(
        st.tuples(
            st.integers(0, 3),  # caller
            st.integers(1, 12),  # rows of each
            st.integers(1, 3),  # items
            st.sampled_from(["stay", "stay", "stay", "leave", "late", "soon late"]),
            st.booleans(),  # patient
            st.sampled_from([1, 1, 1, -1, 666]),  # what becomes of it
        ),
        max_size=40,
    ),
    workers=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None)
def test_whatever_happens_each_gets_its_own_answer_and_nothing_is_left(
    items: list[tuple[int, int, int, str, bool, int]], workers: int, seed: int
) -> None:
    """Callers that stay, leave, come too late, and items that fail, against real threads."""
    rng = random.Random(seed)
    batches: list[int] = []
    changes: list[int] = []

    class Observer:
        batch = staticmethod(batches.append)
        queue = staticmethod(changes.append)

    def run(given_items: Sequence[tuple[int, int]]) -> list[int | Exception]:
        if any(kind == 666 for _, kind in given_items):
            raise RuntimeError("the whole batch fails")
        return [ValueError(number) if kind < 0 else number for number, kind in given_items]

    async def drive(executor: ThreadPoolExecutor) -> None:
        batcher = Batcher[tuple[int, int], int](
            "test", run, executor, workers=workers, max_cost=8, max_wait=4.0, observer=Observer()
        )
        loop = asyncio.get_running_loop()
        tasks = []
        for i, (caller, rows, count, fate, is_patient, kind) in enumerate(items):
            deadline = {"late": loop.time() - 1, "soon late": loop.time() + 0.001}.get(fate)
            call = Call(Caller(str(caller)), deadline, is_patient)
            tasks.append(asyncio.create_task(batcher.submit_settled([(i, kind)] * count, call, rows=[rows] * count)))
            await loop_turns(rng.randrange(3))
            if fate == "leave":
                tasks[-1].cancel()
        settled = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_SECONDS)
        for i, ((_, _, count, fate, is_patient, kind), outcomes) in enumerate(zip(items, settled, strict=True)):
            if isinstance(outcomes, BaseException):
                assert fate == "leave" if isinstance(outcomes, asyncio.CancelledError) else not is_patient
                continue
            assert len(outcomes) == count
            for outcome in outcomes:
                if isinstance(outcome, DeadlinePassed):
                    assert "late" in fate
                elif isinstance(outcome, ValueError):
                    assert (kind, outcome.args) == (-1, (i,))
                elif not isinstance(outcome, RuntimeError):
                    assert (kind, outcome) == (1, i)
        await reached(lambda: batcher._idle == workers)
        assert (batcher.waiting, sum(changes)) == (0, 0)
        assert all(rows <= 12 for rows in batches)
        assert await batcher.submit((7, 1), ONE) == 7

    with ThreadPoolExecutor(workers) as executor:
        asyncio.run(drive(executor))
