"""Rules of fusion that have templates, on a card: the same answers as on the CPU, and room for what they take."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from oneglance_core.fusion import template
from oneglance_index import Found, IndexSettings, LocalGalleries, Search
from oneglance_index.errors import OutOfMemory
from oneglance_index.records import OnExisting, Vectors
from oneglance_index.search import flat, gpu_scan
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.fused import FusedIndex
from oneglance_index.search.gpu_scan import GpuScan
from oneglance_index.search.rows import RowArrays
from tests.fake_card import FakeCard

D = 8
SMALL = IndexSettings(gpu_temp_memory_bytes=1 << 20)


def opened(path: Path, device: str) -> LocalGalleries:
    return LocalGalleries.open(path, device=device, settings=SMALL)


class Pair:
    """The same gallery on a fake card and on the CPU; every write goes to both."""

    def __init__(self, path: Path, fusion: str) -> None:
        self.path = path
        self.both = [opened(path / device, device) for device in ("cuda:0", "cpu")]
        for store in self.both:
            store.create_gallery("g", encoder_digest="e", dimension=D, fusion=fusion).result()

    def reopen_card(self) -> None:
        self.both[0].close()
        self.both[0] = opened(self.path / "cuda:0", "cuda:0")

    def compare(self, rng: np.random.Generator) -> None:
        probes = rng.standard_normal((5, D)).astype(np.float32)
        for asked in (
            [Search(probes, "e", 5)],
            [Search(probes, "e", 3, 2.0, 50)],
            [Search(probes[:1], "e", 1), Search(probes, "e", 20, 4.0, 5)],
        ):
            for ours, theirs in zip(*(store.search_many("g", asked) for store in self.both), strict=True):
                assert isinstance(ours, Found)
                assert isinstance(theirs, Found)
                assert ours.device == "cuda:0"
                for name in ("candidates", "matches", "truncated", "subjects", "encodings", "revision"):
                    assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("fusion", ["nearest", "mean", "margin"])
def test_a_card_answers_as_the_cpu_does_by_every_rule(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fusion: str
) -> None:
    FakeCard(monkeypatch, capacity=64 << 20)
    rng = np.random.default_rng(0)
    pair = Pair(tmp_path, fusion)
    ids: dict[str, list[str]] = {}
    for step in range(300):
        kind, subjects = rng.random(), list(ids)
        if kind < 0.55 or not subjects:
            subject = f"s{rng.integers(100)}"
            vectors = rng.standard_normal((int(rng.integers(1, 4)), D)).astype(np.float32)
            how: OnExisting = "replace" if rng.random() < 0.3 else "add"
            ours, theirs = (store.enroll("g", subject, vectors, on_existing=how).result() for store in pair.both)
            assert ours.encoding_ids == theirs.encoding_ids
            ids[subject] = [*(ids.get(subject, []) if how == "add" else []), *ours.encoding_ids]
        elif kind < 0.8:
            subject = subjects[rng.integers(len(subjects))]
            encoding = ids[subject].pop(int(rng.integers(len(ids[subject]))))
            for store in pair.both:
                store.delete_encoding("g", subject, encoding).result()
            if not ids[subject]:
                del ids[subject]
        else:
            subject = subjects[rng.integers(len(subjects))]
            del ids[subject]
            for store in pair.both:
                store.delete_subject("g", subject).result()
        if step % 50 == 49 and ids:
            pair.compare(rng)
        if step == 150:
            for store in pair.both:
                store.compact("g")
            pair.reopen_card()
            pair.compare(rng)
    for other in ("mean", "margin", "nearest"):
        for store in pair.both:
            store.set_fusion("g", other).result()
        pair.compare(rng)
    for store in pair.both:
        store.close()


@pytest.mark.parametrize("device", ["cuda:0", "cpu"])
def test_no_deletion_is_refused_for_want_of_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str
) -> None:
    """A subject that loses one of two examples has a new template: it takes the place of the old one."""
    card = FakeCard(monkeypatch, capacity=64 << 20)
    rng = np.random.default_rng(0)
    left = rng.standard_normal((2048, D)).astype(np.float32)
    with opened(tmp_path, "cpu") as store:
        store.create_gallery("g", encoder_digest="e", dimension=D, fusion="mean").result()
        lost = rng.standard_normal((2048, D)).astype(np.float32)
        waiting = [store.enroll("g", f"s{i}", np.stack(both)) for i, both in enumerate(zip(lost, left, strict=True))]
        ids = [one.result().encoding_ids for one in waiting]

    def full(*_: object) -> None:
        raise MemoryError

    with opened(tmp_path, device) as store:
        store.search_many("g", [Search(left[:1], "e", 1)])
        card.capacity = card.used
        for kind in (ExactIndex, FusedIndex):
            monkeypatch.setattr(kind, "wants_compaction", lambda self: False)
        with monkeypatch.context() as patched:
            patched.setattr(RowArrays, "empty", full)
            for start in range(0, 300, 50):
                for i in range(start, start + 50):
                    store.delete_encoding("g", f"s{i}", ids[i][0]).result()
                (found,) = store.search_many("g", [Search(left[: start + 50], "e", 1)])
                assert isinstance(found, Found)
                nearest = [(near[0].subject_id, near[0].distance) for near in found.candidates]
                assert nearest == [(f"s{i}", 0.0) for i in range(start + 50)]
            refused = [store.enroll("g", f"new{i}", lost[:1]).exception() for i in range(100)]
            assert isinstance(refused[-1], OutOfMemory)
            store.delete_subject("g", "s2000").result()
        assert store.get_gallery("g").encodings == 4096 - 300 - 2 + refused.count(None)
        info = store.index_info("g")
        # On the device the template of the subject that is gone; in memory its encodings, and those that were deleted.
        assert info.dead_rows == 1 + 2 + 300


def test_a_card_needs_room_for_templates_not_for_examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeCard(monkeypatch, capacity=12 << 20)
    rng = np.random.default_rng(0)
    with opened(tmp_path, "cpu") as store:
        store.create_gallery("g", encoder_digest="e", dimension=128, fusion="mean").result()
        for i in range(400):
            store.enroll("g", f"s{i % 40}", rng.standard_normal((64, 128)).astype(np.float32)).result()
    with opened(tmp_path, "cuda:0") as store:
        (found,) = store.search_many("g", [Search(rng.standard_normal((1, 128)).astype(np.float32), "e", 1)])
        assert isinstance(found, Found)


def test_more_examples_of_a_known_subject_take_no_room_on_a_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_scan, "_LEAST_ROWS", 64)
    card = FakeCard(monkeypatch, capacity=64 << 20)
    vectors = np.random.default_rng(0).standard_normal((3000, D)).astype(np.float32)
    with opened(tmp_path, "cuda:0") as store:
        store.create_gallery("g", encoder_digest="e", dimension=D, fusion="mean").result()
        store.enroll("g", "known", vectors[:1]).result()
        card.capacity = card.used
        for i in range(0, 3000, 500):
            store.enroll("g", "known", vectors[i : i + 500], on_existing="replace").result()
        refused = None
        for i in range(3000):
            refused = store.enroll("g", f"new{i}", vectors[:1]).exception()
            if refused is not None:
                break
        assert isinstance(refused, OutOfMemory)
        store.enroll("g", "known", vectors[:1]).result()
        known = template(np.concatenate([vectors[2500:], vectors[:1]]))
        (found,) = store.search_many("g", [Search(known[None], "e", 1)])
        assert isinstance(found, Found)
        assert (found.candidates[0][0].subject_id, found.candidates[0][0].distance) == ("known", 0.0)


@pytest.mark.parametrize("fusion", ["nearest", "mean"])
def test_a_card_lost_while_an_index_is_compacted_leaves_it_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fusion: str
) -> None:
    FakeCard(monkeypatch, capacity=64 << 20)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, D)).astype(np.float32)
    settings = IndexSettings(gpu_temp_memory_bytes=1 << 20, gpu_lost="cpu")
    with LocalGalleries.open(tmp_path, device="cuda:0", settings=settings) as store:
        store.create_gallery("g", encoder_digest="e", dimension=D, fusion=fusion).result()
        for i, vector in enumerate(vectors):
            store.enroll("g", f"s{i}", vector[None]).result()
        store.search_many("g", [Search(vectors[:1], "e", 1)])
        monkeypatch.setattr(ExactIndex, "wants_compaction", lambda self: False)  # we say when
        for i in range(200):
            store.delete_subject("g", f"s{i}").result()
        written = 0

        def rewrite(scan: GpuScan, matrix: Vectors, norms: Vectors, rows: Iterable[int]) -> None:
            nonlocal written
            written += 1
            if written == 2:
                raise scan._gpu.card.give_up("an illegal memory access")
            written_on(scan, matrix, norms, rows)

        written_on = GpuScan.rewrite
        monkeypatch.setattr(GpuScan, "rewrite", rewrite)
        monkeypatch.setattr(flat, "_STEP_BYTES", 4 * D * 30)
        store.compact("g")
        assert written == 2
        (found,) = store.search_many("g", [Search(vectors, "e", 1)])
        assert isinstance(found, Found)
        assert found.device == "cpu"
        assert store.index_info("g").dead_rows == 0
        assert [near[0].subject_id for near in found.candidates[200:]] == [f"s{i}" for i in range(200, 300)]
        assert {near[0].subject_id for near in found.candidates} <= {f"s{i}" for i in range(200, 300)}


@pytest.mark.parametrize("after", range(1, 10))
def test_templates_that_change_during_a_compaction(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: int) -> None:
    """It moves the rows while searches and changes go on: what got a new value meanwhile has it afterwards."""
    FakeCard(monkeypatch, capacity=64 << 20)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((100, D)).astype(np.float32)
    monkeypatch.setattr(flat, "_STEP_BYTES", 4 * D * 10)
    for device in ("cuda:0", "cpu"):
        with opened(tmp_path / device, device) as store:
            store.create_gallery("g", encoder_digest="e", dimension=D, fusion="mean").result()
            monkeypatch.setattr(ExactIndex, "wants_compaction", lambda self: False)  # we say when
            for i, vector in enumerate(vectors):
                store.enroll("g", f"s{i}", vector[None]).result()
            for i in range(0, 100, 3):
                store.delete_subject("g", f"s{i}").result()
            kept = [i for i in range(100) if i % 3]
            steps = 0

            def meanwhile(store: LocalGalleries = store) -> None:
                nonlocal steps
                steps += 1
                if steps != after:
                    return
                store.enroll("g", "s1", -vectors[1:2], on_existing="replace").result()
                store.enroll("g", "s71", -vectors[71:72], on_existing="replace").result()
                store.search_many("g", [Search(vectors[:1], "e", 1)])  # which works it off
                store.enroll("g", "s2", -vectors[2:3], on_existing="replace").result()
                store.enroll("g", "late", 9 * vectors[:1]).result()
                store.delete_subject("g", "s4").result()
                store.delete_subject("g", "s86").result()

            with monkeypatch.context() as patched:
                patched.setattr(flat, "pause", meanwhile)
                store.compact("g")
            assert steps >= 9
            now = vectors.copy()
            now[[1, 2, 71]] *= -1
            (found,) = store.search_many("g", [Search(now[kept], "e", 1)])
            assert isinstance(found, Found)
            nearest = {i: near[0] for i, near in zip(kept, found.candidates, strict=True)}
            assert nearest.pop(4).distance > 0
            assert nearest.pop(86).distance > 0
            assert all((near.subject_id, near.distance) == (f"s{i}", 0.0) for i, near in nearest.items())
            assert store.index_info("g").dead_rows <= 2  # s4 and s86
            store.compact("g")
            assert store.search_many("g", [Search(now[kept[3:]], "e", 1)])[0]
            assert store.index_info("g").dead_rows == 0
