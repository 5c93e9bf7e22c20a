"""Approximate answers: what is told is right, what came since is found, and as much is lost as may be."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from oneglance_core.distance import squared_l2
from oneglance_core.intervals import clopper_pearson
from oneglance_index import Approximation, Change, Found, Search, approximation_of, kind_of
from oneglance_index.records import Integers, Rows, SubjectFilter
from oneglance_index.search import approximate, cells
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.approximate import Reach, most_missed
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.fused import FusedIndex
from oneglance_index.search.scan import CpuScan, every_distance
from oneglance_index.search.tending import Flips, Tending

Vectors = NDArray[np.float32]
NONE = np.empty(0, np.int64)
DIMENSION = 8


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, initializer=engine.use_one_thread) as pool:
        yield pool


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are sorted, some at a time, and few mates tell."""
    monkeypatch.setattr(approximate, "LEAST_ROWS", 1)
    monkeypatch.setattr(approximate, "_MANY_RECENT", 3)
    monkeypatch.setattr(approximate, "_MANY_MATES", 1)
    monkeypatch.setattr(approximate, "_MOST_READ", 1.0)
    monkeypatch.setattr(cells, "_COPY_BYTES", 5 * 4 * DIMENSION)


def never() -> bool:
    return False


class Rowed:
    """An index whose answers may lose something, and what is in it, by number."""

    def __init__(self, pool: ThreadPoolExecutor, dimension: int = DIMENSION, *, templates: bool = False) -> None:
        self.index = ExactIndex(
            dimension, CpuScan(pool, 2), partial(every_distance, pool, 2), templates=templates, pool=pool
        )
        self.index.load(0, {}, 0)
        self.rows: dict[int, Vectors] = {}
        self._last = 0
        self._templates = templates

    def add(self, vectors: Vectors) -> list[int]:
        numbers = list(range(self._last + 1, self._last + 1 + len(vectors)))
        for number, vector in zip(numbers, vectors, strict=True):
            self._apply(number, [number], vector[None], [])
            self.rows[number] = vector
        return numbers

    def rewrite(self, number: int, vector: Vectors) -> None:
        self._apply(number, [number], vector[None], [number])
        self.rows[number] = vector

    def remove(self, number: int) -> None:
        change = Change(self._revision(), NONE, np.empty((0, DIMENSION), np.float32), number, "", _one(number))
        self.index.apply(replace(change, removed_subject=number))
        del self.rows[number]

    def _apply(self, subject: int, added: list[int], vectors: Vectors, removed: list[int]) -> None:
        self.index.apply(
            Change(self._revision(), np.array(added), vectors, subject, f"s{subject}", np.array(removed, np.int64))
        )

    def _revision(self) -> int:
        self._last += 1
        return self._last

    def ask(self, probes: Vectors, within: float, *, exact: bool = False, candidates: int = 1) -> Found:
        (found,) = self.index.search([Search(probes, "e", candidates, within=within, limit=5, exact=exact)])
        assert isinstance(found, Found)
        return found

    def look_at_all(self) -> None:
        near = self.index._approximate
        assert near is not None
        assert near._sorted is not None
        near._reach = Reach(near._sorted.count, 1024, 1e9, live=True)


def _one(number: int) -> Integers:
    return np.array([number], np.int64)


def points(rng: np.random.Generator, count: int) -> Vectors:
    return rng.standard_normal((count, DIMENSION), dtype=np.float32)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1 << 32), templates=st.booleans())
def test_it_follows_all_that_happens_to_rows(
    pool: ThreadPoolExecutor, data: st.DataObject, seed: int, templates: bool
) -> None:
    """A search that looks at all cells is exact: so no row is missed, told twice, or told as it was before."""
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        small.__wrapped__(monkeypatch)  # type: ignore[attr-defined]
        held = Rowed(pool, templates=templates)
        held.index.approximate(Approximation(0.9))
        held.add(points(rng, 20))
        held.ask(points(rng, 1), 4.0)
        steps = ["add", "remove", "compact", "tend", "ask", *(["rewrite"] if templates else [])]
        for step in [*data.draw(st.lists(st.sampled_from(steps), max_size=12)), "tend", "ask"]:
            if step == "add":
                held.add(points(rng, data.draw(st.integers(1, 12))))
            elif step == "tend":
                held.index.tend(never)
                held.look_at_all()
            elif step == "compact":
                held.index.compact()
            elif step == "ask":
                probes = np.concatenate([points(rng, 3), *([vector[None] for vector in list(held.rows.values())[-2:]])])
                near, sure = held.ask(probes, 3.0, candidates=3), held.ask(probes, 3.0, exact=True, candidates=3)
                assert sure.exact
                assert replace(near, exact=True, kind="flat") == sure
            elif held.rows:
                number = data.draw(st.sampled_from(list(held.rows)))
                if step == "remove":
                    held.remove(number)
                else:
                    held.rewrite(number, points(rng, 1)[0])
        assert not held.ask(points(rng, 1), 3.0).exact or len(held.rows) == 0


