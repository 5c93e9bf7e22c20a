"""Slots of keys: none that a row names is ever free, whatever fails, and in whatever order."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from oneglance_index.errors import StoreDamaged, StoreError, StoreFull, StoreIOError
from oneglance_index.store import disk
from oneglance_index.store.ciphers import decrypt, encrypt
from oneglance_index.store.destroying import Destroyer
from oneglance_index.store.keys import Keys
from oneglance_index.store.rekeying import Destroyed
from oneglance_index.store.slots import SLOT_BYTES, KeyDestroyed, Slots
from tests.waiting import until

MASTER = bytes(32)
GALLERIES = (1, 2)


class FailingDisk:
    """Fails the n-th call of those that write and sync from now on, once."""

    def __init__(self) -> None:
        self.left: int | None = None
        self._real = {name: getattr(os, name) for name in ("pwrite", "fdatasync", "fsync", "open")}

    def _fail(self, name: str) -> Callable[..., object]:
        def call(*arguments: object, **others: object) -> object:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    self.left = None
                    raise OSError(errno.EIO, "the disk failed")
            return self._real[name](*arguments, **others)

        return call

    def install(self) -> None:
        for name in self._real:
            setattr(os, name, self._fail(name))

    def remove(self) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)


class SlotsMachine(RuleBasedStateMachine):
    """Rows that name slots, as a database that is all or nothing would have them, against the keys."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.disk = FailingDisk()
        self.rows: dict[int, dict[int, tuple[bytes, AESGCM]]] = {gallery: {} for gallery in GALLERIES}
        # By savepoint of the transaction under way.
        self.pending: list[tuple[int, list[tuple[int, int, bytes, AESGCM]]]] = []
        self.masters = [MASTER]
        self.checked = True  # since the last start
        self.gone: list[tuple[int, bytes]] = []  # ciphertexts that nobody may decrypt once all that is doomed is gone

    @initialize()
    def create(self) -> None:
        self.keys = Keys(self.folder, [MASTER], create=True)
        for gallery in GALLERIES:
            self.keys.make(gallery)
        self.disk.install()

    def teardown(self) -> None:
        self.disk.remove()
        self.keys.close()
        shutil.rmtree(self.folder)

    @rule(calls=st.integers(0, 8))
    def fail_soon(self, calls: int) -> None:
        self.disk.left = calls

    @rule(gallery=st.sampled_from(GALLERIES), count=st.integers(1, 70), put=st.booleans())
    def take(self, gallery: int, count: int, put: bool) -> None:
        slots, mark = self.keys.of(gallery), self.keys.journal.mark()
        try:
            if put:
                contents = [os.urandom(SLOT_BYTES) for _ in range(count)]
                taken = [*zip(slots.put(contents), map(AESGCM, contents), strict=True)]
            else:
                taken = slots.take_some(count)
        except StoreError:
            self.keys.journal.roll_back(mark)
            return
        self.pending.append((mark, [(gallery, slot, encrypt(key, b"row", b""), key) for slot, key in taken]))

    @rule()
    def commit(self) -> None:
        for _, taken in self.pending:
            for gallery, slot, row, key in taken:
                assert slot not in self.rows[gallery], "a slot that a row names was given away"
                self.rows[gallery][slot] = row, key
        self.pending.clear()
        self.keys.journal.commit()

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        if self.pending:
            place = data.draw(st.integers(0, len(self.pending) - 1))
            self.keys.journal.roll_back(self.pending[place][0])
            self.forget(self.pending[place:])
            del self.pending[place:]

    def forget(self, pending: list[tuple[int, list[tuple[int, int, bytes, AESGCM]]]]) -> None:
        self.gone += [(gallery, row) for _, taken in pending for gallery, _, row, _ in taken]

    @rule(gallery=st.sampled_from(GALLERIES), data=st.data())
    def delete(self, gallery: int, data: st.DataObject) -> None:
        if self.rows[gallery]:
            slot = data.draw(st.sampled_from(sorted(self.rows[gallery])))
            row, _ = self.rows[gallery].pop(slot)
            self.gone.append((gallery, row))
            self.keys.of(gallery).doom([slot])

    @rule()
    def destroy(self) -> None:
        if not self.keys.journal._void and not self.keys.journal._taken:
            try:
                with self.keys.changing():
                    self.keys.destroy_doomed()
            except StoreError:
                return
            if self.checked:
                self.nothing_gone_is_left()

    @rule(gallery=st.sampled_from(GALLERIES))
    def rotate(self, gallery: int) -> None:
        try:
            with self.keys.changing():
                self.keys.rotate(gallery)
        except StoreError:
            pass

    @rule()
    def rotate_master(self) -> None:
        master = os.urandom(32)
        try:
            with self.keys.changing():
                self.keys.rotate_master(master)
        except StoreError:
            pass
        self.masters.append(master)

    @rule()
    def restart(self) -> None:
        self.disk.left = None
        self.forget(self.pending)
        self.pending.clear()
        former, self.keys = self.keys, Keys(self.folder, self.masters[::-1])
        former.close()
        self.checked = False
        for gallery in GALLERIES:
            self.keys.of(gallery)

    @rule()
    def check_start(self) -> None:
        """What a start leaves for later: rows may have come and gone since. `named`: of a state since."""
        if self.checked:
            return
        named = {gallery: np.array(sorted(self.rows[gallery]), np.int64) for gallery in GALLERIES}
        try:
            with self.keys.changing():
                self.keys.keep_only(GALLERIES, max(GALLERIES))
                for gallery in GALLERIES:
                    self.keys.of(gallery).destroy_others(named[gallery])
        except StoreError:
            return
        self.checked = True
        if not self.keys.journal._void and not self.keys.journal._taken:
            self.destroy()

    def nothing_gone_is_left(self) -> None:
        left, self.disk.left = self.disk.left, None
        for gallery in GALLERIES:
            content = self.keys.of(gallery).all()
            keys = [AESGCM(content[at : at + SLOT_BYTES]) for at in range(0, len(content), SLOT_BYTES)]
            for whose, row in self.gone[-3:]:
                if whose == gallery:
                    assert all(decrypt(key, row, b"") is None for key in keys)
        self.disk.left = left

    @invariant()
    def each_row_has_its_key(self) -> None:
        left, self.disk.left = self.disk.left, None  # the disk fails the calls under test, not this look
        for gallery, rows in self.rows.items():
            slots = self.keys.of(gallery)
            assert len(set(slots._free)) == len(slots._free)
            assert not set(slots._free) & (rows.keys() | slots._doomed)
            assert {slot for slot, used in enumerate(slots._used) if not used} == set(slots._free)
            for slot, (row, _) in [*rows.items()][:5]:
                assert decrypt(slots.read(slot), row, b"") == b"row"
        self.disk.left = left


