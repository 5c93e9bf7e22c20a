"""Rows that are equal to the bit: answers are those of brute force, and take no more scans than other rows do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from oneglance_index import Change, Found, Search, SubjectFilter
from oneglance_index.records import EVERYBODY, Rows
from oneglance_index.search import coded, exact, filtered, flat, twins
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.coded import CodedScan
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.scan import CpuScan, Proposed, every_distance
from oneglance_index.search.twins import find_twins, often
from tests.index.brute_force import Enrolled, nearest

Vectors = NDArray[np.float32]
NONE = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, initializer=engine.use_one_thread) as pool:
        yield pool


class Counting(CpuScan):
    """How often it was asked, for how many rows at most."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__(pool, 2)
        self.fetched: list[int] = []

    def nearest(self, queries: Vectors, k: int, max_norm: float) -> Proposed:
        self.fetched.append(k)
        return super().nearest(queries, k, max_norm)


class Counted:
    """An index, the same rows for brute force, and how often every row was measured."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        dimension: int,
        templates: bool = False,
        ordered: bool = True,
        scan: CpuScan | None = None,
    ) -> None:
        self._pool, self.templates = pool, templates
        self.scan = Counting(pool)
        self.calls = 0
        self.index = ExactIndex(dimension, scan or self.scan, self._every, templates=templates, ordered=ordered)
        self.rows: list[Enrolled] = []
        self.subjects: dict[str, int] = {}
        self.revision = 0

    def _every(self, matrix: Vectors, probe: Vectors) -> Vectors:
        self.calls += 1
        return every_distance(self._pool, 2, matrix, probe)

    def add(self, subject: int, numbers: Any, vectors: Vectors) -> None:
        self.revision += 1
        name = f"{subject % 2}-{subject}"
        of = self.subjects.setdefault(name, int(max(numbers)))  # never used twice, as in the store
        self.index.apply(Change(self.revision, np.array(numbers), vectors, of, name, NONE))
        self.rows += [(name, int(number), vector) for number, vector in zip(numbers, vectors, strict=True)]

    def rewrite(self, number: int, vector: Vectors) -> None:
        """Of templates, whose numbers are the subjects'."""
        self.revision += 1
        at = next(i for i, row in enumerate(self.rows) if row[1] == number)
        name, one = self.rows[at][0], np.array([number])
        self.rows[at] = (name, number, vector)
        self.index.apply(Change(self.revision, one, vector[None], number, name, one))

    def remove(self, *numbers: int) -> None:
        for number in numbers:
            self.revision += 1
            name = next(name for name, of, _ in self.rows if of == number)
            self.rows = [row for row in self.rows if row[1] != number]
            gone = None if any(of == name for of, _, _ in self.rows) else self.subjects.pop(name)
            none = np.empty((0, self.index.dimension), np.float32)
            self.index.apply(Change(self.revision, NONE, none, 0, "", np.array([number]), gone))

    def check(self, probes: Vectors, k: int, within: float | None = None) -> None:
        """Among all, the odd ones and all again, by one call."""
        odd = SubjectFilter(id_prefix="1-")
        searches = [Search(probes, "e", k, within, k, among=among) for among in (EVERYBODY, odd)]
        for search, found in zip(searches, self.index.search(searches), strict=True):
            assert isinstance(found, Found)
            rows = [row for row in self.rows if search.among == EVERYBODY or row[0].startswith("1-")]
            for i, probe in enumerate(probes):
                assert told(found.candidates[i]) == self.expected(rows, probe, k)
                matches = [] if within is None else self.expected(rows, probe, k + 1, within)
                assert told(found.matches[i]) == matches[:k]
                assert found.truncated[i] == (len(matches) > k)

    def expected(self, rows: list[Enrolled], *asked: Any) -> list[tuple[str, str, float]]:
        """Numbers are told of encodings, not of templates."""
        found = nearest(rows, *asked)
        return [(name, "", distance) for name, _, distance in found] if self.templates else found


def told(candidates: Any) -> list[tuple[str, str, float]]:
    return [(one.subject_id, one.encoding_id, one.distance) for one in candidates]


