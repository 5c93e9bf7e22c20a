"""The keys of a store's contents, in files beside it that are overwritten in place.

    master key              from outside the store (master.py)
    └── gallery's key       a record of `keys/galleries`, AES-256-GCM under the master key
        └── content key     a slot of `keys/<gallery>-<file>.slots`, AES-256 under the gallery's key

A content key is that of one subject, or of one block of a snapshot. What is encrypted with it is in the database, in
its log, in backups; the key is nowhere else. So destroying the key is deleting all copies of what it encrypted.

A slot is 32 random bytes; the key is what they decrypt to. A key is random, so no two slots are alike, and AES block by
block gives nothing away. Whether a slot is what it was shows when something is decrypted (ciphers.py). To destroy a key
is to overwrite its slot with other random bytes, and to wait until they are on the disk. These are the next key.
Slots that nobody refers to when a store is opened are overwritten, too: a process may have died before it could.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from oneglance_core.files import replacing, sync_folder
from oneglance_index.errors import MasterKeyWrong, StoreDamaged, StoreFull, StoreIOError
from oneglance_index.store.directory import KEYS_NAME

SLOT_BYTES = 32
_GALLERIES_NAME = "galleries"
# nonce, gallery's key and number of its file, tag: a record, encrypted. It lies within one sector of a disk.
_RECORD_BYTES = 128
_NONCE_BYTES, _TAG_BYTES = 12, 16
_CONTENT = struct.Struct("<32sq")
_SEALED_BYTES = _NONCE_BYTES + _CONTENT.size + _TAG_BYTES
# As many keys as there are, within these bounds, are made and synced at once: few subjects need a write of their own.
_FEWEST_SLOTS, _MOST_SLOTS = 64, 8192


def key_files(data_dir: Path) -> list[Path]:
    """The files that hold the keys of a data directory, encrypted. Raises OSError."""
    folder = data_dir / KEYS_NAME
    return [folder / _GALLERIES_NAME, *sorted(folder.glob("*.slots"))]


@contextmanager
def copying(data_dir: Path) -> Iterator[None]:
    """No key is destroyed in the block, by no process. Raises StoreIOError, StoreDamaged where there are none."""
    path = data_dir / KEYS_NAME / _GALLERIES_NAME
    if not path.exists():
        raise StoreDamaged(path, "the keys are missing: nothing can be decrypted")
    with _locked(path, fcntl.LOCK_SH):
        yield


class KeyDestroyed(Exception):
    """What was read was deleted meanwhile: read again."""


class Keys:
    """The keys of a data directory. Thread-safe. Close it at the end. `signing_seed` is for receipts.

    `masters`: the master key, and others that the keys may still be encrypted with, where a rotation wasn't finished.
    `create`: whether a new store is being made. Raises MasterKeyWrong, StoreDamaged, StoreFull, StoreIOError.
    """

    def __init__(self, data_dir: Path, masters: Sequence[bytes], create: bool = False) -> None:
        self.folder = data_dir / KEYS_NAME
        self._path = self.folder / _GALLERIES_NAME
        self._master = AESGCM(masters[0])
        self._slots: dict[int, Slots] = {}
        self._destroyed: set[int] = set()
        self._lock = threading.RLock()
        try:
            if create:
                self.folder.mkdir(mode=0o700, exist_ok=True)
                with replacing(self._path) as fresh:
                    fresh.write_bytes(self._sealed(0, os.urandom(SLOT_BYTES), 0))
                os.chmod(self._path, 0o600)
                sync_folder(data_dir)
            self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StoreDamaged(self._path, "the keys are missing: nothing can be decrypted") from None
        except OSError as error:
            raise disk_error(error, self._path) from error
        self.signing_seed, right = self._tried(masters)
        self._master = AESGCM(right)
        if right != masters[0]:
            self.rotate_master(masters[0])

    def _tried(self, masters: Sequence[bytes]) -> tuple[bytes, bytes]:
        """The content of the record of no gallery, and the master key that it is encrypted with."""
        for master in masters:
            self._master = AESGCM(master)
            with suppress(StoreDamaged):
                return self._opened(0)[0], master
        os.close(self._file)
        raise MasterKeyWrong(self._path)

    def make(self, gallery: int) -> None:
        """A key for a new gallery."""
        with self._lock:
            self._forget(gallery)
            key = os.urandom(SLOT_BYTES)
            path = self._slots_path(gallery, 1)
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                os.close(descriptor)
                sync_folder(self.folder)
                self._write(gallery, self._sealed(gallery, key, 1))
            except OSError as error:
                raise disk_error(error, path) from error
            self._slots[gallery] = Slots(path, key)

    def of(self, gallery: int) -> Slots:
        """Raises KeyDestroyed, StoreDamaged, StoreIOError."""
        slots = self._slots.get(gallery)
        if slots is None:
            with self._lock:
                if gallery in self._destroyed:
                    raise KeyDestroyed
                slots = self._slots.get(gallery)
                if slots is None:
                    key, number = self._opened(gallery)
                    slots = self._slots[gallery] = Slots(self._slots_path(gallery, number), key)
        return slots

    def destroy(self, gallery: int) -> None:
        """Destroys the key of a gallery, and with it all that it encrypts. Call it in changing(). Raises
        StoreIOError."""
        with self._lock:
            self._destroyed.add(gallery)
            self._forget(gallery)
            try:
                self._write(gallery, os.urandom(_RECORD_BYTES))
                for path in self.folder.glob(f"{gallery}-*.slots"):
                    path.unlink()
            except OSError as error:
                raise disk_error(error, self._path) from error

    def keep_only(self, galleries: Iterable[int]) -> None:
        """Destroys the keys of all other galleries, and files that a process left behind. Call it in changing(). Raises
        StoreIOError."""
        kept = set(galleries)
        with self._lock:
            names = {self._slots_path(gallery, self._opened(gallery)[1]).name for gallery in kept}
            try:
                last = os.fstat(self._file).st_size // _RECORD_BYTES
                for gallery in range(1, last + 1):
                    if gallery not in kept:
                        self._forget(gallery)
                        self._write(gallery, os.urandom(_RECORD_BYTES))
                for path in self.folder.iterdir():
                    if path.name not in names and path.name != _GALLERIES_NAME:
                        path.unlink()
            except OSError as error:
                raise disk_error(error, self.folder) from error

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keys are destroyed in the block: it begins when nobody copies them. Raises StoreIOError."""
        with _locked(self._path, fcntl.LOCK_EX):
            yield

    def rotate(self, gallery: int) -> None:
        """Gives a gallery a new key: copies of slots that were destroyed before are worth nothing from then on. Call it
        in changing()."""
        with self._lock:
            former = self.of(gallery)
            _, number = self._opened(gallery)
            key = os.urandom(SLOT_BYTES)
            path = self._slots_path(gallery, number + 1)
            try:
                with former.held():
                    _write_new(path, _encrypted(key, former.all()))
                    sync_folder(self.folder)
                    self._write(gallery, self._sealed(gallery, key, number + 1))
                    former.move(path, key)
                self._slots_path(gallery, number).unlink()
            except OSError as error:
                raise disk_error(error, path) from error

    def rotate_master(self, master: bytes) -> None:
        """Encrypts the galleries' keys under another master key, all or none. Call it in changing(). Raises
        StoreIOError, StoreFull."""
        with self._lock:
            other = AESGCM(master)
            try:
                content = bytearray(os.pread(self._file, os.fstat(self._file).st_size, 0))
                for gallery in range(len(content) // _RECORD_BYTES):
                    at = slice(gallery * _RECORD_BYTES, (gallery + 1) * _RECORD_BYTES)
                    try:
                        key, number = self._opened(gallery)
                    except StoreDamaged:  # destroyed
                        continue
                    content[at] = _sealed(other, gallery, key, number)
                with replacing(self._path) as fresh:
                    fresh.write_bytes(content)
                former, self._file = self._file, os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
                self._master = other
                os.pwrite(former, os.urandom(len(content)), 0)
                os.fdatasync(former)
                os.close(former)
            except OSError as error:
                raise disk_error(error, self._path) from error

    def close(self) -> None:
        with self._lock:
            for slots in self._slots.values():
                slots.close()
            self._slots.clear()
            os.close(self._file)

    def _forget(self, gallery: int) -> None:
        slots = self._slots.pop(gallery, None)
        if slots is not None:
            slots.close()

    def _slots_path(self, gallery: int, number: int) -> Path:
        return self.folder / f"{gallery}-{number}.slots"

    def _write(self, gallery: int, record: bytes) -> None:
        os.pwrite(self._file, record, gallery * _RECORD_BYTES)
        os.fdatasync(self._file)

    def _sealed(self, gallery: int, key: bytes, number: int) -> bytes:
        return _sealed(self._master, gallery, key, number)

    def _opened(self, gallery: int) -> tuple[bytes, int]:
        try:
            record = os.pread(self._file, _SEALED_BYTES, gallery * _RECORD_BYTES)
            content = self._master.decrypt(record[:_NONCE_BYTES], record[_NONCE_BYTES:], _aad(gallery))
        except OSError as error:
            raise disk_error(error, self._path) from error
        except (InvalidTag, ValueError):
            raise StoreDamaged(self._path, f"the key of gallery number {gallery} is not what was written") from None
        key, number = _CONTENT.unpack(content)
        return key, number


class Slots:
    """The content keys of one gallery. Thread-safe. Raises StoreIOError, StoreFull."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._lock = threading.RLock()
        self._free: list[int] = []
        self._fresh: dict[int, bytes] = {}  # keys of slots that were just made
        self._destroyed: set[int] = set()
        self._file = -1
        self.move(path, key)

    def move(self, path: Path, key: bytes) -> None:
        """The same keys are in another file from here on, encrypted with another key."""
        if self._file >= 0:
            os.close(self._file)
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self._count = os.fstat(self._file).st_size // SLOT_BYTES
        except FileNotFoundError:
            raise StoreDamaged(path, "the keys of a gallery are missing") from None
        except OSError as error:
            raise disk_error(error, path) from error
        self._decryptor, self._encryptor = _ecb(key).decryptor(), _ecb(key).encryptor()

    def held(self) -> AbstractContextManager[object]:
        """While it is held, no key comes or goes."""
        return self._lock

    def take(self) -> tuple[int, AESGCM]:
        """A key that was never used, and its slot."""
        return self.take_some(1)[0]

    def take_some(self, count: int) -> list[tuple[int, AESGCM]]:
        """So many keys that were never used, and their slots."""
        taken: list[tuple[int, AESGCM]] = []
        with self._lock:
            try:
                for _ in range(count):
                    if not self._free:
                        self._grow()
                    slot = self._free.pop()
                    key = self._fresh.pop(slot, None)
                    taken.append((slot, self.read(slot) if key is None else AESGCM(key)))
            except BaseException:
                self._free += [slot for slot, _ in taken]
                raise
        return taken

    def put(self, keys: Sequence[bytes]) -> list[int]:
        """Puts keys that were made elsewhere into slots that were never used: on the disk when it returns."""
        slots = [slot for slot, _ in self.take_some(len(keys))]
        with self._lock:
            try:
                for slot, key in zip(slots, keys, strict=True):
                    os.pwrite(self._file, self._encryptor.update(key), slot * SLOT_BYTES)
                os.fdatasync(self._file)
            except OSError as error:
                raise disk_error(error, self._path) from error
        return slots

    def read(self, slot: int) -> AESGCM:
        """Raises StoreDamaged where there is no such slot."""
        with self._lock:
            try:
                content = os.pread(self._file, SLOT_BYTES, slot * SLOT_BYTES) if min(slot, self._file) >= 0 else b""
            except OSError as error:
                raise disk_error(error, self._path) from error
            if self._file < 0:
                raise KeyDestroyed
            if len(content) != SLOT_BYTES:
                raise StoreDamaged(self._path, f"there is no slot {slot}")
            return AESGCM(self._decryptor.update(content))

    def all(self) -> bytes:
        """All keys, one after the other."""
        with self._lock:
            try:
                content = os.pread(self._file, self._count * SLOT_BYTES, 0)
            except OSError as error:
                raise disk_error(error, self._path) from error
            return self._decryptor.update(content)

    def destroy(self, slots: Iterable[int]) -> None:
        """When it returns, these keys are nowhere on the disk. Call it in Keys.changing()."""
        gone = set(slots)
        self._destroyed.update(gone)
        self._renew(np.array(sorted(gone), np.int64))  # without the lock: others go on meanwhile
        with self._lock:
            self._free += gone

    def was_destroyed(self, slot: int) -> bool:
        """Since the store was opened: whoever reads what was there a moment ago may still ask for it."""
        return slot in self._destroyed

    def destroy_others(self, used: NDArray[np.int64]) -> None:
        """Destroys all keys but those in the slots `used`. Call it in Keys.changing(), before any is taken."""
        with self._lock:
            unused = np.ones(self._count, bool)
            unused[used[(used >= 0) & (used < self._count)]] = False
            free = np.flatnonzero(unused)
            self._renew(free)
            self._free = free.tolist()

    def close(self) -> None:
        with self._lock:
            os.close(self._file)
            self._file = -1

    def _renew(self, slots: NDArray[np.int64]) -> None:
        """Overwrites slots, ascending."""
        if not len(slots):
            return
        try:
            for run in np.split(slots, np.flatnonzero(np.diff(slots) != 1) + 1):
                os.pwrite(self._file, os.urandom(len(run) * SLOT_BYTES), int(run[0]) * SLOT_BYTES)
            os.fdatasync(self._file)
        except OSError as error:
            raise disk_error(error, self._path) from error

    def _grow(self) -> None:
        more = min(max(_FEWEST_SLOTS, self._count), _MOST_SLOTS)
        content = os.urandom(more * SLOT_BYTES)
        try:
            os.pwrite(self._file, content, self._count * SLOT_BYTES)
            os.fsync(self._file)
        except OSError as error:
            raise disk_error(error, self._path) from error
        made = range(self._count + more - 1, self._count - 1, -1)
        keys = self._decryptor.update(content)
        self._free = list(made)
        self._fresh = {
            self._count + place: keys[place * SLOT_BYTES : (place + 1) * SLOT_BYTES] for place in range(more)
        }
        self._count += more


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    """The lock is the file's, for all processes. A descriptor of its own: locks of one descriptor are one lock."""
    try:
        own = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(own, kind)
            yield
        finally:
            os.close(own)
    except OSError as error:
        raise disk_error(error, path) from error


def new_key() -> bytes:
    return os.urandom(SLOT_BYTES)


def disk_error(error: OSError, path: Path) -> StoreFull | StoreIOError:
    kind = StoreFull if error.errno in (28, 122) else StoreIOError  # ENOSPC, EDQUOT
    return kind(path, str(error))


def _write_new(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _ecb(key: bytes) -> Cipher[Any]:
    return Cipher(algorithms.AES(key), modes.ECB())  # whole blocks of random bytes: see above


def _encrypted(key: bytes, content: bytes) -> bytes:
    return _ecb(key).encryptor().update(content)


def _aad(gallery: int) -> bytes:
    return b"oneglance gallery %d" % gallery


def _sealed(master: AESGCM, gallery: int, key: bytes, number: int) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    sealed = nonce + master.encrypt(nonce, _CONTENT.pack(key, number), _aad(gallery))
    return sealed + os.urandom(_RECORD_BYTES - len(sealed))