SlotsMachine.TestCase.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)
test_slots_by_any_history = SlotsMachine.TestCase


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    keys = Keys(tmp_path, [MASTER], create=True)
    for gallery in GALLERIES:
        keys.make(gallery)
    yield keys
    keys.close()


def destroy(destroyer: Destroyer, *destroyed: Destroyed) -> Exception | None:
    answers: list[Exception | None] = []
    done = threading.Event()

    def settle(error: Exception | None) -> None:
        answers.append(error)
        done.set()

    destroyer.submit(destroyed, settle)
    until(done.is_set)
    return answers[0]


def test_a_destruction_that_failed_is_tried_again_and_takes_no_slot_in_use(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = keys.of(1), keys.of(2)
    first, _ = one.take()
    second, _ = two.take()
    fails = [True]
    renew = Slots._renew

    def fail(self: Slots, slots: np.ndarray, alone: bool) -> None:
        if self is two and fails:
            raise StoreIOError(two._path, "it fails")
        renew(self, slots, alone)

    monkeypatch.setattr(Slots, "_renew", fail)
    destroyer = Destroyer(keys)
    assert isinstance(destroy(destroyer, Destroyed(1, (first,)), Destroyed(2, (second,))), StoreIOError)
    assert destroyer.trouble()
    again, key = one.take()
    assert again == first
    row = encrypt(key, b"row", b"")
    fails.clear()
    until(lambda: destroyer.trouble() is None)  # with nobody asking
    assert decrypt(one.read(again), row, b"") == b"row"
    assert again not in one._free
    assert sorted(two._free).count(second) == 1
    destroyer.close(None)


def test_the_destroyer_outlives_what_is_no_error_of_the_disk(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Keys, "destroy_doomed", lambda self: (_ for _ in ()).throw(MemoryError))
        destroyer = Destroyer(keys)
        error = destroy(destroyer)
        assert error is not None
        assert "memory" in str(error)
        assert destroyer.trouble()
    until(lambda: destroyer.trouble() is None)
    destroyer.close(None)
    assert destroyer.trouble() == "the thread that destroys keys has ended"


def test_a_gallery_that_can_not_be_destroyed_keeps_nothing_else_from_it(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, key = keys.of(1).take()
    row = encrypt(key, b"row", b"")

    def fail(_: Keys, gallery: int) -> None:
        raise StoreIOError(keys.folder, f"gallery {gallery} stays")

    with monkeypatch.context() as patch:
        patch.setattr(Keys, "destroy", fail)
        destroyer = Destroyer(keys)
        assert isinstance(destroy(destroyer, Destroyed(1, (slot,)), Destroyed(2, None)), StoreIOError)
        assert decrypt(keys.of(1).read(slot), row, b"") is None
    until(lambda: destroyer.trouble() is None)
    destroyer.close(None)
    with pytest.raises(KeyDestroyed):
        keys.of(2)


def test_a_short_write_is_noticed(keys: Keys) -> None:
    slots = keys.of(1)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, former[1]))
        with pytest.raises((StoreFull, StoreIOError)):
            slots.take_some(60)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)
    taken = slots.take_some(60)
    assert slots._path.stat().st_size // SLOT_BYTES > max(slot for slot, _ in taken)