def units(rng: np.random.Generator, n: int, dimension: int) -> Vectors:
    vectors = rng.standard_normal((n, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def several(pool: ThreadPoolExecutor) -> tuple[Counted, Vectors]:
    """900 rows, every third one and the same, and probes of which two are near those."""
    rng = np.random.default_rng(0)
    vectors = units(rng, 900, 16)
    vectors[::3] = vectors[0]
    gallery = Counted(pool, 16)
    for i, vector in enumerate(vectors, 1):
        gallery.add(i, [i], vector[None])
    near = vectors[:1] + np.float32(0.1) * units(rng, 2, 16)
    return gallery, np.concatenate([near, units(rng, 6, 16)])


@pytest.mark.parametrize("probes", [1, 8])
@pytest.mark.parametrize("offset", [0, 10_000])
def test_one_scan_is_enough_once_they_are_known(pool: ThreadPoolExecutor, probes: int, offset: int) -> None:
    rng = np.random.default_rng(1)
    vectors = units(rng, 900, 16) + np.float32(offset)
    vectors[::2] = vectors[0]
    gallery = Counted(pool, 16)
    for i, vector in enumerate(vectors, 1):
        gallery.add(i, [i], vector[None])
    near = vectors[:1] + np.float32(0.5) * units(rng, probes, 16)
    (found,) = gallery.index.search([Search(near, "e", 5)])
    assert len(gallery.scan.fetched) == 2
    assert [found] == gallery.index.search([Search(near, "e", 5)])
    assert len(gallery.scan.fetched) == 3
    assert gallery.calls == 0
    gallery.check(near, 5)
    gallery.check(near, 60, 1.0)
    gallery.check(near, 500, 1.0)


def test_they_are_known_once_an_index_is_loaded_and_after_a_compaction(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(5)
    vectors = units(rng, 900, 16)
    vectors[::3], vectors[1::9] = vectors[0], vectors[1]
    near = vectors[:2] + np.float32(0.1) * units(rng, 2, 16)
    gallery = Counted(pool, 16)
    gallery.rows = [(f"{i % 2}-{i}", i, vector) for i, vector in enumerate(vectors, 1)]
    gallery.index.load(1, {number: name for name, number, _ in gallery.rows}, 900)
    gallery.subjects = {name: number for name, number, _ in gallery.rows}
    for start in (1, 451):
        numbers = np.arange(start, start + 450)
        gallery.index.append(Rows(numbers, numbers, vectors[numbers - 1]))
    gallery.revision = 1
    gallery.check(near, 5, 1.0)
    assert len(gallery.scan.fetched) == 2  # of two searches
    gallery.remove(*range(2, 200))
    gallery.index.compact()
    gallery.check(near, 5, 1.0)
    assert len(gallery.scan.fetched) == 4
    assert gallery.calls == 0


def test_the_first_of_them_may_go(pool: ThreadPoolExecutor) -> None:
    gallery, probes = several(pool)
    gallery.check(probes, 5)
    gallery.remove(1, 4, 7)
    scans = len(gallery.scan.fetched)
    gallery.check(probes, 5)
    assert len(gallery.scan.fetched) == scans + 2
    gallery.remove(*range(10, 901, 3))
    gallery.check(probes, 5, 1.0)
    gallery.index.compact()
    gallery.check(probes, 5, 1.0)


def test_all_that_are_gone_hide_nobody(pool: ThreadPoolExecutor) -> None:
    gallery, probes = several(pool)
    gallery.remove(*range(1, 901, 3))
    gallery.check(probes, 5)
    assert gallery.calls == 0


def test_more_of_them_may_come(pool: ThreadPoolExecutor) -> None:
    gallery, probes = several(pool)
    gallery.check(probes, 5)
    same = gallery.rows[0][2][None]
    for number in range(901, 960):
        gallery.add(number, [number], same)
        gallery.check(probes, 5)
        gallery.check(probes, 400)
    assert gallery.calls == 0


def test_templates_may_become_twins(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(3)
    gallery = Counted(pool, 16, templates=True)
    for i, vector in enumerate(units(rng, 300, 16), 1):
        gallery.add(i, [i], vector[None])
    same = units(rng, 2, 16)
    for number in range(1, 101):
        gallery.rewrite(number, same[number % 2])
        gallery.check(same, 5)
    for number in range(1, 101, 3):
        gallery.rewrite(number, units(rng, 1, 16)[0])
        gallery.check(same, 5)
    assert gallery.calls == 0


def test_among_few_rows_one_scan_is_enough_too(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(4)
    vectors = units(rng, 4000, 16)
    vectors[1:100:2] = vectors[1]
    gallery = Counted(pool, 16)
    for i, vector in enumerate(vectors):
        gallery.add(i % 2 if i < 100 else 2 * i, [i + 1], vector[None])
    for i in range(100):
        gallery.add(2 * i + 9001, [4001 + i], vectors[1:2] if i % 2 else units(rng, 1, 16))
    gallery.check(vectors[1:2], 5)
    # The few are measured by the first scan of them, and by that after the look for twins.
    assert gallery.calls == 2


def test_a_subject_of_equal_encodings_fills_one_place(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(2)
    gallery = Counted(pool, 8)
    same = units(rng, 1, 8)
    gallery.add(1, range(1, 2001), np.repeat(same, 2000, axis=0))
    for i in range(2, 60):
        gallery.add(i, [2000 + i], units(rng, 1, 8))
    gallery.check(same, 10)
    assert len(gallery.scan.fetched) == 3  # of two searches, the first of which had to look for them


@pytest.mark.parametrize("dimension", [1, 3, 8])
@given(data=st.data())
@settings(max_examples=60)
def test_they_are_found_whatever_their_hashes(dimension: int, data: st.DataObject) -> None:
    values = st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.5]), min_size=dimension, max_size=dimension)
    vectors = np.array(data.draw(st.lists(values, min_size=1, max_size=40)), np.float32)
    numbers = np.array(data.draw(st.permutations(range(len(vectors)))))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(twins, "_LEAST", 2)
        monkeypatch.setattr(twins, "_COMPARED_AT_ONCE", 3)
        found = find_twins(vectors, numbers)
        met = often(vectors, np.arange(len(vectors))[None])
        monkeypatch.setattr(twins, "_keys", lambda rows: np.zeros(len(rows), np.uint64))
        of_one_hash = find_twins(vectors, numbers)
    classes: dict[bytes, list[int]] = {}
    for row, vector in enumerate(vectors):
        classes.setdefault(vector.tobytes(), []).append(row)
    expected = [rows for rows in classes.values() if len(rows) > 1]
    assert found.shown.tolist() == [rows[0] for rows in expected]
    got = [found.rows[a:b].tolist() for a, b in zip(found.starts[:-1], found.starts[1:], strict=True)]
    assert got == [sorted(rows, key=lambda row: numbers[row]) for rows in expected]
    pairs = sorted((row, rows[0]) for rows in expected for row in rows[1:])
    assert sorted(zip(found.hidden.tolist(), found.equal_to.tolist(), strict=True)) == pairs
    assert sorted(vectors[row].tobytes() for row in met) == sorted(vectors[rows[0]].tobytes() for rows in expected)
    # Of rows with one hash those are twins that equal the first.
    alike = [rows for rows in classes.values() if rows[0] == 0]
    assert of_one_hash.hidden.size == (len(alike[0]) - 1 if len(vectors) > 1 else 0)


VECTOR = st.lists(st.sampled_from([0.0, 1.0, -1.0]), min_size=2, max_size=2)
CHANGE = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 9), VECTOR, st.integers(1, 5)),
    st.tuples(st.just("remove"), st.integers(0, 99), st.integers(1, 4)),
    st.tuples(st.just("rewrite"), st.integers(0, 99), VECTOR),
    st.tuples(st.just("compact")),
    st.tuples(st.just("check"), st.lists(VECTOR, min_size=1, max_size=6), st.integers(1, 7), st.integers(-1, 5)),
)


