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
import logging
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oneglance_core.files import replacing, sync_folder
from oneglance_index.errors import MasterKeyMissing, MasterKeyWrong, StoreBusy, StoreDamaged, StoreFull, StoreIOError
from oneglance_index.store.descriptors import Descriptors
from oneglance_index.store.directory import COMMITS_NAME, KEYS_NAME
from oneglance_index.store.disk import disk_error, is_at, locked, not_for_long, overwrite, write_at
from oneglance_index.store.hashing import Buffer, Hashes, seal_key, snapshot_digest
from oneglance_index.store.slots import SLOT_BYTES, Journal, KeyDestroyed, Slots, ecb
from oneglance_index.store.tables import KEYED_SINCE

log = logging.getLogger(__name__)

GALLERIES_NAME = "galleries"
# nonce, gallery's key and number of its file, tag: a record, encrypted. It lies within one sector of a disk.
_RECORD_BYTES = 128
_NONCE_BYTES, _TAG_BYTES = 12, 16
_CONTENT = struct.Struct("<32sq")
_SEALED_BYTES = _NONCE_BYTES + _CONTENT.size + _TAG_BYTES


def key_files(data_dir: Path) -> list[Path]:
    """The files that hold the keys of a data directory, encrypted. Raises OSError."""
    folder = data_dir / KEYS_NAME
    return [folder / GALLERIES_NAME, *sorted(folder.glob("*.slots"))]


def hashes_in(record: bytes, masters: Iterable[bytes], path: Path) -> Hashes:
    """Those of a store, from the beginning of its file `galleries`. `path` is for the error. Raises MasterKeyWrong."""
    for master in masters:
        with suppress(InvalidTag, ValueError):
            return _hashes(*_opened(AESGCM(master), 0, record[:_SEALED_BYTES]))
    raise MasterKeyWrong(path)


@contextmanager
def copying(data_dir: Path) -> Iterator[None]:
    """No key is destroyed in the block, by no process. Raises StoreBusy, StoreIOError, and StoreDamaged where there are
    none."""
    path = data_dir / KEYS_NAME / GALLERIES_NAME
    if not path.exists():
        raise StoreDamaged(path, "the keys are missing: nothing can be decrypted")
    with locked(path, fcntl.LOCK_SH):
        yield


