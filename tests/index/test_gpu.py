"""Galleries on a GPU: the fake card, which is as unforgiving as a real one."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import (
    DeviceLost,
    DeviceUnavailable,
    Found,
    GalleryError,
    IndexSettings,
    LocalGalleries,
    OutOfMemory,
    Search,
    SubjectNotFound,
)
from oneglance_index.search import gpu_scan
from tests.fake_card import ILLEGAL_ADDRESS, OUT_OF_MEMORY, Aborted, FakeCard
from tests.index import asking
from tests.index.brute_force import Enrolled, nearest

DIMENSION = 16
SCRATCH = 4 << 20
Vectors = NDArray[np.float32]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    return FakeCard(monkeypatch, count=2)


def opened(data_dir: Path, device: str = "cuda", **settings: Any) -> LocalGalleries:
    chosen = IndexSettings(gpu_temp_memory_bytes=SCRATCH, max_encodings_per_subject=5000, **settings)
    return LocalGalleries.open(data_dir, device=device, settings=chosen)


@pytest.fixture
def galleries(card: FakeCard, tmp_path: Path) -> Iterator[LocalGalleries]:
    with opened(tmp_path / "data") as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
        yield galleries


def vectors(seed: int, rows: int = 1) -> Vectors:
    return np.random.default_rng(seed).standard_normal((rows, DIMENSION), dtype=np.float32)


def enroll(galleries: LocalGalleries, name: str, rows: Vectors, gallery: str = "g") -> None:
    galleries.enroll(gallery, name, rows).result()


def rows_of(*named: tuple[str, Vectors]) -> list[Enrolled]:
    """As enrolled one after the other in one gallery."""
    flat = [(name, vector) for name, of_name in named for vector in of_name]
    return [(name, number, vector) for number, (name, vector) in enumerate(flat, 1)]


def check(galleries: LocalGalleries, rows: list[Enrolled], probes: Vectors, k: int = 5, gallery: str = "g") -> Found:
    found = asking.nearest(galleries, gallery, probes, k)
    for probe, candidates in zip(probes, found.candidates, strict=True):
        assert [(c.subject_id, c.encoding_id, c.distance) for c in candidates] == nearest(rows, probe, k)
    return found


def test_a_card_answers_as_brute_force_does(card: FakeCard, tmp_path: Path) -> None:
    rows = rows_of(*[(f"s{i}", vectors(i)) for i in range(50)])
    with opened(tmp_path, "cuda:1") as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
        for subject, _, vector in rows:
            enroll(galleries, subject, vector[None])
        assert check(galleries, rows, vectors(99, 3)).device == "cuda:1"


def test_enrolling_copies_new_rows_only(card: FakeCard, galleries: LocalGalleries) -> None:
    """FAISS's GPU index would copy all rows each time, and hold them twice meanwhile."""
    rows = 3000
    enroll(galleries, "many", vectors(1, 1000))
    for i in range(2):
        enroll(galleries, f"more{i}", vectors(2 + i, 1000))
    named = [("many", vectors(1, 1000)), ("more0", vectors(2, 1000)), ("more1", vectors(3, 1000))]
    check(galleries, rows_of(*named), vectors(0))
    copied, allocated = card.copied, card.calls["cudaMalloc"]
    for i in range(100):
        enroll(galleries, f"s{i}", vectors(100 + i))
        named.append((f"s{i}", vectors(100 + i)))
        asking.nearest(galleries, "g", vectors(i), 1)
    assert card.copied - copied == 100 * 4 * (DIMENSION + 1)
    assert card.calls["cudaMalloc"] == allocated
    assert card.most < SCRATCH + 2 * 4 * (DIMENSION + 1) * (rows + 2048)
    check(galleries, rows_of(*named), vectors(0, 3))


def test_rows_are_on_the_card_before_the_first_search(card: FakeCard, tmp_path: Path) -> None:
    rows = vectors(1, 700)
    with opened(tmp_path, "cpu") as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
        enroll(galleries, "s", rows)
    with opened(tmp_path) as galleries:
        copied = card.copied
        assert copied >= rows.nbytes
        check(galleries, rows_of(("s", rows)), vectors(2))
        assert card.copied == copied


def test_a_card_without_room_for_all_galleries_is_told_before_loading(card: FakeCard, tmp_path: Path) -> None:
    with opened(tmp_path, "cpu") as galleries:
        for name in ("g", "h"):
            galleries.create_gallery(name, encoder_digest="e", dimension=DIMENSION).result()
            enroll(galleries, "s", vectors(1, 900), name)
    card.capacity = SCRATCH + 50_000
    seen: list[object] = []
    settings = IndexSettings(gpu_temp_memory_bytes=SCRATCH)
    with pytest.raises(OutOfMemory, match=r"on cuda:0: the galleries take 0 MB"):
        LocalGalleries.open(tmp_path, device="cuda", settings=settings, progress=seen.append)
    assert not seen


