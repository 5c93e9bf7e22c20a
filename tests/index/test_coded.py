"""Rows as codes: how far they are off is known, whatever the rows are, and what is gone leaves none behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from oneglance_core.distance import squared_l2
from oneglance_index import Change, Found, Search
from oneglance_index.records import Rows
from oneglance_index.search import coded
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.coded import CODED_PROBES, Block, CodedScan
from oneglance_index.search.device import open_device
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.registry import KINDS, Machine
from oneglance_index.search.scan import CpuScan, every_distance

Vectors = NDArray[np.float32]
NONE = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, initializer=engine.use_one_thread) as pool:
        yield pool


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are coded, too, 64 of 32 numbers in a block."""
    monkeypatch.setattr(coded, "_LEAST_ROWS", 1)
    monkeypatch.setattr(coded, "_BLOCK_BYTES", 64 * 32)


def drawn(data: st.DataObject, rng: np.random.Generator, count: int, dimension: int) -> Vectors:
    """Rows of one size, with an offset or none, and perhaps some that lie elsewhere."""
    rows = rng.standard_normal((count, dimension)) + rng.standard_normal(dimension) * data.draw(
        st.sampled_from([0.0, 1e2, 1e6])
    )
    for at in data.draw(st.lists(st.integers(0, count - 1), max_size=3)):
        rows[at] *= data.draw(st.sampled_from([0.0, 1e-9, 1.3, 50.0, 1e8]))
    rows *= data.draw(st.sampled_from([1e-18, 1e-3, 1.0, 1e9]))
    return np.clip(rows, -1e16, 1e16).astype(np.float32)  # none is longer than encodings may be


@settings(max_examples=150)
@given(data=st.data(), seed=st.integers(0, 1 << 32), dimension=st.sampled_from([1, 3, 16, 48, 128]))
def test_no_row_is_nearer_than_its_code_says(
    pool: ThreadPoolExecutor, data: st.DataObject, seed: int, dimension: int
) -> None:
    rng = np.random.default_rng(seed)
    count = data.draw(st.integers(1, 80))
    rows = drawn(data, rng, count, dimension)
    block = Block(100, dimension)
    for end in data.draw(st.lists(st.integers(0, count), max_size=4)):
        block.follow(rows[:end])
    block.follow(rows)
    changed = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1), max_size=5))), np.int64)
    rows[changed] = drawn(data, rng, max(len(changed), 1), dimension)[: len(changed)]
    block.rewrite(rows, changed)
    scan = CodedScan(pool, 1, dimension)
    scan._blocks, scan.block_rows, scan._norms = [block], 100, np.ones(count, np.float32)
    others = drawn(data, rng, 3, dimension)
    # What the first row is off from its code, many times over: a row is no nearer to anything, as its code says.
    away = rows[0] - (block._point + block.step * (block.codes[0].astype(np.float64) - 128))
    beyond, nearer = ((rows[0] - away + steps * block.step * np.sign(away)).astype(np.float32) for steps in (3.0, 2.6))
    for probe in (rows[0], rows[-1] + others[0], beyond, nearer, *others):
        floors, at = scan._among_codes([[block.query(probe)]], count, 0, count)
        assert sorted(at[0].tolist()) == list(range(count))
        assert (floors[0] <= squared_l2(rows[at[0]], probe)).all()


