"""ExactIndex against brute force, on the CPU's scan and on one with a GPU's restrictions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from oneglance_index import Candidate, Change, Found, Search
from oneglance_index.search import coded, flat, gpu_scan
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.coded import CodedScan
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.gpu_scan import GpuScan, open_gpu
from oneglance_index.search.rows import RowArrays
from oneglance_index.search.scan import CpuScan, Proposed, every_distance
from tests.card import needs_card
from tests.fake_card import FakeCard
from tests.index.brute_force import Enrolled, distance, nearest
from tests.waiting import PATIENCE_SECONDS

Vectors = NDArray[np.float32]
NONE = np.empty(0, np.int64)


def found_by(index: ExactIndex, searches: Sequence[Search]) -> list[Found]:
    """What they find; none may be refused."""
    answers = index.search(searches)
    found = [answer for answer in answers if isinstance(answer, Found)]
    assert len(found) == len(answers)
    return found


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, initializer=engine.use_one_thread) as pool:
        yield pool


Make = Callable[[int], ExactIndex]


ON_CARD = [pytest.param(f"cuda:0 {rows}", marks=needs_card) for rows in ("float32", "float16")]


@pytest.fixture(params=["cpu", "coded", "fake float32", "fake float16", *ON_CARD], scope="module")
def make(request: pytest.FixtureRequest, pool: ThreadPoolExecutor) -> Iterator[Make]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param == "cpu":
            yield lambda dimension: ExactIndex(dimension, CpuScan(pool, 2), partial(every_distance, pool, 2))
        elif request.param == "coded":
            monkeypatch.setattr(coded, "_LEAST_ROWS", 1)
            monkeypatch.setattr(coded, "_BLOCK_BYTES", 2048)  # 16 rows of 128 numbers
            yield lambda dimension: ExactIndex(
                dimension, CodedScan(pool, 2, dimension), partial(every_distance, pool, 2)
            )
        else:
            if request.param.startswith("fake"):
                FakeCard(monkeypatch)
                monkeypatch.setattr(gpu_scan, "_LEAST_PART", 100)
            gpu = open_gpu("cuda:0", 0, 1 << 20, half=request.param.endswith("16"))
            yield lambda dimension: ExactIndex(dimension, GpuScan(gpu, dimension), partial(every_distance, pool, 2))


class Gallery:
    """An index, and the same rows kept for brute force."""

    def __init__(self, index: ExactIndex) -> None:
        self.index = index
        self.rows: list[Enrolled] = []
        self.revision = 0
        self.number = 0
        self.subjects: dict[str, int] = {}

    def add(self, subject: str, vectors: Vectors) -> None:
        numbers = np.arange(self.number + 1, self.number + 1 + len(vectors))
        self.number += len(vectors)
        self.revision += 1
        at = self.subjects.setdefault(subject, self.number + 1000)  # never used twice, as in the store
        self.rows += [(subject, int(n), v) for n, v in zip(numbers, vectors, strict=True)]
        self.index.apply(Change(self.revision, numbers, vectors, at, subject, NONE))

    def remove(self, *numbers: int) -> None:
        for number in numbers:
            subject = next(s for s, n, _ in self.rows if n == number)
            self.rows = [row for row in self.rows if row[1] != number]
            gone = None if any(s == subject for s, _, _ in self.rows) else self.subjects.pop(subject)
            self.revision += 1
            empty = np.empty((0, self.index.dimension), np.float32)
            self.index.apply(Change(self.revision, NONE, empty, 0, "", np.array([number]), gone))

    def check(self, probes: Vectors, k: int = 5, threshold: float | None = None) -> Found:
        (result,) = found_by(self.index, [Search(probes, "e", k, threshold, k)])
        self.agrees(result, Search(probes, "e", k, threshold, k))
        return result

    def agrees(self, result: Found, search: Search) -> None:
        assert (result.revision, result.encodings) == (self.revision, len(self.rows))
        assert result.subjects == len({subject for subject, _, _ in self.rows})
        for i, probe in enumerate(search.probes):
            assert plain(result.candidates[i]) == nearest(self.rows, probe, search.candidates)
            if search.within is None:
                assert (result.matches[i], result.truncated[i]) == ((), False)
            else:
                matches = nearest(self.rows, probe, search.limit + 1, search.within)
                assert plain(result.matches[i]) == matches[: search.limit]
                assert result.truncated[i] == (len(matches) > search.limit)


def plain(candidates: Sequence[Candidate]) -> list[tuple[str, str, float]]:
    return [(c.subject_id, c.encoding_id, c.distance) for c in candidates]


def units(rng: np.random.Generator, n: int, dimension: int) -> Vectors:
    vectors = rng.standard_normal((n, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@pytest.mark.parametrize("scattered", [True, False])
def test_no_more_rows_are_fetched_than_searches_before_needed(
    make: Make, monkeypatch: pytest.MonkeyPatch, scattered: bool
) -> None:
    """Of 40 encodings each, where the nearest are of many subjects, and where they are all of one."""
    rng = np.random.default_rng(0)
    gallery = Gallery(make(8))
    for i in range(30):
        rows = (
            units(rng, 40, 8) if scattered else units(rng, 1, 8) + rng.standard_normal((40, 8), dtype=np.float32) / 1e3
        )
        gallery.add(f"s{i}", rows.astype(np.float32))
    scan, fetched = gallery.index._scan, []
    scan_nearest = scan.nearest

    def counted(queries: Vectors, k: int, max_norm: float) -> Proposed:
        fetched.append(k)
        return scan_nearest(queries, k, max_norm)

    monkeypatch.setattr(scan, "nearest", counted)
    probes = units(rng, 40, 8)
    gallery.check(probes)
    assert fetched[0] == 5 * 40 + 16
    for _ in range(2):
        fetched.clear()
        gallery.check(probes)
        if scattered:
            assert max(fetched) < 5 * 40
        else:
            assert (len(fetched), fetched[0] > 4 * 40) == (1, True)


@pytest.mark.parametrize("probes", [1, 2, 7, 40])
@pytest.mark.parametrize(("rows", "dimension"), [(1, 1), (300, 8), (1200, 128)])
def test_equals_brute_force(make: Make, rows: int, dimension: int, probes: int) -> None:
    rng = np.random.default_rng(rows + probes)
    gallery = Gallery(make(dimension))
    for i, vector in enumerate(units(rng, rows, dimension)):
        gallery.add(f"s{i}", vector[None])
    queries = units(rng, probes, dimension)
    gallery.check(queries, 1)
    gallery.check(queries, 5)
    gallery.check(queries, 7, 1.2)


def test_empty(make: Make) -> None:
    (result,) = found_by(make(3), [Search(np.ones((2, 3), np.float32), "e", 4)])
    assert result.candidates == ((), ())
    (result,) = found_by(make(3), [Search(np.ones((1, 3), np.float32), "e", 1, 1.0, 4)])
    assert (result.matches, result.truncated) == (((),), (False,))


def test_one_scan_answers_different_questions(make: Make) -> None:
    rng = np.random.default_rng(8)
    gallery = Gallery(make(16))
    for i, vector in enumerate(units(rng, 300, 16)):
        gallery.add(f"s{i % 200}", vector[None])
    searches = [
        Search(units(rng, 3, 16), "e", 1),
        Search(units(rng, 1, 16), "e", 0, 1.5, 7),
        Search(units(rng, 2, 16), "e", 2, 1.5, 400),
        Search(units(rng, 1, 16), "e", 250, 0.25, 1),
        Search(units(rng, 4, 16), "e", 9, 0.0, 3),
        Search(np.empty((0, 16), np.float32), "e", 3),
    ]
    found = found_by(gallery.index, searches)
    assert len(found) == len(searches)
    for result, search in zip(found, searches, strict=True):
        gallery.agrees(result, search)
    assert any(found[1].truncated)
    assert found == [found_by(gallery.index, [search])[0] for search in searches]


def test_a_large_question_is_not_paid_for_by_the_others(pool: ThreadPoolExecutor) -> None:
    scans: list[tuple[int, int]] = []

    class Counting(CpuScan):
        def nearest(self, queries: Vectors, k: int, max_norm: float) -> Proposed:
            scans.append((len(queries), k))
            return super().nearest(queries, k, max_norm)

    rng = np.random.default_rng(9)
    gallery = Gallery(ExactIndex(16, Counting(pool, 2), partial(every_distance, pool, 2)))
    for i, vector in enumerate(units(rng, 1000, 16)):
        gallery.add(f"s{i}", vector[None])
    searches = [Search(units(rng, 1, 16), "e", k) for k in (3, 900, 5, 7)]
    for result, search in zip(found_by(gallery.index, searches), searches, strict=True):
        gallery.agrees(result, search)
    assert [queries for queries, _ in scans] == [3, 1]
    assert scans[0][1] < 50


def test_a_subject_with_many_encodings_fills_one_place(make: Make) -> None:
    rng = np.random.default_rng(1)
    gallery = Gallery(make(16))
    probe = units(rng, 1, 16)
    gallery.add("crowd", probe + rng.standard_normal((900, 16), dtype=np.float32) * np.float32(0.01))
    for i in range(20):
        gallery.add(f"s{i}", units(rng, 3, 16))
    result = gallery.check(probe, 10)
    assert [c.subject_id for c in result.candidates[0]].count("crowd") == 1
    gallery.check(probe, 21)
    gallery.check(probe, 30)
    gallery.check(probe, 10, 2.0)


def test_equal_distances_are_ordered_by_encoding_number(make: Make) -> None:
    gallery = Gallery(make(4))
    same = np.full((1, 4), 0.5, np.float32)
    for i in range(200):
        gallery.add(f"s{199 - i}", same)
    result = gallery.check(same, 3)
    assert [c.encoding_id for c in result.candidates[0]] == ["1", "2", "3"]
    gallery.check(same, 3, 0.0)
    gallery.remove(1, 3)
    assert [c.encoding_id for c in gallery.check(same, 3).candidates[0]] == ["2", "4", "5"]


def test_more_than_a_gpu_selects(make: Make) -> None:
    rng = np.random.default_rng(2)
    gallery = Gallery(make(4))
    probe = units(rng, 1, 4)
    gallery.add("crowd", np.repeat(probe, 3000, axis=0))
    gallery.add("other", units(rng, 1, 4))
    assert len(gallery.check(probe, 2).candidates[0]) == 2


def test_dead_rows_hide_nobody_and_compaction_changes_nothing(make: Make) -> None:
    rng = np.random.default_rng(3)
    gallery = Gallery(make(8))
    vectors = units(rng, 500, 8)
    for i, vector in enumerate(vectors):
        gallery.add(f"s{i}", vector[None])
    probe = vectors[:1]
    order = [int(n) for n in np.argsort(((vectors - probe) ** 2).sum(1)) + 1]
    gallery.remove(*order[:100])  # everything near the probe
    before = gallery.check(probe, 5)
    assert gallery.index.info().dead_rows == 100
    assert gallery.index.wants_compaction()
    gallery.index.compact()
    assert gallery.index.info().dead_rows == 0
    assert gallery.check(probe, 5) == before
    gallery.add("late", probe)
    gallery.remove(order[200])
    gallery.check(probe, 5)


def test_dead_rows_are_gone_from_memory_after_compaction(make: Make) -> None:
    gallery = Gallery(make(2))
    gallery.add("a", np.array([[1, 2]], np.float32))
    gallery.add("b", np.array([[3, 4]], np.float32))
    gallery.check(np.ones((1, 2), np.float32))
    gallery.remove(1)
    gallery.index.compact()
    frozen = gallery.index.freeze()
    assert frozen.vectors.tolist() == [[3, 4]]
    assert frozen.numbers.tolist() == [2]


def test_what_is_looked_at_stays_as_it_is_during_a_compaction(make: Make) -> None:
    rng = np.random.default_rng(6)
    gallery = Gallery(make(4))
    vectors = units(rng, 200, 4)
    for i, vector in enumerate(vectors):
        gallery.add(f"s{i}", vector[None])
    frozen = gallery.index.freeze()
    gallery.remove(*range(1, 200, 2))
    gallery.index.compact()
    np.testing.assert_array_equal(frozen.vectors, vectors)
    assert frozen.numbers.tolist() == list(range(1, 201))
    assert frozen.encodings == 200
    gallery.check(vectors[:3], 5)


def test_a_compaction_takes_no_memory_and_gives_some_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    gallery = Gallery(make(64))
    for i in range(10):
        gallery.add(f"s{i}", units(rng, 1000, 64))
    before = gallery.check(units(rng, 1, 64)).encodings
    full = gallery.index.info().memory_bytes
    gallery.remove(*range(1001, 10_001))
    monkeypatch.setattr(RowArrays, "empty", pytest.fail)
    gallery.index.compact()
    assert gallery.check(units(rng, 3, 64)).encodings == before - 9000
    assert gallery.index.info().memory_bytes < full / 8


@pytest.mark.parametrize("failing", range(1, 16, 2))
def test_a_compaction_without_memory_loses_nothing(make: Make, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Between its steps rows come, many and few, and others go, moved or not; and then one of the steps fails."""
    rng = np.random.default_rng(failing)
    monkeypatch.setattr(flat, "_STEP_BYTES", 4 * 8 * 5)  # 5 rows
    gallery = Gallery(make(8))
    for i, vector in enumerate(units(rng, 60, 8)):
        gallery.add(f"s{i}", vector[None])
    gallery.remove(1, *range(7, 20, 2), 30, 31)
    gallery.check(units(rng, 1, 8))
    move_up, steps = RowArrays.move_up, 0

    def scarce(*args: Any) -> int:
        nonlocal steps
        steps += 1
        if steps == failing:
            raise MemoryError
        return move_up(*args)

    def meanwhile() -> None:
        gallery.check(units(rng, 2, 8), 40)
        if steps < 10:
            gallery.add("late", units(rng, 300 if steps == 3 else 1, 8))
            gallery.remove(*rng.choice([number for _, number, _ in gallery.rows[:40]], 2, replace=False).tolist())

    with monkeypatch.context() as patched:
        patched.setattr(RowArrays, "move_up", scarce)
        patched.setattr(flat, "pause", meanwhile)
        with pytest.raises(MemoryError):
            gallery.index.compact()
    gallery.check(units(rng, 3, 8), 40)
    gallery.remove(gallery.rows[0][1], gallery.rows[10][1], gallery.rows[-1][1])
    gallery.index.compact()
    assert gallery.index.info().dead_rows == 0
    gallery.check(units(rng, 3, 8), 40)