def test_an_enrollment_without_room_on_the_card_is_refused(card: FakeCard, galleries: LocalGalleries) -> None:
    named = [("a", vectors(1, 900))]
    enroll(galleries, *named[0])
    card.capacity = card.used
    with contextlib.suppress(OutOfMemory):
        for i in range(4):
            enroll(galleries, f"b{i}", vectors(10 + i, 900))
            named.append((f"b{i}", vectors(10 + i, 900)))
        pytest.fail("there is room for it")
    found = check(galleries, rows_of(*named), vectors(3, 2))
    assert found.encodings == 900 * len(named)
    card.capacity *= 2
    enroll(galleries, "c", vectors(5, 900))
    check(galleries, rows_of(*named, ("c", vectors(5, 900))), vectors(3, 2))


@pytest.mark.parametrize("k", [1, 2048, 2049, 4000])
def test_however_many_are_wanted_the_card_finds_them(card: FakeCard, galleries: LocalGalleries, k: int) -> None:
    rows = [(f"s{i}", vectors(i)) for i in range(4000)]
    for written in [galleries.enroll("g", name, vector) for name, vector in rows]:
        written.result()
    check(galleries, rows_of(*rows), vectors(9999), k)


def test_many_probes_are_asked_in_portions(card: FakeCard, galleries: LocalGalleries) -> None:
    named = [(f"s{i}", vectors(i, 20)) for i in range(60)]
    for name, of_name in named:
        enroll(galleries, name, of_name)
    searches = card.calls["bfKnn"]
    check(galleries, rows_of(*named), vectors(5, 600), 2)
    assert card.calls["bfKnn"] - searches >= 3
    assert card.most < SCRATCH + 2 * 4 * (DIMENSION + 1) * 4096  # nothing beside the scratch memory


