"""On a real graphics card: more rows than one tile of FAISS's, in several chunks, among near-twins."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import Found, Search
from oneglance_index.records import Rows
from oneglance_index.search import faiss_calls as engine
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.gpu_scan import GpuScan, open_gpu
from oneglance_index.search.scan import CpuScan, Scan, every_distance
from tests.card import needs_card

pytestmark = needs_card
ROWS, DIMENSION, TILE = 700_000, 48, 262_144


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((ROWS, DIMENSION), dtype=np.float32)
    vectors[TILE - 500 : TILE + 500] = vectors[:1000] * np.float32(1 + 3e-7)  # near-twins across a border of tiles
    vectors[-1000:] = vectors[:1000]  # twins, in the last one
    return vectors


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(engine.cores(), initializer=engine.use_one_thread) as pool:
        yield pool


def index_of(scan: Scan, vectors: NDArray[np.float32], pool: ThreadPoolExecutor, steps: int) -> ExactIndex:
    index = ExactIndex(DIMENSION, scan, partial(every_distance, pool, engine.cores()))
    step = -(-ROWS // steps)
    index.load(1, {i: f"s{i}" for i in range(1, ROWS + 1)}, step)
    for start in range(0, ROWS, step):
        numbers = np.arange(start, min(start + step, ROWS)) + 1
        index.append(Rows(numbers, numbers, vectors[start : start + step]))
    return index


@pytest.mark.parametrize("steps", [1, 4])
def test_it_finds_what_the_cpu_finds(vectors: NDArray[np.float32], pool: ThreadPoolExecutor, steps: int) -> None:
    on_card = index_of(GpuScan(open_gpu("cuda:0", 0, 64 << 20), DIMENSION), vectors, pool, steps)
    on_cpu = index_of(CpuScan(pool, engine.cores()), vectors, pool, 1)
    strangers = np.random.default_rng(1).standard_normal((200, DIMENSION), dtype=np.float32)
    for probes in (
        vectors[:1],
        strangers[:1],
        np.concatenate([vectors[:64]]),
        np.concatenate([vectors[:100], strangers]),
    ):
        searches = [Search(probes, "e", 5), Search(probes[:3], "e", 0, 40.0, 100), Search(probes[:2], "e", 2500)]
        for one, other in zip(on_card.search(searches), on_cpu.search(searches), strict=True):
            assert isinstance(one, Found)
            assert isinstance(other, Found)
            assert (one.candidates, one.matches, one.truncated) == (other.candidates, other.matches, other.truncated)
