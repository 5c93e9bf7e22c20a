"""Rules of fusion that have templates, on a card: the same answers as on the CPU, and room for what they take."""

from pathlib import Path

import numpy as np
import pytest

from oneglance_index import Found, IndexSettings, LocalGalleries, Search
from oneglance_index.errors import OutOfMemory
from oneglance_index.records import OnExisting
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.gpu_scan import GpuScan
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


def test_on_a_full_card_a_deletion_that_needs_room_is_refused_and_searches_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A subject that loses one of two examples has a new template: a row more, for which there is no room."""
    card = FakeCard(monkeypatch, capacity=64 << 20)
    rng = np.random.default_rng(0)
    with opened(tmp_path, "cpu") as store:
        store.create_gallery("g", encoder_digest="e", dimension=D, fusion="mean").result()
        waiting = [store.enroll("g", f"s{i}", rng.standard_normal((2, D)).astype(np.float32)) for i in range(2048)]
        ids = [one.result().encoding_ids for one in waiting]
    probe = rng.standard_normal((1, D)).astype(np.float32)

    with opened(tmp_path, "cuda:0") as store:

        def check() -> None:
            (found,) = store.search_many("g", [Search(probe, "e", 1)])
            assert isinstance(found, Found)

        check()
        card.capacity = card.used
        refused = 0
        for i in range(300):
            try:
                store.delete_encoding("g", f"s{i}", ids[i][0]).result()
            except OutOfMemory:
                refused += 1
            check()
        assert refused
        assert store.get_gallery("g").encodings == 4096 - 300 + refused
        store.delete_subject("g", "s2000").result()  # that needs none
        check()


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
        asked = 0

        def reserve(scan: GpuScan, rows: int) -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise MemoryError  # the copy finds no room,
            raise scan._gpu.card.give_up("an illegal memory access")  # and then the card is lost

        monkeypatch.setattr(GpuScan, "reserve", reserve)
        store.compact("g")
        assert asked == 2
        (found,) = store.search_many("g", [Search(vectors, "e", 1)])
        assert isinstance(found, Found)
        assert found.device == "cpu"
        assert [near[0].subject_id for near in found.candidates[200:]] == [f"s{i}" for i in range(200, 300)]
        assert {near[0].subject_id for near in found.candidates} <= {f"s{i}" for i in range(200, 300)}