def test_compaction(card: FakeCard, galleries: LocalGalleries, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no memory of the card, brings the rows to their new places, and gives back what is not needed."""
    monkeypatch.setattr(gpu_scan, "_CHUNK_BYTES", 500 * 4 * (DIMENSION + 1))
    named = [(f"s{i}", vectors(i, 100)) for i in range(30)]
    for name, of_name in named:
        enroll(galleries, name, of_name)
    rows = rows_of(*named)
    check(galleries, rows, vectors(7, 3))
    card.capacity = before = card.used
    for i in range(20):
        galleries.delete_subject("g", f"s{i}").result()
    check(galleries, rows[2000:], vectors(7, 3))
    galleries.compact("g")
    assert card.used - SCRATCH < (before - SCRATCH) / 2
    copied = card.copied
    check(galleries, rows[2000:], vectors(7, 3))
    assert card.copied == copied  # nothing was left to this search
    enroll(galleries, "late", vectors(1000))
    check(galleries, [*rows[2000:], ("late", 3001, vectors(1000)[0])], vectors(7, 3))


def test_a_gallery_deleted_during_searches(card: FakeCard, galleries: LocalGalleries) -> None:
    """Its memory is given back while other galleries, and searches of its own, go on: never what is still read."""
    enroll(galleries, "s", vectors(1, 50))
    rows = rows_of(("s", vectors(1, 50)))
    used = card.used
    done = threading.Event()
    failures: list[BaseException] = []

    def search(gallery: str) -> None:
        while not done.is_set():
            try:
                asking.nearest(galleries, gallery, vectors(2), 3)
            except GalleryError:
                continue
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=search, args=[name]) for name in ("g", "h", "h")]
    for thread in threads:
        thread.start()
    for i in range(30):
        galleries.create_gallery("h", encoder_digest="e", dimension=DIMENSION).result()
        enroll(galleries, "t", vectors(i, 40), "h")
        galleries.delete_gallery("h").result()
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    check(galleries, rows, vectors(2))
    gc.collect()
    assert card.used == used


def life(galleries: LocalGalleries) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Everything that uses the card, step by step."""

    def compare(gallery: str) -> Callable[[], Found]:
        return lambda: asking.ask(galleries, gallery, Search(vectors(50, 3), "e", 4, 30.0, 9))

    for name in ("g", "h"):
        yield "create", galleries.create_gallery(name, encoder_digest="e", dimension=DIMENSION).result
        yield f"enroll {name} a", functools.partial(enroll, galleries, "a", vectors(1, 30), name)
        yield f"search {name}", compare(name)
        yield f"enroll {name} b", functools.partial(enroll, galleries, "b", vectors(2, 2300), name)
        yield f"search {name}", compare(name)
    yield "delete", lambda: galleries.delete_subject("g", "a").result()
    yield "search g", compare("g")
    yield "compact", lambda: galleries.compact("g")
    yield "search g", compare("g")
    yield "delete h", lambda: galleries.delete_gallery("h").result()
    yield "search g", compare("g")


CALLS = ("cudaSetDevice", "cudaStreamQuery", "cudaMalloc", "cudaMemcpyAsync", "cudaStreamSynchronize", "bfKnn")


def calls_of_a_life(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> dict[str, int]:
    with monkeypatch.context() as patched:
        card = FakeCard(patched)
        with opened(data_dir) as galleries:
            before = card.calls.copy()
            for _, step in life(galleries):
                step()
            return {call: card.calls[call] - before[call] for call in CALLS}


def answers_on_the_cpu(data_dir: Path) -> list[Found]:
    with opened(data_dir, "cpu") as galleries:
        return [answer for _, step in life(galleries) if isinstance(answer := step(), Found)]


def same(found: Found, expected: Found) -> bool:
    return (found.candidates, found.matches, found.truncated) == (
        expected.candidates,
        expected.matches,
        expected.truncated,
    )


@pytest.mark.parametrize("call", [call for call in CALLS if call in ("cudaMalloc", "bfKnn")])
def test_want_of_memory_at_any_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str) -> None:
    """It is told as such; the same step once more is done, and every answer is right."""
    expected = answers_on_the_cpu(tmp_path / "cpu")
    for turn in range(calls_of_a_life(monkeypatch, tmp_path / "once")[call]):
        with monkeypatch.context() as patched:
            card = FakeCard(patched)
            with opened(tmp_path / f"{turn}") as galleries:
                card.fail(call, OUT_OF_MEMORY, after=turn)
                found = []
                for _, step in life(galleries):
                    try:
                        answer = step()
                    except OutOfMemory:
                        answer = step()
                    found += [answer] if isinstance(answer, Found) else []
                assert galleries.trouble() is None
            assert all(map(same, found, expected))


@pytest.mark.parametrize("call", CALLS)
def test_a_card_lost_at_any_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str) -> None:
    """What was answered is right, what fails says DeviceLost, trouble() tells; all is there after a restart."""
    expected = answers_on_the_cpu(tmp_path / "cpu")
    turns = calls_of_a_life(monkeypatch, tmp_path / "once")[call]
    for turn in range(0, turns, max(1, turns // 12)):
        told = 0
        with monkeypatch.context() as patched:
            card = FakeCard(patched)
            with opened(tmp_path / f"{turn}") as galleries:
                card.fail(call, ILLEGAL_ADDRESS, after=turn)
                searched = 0
                for name, step in life(galleries):
                    try:
                        answer = step()
                    except DeviceLost:
                        told += 1
                        answer = None
                    except SubjectNotFound:
                        assert told
                    except Aborted:  # inside FAISS the process ends
                        assert call == "bfKnn"
                        break
                    if name.startswith("search"):
                        nobody = told and answer is not None and answer.encodings == 0  # enroll was refused
                        assert answer is None or nobody or same(answer, expected[searched])
                        searched += 1
                if call != "bfKnn":
                    assert "illegal memory access" in str(galleries.trouble())
            assert told or call == "bfKnn"
        with opened(tmp_path / f"{turn}", "cpu") as again:
            held = again.get_gallery("g").encodings
            assert asking.nearest(again, "g", vectors(50), 4).encodings == held


def test_a_lost_card_may_be_replaced_by_the_cpu(card: FakeCard, tmp_path: Path) -> None:
    rows = rows_of(("a", vectors(1, 30)), ("b", vectors(2, 3000)))
    with opened(tmp_path, gpu_lost="cpu") as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
        enroll(galleries, "a", vectors(1, 30))
        assert check(galleries, rows[:30], vectors(3)).device == "cuda:0"
        card.lost = ILLEGAL_ADDRESS
        enroll(galleries, "b", vectors(2, 3000))
        assert check(galleries, rows, vectors(3)).device == "cpu"
        assert galleries.index_info("g").device == "cpu"
        assert galleries.trouble() is None
        galleries.delete_subject("g", "a").result()
        galleries.compact("g")
        check(galleries, rows[30:], vectors(3))


def test_a_card_that_computes_nonsense_is_refused(card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "_compute", lambda args: None)
    with pytest.raises(DeviceUnavailable, match="it computes"):
        opened(Path("/nowhere"))


def test_a_card_without_room_for_scratch_memory_is_named(card: FakeCard, tmp_path: Path) -> None:
    card.capacity = SCRATCH - 1
    with pytest.raises(DeviceUnavailable, match="out of memory"):
        opened(tmp_path)