class Keys:
    """The keys of a data directory. Thread-safe. Close it at the end. `signing_seed` is for receipts; `hashes` seal the
    rows of the database.

    `masters`: the master key, and others that the keys may still be encrypted with, where a rotation wasn't finished.
    `settle`: whether to finish such a rotation, if it can be, for whom the directory is locked. `create`: whether a new
    store is being made. Raises MasterKeyWrong, StoreDamaged, StoreFull, StoreIOError.
    """

    def __init__(
        self,
        data_dir: Path,
        masters: Sequence[bytes],
        create: bool = False,
        folder_name: str = KEYS_NAME,
        settle: bool = True,
    ) -> None:
        self.folder = data_dir / folder_name
        self._path = self.folder / GALLERIES_NAME
        self._master = AESGCM(masters[0])
        self._slots: dict[int, Slots] = {}
        self._destroyed: set[int] = set()
        self.journal = Journal()
        self._lock = threading.RLock()
        try:
            if create:
                self.folder.mkdir(mode=0o700, exist_ok=True)
                with replacing(self._path) as fresh:
                    fresh.write_bytes(self._sealed(0, os.urandom(SLOT_BYTES), KEYED_SINCE))
                os.chmod(self._path, 0o600)
                sync_folder(data_dir)
            self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            self._files = Descriptors(self.folder)
        except FileNotFoundError:
            raise StoreDamaged(self._path, "the keys are missing: nothing can be decrypted") from None
        except OSError as error:
            raise disk_error(error, self._path) from error
        self.signing_seed, version, right = self._tried(masters)
        self.hashes = _hashes(self.signing_seed, version)
        self._master, self._master_key = AESGCM(right), right
        if settle and right != masters[0]:
            try:
                with self.changing():
                    self.rotate_master(masters[0])
            except (StoreFull, StoreIOError, StoreBusy) as error:  # all keys can be read: the next start finishes it
                log.warning("the rotation of the master key could not be finished: %s", error)

    def is_master(self, master: bytes) -> bool:
        """Whether the keys are encrypted with this master key."""
        return master == self._master_key

    def hashes_in(self, record: bytes) -> Hashes:
        """As hashes_in(), of a store with this master key."""
        return hashes_in(record, [self._master_key], self._path)

    def snapshot_digest(self, generation: int, contents: Iterable[Buffer]) -> str:
        """See hashing.py."""
        return snapshot_digest(self.signing_seed, generation, contents)

    def require_seals(self) -> None:
        """From now on the database is sealed with a key, and one that says that it isn't is not believed. Call it in
        changing(). Raises StoreIOError, StoreFull."""
        with self._lock:
            try:
                self._write(0, self._sealed(0, self.signing_seed, KEYED_SINCE))
            except OSError as error:
                raise disk_error(error, self._path) from error
            self.hashes.required = True

    def _tried(self, masters: Sequence[bytes]) -> tuple[bytes, int, bytes]:
        """The content of the record of no gallery, the store's seed and since which version its seals have a key; and
        the master key that it is encrypted with."""
        for master in masters:
            self._master = AESGCM(master)
            with suppress(StoreDamaged):
                return *self._opened(0), master
        os.close(self._file)
        self._files.close()
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
            self._slots[gallery] = Slots(path, key, self.journal, self._files)

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
                    slots = self._slots[gallery] = Slots(
                        self._slots_path(gallery, number), key, self.journal, self._files
                    )
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

    def destroy_doomed(self) -> None:
        """Destroys the keys in all slots that are doomed. Call it in changing(). Raises StoreIOError."""
        with self._lock:
            some = list(self._slots.values())
        for slots in some:
            slots.destroy_doomed()

    def keep_only(self, galleries: Iterable[int], last: int) -> None:
        """Destroys the keys of all other galleries up to number `last`, and files that a process left behind. Call it
        in changing(). Raises StoreIOError."""
        with self._lock:
            kept = set(galleries) - self._destroyed
            names = {self._slots_path(gallery, self._opened(gallery)[1]).name for gallery in kept}
            names |= {GALLERIES_NAME, COMMITS_NAME}
            names |= {slots.name for gallery, slots in self._slots.items() if gallery > last}
            try:
                records = -(-os.fstat(self._file).st_size // _RECORD_BYTES)  # the last one may be half written
                ended = min(records, last + 1)
                gone = np.array([gallery for gallery in range(1, ended) if gallery not in kept], np.int64)
                self._destroyed.update(gone.tolist())  # who reads a former state of the store may ask for them
                for gallery in gone.tolist():
                    self._forget(gallery)
                # All of them: what an overwriting that failed left on the disk can't be seen from here.
                overwrite(self._file, gone, _RECORD_BYTES, alone=True)
                for path in self.folder.iterdir():
                    if path.name not in names and not path.is_dir():
                        path.unlink()
            except OSError as error:
                raise disk_error(error, self.folder) from error

    @contextmanager
    def changing(self, go_on: Callable[[float], bool] = not_for_long) -> Iterator[None]:
        """Keys are destroyed in the block: it begins when nobody copies them. `go_on` as in locked(). Raises StoreBusy,
        StoreIOError."""
        with locked(self._path, fcntl.LOCK_EX, go_on):
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)  # where rotate_master() locked the new file

    def rotate(self, gallery: int) -> None:
        """Gives a gallery a new key: copies of slots that were destroyed before are worth nothing from then on. Call it
        in changing()."""
        with self._lock:
            former = self.of(gallery)
            former_key, number = self._opened(gallery)
            key = os.urandom(SLOT_BYTES)
            path = self._slots_path(gallery, number + 1)
            try:
                with former.held():
                    _write_new(path, ecb(key).encryptor().update(former.all()))
                    try:
                        self._write(gallery, self._sealed(gallery, key, number + 1))
                    except OSError as error:
                        self._take_back(gallery, former, former_key, number, error)
                        raise
                    former.move(path, key)
                self._slots_path(gallery, number).unlink()
            except OSError as error:
                raise disk_error(error, path) from error

    def _take_back(self, gallery: int, slots: Slots, key: bytes, number: int, error: OSError) -> None:
        """Of a record that may be on the disk or not: the former one is. Else the gallery's keys stay as they are."""
        try:
            self._write(gallery, self._sealed(gallery, key, number))
        except OSError:
            slots.refuse(str(error))

    def rotate_master(self, master: bytes) -> None:
        """Encrypts the galleries' keys under another master key, all or none. Call it in changing(). Raises
        StoreIOError, StoreFull, MasterKeyMissing where it is the present one."""
        with self._lock:
            if self.is_master(master):
                raise MasterKeyMissing(self._path, "the new master key is the one in use")
            other = AESGCM(master)
            descriptor = -1
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
                    descriptor = os.open(fresh, os.O_RDWR | os.O_CLOEXEC)
                    fcntl.flock(descriptor, fcntl.LOCK_EX)  # nobody else's turn comes with the new file
                    write_at(descriptor, bytes(content), 0)
            except OSError as error:
                if descriptor >= 0 and not self._is_in_place(descriptor):
                    os.close(descriptor)
                    descriptor = -1
                raise disk_error(error, self._path) from error
            finally:
                if descriptor >= 0:  # whatever failed: this is the file that a start finds
                    former, self._file = self._file, descriptor
                    self._master, self._master_key = other, master
            try:
                write_at(former, os.urandom(len(content)), 0)
                os.fdatasync(former)
            except OSError as error:
                raise disk_error(error, self._path) from error
            finally:
                os.close(former)

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return is_at(descriptor, self._path)
        except OSError:
            return False

    def close(self) -> None:
        with self._lock:
            for slots in self._slots.values():
                slots.close()
            self._slots.clear()
            self._files.close()
            os.close(self._file)

    def _forget(self, gallery: int) -> None:
        slots = self._slots.pop(gallery, None)
        if slots is not None:
            slots.close()

    def _slots_path(self, gallery: int, number: int) -> Path:
        return self.folder / f"{gallery}-{number}.slots"

    def _write(self, gallery: int, record: bytes) -> None:
        write_at(self._file, record, gallery * _RECORD_BYTES)
        os.fdatasync(self._file)

    def _sealed(self, gallery: int, key: bytes, number: int) -> bytes:
        return _sealed(self._master, gallery, key, number)

    def _opened(self, gallery: int) -> tuple[bytes, int]:
        try:
            return _opened(self._master, gallery, os.pread(self._file, _SEALED_BYTES, gallery * _RECORD_BYTES))
        except OSError as error:
            raise disk_error(error, self._path) from error
        except (InvalidTag, ValueError):
            raise StoreDamaged(self._path, f"the key of gallery number {gallery} is not what was written") from None


def _write_new(path: Path, content: bytes) -> None:
    """A new file, on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_at(descriptor, content, 0)
        os.fsync(descriptor)
        sync_folder(path.parent)
    finally:
        os.close(descriptor)


def _aad(gallery: int) -> bytes:
    return b"oneglance gallery %d" % gallery


def _opened(master: AESGCM, gallery: int, record: bytes) -> tuple[bytes, int]:
    """Raises InvalidTag, ValueError."""
    key, number = _CONTENT.unpack(master.decrypt(record[:_NONCE_BYTES], record[_NONCE_BYTES:], _aad(gallery)))
    return key, number


def _hashes(seed: bytes, version: int) -> Hashes:
    return Hashes(seal_key(seed), required=version >= KEYED_SINCE)


def _sealed(master: AESGCM, gallery: int, key: bytes, number: int) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    sealed = nonce + master.encrypt(nonce, _CONTENT.pack(key, number), _aad(gallery))
    return sealed + os.urandom(_RECORD_BYTES - len(sealed))
