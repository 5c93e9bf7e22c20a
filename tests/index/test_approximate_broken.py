"""What happens to approximate answers where something comes between, fails, or ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import Approximation, Found, LocalGalleries, Search
from oneglance_index.approximation import ApproximationState
from oneglance_index.errors import GalleryError
from oneglance_index.search import approximate, cells, flat, tending
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.approximate import Approximate
from oneglance_index.search.cells import Copy, Sorted
from oneglance_index.search.kinds import GalleryIndex
from oneglance_index.search.tending import Tending
from tests.index.test_approximate import DIMENSION, Rowed, never, points, ready, small

__all__ = ["small"]


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, initializer=engine.use_one_thread) as pool:
        yield pool


def near_of(held: Rowed) -> Approximate:
    assert held.index._approximate is not None
    return held.index._approximate


def sorted_of(held: Rowed) -> Sorted:
    known = near_of(held)._sorted
    assert known is not None
    return known


def is_as_exact(held: Rowed, rng: np.random.Generator) -> None:
    """Where it looks at all cells."""
    held.look_at_all()
    probes = np.concatenate([points(rng, 3), np.array(list(held.rows.values()))])
    near, sure = held.ask(probes, 1.0), held.ask(probes, 1.0, exact=True)
    assert not near.exact
    assert replace(near, exact=True, kind="flat") == sure


def templates(pool: ThreadPoolExecutor, rng: np.random.Generator, count: int) -> Rowed:
    held = Rowed(pool, templates=True)
    held.index.approximate(Approximation(0.9))
    held.add(points(rng, count))
    held.ask(points(rng, 1), 1.0)
    return held


@pytest.mark.usefixtures("small")
def test_rows_that_are_sorted_between_two_steps_of_a_compaction_stay(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sorting may have come to between where rows go and where they come from."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(flat, "_STEP_BYTES", 7 * 4 * DIMENSION)
    held = Rowed(pool)
    numbers = held.add(points(rng, 60))
    for number in numbers[:30]:
        held.remove(number)
    held.index.approximate(Approximation(0.9))
    held.ask(points(rng, 1), 1.0)
    held.index.tend(never)
    near = near_of(held)
    near._coming = Sorted(points(rng, 3), None)

    def sort_some() -> None:
        near._sort_in(held.index._looking)

    monkeypatch.setattr(flat, "pause", sort_some)
    held.index.compact()
    held.index.tend(never)
    assert sorted_of(held).recent(30) <= 3
    is_as_exact(held, rng)


@pytest.mark.usefixtures("small")
def test_templates_that_are_rewritten_all_the_time_are_sorted_nevertheless(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    held = templates(pool, rng, 60)
    numbers = list(held.rows)
    cells_of, times = Sorted.cells_of, 0

    def rewriting(known: Sorted, copy: Copy) -> object:
        nonlocal times
        times += 1
        assert times < 200, "it never ends"
        held.rewrite(numbers[int(copy.rows[0])], points(rng, 1)[0])
        held.ask(points(rng, 1), 1.0)
        return cells_of(known, copy)

    monkeypatch.setattr(Sorted, "cells_of", rewriting)
    held.index.tend(never)
    is_as_exact(held, rng)


@pytest.mark.usefixtures("small")
def test_what_templates_were_takes_no_more_and_more_memory(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    monkeypatch.setattr(cells, "_MANY_GONE", 10)
    held = templates(pool, rng, 40)
    held.index.tend(never)
    for at in range(300):
        held.rewrite(list(held.rows)[at % 40], points(rng, 1)[0])
        held.index.tend(never)
    assert sorted_of(held).sorted_in <= 40 + 11
    assert sorted_of(held).memory_bytes < 10_000
    is_as_exact(held, rng)


@pytest.mark.parametrize("failing", ["cells_of", "add", "met_at", "forget", "rewritten", "moved", "centres_of"])
@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
@pytest.mark.usefixtures("small")
def test_after_a_step_that_fails_it_goes_on(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, failing: str, error: type[Exception]
) -> None:
    rng = np.random.default_rng(3)
    monkeypatch.setattr(cells, "_MANY_GONE", 1)
    held = templates(pool, rng, 40)
    held.index.tend(never)
    held.add(points(rng, 20))
    for number in list(held.rows)[:4]:
        held.rewrite(number, points(rng, 1)[0])
    owner = approximate if failing == "centres_of" else Sorted
    whole = getattr(owner, failing)
    failed = threading.Event()

    def fails(*args: object) -> object:
        if failed.is_set():
            return whole(*args)
        failed.set()
        raise error("there is no memory")

    monkeypatch.setattr(owner, failing, fails)

    def all_of_it() -> None:
        near_of(held).asked(2.0)
        if failing == "centres_of":
            near_of(held)._sorted = None
        held.index.tend(never)
        for number in list(held.rows)[:2]:
            held.remove(number)
        held.index.compact()

    try:
        all_of_it()
    except error:
        assert failing in {"cells_of", "add", "met_at", "forget", "centres_of"}
    assert failed.is_set()
    probes = np.array(list(held.rows.values()))
    assert [match[0].number for match in held.ask(probes, 1e-9, exact=True).matches] == list(held.rows)
    held.index.compact()
    held.index.tend(never)
    is_as_exact(held, rng)


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
@pytest.mark.usefixtures("small")
def test_a_look_at_cells_that_fails_is_an_exact_search(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    rng = np.random.default_rng(4)
    held = ready(pool, rng, 300, Approximation(0.9))
    held.look_at_all()

    def fails(*_: object) -> object:
        raise error("std::bad_alloc")

    monkeypatch.setattr(engine.Cells, "nearest", fails)
    probes = points(rng, 3)
    assert held.ask(probes, 1.0) == held.ask(probes, 1.0, exact=True)


@pytest.mark.usefixtures("small")
def test_mates_within_less_do_not_tell_how_far_to_look_for_more(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(5)
    held = ready(pool, rng, 300, Approximation(0.9))
    near, rows = near_of(held), np.array(list(held.rows.values()))
    held.ask(rows[:200], 0.25, exact=True)  # all are met at the first cell
    for _ in range(approximate._LAST_TAUS):
        near.asked(2.0)
    held.index.tend(never)
    assert near._reach is None or not near._reach.live
    # A larger τ tells of a smaller one.
    held.ask(rows[:200], 2.0, exact=True)
    for _ in range(approximate._LAST_TAUS):
        near.asked(0.25)
    held.index.tend(never)
    assert near._reach is not None
    assert (near._reach.live, near._reach.tau) == (True, 0.25)
    # And the larger one is usual again: known mates within it do.
    for _ in range(approximate._LAST_TAUS):
        near.asked(2.0)
    assert held.index.wants_tending()
    held.index.tend(never)
    assert near._reach is not None
    assert (near._reach.live, near._reach.tau) == (True, 2.0)


@pytest.mark.usefixtures("small")
def test_of_two_usual_thresholds_it_is_tuned_for_the_larger(pool: ThreadPoolExecutor) -> None:
    held = ready(pool, np.random.default_rng(6), 100, Approximation(0.9))
    near = near_of(held)
    for at in range(approximate._LAST_TAUS):
        near.asked(9.0 if at == 40 else [0.5, 2.0, 0.5][at % 3])
    assert near._tau() == 2.0


@pytest.mark.usefixtures("small")
def test_nothing_of_probes_and_matches_stays(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither after a compaction, nor where nobody learns from them any more."""
    rng = np.random.default_rng(7)
    held = ready(pool, rng, 300, Approximation(0.9))
    near = near_of(held)
    rows = np.array(list(held.rows.values()))
    monkeypatch.setattr(approximate, "_MANY_MATES", 1000)
    held.ask(rows[:5], 1.0, exact=True)
    assert len(near._mates) == 5
    held.remove(1)
    held.index.compact()
    assert not near._mates
    held.ask(rows[5:9], 1.0, exact=True)
    held.index.alarm(stay_exact=True)
    held.ask(rows[5:9], 1.0, exact=True)
    assert not near._mates


