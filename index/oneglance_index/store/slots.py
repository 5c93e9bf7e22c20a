"""The content keys of one gallery, in a file of slots that are overwritten in place (keys.py says why).

Each slot is in one of three states. It is free: its key was never used. It is used: a row names it, or the transaction
under way may write one that does. It is doomed: no row names it any more, but its key is on the disk yet.

    free ── take ──> used ── doom ──> doomed ── destroy_doomed ──> free

Nothing else changes a state. So a slot that a row names is never free, none is given away twice, and a destruction
that failed can be tried again and again: it concerns the doomed, whatever happened meanwhile.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from oneglance_index.errors import StoreDamaged, StoreIOError
from oneglance_index.store.descriptors import Descriptors
from oneglance_index.store.disk import disk_error, overwrite, write_at

SLOT_BYTES = 32
# As many keys as there are, within these bounds, are made and synced at once: few subjects need a write of their own.
_FEWEST_SLOTS, _MOST_SLOTS = 64, 8192


class KeyDestroyed(Exception):
    """What was read was deleted meanwhile: read again."""


class Journal:
    """The slots that the transaction under way took. Belongs to whoever writes.

    What was encrypted in a transaction that is void may be in the log of the database, though no row names it. A
    COMMIT that failed may even be found to be done when the database is opened next, but not once another one is
    done. So the slots of a void transaction are doomed by the next commit.
    """

    def __init__(self) -> None:
        self._taken: list[tuple[Slots, int]] = []
        self._void: list[tuple[Slots, int]] = []

    def took(self, slots: Slots, numbers: Iterable[int]) -> None:
        self._taken += [(slots, number) for number in numbers]

    def mark(self) -> int:
        """A savepoint, for roll_back()."""
        return len(self._taken)

    def roll_back(self, mark: int = 0) -> None:
        self._void += self._taken[mark:]
        del self._taken[mark:]

    def commit(self) -> bool:
        """The transaction is on the disk. Whether slots of void ones are doomed now."""
        self._taken.clear()
        some = bool(self._void)
        while self._void:
            slots, number = self._void[-1]
            slots.doom([number])
            self._void.pop()
        return some


class Slots:
    """Thread-safe. Raises StoreIOError, StoreFull. Before destroy_others() all slots there are count as used."""

    def __init__(
        self, path: Path, key: bytes, journal: Journal | None = None, files: Descriptors | None = None
    ) -> None:
        self._files = files or Descriptors(path.parent)
        self._path, self._name, self._closed = path, path.name, False
        self._lock = threading.RLock()
        self._renewing = threading.Lock()  # taken before the other: a file that is being renewed isn't closed
        self._journal = journal or Journal()
        self._free: list[int] = []
        self._fresh: dict[int, bytes] = {}  # keys of slots that were just made
        self._doomed: set[int] = set()
        self._destroyed: dict[int, int] = {}  # when, by time.monotonic_ns()
        self._refused: str | None = None
        try:
            with self._using() as file:
                # A process may have died while it made slots: a part of one was never used.
                self._count = os.fstat(file).st_size // SLOT_BYTES
        except FileNotFoundError:
            raise StoreDamaged(path, "the keys of a gallery are missing") from None
        except OSError as error:
            raise disk_error(error, path) from error
        self._used = bytearray(b"\1") * self._count  # whether it is used or doomed
        # Slots that there were at first, of which those may be left behind that no transaction since lets go.
        self._unsure: bytearray | None = bytearray(b"\1") * self._count
        self._take_over(path, key)

    def _take_over(self, path: Path, key: bytes) -> None:
        self._path, self._name = path, path.name
        self._decryptor, self._encryptor = ecb(key).decryptor(), ecb(key).encryptor()

    @property
    def name(self) -> str:
        """Of the file."""
        return self._name

    @contextmanager
    def _using(self) -> Iterator[int]:
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        with self._files.using(self._name) as file:
            yield file

    def move(self, path: Path, key: bytes) -> None:
        """The same keys are in another file from here on, encrypted with another key. Call it while held() since that
        file was written, and in Keys.changing()."""
        self._files.forget(self._name)
        self._take_over(path, key)

    def held(self) -> AbstractContextManager[object]:
        """While it is held, no key comes, and in Keys.changing() none goes."""
        return self._lock

    def refuse(self, reason: str) -> None:
        """No key comes or goes any more: it isn't known which file counts when the store is opened next."""
        self._refused = reason

    def take(self) -> tuple[int, AESGCM]:
        """A key that was never used, and its slot."""
        return self.take_some(1)[0]

    def take_some(self, count: int) -> list[tuple[int, AESGCM]]:
        """So many keys that were never used, and their slots."""
        taken: list[tuple[int, AESGCM]] = []
        with self._lock:
            self._check_not_refused()
            while len(self._free) < count:
                self._grow()
            chosen = self._free[-count:][::-1] if count else []
            for slot in chosen:
                assert not self._used[slot]
                key = self._fresh.get(slot)
                taken.append((slot, self.read(slot) if key is None else AESGCM(key)))
            self._journal.took(self, chosen)
            del self._free[len(self._free) - count :]
            for slot in chosen:
                self._used[slot] = 1
                self._fresh.pop(slot, None)
        return taken

    def put(self, keys: Sequence[bytes]) -> list[int]:
        """Puts keys that were made elsewhere into slots that were never used: on the disk when it returns."""
        slots = [slot for slot, _ in self.take_some(len(keys))]
        with self._lock:
            try:
                with self._using() as file:
                    for slot, key in zip(slots, keys, strict=True):
                        write_at(file, self._encryptor.update(key), slot * SLOT_BYTES)
                    os.fdatasync(file)
            except OSError as error:
                raise disk_error(error, self._path) from error
        return slots

    def read(self, slot: int) -> AESGCM:
        """Raises StoreDamaged where there is no such slot."""
        with self._lock:
            if self._closed:
                raise KeyDestroyed
            content = b""
            if slot >= 0:
                try:
                    content = self._files.read(self._name, SLOT_BYTES, slot * SLOT_BYTES)
                except OSError as error:
                    raise disk_error(error, self._path) from error
            if len(content) != SLOT_BYTES:
                raise StoreDamaged(self._path, f"there is no slot {slot}")
            return AESGCM(self._decryptor.update(content))

    def all(self) -> bytes:
        """All keys, one after the other."""
        with self._lock:
            try:
                with self._using() as file:
                    content = os.pread(file, self._count * SLOT_BYTES, 0)
            except OSError as error:
                raise disk_error(error, self._path) from error
            return self._decryptor.update(content)

    def will_doom(self, slots: Iterable[int]) -> None:
        """A transaction that may yet be committed will have them doomed: they are not for destroy_others(), which would
        give away what is doomed later."""
        with self._lock:
            if self._unsure is not None:
                for slot in slots:
                    if 0 <= slot < len(self._unsure):
                        self._unsure[slot] = 0

    def doom(self, slots: Iterable[int]) -> None:
        """No row names them any more, for good. Raises StoreDamaged, and dooms none, where one isn't used."""
        gone = set(slots)
        with self._lock:
            if self._closed:  # with its gallery
                return
            for slot in gone:
                if not (0 <= slot < self._count and self._used[slot]):
                    raise StoreDamaged(self._path, f"slot {slot} was in use, but isn't known to be")
            self.will_doom(gone)
            self._doomed |= gone

    def destroy_doomed(self) -> None:
        """When it returns, the doomed keys are nowhere on the disk. Call it in Keys.changing()."""
        with self._renewing:
            with self._lock:
                gone = sorted(self._doomed)
                if not gone or self._closed:
                    return
                self._check_not_refused()
                self._destroyed.update(dict.fromkeys(gone, time.monotonic_ns()))
            self._renew(np.array(gone, np.int64), alone=False)  # without the lock: others go on meanwhile
            with self._lock:
                self._doomed.difference_update(gone)
                for slot in gone:
                    self._used[slot] = 0
                self._free += gone

    def was_destroyed(self, slot: int, since: float) -> bool:
        """Whether it was at `since`, by time.monotonic_ns(), or later: who reads a former state of the store may still
        ask for it."""
        return self._destroyed.get(slot, -1) >= since

    def check_names(self, named: NDArray[np.int64]) -> None:
        """Raises StoreDamaged where rows name slots that aren't there, or one slot twice."""
        if len(named) and not 0 <= named.min() <= named.max() < self._count:
            raise StoreDamaged(self._path, f"there are {self._count} slots, but rows name others")
        if len(named) and np.bincount(named).max() > 1:
            raise StoreDamaged(self._path, "a slot is named by two rows")

    def destroy_others(self, named: NDArray[np.int64]) -> None:
        """Destroys all keys that were there at first but those in the slots that rows name, at any time since, and
        those of will_doom(). Call it in Keys.changing(), once. Raises as check_names()."""
        with self._renewing, self._lock:
            self.check_names(named)
            if self._unsure is None or self._closed:
                return
            left = np.frombuffer(self._unsure, np.uint8).copy()
            left[named[named < len(left)]] = 0
            free = np.flatnonzero(left)
            self._renew(free, alone=True)
            for slot in free.tolist():
                self._used[slot] = 0
            self._free += free.tolist()
            self._unsure = None

    def close(self) -> None:
        with self._renewing, self._lock:
            self._files.forget(self._name)
            self._closed = True

    def _check_not_refused(self) -> None:
        if self._refused is not None:
            raise StoreIOError(self._path, f"its rotation failed, start again: {self._refused}")

    def _renew(self, slots: NDArray[np.int64], alone: bool) -> None:
        """Overwrites slots, ascending. `alone`: the lock is held."""
        try:
            with self._using() as file:
                overwrite(file, slots, SLOT_BYTES, alone)
        except OSError as error:
            raise disk_error(error, self._path) from error

    def _grow(self) -> None:
        more = min(max(_FEWEST_SLOTS, self._count), _MOST_SLOTS)
        content = os.urandom(more * SLOT_BYTES)
        try:
            with self._using() as file:
                write_at(file, content, self._count * SLOT_BYTES)
                os.fsync(file)
        except OSError as error:
            raise disk_error(error, self._path) from error
        keys = self._decryptor.update(content)
        self._fresh |= {
            self._count + place: keys[place * SLOT_BYTES : (place + 1) * SLOT_BYTES] for place in range(more)
        }
        # Those that are free already are taken first.
        self._free = [*range(self._count + more - 1, self._count - 1, -1), *self._free]
        self._used += bytes(more)
        self._count += more


def new_key() -> bytes:
    return os.urandom(SLOT_BYTES)


def ecb(key: bytes) -> Cipher[Any]:
    return Cipher(algorithms.AES(key), modes.ECB())  # whole blocks of random bytes: see keys.py