@pytest.mark.usefixtures("small")
def test_what_came_since_is_found(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(0)
    held = ready(pool, rng, 2000, Approximation(0.9))
    near = held.index._approximate
    assert near is not None
    near._reach = Reach(1, 1, 1e9, live=True)  # hardly anything is looked at
    came = points(rng, 40)
    numbers = held.add(came)
    found = held.ask(came, 1e-6)
    assert not found.exact
    assert [match[0].number for match in found.matches] == numbers
    for number in numbers:
        held.remove(number)
    assert held.ask(came, 1e-6).matches == ((),) * 40


@pytest.mark.usefixtures("small")
def test_where_all_that_was_to_be_sorted_in_is_gone_what_is_left_is_found(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(9)
    held = Rowed(pool)
    held.index.approximate(Approximation(0.9))
    numbers = held.add(points(rng, 20))
    held.ask(points(rng, 1), 4.0)
    for number in numbers[3:]:
        held.remove(number)
    held.index.compact()
    held.index.tend(never)
    held.look_at_all()
    left = np.array([held.rows[number] for number in numbers[:3]])
    found = held.ask(left, 4.0)
    assert not found.exact
    assert [match[0].number for match in found.matches] == numbers[:3]


@pytest.mark.usefixtures("small")
def test_what_is_told_is_as_far_as_is_told(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(1)
    held = ready(pool, rng, 3000, Approximation(0.9))
    near = held.index._approximate
    assert near is not None
    near._reach = Reach(2, 4, 1e9, live=True)
    probes = points(rng, 200)
    found = held.ask(probes, 2.0, candidates=4)
    assert not found.exact
    assert found.kind == "ivf"
    for probe, candidates, matches in zip(probes, found.candidates, found.matches, strict=True):
        for one in (*candidates, *matches):
            assert one.distance == squared_l2(held.rows[one.number][None], probe)[0]
        assert all(one.distance <= 2.0 for one in matches)
        assert [one.distance for one in candidates] == ascending(one.distance for one in candidates)


def ascending(values: Iterator[float]) -> list[float]:
    return np.sort(list(values)).tolist()  # type: ignore[no-any-return]


def ready(pool: ThreadPoolExecutor, rng: np.random.Generator, count: int, wanted: Approximation) -> Rowed:
    held = Rowed(pool)
    held.index.load(0, {number: f"s{number}" for number in range(1, count + 1)}, count)
    held.index.append(Rows(np.arange(1, count + 1), np.arange(1, count + 1), rows := points(rng, count)))
    held.rows = dict(enumerate(rows, 1))
    held._last = count
    held.index.approximate(wanted)
    held.ask(rows[:1], 0.5)
    held.index.tend(never)
    return held


@pytest.mark.parametrize("share", [0.9, 0.99])
def test_as_many_are_found_as_live_probes_said(pool: ThreadPoolExecutor, share: float) -> None:
    """Learned on one half of the probes, counted on the other."""
    rng = np.random.default_rng(2)
    count, dimension = 30_000, 32
    spread = np.exp(-np.arange(dimension) / 12).astype(np.float32)
    rows = rng.standard_normal((count, dimension), dtype=np.float32) * spread
    probes = (rows[:6000] + 0.35 * rng.standard_normal((6000, dimension), dtype=np.float32) * spread).astype(np.float32)
    index = ExactIndex(dimension, CpuScan(pool, 2), partial(every_distance, pool, 2), pool=pool)
    index.load(1, {number: str(number) for number in range(1, count + 1)}, count)
    index.append(Rows(np.arange(1, count + 1), np.arange(1, count + 1), rows))
    index.approximate(Approximation(share))

    def matches(part: slice, *, exact: bool) -> tuple[NDArray[np.int64], bool]:
        told = []
        for start in range(part.start, part.stop, 500):
            search = Search(probes[start : start + 500], "e", 1, within=3.0, limit=1, exact=exact)
            (found,) = index.search([search])
            assert isinstance(found, Found)
            told += [match[0].number if match else -1 for match in found.matches]
            all_exact = found.exact
        return np.array(told), all_exact

    matches(slice(0, 500), exact=False)
    index.tend(never)  # sorts them
    matches(slice(0, 3000), exact=True)
    assert index.wants_tending()
    index.tend(never)
    state = index.approximation()
    assert state is not None
    assert (state.answers, state.tau) == ("approximate", 3.0)
    assert state.share_read < 0.2
    sure, _ = matches(slice(3000, 6000), exact=True)
    near, exact = matches(slice(3000, 6000), exact=False)
    assert not exact
    known = sure >= 0
    assert known.mean() > 0.8
    lost = int((near[known] != sure[known]).sum())
    # No more certainly than may be; and it isn't an exact search in disguise.
    assert clopper_pearson(lost, int(known.sum()))[0] <= 1 - share
    assert lost > 0


@pytest.mark.usefixtures("small")
def test_searches_that_can_not_lose_are_exact(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(3)
    held = ready(pool, rng, 500, Approximation(0.9))
    near = held.index._approximate
    assert near is not None
    near._reach = Reach(3, 4, 0.5, live=True)
    probe = points(rng, 1)
    assert not held.ask(probe, 0.5).exact
    assert held.ask(probe, 0.5, exact=True).exact
    assert held.ask(probe, 0.6).exact  # beyond the usual tau
    (singly, few, many) = held.index.search(
        [
            Search(probe, "e", 1, singly=True),
            Search(probe, "e", 1, within=0.5, limit=1, among=SubjectFilter(id_prefix="s12")),
            Search(probe, "e", 1, within=0.5, limit=1, among=SubjectFilter(id_prefix="s")),
        ]
    )
    assert isinstance(singly, Found)
    assert isinstance(few, Found)
    assert isinstance(many, Found)
    assert singly.exact
    assert few.exact  # so few are compared one by one
    assert not many.exact
    assert (few.among, many.among) == (11, 500)
    assert all(one.subject_id.startswith("s12") for one in few.candidates[0])
    held.index.alarm(stay_exact=False)
    assert near._reach == Reach(6, 64, 0.5, live=True)
    held.index.alarm(stay_exact=True)
    assert held.ask(probe, 0.5).exact
    state = held.index.approximation()
    assert state is not None
    assert (state.answers, state.because) == ("exact", "alarm")
    held.index.approximate(None)
    assert held.index.approximation() is None


@pytest.mark.usefixtures("small")
def test_nothing_of_what_is_gone_stays_after_a_compaction(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(4)
    held = ready(pool, rng, 300, Approximation(0.9))
    for number in range(1, 200):
        held.remove(number)
    held.index.compact()
    near = held.index._approximate
    assert near is not None
    assert near._sorted is not None
    assert near._sorted.sorted_in == 101


@pytest.mark.parametrize("margin", [False, True])
@pytest.mark.usefixtures("small")
def test_a_fused_index_says_when_its_answer_may_lose(pool: ThreadPoolExecutor, margin: bool) -> None:
    rng = np.random.default_rng(5)
    made = ExactIndex(DIMENSION, CpuScan(pool, 2), partial(every_distance, pool, 2), templates=True, pool=pool)
    singles = ExactIndex(DIMENSION, CpuScan(pool, 2), partial(every_distance, pool, 2), ordered=False)
    index = FusedIndex(made, singles, margin=margin)
    rows = points(rng, 400)
    index.load(1, {number: str(number) for number in range(1, 401)}, 400)
    index.append(Rows(np.arange(1, 401), np.arange(1, 401), rows))
    index.approximate(Approximation(0.9))
    probes = rows[:50] + 0.05 * points(rng, 50)
    search = Search(probes, "e", 1, within=0.2, limit=1)
    index.search([search])
    index.tend(never)
    near = made._approximate
    assert near is not None
    near._reach = Reach(6, 64, 100.0, live=True)
    (found,) = index.search([search])
    (sure,) = index.search([replace(search, exact=True)])
    assert isinstance(found, Found)
    assert isinstance(sure, Found)
    assert (found.exact, sure.exact) == (False, True)
    same = [
        [one.number for one in a[:1]] == [one.number for one in b[:1]]
        for a, b in zip(found.candidates, sure.candidates, strict=True)
    ]
    assert sum(same) >= 45


def test_a_device_without_cells_says_so(pool: ThreadPoolExecutor) -> None:
    index = ExactIndex(DIMENSION, CpuScan(pool, 2), partial(every_distance, pool, 2))
    index.approximate(Approximation(0.9))
    state = index.approximation()
    assert state is not None
    assert (state.answers, state.because) == ("exact", "device")
    assert not index.wants_tending()


@pytest.mark.usefixtures("small")
def test_a_reach_of_its_own_for_each_probe_is_asked_for_as_one_of_few(pool: ThreadPoolExecutor) -> None:
    """By margin: else no live mate would tell anything of another probe."""
    rng = np.random.default_rng(8)
    made = ExactIndex(DIMENSION, CpuScan(pool, 2), partial(every_distance, pool, 2), templates=True, pool=pool)
    singles = ExactIndex(DIMENSION, CpuScan(pool, 2), partial(every_distance, pool, 2), ordered=False)
    index = FusedIndex(made, singles, margin=True)
    rows = points(rng, 400)
    index.load(1, {number: str(number) for number in range(1, 401)}, 400)
    index.append(Rows(np.arange(1, 401), np.arange(1, 401), rows))
    index.approximate(Approximation(0.9))
    index.search([Search(rows[:60] + 0.05 * points(rng, 60), "e", 1, within=0.2, limit=1)])
    near = made._approximate
    assert near is not None
    assert len(near._taus) >= 5
    assert all(math.isclose(4 * math.log2(tau), round(4 * math.log2(tau))) for tau in near._taus)


def test_how_many_may_be_missed() -> None:
    for count, share in ((10, 0.1), (300, 0.01), (3000, 0.001), (5000, 0.01)):
        missed = most_missed(count, share)
        assert missed == -1 or clopper_pearson(missed, count)[1] <= share
        assert clopper_pearson(missed + 1, count)[1] > share
    assert most_missed(3688, 0.001) == 0
    assert most_missed(3687, 0.001) == -1


def test_an_alarm_is_given_once_it_is_certain_and_ends_when_it_is_held() -> None:
    flips = Flips(Approximation(0.9))
    assert not any(flips.count(known=False, differs=True) for _ in range(100))
    assert (flips.strangers.probes, flips.strangers.differing) == (100, 100)
    assert [flips.count(known=True, differs=at % 20 == 0) for at in range(200)] == [False] * 200
    rng = random.Random(0)
    counted = 0
    while not flips.count(known=True, differs=rng.random() < 0.5):
        counted += 1
    assert 5 < counted < 200
    assert (flips.alarm, flips.alarms) == (True, 1)
    for _ in range(9):
        flips.count(known=True, differs=False)
    assert flips.alarm
    flips.count(known=True, differs=False)
    assert not flips.alarm
    assert flips.known.probes == 200 + counted + 1 + 10


@pytest.mark.usefixtures("small")
def test_live_probes_are_checked_and_an_alarm_makes_it_exact(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    wanted = Approximation(0.9, exact_on_alarm=True)
    held = ready(pool, rng, 2000, wanted)
    near = held.index._approximate
    assert near is not None
    tending = Tending(lambda: {7: (held.index, wanted)}, 1.0)
    try:
        # One cell is looked at, and it learns nothing: matches in others are lost.
        monkeypatch.setattr(near, "_tune", lambda known, looking: None)
        near._reach = Reach(1, 1, 1e9, live=True)
        probes = np.array(list(held.rows.values()))[:500] + np.float32(0.2)
        asked = 0
        while not near._stays:
            at = asked % 500
            search = Search(probes[at : at + 1], "e", 1, within=5.0, limit=1)
            found = held.index.search([search])
            tending.saw(7, held.index, [search], found)
            asked += 1
        state = held.index.approximation()
        assert state is not None
        told = tending.told(7, state)
        assert (told.answers, told.because, told.alarm, told.alarms) == ("exact", "alarm", True, 1)
        assert told.known.differing / told.known.probes > 0.1
    finally:
        tending.close()


def test_a_kind_says_what_may_be_lost() -> None:
    for one in (None, Approximation(0.999), Approximation(0.95, exact_on_alarm=True)):
        assert approximation_of(kind_of(one)) == one
    for kind in ("", "ivf", "approximate", "approximate:", "approximate:1.0", "approximate:nan", "approximate:0.9:x"):
        with pytest.raises(ValueError, match=r"."):
            approximation_of(kind)
    for share in (0.5, 0.9996, 1.0, float("nan"), -1.0):
        with pytest.raises(ValueError, match="share"):
            Approximation(share)


def test_subjects_that_wait_to_be_taken_over_count(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bulk enrollment is acknowledged before the index has looked at it."""
    monkeypatch.setattr(approximate, "LEAST_ROWS", 10)
    rowed = Rowed(pool)
    rowed.index.approximate(Approximation(0.99))
    for count, because in ((9, "few subjects"), (1, "no threshold yet")):
        rowed.add(points(np.random.default_rng(count), count))
        state = rowed.index.approximation()
        assert state is not None
        assert state.because == because