@pytest.mark.usefixtures("small")
def test_what_an_alarm_ended_begins_anew_where_it_is_set_again(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(8)
    wanted = Approximation(0.9, exact_on_alarm=True)
    held = ready(pool, rng, 300, wanted)
    held.index.alarm(stay_exact=True)
    held.index.approximate(wanted)  # with another threshold, say
    state = held.index.approximation()
    assert state is not None
    assert state.because == "alarm"
    held.index.approximate(None)
    held.index.approximate(wanted)
    state = held.index.approximation()
    assert state is not None
    assert state.because == "no threshold yet"
    held.ask(points(rng, 1), 1.0)
    held.index.tend(never)
    is_as_exact(held, rng)


@pytest.mark.parametrize("how", ["deleted", "off", "off and on"])
@pytest.mark.usefixtures("small")
def test_sorting_ends_when_nobody_wants_it_any_more(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    rng = np.random.default_rng(9)
    held = templates(pool, rng, 60)
    near = near_of(held)
    cells_of, times = Sorted.cells_of, 0

    def ending(known: Sorted, copy: Copy) -> object:
        nonlocal times
        times += 1
        if how == "deleted":
            held.index.retire(drop=True)
        else:
            held.index.approximate(None)
            if how == "off and on":
                held.index.approximate(Approximation(0.9))
        return cells_of(known, copy)

    monkeypatch.setattr(Sorted, "cells_of", ending)
    held.index.tend(never)
    assert times == 1
    assert near._sorted is None


@dataclass
class Scripted:
    """Of an index what Tending looks at. Its revision grows with each call."""

    on_search: Callable[[], None] = lambda: None
    on_tend: Callable[[], None] = lambda: None
    wants: threading.Event = field(default_factory=threading.Event)
    revision: int = 0

    def wants_tending(self) -> bool:
        return self.wants.is_set()

    def tend(self, _: Callable[[], bool]) -> None:
        self.on_tend()

    def search(self, searches: list[Search]) -> list[Found | GalleryError]:
        self.on_search()
        self.revision += 1
        return [found_at(self.revision, search) for search in searches]


def found_at(revision: int, search: Search) -> Found:
    none: tuple[tuple[()], ...] = ((),) * len(search.probes)
    return Found(none, none, (False,) * len(search.probes), revision, 1, 1, search.exact, "ivf", "cpu")


def probe() -> Search:
    return Search(np.zeros((1, 2), np.float32), "e", 1, within=1.0, limit=1)


def saw(tended: Tending, index: GalleryIndex, times: int) -> None:
    tended.saw(7, index, [probe()] * times, [found_at(1, probe())] * times)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "_MOST_OF_A_CORE", 1.0)


@pytest.mark.usefixtures("quick")
def test_probes_are_checked_in_a_gallery_that_changes_all_the_time() -> None:
    checked = threading.Semaphore(0)
    index: GalleryIndex = Scripted(on_search=checked.release)  # type: ignore[assignment]
    tended = Tending(lambda: {7: (index, Approximation(0.9))}, 1.0)
    try:
        saw(tended, index, 1)
        checked.acquire()
        saw(tended, index, 1)
        checked.acquire()  # so that the first one is counted
        told = tended.told(7, ApproximationState("approximate", ""))
        assert told.strangers.probes >= 1
        tended.forget(7)
    finally:
        tended.close()


@pytest.mark.usefixtures("quick")
def test_what_is_due_does_not_wait_for_all_checks() -> None:
    happened: list[str] = []
    done = threading.Event()

    def checking() -> None:
        happened.append("check")
        if len(happened) == 1:
            index.wants.set()

    def sorting() -> None:
        happened.append("sort")
        index.wants.clear()
        done.set()

    index = Scripted(on_search=checking, on_tend=sorting)
    tended = Tending(lambda: {7: (index, Approximation(0.9))}, 1.0)  # type: ignore[dict-item]
    try:
        saw(tended, index, 5 * tending._AT_ONCE)  # type: ignore[arg-type]
        done.wait()
        assert happened[:2] == ["check", "sort"]
    finally:
        tended.close()


@pytest.mark.usefixtures("quick")
def test_what_failed_is_not_tried_again_at_each_search() -> None:
    checked = threading.Semaphore(0)
    tried: list[str] = []

    def sorting() -> None:
        tried.append("sort")
        raise MemoryError

    index = Scripted(on_search=checked.release, on_tend=sorting)
    index.wants.set()
    tended = Tending(lambda: {7: (index, Approximation(0.9))}, 1.0)  # type: ignore[dict-item]
    try:
        for _ in range(5):
            saw(tended, index, 1)  # type: ignore[arg-type]
            checked.acquire()
        assert tried == ["sort"]
    finally:
        tended.close()


def test_who_sets_it_again_in_the_store_ends_what_an_alarm_began(tmp_path: Path) -> None:
    wanted = Approximation(0.9, exact_on_alarm=True)
    with LocalGalleries.open(tmp_path) as store:
        store.create_gallery("g", encoder_digest="e", dimension=4).result()
        store.set_approximation("g", wanted).result()
        index = store._opened.get("g")
        assert index is not None
        assert index.index is not None
        index.index.info()
        index.index.alarm(stay_exact=True)
        store.set_threshold("g", 0.5).result()
        state = store.approximation_state("g")
        assert state is not None
        assert state.because == "alarm"
        store.set_approximation("g", wanted).result()
        state = store.approximation_state("g")
        assert state is not None
        assert state.because == "few subjects"
