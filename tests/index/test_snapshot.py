"""Snapshots are used when the store vouches for them, and never otherwise."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import IndexSettings, LocalGalleries, OpenProgress, StoreFull
from tests.index import asking
from tests.waiting import until

PROBES = np.random.default_rng(9).standard_normal((3, 4), dtype=np.float32)


def vectors(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, 4), dtype=np.float32)


def fill(data_dir: Path, seed: int = 0) -> None:
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i in range(30):
            galleries.enroll("g", f"s{i}", vectors(2, seed + i))
        galleries.delete_subject("g", "s3").result()


def only_snapshot(data_dir: Path) -> Path:
    (path,) = (data_dir / "snapshots").iterdir()
    return path


def opened(data_dir: Path) -> tuple[LocalGalleries, OpenProgress]:
    seen: list[OpenProgress] = []
    galleries = LocalGalleries.open(data_dir, progress=seen.append)
    assert seen[-1].done_encodings == seen[-1].total_encodings
    return galleries, seen[-1]


def test_a_snapshot_is_used_and_catches_up(tmp_path: Path) -> None:
    fill(tmp_path)
    galleries, progress = opened(tmp_path)
    assert (progress.source, progress.reason) == ("snapshot", "")
    galleries.enroll("g", "new", vectors(3, 99)).result()
    galleries.enroll("g", "s5", vectors(1, 98), on_existing="replace").result()
    galleries.delete_subject("g", "s6").result()
    galleries.set_threshold("g", 1.0).result()
    expected = asking.nearest(galleries, "g", PROBES, 40)
    crash(galleries)
    galleries, progress = opened(tmp_path)
    assert progress.source == "snapshot"
    assert asking.nearest(galleries, "g", PROBES, 40) == expected
    galleries.close()


def crash(galleries: LocalGalleries) -> None:
    """Closes without taking snapshots."""
    galleries._upkeep.close(until=0)
    galleries._store.close()
    galleries._pool.shutdown()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def older(path: Path) -> None:
    with LocalGalleries.open(path.parents[1]) as galleries:
        former = path.read_bytes()
        galleries.enroll("g", "more", vectors(1, 5)).result()
    newer = only_snapshot(path.parents[1])
    newer.write_bytes(former)


def foreign(path: Path) -> None:
    other = path.parents[1].with_name("other")
    fill(other, seed=1000)
    shutil.copy(only_snapshot(other), path)


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-4] + struct.pack("<f", 3e38)),
        older,
        foreign,
    ],
    ids=["missing", "empty", "truncated", "longer", "bit flipped", "huge", "older", "foreign"],
)
def test_a_bad_snapshot_is_rebuilt_with_a_reason(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    data_dir = tmp_path / "data"
    fill(data_dir)
    harm(only_snapshot(data_dir))
    galleries, progress = opened(data_dir)
    assert progress.source == "store"
    assert progress.reason
    assert asking.nearest(galleries, "g", PROBES, 1).encodings == galleries.get_gallery("g").encodings
    galleries.close()
    galleries, progress = opened(data_dir)  # and the next one is good again
    assert progress.source == "snapshot"
    galleries.close()


@pytest.mark.parametrize("moment", ["before the rename", "before the store vouches"])
def test_a_crash_while_taking_one_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    fill(tmp_path)
    former = only_snapshot(tmp_path)
    galleries, _ = opened(tmp_path)
    galleries.enroll("g", "new", vectors(1, 50)).result()
    expected = asking.nearest(galleries, "g", PROBES, 40)

    class Crash(BaseException):
        pass

    def boom(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        if moment == "before the rename":
            patch.setattr(os, "replace", boom)
            patch.setattr(os, "unlink", boom)  # a crash doesn't clear up
        else:
            patch.setattr(galleries._store, "write", boom)
        with pytest.raises(Crash):
            galleries.snapshot()
    assert len(list((tmp_path / "snapshots").iterdir())) == 2
    crash(galleries)
    galleries, progress = opened(tmp_path)
    assert progress.source == "snapshot"
    assert list((tmp_path / "snapshots").iterdir()) == [former]  # the stray one is gone
    assert asking.nearest(galleries, "g", PROBES, 40) == expected
    galleries.close()


def test_snapshots_are_taken_in_the_background(tmp_path: Path) -> None:
    with LocalGalleries.open(tmp_path, settings=IndexSettings(snapshot_every_encodings=50)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i in range(200):
            galleries.enroll("g", f"s{i}", vectors(1, i)).result()
        for i in range(150):
            galleries.delete_subject("g", f"s{i}").result()
        until(lambda: galleries.index_info("g").dead_rows <= 64 and list((tmp_path / "snapshots").glob("*.snap")))
        assert asking.nearest(galleries, "g", PROBES, 100).subjects == 50


def test_a_full_disk_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    galleries, _ = opened(tmp_path)
    galleries.enroll("g", "new", vectors(1)).result()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreFull):
            galleries.snapshot()
    galleries.snapshot()
    galleries.close()


def test_compaction_leaves_nothing_on_disk(tmp_path: Path) -> None:
    secret = np.array([[1.2345679, -9.876543, 3.1415927, 2.7182817]], np.float32)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i in range(50):
            galleries.enroll("g", f"s{i}", vectors(2, i))
        galleries.enroll("g", "gone for good", secret, labels={"name": "Nemo Nobody"}).result()
        galleries.snapshot()
        assert not found(tmp_path, secret.tobytes())  # it is encrypted
        assert not found(tmp_path, b"Nemo Nobody")
        assert found(tmp_path, b"gone for good")
        galleries.delete_subject("g", "gone for good").result()
        galleries.compact()
        assert not found(tmp_path, b"gone for good")


def found(folder: Path, needle: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()]


def test_deleting_a_gallery_takes_its_snapshot(tmp_path: Path) -> None:
    fill(tmp_path)
    galleries, _ = opened(tmp_path)
    galleries.delete_gallery("g").result()
    assert not list((tmp_path / "snapshots").iterdir())
    galleries.create_gallery("g", encoder_digest="e", dimension=2).result()
    galleries.close()
    galleries, _ = opened(tmp_path)
    assert galleries.get_gallery("g").active.dimension == 2
    assert asking.nearest(galleries, "g", np.ones((1, 2), np.float32), 1).candidates == ((),)
    galleries.close()