@pytest.mark.parametrize("scale", [1e-18, 1e-3, 1.0, 1e4, 1e17])
def test_the_threshold_is_inclusive_to_the_last_bit(make: Make, scale: float) -> None:
    rng = np.random.default_rng(4)
    gallery = Gallery(make(64))
    vectors = (units(rng, 50, 64) * np.float32(scale)).astype(np.float32)
    vectors[25:] = vectors[:25] * np.float32(1 + 3e-7)  # near twins, where the matrix path cancels
    for i, vector in enumerate(vectors):
        gallery.add(f"s{i}", vector[None])
    for probe in (vectors[0], vectors[30], (units(rng, 1, 64)[0] * np.float32(scale)).astype(np.float32)):
        for exact in {distance(v, probe) for v in vectors[:40]}:
            around = np.float32(exact)
            for threshold in (around, np.nextafter(around, np.float32(0)), np.nextafter(around, np.float32(np.inf))):
                gallery.check(np.repeat(probe[None], 6, 0), 60, float(threshold))
                gallery.check(probe[None], 3, float(threshold))


def test_a_huge_row_costs_time_at_most(make: Make) -> None:
    rng = np.random.default_rng(5)
    gallery = Gallery(make(32))
    gallery.add("giant", np.full((1, 32), 1e17, np.float32))
    for i, vector in enumerate(units(rng, 300, 32)):
        gallery.add(f"s{i}", vector[None])
    queries = units(rng, 6, 32)
    gallery.check(queries, 5)
    gallery.check(np.concatenate([queries, np.full((1, 32), 1e17, np.float32)]), 301)