@pytest.mark.parametrize("dimension", [1, 3, 16, 32, 129])
def test_codes_are_compared_exactly(dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    codes = rng.integers(0, 256, (500, dimension), np.uint8)
    query = rng.integers(-127, 128, dimension).astype(np.float32)
    norms = np.where(rng.random(500) < 0.3, np.inf, 1).astype(np.float32)
    expected = (((codes.astype(np.int64) - 128) - query.astype(np.int64)) ** 2).sum(axis=1)
    shown = np.flatnonzero(np.isfinite(norms))
    distances, rows = engine.nearest_codes(codes, norms, query, len(shown))
    assert sorted(rows.tolist()) == shown.tolist()
    assert distances.tolist() == expected[rows].tolist()
    distances, rows = engine.nearest_codes(codes, norms, query, 10)
    assert sorted(distances.tolist()) == sorted(expected[shown].tolist())[:10]
    distances, rows = engine.nearest_codes(codes, norms, query, len(shown) + 3)
    assert (rows < 0).sum() == 3


def units(rng: np.random.Generator, n: int, dimension: int) -> Vectors:
    vectors = rng.standard_normal((n, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def index_of(scan: CpuScan, vectors: Vectors, every: Any) -> ExactIndex:
    index = ExactIndex(vectors.shape[1], scan, every)
    numbers = np.arange(1, len(vectors) + 1)
    index.load(1, {number: f"s{number}" for number in numbers.tolist()}, len(vectors))
    index.append(Rows(numbers, numbers, vectors))
    return index


def found(index: ExactIndex, probes: Vectors) -> Found:
    (answer,) = index.search([Search(probes, "e", 5, 1.0, 5)])
    assert isinstance(answer, Found)
    return answer


@pytest.mark.parametrize("offset", [0, 1000])
def test_few_probes_read_codes_only(
    small: None, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    rng = np.random.default_rng(0)
    vectors = units(rng, 3000, 32) + np.float32(offset)
    probes = units(rng, CODED_PROBES, 32) + np.float32(offset)
    expected = found(index_of(CpuScan(pool, 2), vectors, partial(every_distance, pool, 2)), probes)
    index = index_of(CodedScan(pool, 2, 32), vectors, pytest.fail)
    monkeypatch.setattr(engine, "nearest", pytest.fail)
    assert found(index, probes) == expected
    assert found(index, probes[:1]).candidates == expected.candidates[:1]


def test_one_huge_row_makes_another_scan_necessary_at_most(small: None, pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(1)
    vectors = units(rng, 300, 32)
    vectors[70] *= np.float32(1e15)
    every = partial(every_distance, pool, 2)
    probes = np.concatenate([units(rng, 2, 32), vectors[70:71], vectors[80:81]])
    expected = found(index_of(CpuScan(pool, 2), vectors, every), probes)
    assert found(index_of(CodedScan(pool, 2, 32), vectors, every), probes) == expected


def test_without_memory_for_codes_rows_are_read(
    small: None, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    vectors = units(rng, 300, 32)
    every = partial(every_distance, pool, 2)
    expected = found(index_of(CpuScan(pool, 2), vectors, every), vectors[:3])
    scan, made = CodedScan(pool, 2, 32), 0

    def scarce(*arguments: int) -> Block:
        nonlocal made
        made += 1
        if made == 3:
            raise MemoryError
        return Block(*arguments)

    monkeypatch.setattr(coded, "Block", scarce)
    index = index_of(scan, vectors, every)
    assert scan.memory_bytes == 2 * 64 * 32
    assert found(index, vectors[:3]) == expected
    assert found(index, vectors[:3]) == expected
    index.apply(Change(2, np.array([301]), vectors[:1], 301, "late", NONE))
    found(index, vectors[:3])
    assert scan.memory_bytes == 5 * 64 * 32


@pytest.mark.parametrize("failing", range(1, 9))
def test_without_memory_while_rows_are_coded_none_is_missed(
    small: None, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    rng = np.random.default_rng(6)
    vectors, norms = units(rng, 200, 32), np.ones(200, np.float32)
    code, calls = Block._code, 0

    def scarce(block: Block, *arguments: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise MemoryError
        return code(block, *arguments)

    monkeypatch.setattr(Block, "_code", scarce)
    scan = CodedScan(pool, 2, 32)
    for rows in (40, 150, 200):
        scan.extend(vectors, norms, rows)
    for at in range(0, 200, 9):
        vectors[at] *= np.float32(3)
        with contextlib.suppress(MemoryError):
            scan.rewrite(vectors, norms, {at})
        scan.rewrite(vectors, norms, {at})
        for probe in (vectors[at], vectors[at - 1]):
            proposed = scan.nearest(probe[None], 1, 10.0)
            floors = proposed.bounds.floors(proposed.distances.max(axis=1).astype(np.float64), probe[None], np.ones(1))
            missed = np.setdiff1d(np.arange(200), proposed.rows)
            assert (squared_l2(vectors[missed], probe) >= floors[0]).all()
    assert calls > failing


def test_what_is_gone_leaves_no_code(small: None, pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(3)
    vectors = units(rng, 300, 32)
    scan = CodedScan(pool, 2, 32)
    index = index_of(scan, vectors, partial(every_distance, pool, 2))
    blocks = list(scan._blocks)
    gone = np.arange(1, 201)
    none = np.empty((0, 32), np.float32)
    for number in gone.tolist():
        index.apply(Change(1 + number, NONE, none, 0, "", np.array([number]), number))
    index.compact()
    assert len(scan._blocks) == 2
    left = np.concatenate([block.codes for block in scan._blocks])
    assert not left[100:].any()
    for block, rows in zip(scan._blocks, np.split(vectors[200:], [64]), strict=True):
        decoded = block.codes[: len(rows)].astype(np.float64) - 128
        off = np.linalg.norm(rows - (block._point + block.step * decoded), axis=1)
        assert off.max() <= block.off < 0.03
    assert not any(block.codes.any() for block in blocks[2:])


def test_a_new_value_of_a_row_has_a_new_code(small: None, pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(4)
    vectors = units(rng, 100, 32)
    scan = CodedScan(pool, 2, 32)
    norms = np.ones(100, np.float32)
    scan.extend(vectors, norms, 100)
    old = scan._blocks[1].codes[6].copy()
    vectors[70] = -vectors[70]
    scan.rewrite(vectors, norms, {70})
    assert (scan._blocks[1].codes[6] != old).mean() > 0.9
    assert scan.nearest(vectors[70:71], 1, 1.0).rows[0, 0] in range(100)


@pytest.mark.parametrize("kept", [True, False])
def test_they_are_a_setting(small: None, pool: ThreadPoolExecutor, kept: bool) -> None:
    index = KINDS["flat"](32, Machine(pool, 2, open_device("cpu", 0), kept), "nearest", 1)
    numbers = np.arange(1, 65)
    index.load(1, {number: str(number) for number in numbers.tolist()}, 64)
    index.append(Rows(numbers, numbers, units(np.random.default_rng(5), 64, 32)))
    assert index.info().memory_bytes == 64 * (32 * 4 + 4 + 8 + 8 + (32 if kept else 0))


@pytest.fixture
def patient(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is coded in passing."""
    monkeypatch.setattr(coded, "_CODED_IN_PASSING", 0)


def test_many_rows_are_coded_behind_and_searches_go_on(
    patient: None, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    vectors, probes = units(rng, 1000, 32), units(rng, 4, 32)
    every = partial(every_distance, pool, 2)
    expected = found(index_of(CpuScan(pool, 2), vectors, every), probes)
    scan = CodedScan(pool, 2, 32)
    index = index_of(scan, vectors, every)
    steps = 0
    while not steps or index.improve():
        assert found(index, probes) == expected
        assert sum(block.rows for block in scan._blocks) == min(1000, 64 * steps)
        steps += 1
    assert steps == 17
    monkeypatch.setattr(engine, "nearest", pytest.fail)  # by codes only
    assert found(index, probes) == expected


@pytest.mark.parametrize("compacted", [False, True])
def test_what_changes_while_a_block_is_coded_has_no_code_of_before(
    patient: None, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, compacted: bool
) -> None:
    rng = np.random.default_rng(7)
    vectors = units(rng, 200, 32)
    scan = CodedScan(pool, 2, 32)
    every = partial(every_distance, pool, 2)
    index = index_of(scan, vectors, every)
    make, none = coded.Coding.make, np.empty((0, 32), np.float32)
    gone = np.arange(1, 101)

    def meanwhile(coding: coded.Coding) -> None:
        make(coding)
        monkeypatch.setattr(coded.Coding, "make", make)
        for number in gone.tolist():
            index.apply(Change(1 + number, NONE, none, 0, "", np.array([number]), number))
        index.apply(Change(102, np.array([201, 202]), vectors[:2], 201, "new", NONE))
        if compacted:
            index.compact()

    monkeypatch.setattr(coded.Coding, "make", meanwhile)
    assert index.improve()
    left = np.concatenate([vectors[100:], vectors[:2]])
    for _ in range(2):
        for i in (0, 50, 99, 100, 101):
            answer = found(index, left[i : i + 1])
            assert answer.candidates[0][0].subject_id == ("new" if i >= 100 else f"s{101 + i}")
            assert answer.candidates[0][0].distance == 0
        while index.improve():
            pass
