"""Without memory a load, a search or an enrollment is refused for it, and what is enrolled goes on being searched."""

from __future__ import annotations

import ctypes
import gc
import mmap
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_core.distance import squared_norms
from oneglance_index import Found, IndexSettings, LocalGalleries, OutOfMemory, Search
from oneglance_index.records import Rows
from oneglance_index.search import exact, faiss_calls, flat, rows
from oneglance_index.search.scan import CpuScan, every_distance
from tests.index import asking
from tests.waiting import PATIENCE_SECONDS

VECTORS = np.eye(8, dtype=np.float32)


@pytest.fixture
def galleries(tmp_path: Path) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path) as galleries:
        for gallery_id in ("g", "h"):
            galleries.create_gallery(gallery_id, encoder_digest="e", dimension=8).result()
        galleries.enroll("g", "first", VECTORS[:1]).result()
        yield galleries


def full(*_: Any) -> Any:
    raise MemoryError


def test_what_the_index_has_no_room_for_is_not_enrolled(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = np.repeat(VECTORS[1:2], 1000, axis=0)
    futures = []
    with monkeypatch.context() as patched:
        patched.setattr(rows.RowArrays, "empty", full)
        for i in range(5):
            futures.append(galleries.enroll("g", f"many{i}", many))
        small = galleries.enroll("g", "small", VECTORS[2:3])
        outcomes = [future.exception() for future in futures]
        assert small.exception() is None
        stored = galleries.get_gallery("g")
        found = asking.nearest(galleries, "g", VECTORS[:3], 10)
    # There was room for the first two; the third was refused alone.
    assert [type(error) for error in outcomes] == [type(None), type(None), *[OutOfMemory] * 3]
    assert (found.subjects, found.encodings) == (stored.subjects, stored.encodings) == (4, 2002)
    assert [near[0].subject_id for near in found.candidates] == ["first", "many0", "small"]
    assert galleries.trouble() is None
    galleries.enroll("g", "many2", many).result()
    assert asking.nearest(galleries, "g", VECTORS[1:2], 10).encodings == 3002


def test_a_gallery_whose_index_cannot_be_made_is_not_created(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(rows.RowArrays, "empty", full)
        with pytest.raises(OutOfMemory):
            galleries.create_gallery("new", encoder_digest="e", dimension=8).result()
    galleries.create_gallery("new", encoder_digest="e", dimension=8).result()


def test_galleries_made_in_one_group_have_room(galleries: LocalGalleries) -> None:
    galleries.create_gallery("new", encoder_digest="e", dimension=8)
    galleries.enroll("new", "a", VECTORS[:1])
    galleries.delete_gallery("new")
    galleries.create_gallery("new", encoder_digest="e", dimension=8)
    galleries.enroll("new", "b", VECTORS[:1]).result()
    assert asking.nearest(galleries, "new", VECTORS[:1], 5).candidates[0][0].subject_id == "b"


def test_rows_promised_survive_a_compaction(galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> None:
    index = galleries._opened._opened["g"].index
    assert isinstance(index, flat.ExactIndex)
    for i in range(70):
        galleries.enroll("g", f"s{i}", VECTORS[:1]).result()
        galleries.delete_subject("g", f"s{i}").result()
    index.reserve(5000, 0)
    galleries.compact("g")
    with monkeypatch.context() as patched:
        patched.setattr(rows.RowArrays, "empty", full)
        for i in range(5):
            galleries.enroll("g", f"many{i}", np.repeat(VECTORS[1:2], 1000, axis=0)).result()
        assert asking.nearest(galleries, "g", VECTORS[1:2], 10).encodings == 5001


@pytest.mark.parametrize("where", ["faiss", "numpy"])
def test_a_search_without_memory_fails_alone(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    galleries.enroll("g", "other", VECTORS[1:2]).result()
    small, large = Search(VECTORS[:1], "e", 1), Search(VECTORS[:6], "e", 1)
    nearest, measure = faiss_calls.nearest, exact.measure

    def scan(rows: Any, norms: Any, by_row: Any, queries: Any, k: Any) -> Any:
        return nearest(rows, norms, by_row, queries, k) if len(queries) < 6 else full()

    def measured(vectors: Any, at: Any, probes: Any) -> Any:
        return measure(vectors, at, probes) if len(probes) < 6 else full()

    with monkeypatch.context() as patched:
        if where == "faiss":
            patched.setattr(faiss_calls, "nearest", scan)
        else:
            patched.setattr(exact, "measure", measured)
        answers = galleries.search_many("g", [small, large, small])
        assert [type(answer) for answer in answers] == [Found, OutOfMemory, Found]
        assert answers[0] == answers[2] == asking.ask(galleries, "g", small)
        with pytest.raises(OutOfMemory):
            asking.ask(galleries, "g", large)
    assert len(asking.ask(galleries, "g", large).candidates) == 6


def test_what_cannot_be_loaded_is_named(galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> None:
    galleries.close()
    with monkeypatch.context() as patched:
        patched.setattr(flat.ExactIndex, "load", full)
        with pytest.raises(OutOfMemory, match="to load gallery 'h': its 0 encodings of dimension 8 take 0 MB"):
            LocalGalleries.open(galleries.data_dir)
    LocalGalleries.open(galleries.data_dir).close()  # and is not locked


def test_a_thread_that_cannot_be_started_is_want_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: Any) -> Any:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", no_thread)
        with pytest.raises(OutOfMemory):
            LocalGalleries.open(tmp_path / "data")
    LocalGalleries.open(tmp_path / "data").close()


def test_what_waits_for_a_search_is_taken_over_step_by_step(
    galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = galleries._opened._opened["g"].index
    assert isinstance(index, flat.ExactIndex)
    monkeypatch.setattr(flat, "_STEP_BYTES", 64 * VECTORS[:1].nbytes)

    def few(vectors: Any) -> Any:
        return squared_norms(vectors) if len(vectors) <= 64 else full()

    monkeypatch.setattr(flat, "squared_norms", few)
    with index._lock:  # as a search does
        for i in range(300):
            galleries.enroll("g", f"s{i}", VECTORS[1:2]).result()
        galleries.delete_subject("g", "s1").result()
        galleries.enroll("g", "last", VECTORS[2:3]).result()
    found = asking.nearest(galleries, "g", VECTORS[1:3], 1)
    assert [near[0].subject_id for near in found.candidates] == ["s0", "last"]
    assert found.encodings == galleries.get_gallery("g").encodings == 301


def test_an_index_that_grew_keeps_its_former_arrays_no_longer(galleries: LocalGalleries) -> None:
    index = galleries._opened._opened["g"].index
    assert isinstance(index, flat.ExactIndex)
    asking.nearest(galleries, "g", VECTORS[:1], 1)
    former = weakref.ref(index._held.vectors)
    for i in range(5):
        galleries.enroll("g", f"many{i}", np.repeat(VECTORS[1:2], 1000, axis=0)).result()
    assert index._held.vectors is not former()
    gc.collect()
    assert former() is None


def resident(array: NDArray[np.float32]) -> int:
    """Bytes of an array that are in memory."""
    start, size = array.ctypes.data, array.nbytes
    pages = -(-(start % mmap.PAGESIZE + size) // mmap.PAGESIZE)
    present = (ctypes.c_ubyte * pages)()
    address = ctypes.c_void_p(start - start % mmap.PAGESIZE)
    assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(pages * mmap.PAGESIZE), present) == 0
    return sum(page & 1 for page in present) * mmap.PAGESIZE


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is in memory")
@pytest.mark.parametrize("watched", [False, True])
def test_an_index_that_grows_holds_its_vectors_once(watched: bool) -> None:
    """Unless somebody looks at the former arrays yet, as one who takes a snapshot does: those stay as they are."""
    vectors = np.random.default_rng(0).standard_normal((70_000, 64)).astype(np.float32)  # 18 MB
    with ThreadPoolExecutor(1, initializer=faiss_calls.use_one_thread) as pool:
        index = flat.ExactIndex(64, CpuScan(pool, 1), partial(every_distance, pool, 1))
        index.load(0, {1: "s"}, len(vectors))
        numbers = np.arange(1, len(vectors) + 2)
        subjects = np.ones(len(vectors) + 1, np.int64)
        index.append(Rows(numbers[:-1], subjects[:-1], vectors))
        former = index._held.vectors
        frozen = index.freeze() if watched else None
        assert resident(former) >= former.nbytes
        index.append(Rows(numbers[-1:], subjects[-1:], vectors[:1]))
        assert index._held.vectors is not former
        assert (index._held.vectors[: len(vectors)] == vectors).all()
        if frozen is not None:
            assert (np.concatenate([rows.vectors for rows in frozen.blocks()]) == vectors).all()
        else:
            assert resident(former) < 0.1 * former.nbytes


@pytest.mark.parametrize("start_check", ["before", "behind"])
def test_opening_without_a_thread_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_check: Literal["before", "behind"]
) -> None:
    """The n-th thread can't be started, for every n that opening comes to."""
    settings = IndexSettings(start_check=start_check)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
        galleries.enroll("g", "first", VECTORS[:1]).result()
    start = threading.Thread.start
    refused = 0
    while True:
        left = refused

        def limited(thread: threading.Thread) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                raise RuntimeError("can't start new thread")
            start(thread)

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", limited)
            try:
                opened = LocalGalleries.open(tmp_path, settings=settings)
            except OutOfMemory:
                refused += 1
                continue
        with opened:
            opened.await_loaded()
            assert asking.nearest(opened, "g", VECTORS[:1], 1).candidates[0][0].subject_id == "first"
        break
    assert refused >= 6


@pytest.mark.parametrize("act", ["enroll", "search", "load"])
def test_under_a_real_limit(tmp_path: Path, act: str) -> None:
    """A child process limits its own address space (RLIMIT_AS), and checks what it is told."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.index.memory_child", str(tmp_path), act],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "as promised\n"), done.stderr