@pytest.mark.parametrize("norm", [1e2, 1e4, 1e6])
def test_rows_far_from_the_origin(make: Make, norm: float) -> None:
    """While rows come, go and move up: what is subtracted from them has to follow."""
    rng = np.random.default_rng(7)
    gallery = Gallery(make(32))
    offset = units(rng, 1, 32) * np.float32(norm)
    vectors = units(rng, 400, 32) + offset
    vectors[300:] = np.nextafter(vectors[:100], np.float32(np.inf))  # near twins
    probes = np.concatenate([vectors[:20], units(rng, 20, 32) + offset, units(rng, 2, 32)]).astype(np.float32)
    for i, vector in enumerate(vectors[:390]):
        gallery.add(f"s{i}", vector[None])
    gallery.check(probes, 5)
    gallery.check(probes[3:4], 5, 1.5)
    gallery.remove(*range(3, 200, 2))
    gallery.index.compact()
    gallery.check(probes, 5, 0.5)
    for i, vector in enumerate(vectors[390:]):
        gallery.add(f"late{i}", vector[None])
    gallery.add("elsewhere", units(rng, 150, 32))
    gallery.check(probes, 5)
    gallery.check(probes, 300)
    gallery.remove(*range(202, 391))
    gallery.index.compact()
    gallery.check(probes, 5)


