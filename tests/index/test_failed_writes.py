"""What fails, or is undone, in the middle of a write takes no key that is in use, and leaves none that was used."""

from __future__ import annotations

import gc
import os
import sqlite3
import weakref
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import IndexSettings, LocalGalleries, OutOfMemory, StoreDamaged, StoreIOError, SubjectNotFound
from oneglance_index.records import Vectors
from oneglance_index.store import gathering
from oneglance_index.store.ciphers import decrypt, encrypt
from oneglance_index.store.destroying import Destroyer
from oneglance_index.store.ledger import Ledger
from oneglance_index.store.mutations import Applied, VouchForSnapshot
from oneglance_index.store.queries import NewSnapshot
from oneglance_index.store.slots import Slots
from tests.index import asking
from tests.waiting import until

LABELS = {"a": "b"}
RNG = np.random.default_rng(0)


def some(count: int = 1) -> Vectors:
    return RNG.standard_normal((count, 8)).astype(np.float32)


def opened(data_dir: Path) -> LocalGalleries:
    galleries = LocalGalleries.open(data_dir, settings=IndexSettings(snapshot_every_encodings=10**6))
    if not galleries.list_galleries().galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
    return galleries


def test_a_snapshot_whose_former_keys_can_not_be_destroyed_at_once_costs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as galleries:
        for i in range(5):
            galleries.enroll("g", f"old{i}", some(), labels=LABELS).result()
        galleries.snapshot("g")
        galleries.enroll("g", "old5", some()).result()
        fails = [True]
        destroy = Destroyer._destroy

        def fail_once(self: Destroyer) -> None:
            if fails:
                fails.clear()
                raise StoreIOError(tmp_path, "it fails once")
            destroy(self)

        monkeypatch.setattr(Destroyer, "_destroy", fail_once)
        with pytest.raises(StoreIOError):
            galleries.snapshot("g")
        for i in range(3):
            galleries.enroll("g", f"new{i}", some(), labels=LABELS).result()
        galleries.delete_subject("g", "old0").result()
        for name in ("old1", "new0", "new1", "new2"):
            assert galleries.get_subject("g", name).labels == LABELS
    with opened(tmp_path) as galleries:
        assert galleries.get_subject("g", "new0").labels == LABELS


def test_what_was_encrypted_for_a_write_that_failed_can_not_be_decrypted_after_a_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def note(key: object, content: bytes, identity: bytes) -> bytes:
        sealed = encrypt(key, content, identity)  # type: ignore[arg-type]
        seen.append((sealed, identity))
        return sealed

    with opened(tmp_path) as galleries:
        galleries.enroll("g", "old", some()).result()
        writer = galleries._store._writer
        with monkeypatch.context() as patch:
            patch.setattr(gathering, "encrypt", note)
            patch.setattr(Ledger, "close", lambda *_, **__: (_ for _ in ()).throw(sqlite3.OperationalError))
            with pytest.raises(StoreIOError):
                galleries.enroll("g", "refused", some(3), labels=LABELS).result()
        assert seen
        galleries.delete_subject("g", "old").result()
        slots = writer._db.keys.of(1)
        keys = [slots.read(slot) for slot in range(slots._count)]
        assert all(decrypt(key, *one) is None for one in seen for key in keys)
        assert len(slots._free) == slots._count


def test_a_key_that_is_damaged_in_a_slot_that_was_destroyed_before_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path) as galleries:
        galleries.enroll("g", "a", some(), labels=LABELS).result()
        galleries.delete_subject("g", "a").result()
        galleries.enroll("g", "b", some(), labels=LABELS).result()
        with sqlite3.connect(tmp_path / "store.sqlite3") as db:
            ((slot,),) = db.execute("SELECT slot FROM subjects").fetchall()
        db.close()
        with (tmp_path / "keys" / "1-1.slots").open("r+b") as file:
            file.seek(32 * slot)
            file.write(os.urandom(32))
        with pytest.raises(StoreDamaged):
            galleries.get_subject("g", "b")
        with pytest.raises(StoreDamaged):
            galleries.add_negative("g", "b", some()[0]).result()
        with pytest.raises(StoreDamaged):
            galleries.enroll("g", "b", some(), on_existing="replace").result()
        galleries.enroll("g", "c", some(), labels=LABELS).result()


def test_an_older_snapshot_takes_the_place_of_no_newer_one(tmp_path: Path) -> None:
    with opened(tmp_path) as galleries:
        galleries.enroll("g", "a", some()).result()
        galleries.snapshot("g")
        older = NewSnapshot(0, "", 0, [], [], False)
        assert galleries._store.write(VouchForSnapshot(1, older)).result() is False
        with galleries._store.reading() as db:
            assert db.execute("SELECT revision FROM snapshots").fetchall()[0][0] > 0


def test_slots_that_are_cut_off_are_damage_though_there_is_a_snapshot(tmp_path: Path) -> None:
    with opened(tmp_path) as galleries:
        for i in range(66):
            galleries.enroll("g", f"s{i}", some()).result()
        galleries.snapshot("g")
    path = tmp_path / "keys" / "1-1.slots"
    content = path.read_bytes()
    os.truncate(path, 64 * 32)
    with pytest.raises(StoreDamaged, match="slots"):
        opened(tmp_path)
    path.write_bytes(content)
    opened(tmp_path).close()


def test_what_is_committed_is_in_answers_though_there_is_no_memory_for_what_was_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    vectors = some(2)
    with opened(tmp_path) as galleries:
        galleries.enroll("g", "s", some()).result()
        with monkeypatch.context() as patch:
            patch.setattr(Slots, "will_doom", full)
            undone = galleries.enroll("g", "s", vectors[:1], on_existing="replace")
            assert isinstance(undone.exception(), OutOfMemory)
            galleries.enroll("g", "new", vectors[1:]).result()
            assert asking.nearest(galleries, "g", vectors[1:], 1).candidates[0][0].subject_id == "new"
        assert galleries._store._writer._db.keys.journal._void
        galleries.enroll("g", "newer", some()).result()
        assert not galleries._store._writer._db.keys.journal._void


class CutOff:
    """A write that fails while it reads."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run(self, db: sqlite3.Connection) -> Applied[None]:
        cursor = db.execute("SELECT number FROM subjects")
        cursor.fetchone()
        raise self._error


@pytest.mark.parametrize("error", [SubjectNotFound("g", "s"), ZeroDivisionError()])
def test_what_a_failed_write_was_reading_is_in_nobodys_way(tmp_path: Path, error: Exception) -> None:
    with opened(tmp_path) as galleries:
        for i in range(3):
            galleries.enroll("g", f"s{i}", some()).result()
        kept = galleries._store.write(CutOff(error)).exception()
        galleries.enroll("g", "since", some()).result()
        galleries.compact()
        assert (tmp_path / "store.sqlite3-wal").stat().st_size == 0
        assert kept is error


def test_a_refusal_keeps_nothing_of_its_write(tmp_path: Path) -> None:
    with opened(tmp_path) as galleries:
        write = CutOff(SubjectNotFound("g", "s"))
        gone = weakref.ref(write)
        kept = galleries._store.write(write)
        assert isinstance(kept.exception(), SubjectNotFound)
        del write
        galleries.enroll("g", "since", some()).result()  # the writer goes on with another group
        gc.disable()
        try:
            until(lambda: gone() is None)
        finally:
            gc.enable()
