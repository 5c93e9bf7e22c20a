"""Snapshots are used when the store vouches for them, and never otherwise."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from oneglance_index import Found, IndexSettings, LocalGalleries, OpenProgress, Search, StoreFull
from oneglance_index.search import snapshot
from oneglance_index.search.snapshot import SnapshotUnusable
from oneglance_index.store import queries
from oneglance_index.store.ciphers import OVERHEAD_BYTES, block_identity, decrypt, keys_of, slots_of
from oneglance_index.store.queries import NewSnapshot
from oneglance_index.store.slots import SLOT_BYTES
from tests.index import asking
from tests.waiting import until

PROBES = np.random.default_rng(9).standard_normal((3, 4), dtype=np.float32)


def vectors(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, 4), dtype=np.float32)


@pytest.fixture(params=["nearest", "mean"])
def fusion(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(data_dir: Path, fusion: str = "nearest", seed: int = 0) -> None:
    """Subjects with one and with two examples."""
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, fusion=fusion).result()
        for i in range(30):
            galleries.enroll("g", f"s{i}", vectors(1 + i % 2, seed + i))
        galleries.delete_subject("g", "s3").result()


def only_snapshot(data_dir: Path) -> Path:
    (path,) = (data_dir / "snapshots").iterdir()
    return path


def opened(data_dir: Path) -> tuple[LocalGalleries, OpenProgress]:
    seen: list[OpenProgress] = []
    galleries = LocalGalleries.open(data_dir, progress=seen.append)
    assert seen[-1].done_encodings == seen[-1].total_encodings
    return galleries, seen[-1]


@pytest.mark.parametrize("block_bytes", [7 * 16, 8 << 20])
def test_a_snapshot_is_used_and_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusion: str, block_bytes: int
) -> None:
    monkeypatch.setattr(snapshot, "_BLOCK_BYTES", block_bytes)
    fill(tmp_path, fusion)
    galleries, progress = opened(tmp_path)
    assert (progress.source, progress.reason) == ("snapshot", "")
    galleries.enroll("g", "new", vectors(3, 99)).result()
    for i in range(4, 6):  # of one, and of two
        galleries.enroll("g", f"s{i}", vectors(1, 98), on_existing="replace").result()
        galleries.enroll("g", f"s{i + 10}", vectors(2, 97)).result()
        galleries.delete_subject("g", f"s{i + 4}").result()
        galleries.enroll("g", f"s{i + 4}", vectors(2, 96)).result()
    galleries.delete_encoding("g", "s15", galleries.get_subject("g", "s15").encodings[0].id).result()
    galleries.delete_subject("g", "s6").result()
    galleries.set_threshold("g", 1.0).result()
    expected = everything(galleries)
    crash(galleries)
    galleries, progress = opened(tmp_path)
    assert progress.source == "snapshot"
    assert everything(galleries) == expected
    galleries.enroll("g", "s16", vectors(1, 95)).result()
    expected = everything(galleries)
    crash(galleries)
    only_snapshot(tmp_path).unlink()
    galleries, progress = opened(tmp_path)
    assert progress.source == "store"
    assert everything(galleries) == expected
    galleries.close()


def everything(galleries: LocalGalleries) -> tuple[Found, list[list[tuple[str, float]]]]:
    """All subjects by the rule of fusion, and by single encodings."""
    by_rule = asking.nearest(galleries, "g", PROBES, 40)
    singly = asking.ask(galleries, "g", Search(PROBES, "e", 40, singly=True))
    return by_rule, [[(one.subject_id, one.distance) for one in near] for near in singly.candidates]


@pytest.mark.parametrize("changes", [("mean",), ("mean", "nearest"), ("margin", "mean")])
def test_one_taken_while_the_rule_of_fusion_changes_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Sequence[str]
) -> None:
    """The store vouches for it after the change; it was made before."""
    fill(tmp_path, "nearest")
    galleries, _ = opened(tmp_path)
    galleries.delete_subject("g", "s5").result()
    write = snapshot.write

    def written(*args: Any) -> NewSnapshot:
        record = write(*args)
        for fusion in changes:
            galleries.set_fusion("g", fusion)
        galleries.enroll("g", "s6", vectors(1, 7)).exception()  # may be refused while the index is made anew
        return record

    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "write", written)
        galleries.snapshot("g")
    galleries.set_fusion("g", changes[-1]).result()
    until(lambda: galleries.trouble() is None)
    galleries.delete_subject("g", "s7").result()
    expected = everything(galleries)
    crash(galleries)
    galleries, _ = opened(tmp_path)
    assert everything(galleries) == expected
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


def scramble(path: Path) -> None:
    """Other numbers of encodings and subjects."""
    content = bytearray(path.read_bytes())
    numbers = np.random.default_rng(0).integers(-(2**62), 2**62, 2 * 43, np.int64)
    tail = len(content) - numbers.nbytes - 8  # of one block
    content[tail : tail + numbers.nbytes] = numbers.tobytes()
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
        scramble,
        older,
        foreign,
    ],
    ids=["missing", "empty", "truncated", "longer", "bit flipped", "huge", "scrambled", "older", "foreign"],
)
def test_a_bad_snapshot_is_rebuilt_with_a_reason(tmp_path: Path, fusion: str, harm: Callable[[Path], object]) -> None:
    data_dir = tmp_path / "data"
    fill(data_dir, fusion)
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
def test_a_crash_while_taking_one_is_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusion: str, moment: str
) -> None:
    fill(tmp_path, fusion)
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


def test_snapshots_are_taken_in_the_background(tmp_path: Path, fusion: str) -> None:
    with LocalGalleries.open(tmp_path, settings=IndexSettings(snapshot_every_encodings=50)) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, fusion=fusion).result()
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


@pytest.mark.parametrize("way", ["deleted", "replaced"])
def test_compaction_leaves_nothing_on_disk(tmp_path: Path, fusion: str, way: str) -> None:
    secret = np.array([[1.2345679, -9.876543, 3.1415927, 2.7182817]], np.float32)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, fusion=fusion).result()
        for i in range(50):
            galleries.enroll("g", f"s{i}", vectors(2, i))
        galleries.enroll("g", "gone for good", secret, labels={"name": "Nemo Nobody"}).result()
        galleries.snapshot()
        assert not found(tmp_path, secret.tobytes())  # it is encrypted
        assert not found(tmp_path, b"Nemo Nobody")
        assert in_snapshot(galleries, secret[0])
        if way == "deleted":
            galleries.delete_subject("g", "gone for good").result()
        else:
            galleries.enroll("g", "gone for good", vectors(1), labels={}, on_existing="replace").result()
        assert not in_snapshot(galleries, secret[0])
        galleries.compact()
        assert not found(tmp_path, b"Nemo Nobody")
        assert bool(found(tmp_path, b"gone for good")) == (way == "replaced")


def in_snapshot(galleries: LocalGalleries, vector: NDArray[np.float32]) -> bool:
    """Whether it can be decrypted from there, by all keys that there are."""
    with galleries._store.reading() as db:
        at = queries.place(db, "g")
        record = queries.snapshot_record(db, at.generation)
        assert record is not None
        path = snapshot.path_of(galleries._store.path.parent, at.generation, record.revision)
        parts = snapshot.read(path, record, 4, slots_of(db, at.number), at.generation, keys_of(db).snapshot_digest)
        return any(part.rows is not None and (part.rows.vectors == vector).all(axis=1).any() for part in parts)


def test_what_is_deleted_while_one_is_written_is_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusion: str
) -> None:
    fill(tmp_path, fusion)
    galleries, _ = opened(tmp_path)
    galleries.enroll("g", "late", vectors(1, 77)).result()
    write = snapshot.write

    def written(path: Path, *rest: Any) -> NewSnapshot:
        record = write(path, *rest)
        galleries.delete_subject("g", "late").result()
        assert not has_a_key(galleries, path)
        return record

    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "write", written)
        galleries.snapshot("g")
    assert not has_a_key(galleries, only_snapshot(tmp_path))
    assert not in_snapshot(galleries, vectors(1, 77)[0])
    expected = everything(galleries)
    crash(galleries)
    galleries, progress = opened(tmp_path)
    assert progress.source == "snapshot"
    assert everything(galleries) == expected
    galleries.close()


def has_a_key(galleries: LocalGalleries, path: Path) -> bool:
    """Whether any key of the gallery fits the one block of a snapshot."""
    keys = galleries._store.keys.of(1).all()
    content = path.read_bytes()
    encodings = int.from_bytes(content[32:40], "little")
    block = content[56 : 56 + OVERHEAD_BYTES + 16 * encodings]
    return any(
        decrypt(AESGCM(keys[at : at + SLOT_BYTES]), block, block_identity(1, 1)) is not None
        for at in range(0, len(keys), SLOT_BYTES)
    )


def test_what_was_replaced_leaves_the_snapshot_at_once(tmp_path: Path, fusion: str) -> None:
    """Where a subject's only example is replaced, too. What else its block had is in the next one."""
    old = vectors(100, 1)
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4, fusion=fusion).result()
        for i, vector in enumerate(old):
            galleries.enroll("g", f"s{i}", vector[None]).result()
        galleries.snapshot()
        assert in_snapshot(galleries, old[0])
        galleries.enroll("g", "s0", vectors(1, 10), on_existing="replace").result()
        assert not in_snapshot(galleries, old[0])
        assert not in_snapshot(galleries, old[1])
        for i in range(1, 65):
            galleries.enroll("g", f"s{i}", vectors(1, 10 + i), on_existing="replace").result()
        until(lambda: soon_in_snapshot(galleries, old[99]))


def soon_in_snapshot(galleries: LocalGalleries, vector: NDArray[np.float32]) -> bool:
    """As ``in_snapshot``, where one that is just being replaced is none."""
    with contextlib.suppress(SnapshotUnusable):
        return in_snapshot(galleries, vector)
    return False


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
