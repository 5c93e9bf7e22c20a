"""Deleted encodings leave the disk without anybody asking, and an index that runs out of memory loses nothing."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_index import EncoderMismatch, IndexSettings, LocalGalleries, OutOfMemory, StoreBusy
from oneglance_index.search import flat, snapshot, upkeep
from oneglance_index.store.database import Store
from tests.index import asking
from tests.waiting import until


def holds(folder: Path, text: str) -> bool:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # others come and go meanwhile
            if text.encode() in path.read_bytes():
                return True
    return False


def test_the_background_takes_the_ids_of_who_was_deleted_off_the_disk(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
        for i, vector in enumerate(vectors):
            galleries.enroll("g", f"subject {i:03}", vector[None]).result()
        galleries.snapshot()
        assert holds(tmp_path, "subject 000")
        for i in range(299):
            galleries.delete_subject("g", f"subject {i:03}").result()
        until(lambda: not any(holds(tmp_path, f"subject {i:03}") for i in range(200)))
        assert holds(tmp_path, "subject 299")
        assert asking.nearest(galleries, "g", vectors[299:], 5).candidates[0][0].subject_id == "subject 299"


@pytest.mark.parametrize("failing", ["snapshot", "checkpoint"])
def test_what_failed_after_a_compaction_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    failed: list[bool] = []

    def once(real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: object) -> Any:
            if not failed:
                failed.append(True)
                raise StoreBusy(tmp_path, "a reader is in the way")
            return real(*arguments)

        return act

    monkeypatch.setattr(upkeep, "_RETRY_SECONDS", 0.01)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
        for i, vector in enumerate(np.eye(8, dtype=np.float32).repeat(20, axis=0)):
            galleries.enroll("g", f"subject {i:03}", vector[None]).result()
        galleries.snapshot()
        if failing == "snapshot":
            monkeypatch.setattr(snapshot, "write", once(snapshot.write))
        else:
            monkeypatch.setattr(Store, "checkpoint", once(Store.checkpoint))
        for i in range(80):
            galleries.delete_subject("g", f"subject {i:03}").result()
        until(lambda: failed)
        until(lambda: not any(holds(tmp_path, f"subject {i:03}") for i in range(10)))


def test_a_failure_in_the_background_is_told_with_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: flat.ExactIndex) -> None:
        raise MemoryError

    monkeypatch.setattr(flat.ExactIndex, "freeze", full)
    with LocalGalleries.open(tmp_path, settings=IndexSettings(snapshot_every_encodings=1)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
        galleries.enroll("g", "s", np.ones((1, 8), np.float32)).result()
        until(lambda: "upkeep of generation number 1 failed: MemoryError" in caplog.text)


def test_what_did_not_fit_into_memory_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.eye(8, dtype=np.float32)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
        for i in range(4):
            galleries.enroll("g", f"s{i}", vectors[i : i + 1]).result()
        asking.nearest(galleries, "g", vectors[:1], 1)
        galleries.enroll("g", "late", vectors[5:6]).result()
        galleries.delete_subject("g", "s0").result()

        def full(rows: object) -> None:
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr(flat, "squared_norms", full)
            with pytest.raises(OutOfMemory):
                asking.nearest(galleries, "g", vectors[5:6], 1)
        found = asking.nearest(galleries, "g", np.stack([vectors[5], vectors[0]]), 1)
        assert found.candidates[0][0].subject_id == "late"
        assert found.candidates[1][0].distance > 0
        assert (found.subjects, found.encodings) == (4, 4)


def test_a_write_is_done_though_its_index_has_no_memory_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.eye(8, dtype=np.float32)
    many = np.tile(vectors[:1], (4000, 1))
    with LocalGalleries.open(tmp_path, settings=IndexSettings(max_encodings_per_subject=4000)) as galleries:
        for gallery_id in ("g", "h"):
            galleries.create_gallery(gallery_id, encoder_digest="e", dimension=8).result()

        def full(rows: object) -> None:
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr(flat, "squared_norms", full)
            large = galleries.enroll("g", "large", many)
            small = galleries.enroll("h", "small", vectors[1:2])
            assert (large.result().revision, small.result().revision) == (1, 1)
        assert asking.nearest(galleries, "g", vectors[:1], 1).encodings == 4000
        assert asking.nearest(galleries, "h", vectors[1:2], 1).candidates[0][0].subject_id == "small"


def test_encodings_of_another_encoder_are_refused(tmp_path: Path) -> None:
    one = np.ones((1, 8), np.float32)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="mine", dimension=8).result()
        galleries.enroll("g", "s", one, encoder_digest="mine").result()
        with pytest.raises(EncoderMismatch):
            galleries.enroll("g", "s", one, encoder_digest="theirs").result()
        with pytest.raises(EncoderMismatch):
            asking.nearest(galleries, "g", one, 1, encoder_digest="theirs")
        with pytest.raises(EncoderMismatch):
            asking.matches(galleries, "g", one, 1.0, 1, encoder_digest="theirs")
        with pytest.raises(EncoderMismatch):
            galleries.verify("g", "s", one, encoder_digest="theirs")
        assert galleries.known("g").encodings == 0  # as of creation: sizes are not kept up
        galleries.set_threshold("g", 0.25).result()
        assert galleries.known("g").active.threshold == 0.25
        assert galleries.get_gallery("g").encodings == 1