def test_a_write_that_takes_nothing_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="No space") as caught:
        disk.write_at(file.fileno(), b"it", 0)
    assert isinstance(disk.disk_error(caught.value, tmp_path), StoreFull)


@pytest.mark.parametrize("named", [[64], [-1], [3, 5, 3]])
def test_rows_that_name_slots_that_can_not_be_theirs_are_damage(keys: Keys, named: list[int]) -> None:
    slots = keys.of(1)
    slots.take_some(64)
    before = slots.all()
    with pytest.raises(StoreDamaged, match="slot"):
        slots.destroy_others(np.array(named, np.int64))
    assert slots.all() == before


def test_who_waits_while_the_file_of_keys_is_replaced_waits_for_the_new_one(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, inside, out = threading.Event(), threading.Event(), threading.Event()
    flock = fcntl.flock

    def told(descriptor: int, kind: int) -> None:
        waiting.set()
        flock(descriptor, kind)

    def wait() -> None:
        with keys.changing():
            inside.set()
            out.wait()

    waiter = threading.Thread(target=wait)
    with keys.changing():
        monkeypatch.setattr(fcntl, "flock", told)
        waiter.start()
        until(waiting.is_set)
        monkeypatch.undo()
        keys.rotate_master(os.urandom(32))
    until(inside.is_set)
    own = os.open(keys.folder / "galleries", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(own)
    out.set()
    waiter.join()


def test_a_rotation_that_fails_leaves_the_files_that_count(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = keys.of(1)
    slot, key = slots.take()
    row = encrypt(key, b"row", b"")
    masters = [MASTER]
    for name in ("open", "pwrite", "fdatasync", "fsync"):
        other = os.urandom(32)

        def fail(*_: object, **__: object) -> object:
            raise OSError(errno.EMFILE, "it fails")

        with keys.changing(), monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(StoreIOError):
                keys.rotate(1)
            with pytest.raises(StoreIOError):
                keys.rotate_master(other)
        assert disk.is_at(keys._file, keys._path), name
        with slots._using() as file:
            assert disk.is_at(file, slots._path), name
        assert decrypt(slots.read(slot), row, b"") == b"row"
        shutil.copytree(keys.folder, tmp_path / name / "keys")  # what a start finds
        again = Keys(tmp_path / name, [other, *masters])
        assert decrypt(again.of(1).read(slot), row, b"") == b"row"
        again.close()
        masters.append(other)


def test_the_records_of_all_former_galleries_go_with_one_write(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    for gallery in range(3, 9):
        keys.make(gallery)
    before = (keys.folder / "galleries").read_bytes()
    calls: list[str] = []

    def counted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*arguments: object) -> object:
            calls.append(name)
            return real(*arguments)

        return call

    for name in ("pwrite", "fdatasync"):
        monkeypatch.setattr(os, name, counted(name))
    with keys.changing():
        keys.keep_only([1, 5], 8)
    assert calls == ["pwrite", "fdatasync"]
    monkeypatch.undo()
    after = (keys.folder / "galleries").read_bytes()
    assert len(after) == len(before)
    record = len(before) // 9
    same = [i for i in range(9) if before[i * record : (i + 1) * record] == after[i * record : (i + 1) * record]]
    assert same == [0, 1, 5]
    for gallery in (2, 3, 8):
        with pytest.raises(KeyDestroyed):
            keys.of(gallery)
    again = Keys(keys.folder.parent, [MASTER])
    again.of(5).take()
    again.close()


@pytest.mark.parametrize("alone", [True, False])
def test_only_the_records_that_are_named_are_overwritten(tmp_path: Path, alone: bool) -> None:
    places = np.array([3, 4, 7, 300, 301, 302, 600], np.int64)
    (tmp_path / "file").write_bytes(bytes(1000 * SLOT_BYTES))
    with (tmp_path / "file").open("r+b") as file:
        disk.overwrite(file.fileno(), places, SLOT_BYTES, alone)
    content = np.fromfile(tmp_path / "file", np.uint8).reshape(-1, SLOT_BYTES)
    assert np.array_equal(np.flatnonzero(content.any(axis=1)), places)
    assert len(np.unique(content, axis=0)) == len(places) + 1