@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("kind", ["encodings", "templates", "in any order"])
@settings(max_examples=50)
@given(changes=st.lists(CHANGE, min_size=5, max_size=30), values=st.integers(0, 4))
def test_any_changes(kind: str, codes: bool, changes: list[Any], values: int) -> None:
    """Nine places for all rows, so that nearly all are twins, which come, go, move and get new values."""
    with pytest.MonkeyPatch.context() as monkeypatch, ThreadPoolExecutor(2, initializer=engine.use_one_thread) as pool:
        monkeypatch.setattr(twins, "_LEAST", 2)
        monkeypatch.setattr(exact, "SLACK_ROWS", 1)
        monkeypatch.setattr(filtered, "_FEW", 3)
        monkeypatch.setattr(flat, "_FEW_VALUES", values)
        monkeypatch.setattr(flat, "_STEP_BYTES", 8 * 5)  # 5 rows
        monkeypatch.setattr(coded, "_LEAST_ROWS", 10)
        monkeypatch.setattr(coded, "_BLOCK_BYTES", 14)  # 7 rows
        monkeypatch.setattr(coded, "_LEAST_PROPOSED", 2)
        scan = CodedScan(pool, 2, 2) if codes else CpuScan(pool, 2)
        gallery = Counted(pool, 2, templates=kind == "templates", ordered=kind != "in any order", scan=scan)
        number = 0
        for what, *arguments in changes:
            if what == "add":
                subject, vector, count = arguments
                for _ in range(count):
                    number += 1
                    new = 10_000 - number if kind == "in any order" else number
                    of = number if kind == "templates" else subject
                    gallery.add(of, [new], np.array([vector], np.float32))
            elif what == "remove" and gallery.rows:
                first, count = arguments
                gone = [row[1] for row in gallery.rows[first % len(gallery.rows) :][:count]]
                gallery.remove(*gone)
            elif what == "rewrite" and gallery.rows and kind == "templates":
                at, vector = arguments
                gallery.rewrite(gallery.rows[at % len(gallery.rows)][1], np.array(vector, np.float32))
            elif what == "compact":
                monkeypatch.setattr(flat, "pause", partial(gallery.check, np.ones((4, 2), np.float32), 3))
                gallery.index.compact()
            elif what == "check":
                probes, k, within = arguments
                gallery.check(np.array(probes, np.float32), k, None if within < 0 else float(within))
            gallery.check(np.array([[1, 0], [0, 0], [-1, 1], [0.5, 0.25]], np.float32), 4, 1.0)
            gallery.check(np.array([[1, 1]], np.float32), 2)


def test_without_memory_for_them_answers_are_the_same(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, probes = several(pool)

    def full(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(flat, "find_twins", full)
    monkeypatch.setattr(flat, "equal_rows", full)
    gallery.check(probes, 5, 1.0)
    assert gallery.calls > 0