class Counted:
    """How often every row was measured."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.calls = 0
        self._pool = pool

    def __call__(self, matrix: Vectors, probe: Vectors) -> Vectors:
        self.calls += 1
        return every_distance(self._pool, 2, matrix, probe)


@pytest.mark.parametrize("probes", [1, 30])
def test_one_scan_is_enough_wherever_the_rows_lie(pool: ThreadPoolExecutor, probes: int) -> None:
    rng = np.random.default_rng(8)
    every = Counted(pool)
    gallery = Gallery(ExactIndex(32, CpuScan(pool, 2), every))
    vectors = units(rng, 500, 32) + np.float32(3000)
    for i, vector in enumerate(vectors):
        gallery.add(f"s{i}", vector[None])
    gallery.check(vectors[:probes] + np.float32(0.01), 5)
    assert every.calls == 0


@pytest.mark.parametrize("probes", [1, 30])
def test_where_float32_tells_no_rows_apart_each_is_measured_once(pool: ThreadPoolExecutor, probes: int) -> None:
    rng = np.random.default_rng(9)
    every = Counted(pool)
    gallery = Gallery(ExactIndex(32, CpuScan(pool, 2), every))
    for i, vector in enumerate(units(rng, 900, 32)):
        gallery.add(f"s{i}", vector[None])
    gallery.add("crowd", np.repeat(units(rng, 1, 32), 300, axis=0))
    middle = units(rng, probes, 32) * np.float32(1e-9)
    gallery.check(middle, 5)
    assert every.calls == probes
    gallery.check(middle, 5, 1.0)
    gallery.check(middle, 2, float(np.nextafter(np.float32(1), np.float32(0))))
    gallery.remove(*range(5, 900, 3))
    gallery.check(middle, 7, 1.0)


@settings(max_examples=60)
@given(data=st.data())
def test_any_small_numbers(data: st.DataObject) -> None:
    """Few distinct coordinates, so ties, duplicates and exact boundaries abound."""
    dimension = data.draw(st.integers(1, 4))
    vector = st.lists(st.sampled_from([0.0, 1.0, -1.0, 1e-20, 3e5, 0.1]), min_size=dimension, max_size=dimension)
    enrolled = data.draw(st.lists(st.tuples(st.integers(0, 5), vector), min_size=1, max_size=40))
    with ThreadPoolExecutor(2, initializer=engine.use_one_thread) as pool:
        gallery = Gallery(ExactIndex(dimension, CpuScan(pool, 2), partial(every_distance, pool, 2)))
        for subject, values in enrolled:
            gallery.add(f"s{subject}", np.array([values], np.float32))
        doomed = data.draw(st.lists(st.integers(1, len(enrolled)), unique=True))
        gallery.remove(*doomed)
        probes = np.array(data.draw(st.lists(vector, min_size=1, max_size=6)), np.float32)
        k = data.draw(st.integers(1, 7))
        gallery.check(probes, k)
        threshold = data.draw(st.sampled_from([0.0, 1.0, 2.0, 4.0, 9e10, float(np.float32(0.01))]))
        gallery.check(probes, k, threshold)


def test_apply_never_waits_for_a_search(make: Make) -> None:
    class Slow(CpuScan):
        started, release = threading.Event(), threading.Event()

        def nearest(self, queries: Vectors, k: int, max_norm: float) -> Proposed:
            self.started.set()
            assert self.release.wait(PATIENCE_SECONDS)
            return super().nearest(queries, k, max_norm)

    with ThreadPoolExecutor(3, initializer=engine.use_one_thread) as pool:
        host = Slow(pool, 1)
        gallery = Gallery(ExactIndex(2, host, partial(every_distance, pool, 2)))
        gallery.add("a", np.array([[1, 0]], np.float32))
        search = pool.submit(gallery.index.search, [Search(np.ones((1, 2), np.float32), "e", 5)])
        assert host.started.wait(PATIENCE_SECONDS)
        gallery.add("b", np.repeat(np.array([[1, 1]], np.float32), 5000, 0))  # returns while the search runs
        assert not search.done()
        host.release.set()
        (found,) = search.result()
        assert isinstance(found, Found)
        assert [c.subject_id for c in found.candidates[0]] == ["a"]
        assert [c.subject_id for c in gallery.check(np.ones((1, 2), np.float32)).candidates[0]] == ["b", "a"]


def test_searches_and_changes_at_once(make: Make) -> None:
    """A change applied before a search starts is seen by it, with four searchers and compactions going on."""
    rng = np.random.default_rng(6)
    gallery = Gallery(make(16))
    vectors = units(rng, 400, 16)
    applied = 0
    done = threading.Event()
    failures: list[str] = []

    def search() -> None:
        while not done.is_set():
            seen = applied
            result = found_by(gallery.index, [Search(vectors[seen % len(vectors)][None], "e", 1)])[0]
            if result.revision < seen:
                failures.append(f"applied {seen}, searched {result.revision}")

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i, vector in enumerate(vectors):
        gallery.add(f"s{i}", vector[None])
        if i % 3 == 2:
            gallery.remove(i)
        applied = gallery.revision
        if i % 50 == 0:
            gallery.index.compact()
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    gallery.check(vectors[:20], 5)


@pytest.mark.parametrize("probes", [1, 20])
def test_where_more_match_than_were_proposed_more_are_fetched_and_no_scan_looks_at_every_row(
    pool: ThreadPoolExecutor, probes: int
) -> None:
    def never(rows: Vectors, probe: Vectors) -> Vectors:
        raise AssertionError("every row")

    rng = np.random.default_rng(3)
    gallery = Gallery(ExactIndex(16, CpuScan(pool, 2), never))
    for i, vector in enumerate(units(rng, 2000, 16)):
        gallery.add(f"s{i}", vector[None])
    queries = units(rng, probes, 16)
    (found,) = found_by(gallery.index, [Search(queries, "e", 2, 1.4, 100)])
    gallery.agrees(found, Search(queries, "e", 2, 1.4, 100))
    assert all(found.truncated)


def test_a_scan_for_many_probes_leaves_threads_to_one_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = engine.scan_pools(1)
    begun, through = threading.Event(), threading.Event()
    scan = engine.nearest

    def nearest(*given: Any) -> Any:
        if len(given[3]) > 1:
            begun.set()
            assert through.wait(PATIENCE_SECONDS)
        return scan(*given)

    monkeypatch.setattr(engine, "nearest", nearest)
    rng = np.random.default_rng(4)
    first, second = (
        Gallery(ExactIndex(8, CpuScan(pools.usual, 1, pools.patient), partial(every_distance, pools.usual, 1)))
        for _ in range(2)
    )
    for gallery in (first, second):
        gallery.add("ada", units(rng, 3, 8))
    with ThreadPoolExecutor(1) as others:
        many = others.submit(first.index.search, [Search(units(rng, 40, 8), "e", 1)])
        assert begun.wait(PATIENCE_SECONDS)
        second.check(units(rng, 1, 8))
        assert not many.done()
        through.set()
        many.result(PATIENCE_SECONDS)
    pools.shutdown()


def test_patient_threads_leave_the_processor_to_others() -> None:
    pools = engine.scan_pools(1)
    usual, patient = (pool.submit(os.getpriority, os.PRIO_PROCESS, 0).result(PATIENCE_SECONDS) for pool in pools)
    pools.shutdown()
    assert usual == os.getpriority(os.PRIO_PROCESS, 0)
    assert patient == min(usual + 5, 19)
