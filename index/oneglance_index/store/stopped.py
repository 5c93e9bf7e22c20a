"""What an orderly stop leaves, so that the next start needn't check every row: its proof that the database is the same.

The rows were checked when the store was opened, and were changed by nobody but us since. The stop writes to the file
`stopped` a MAC of all bytes of the database, and a digest of the subjects and the slots of their keys as they were
known in memory. So a file that was changed afterwards has another MAC, and one that was changed while it was open,
behind our back, has subjects of another digest. Then, and after a stop that was no orderly one, all rows are checked.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oneglance_core.files import replacing
from oneglance_index.records import Integers
from oneglance_index.store.directory import STOPPED_NAME, log_of

_NONCE, _DIGEST = 8, 32
_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a stop said. `subjects`: see subjects_digest()."""

    nonce: bytes
    subjects: bytes
    mac: bytes

    def is_of(self, path: Path, key: bytes) -> bool:
        """Whether the database `path` is the same, by every byte."""
        mac = _mac(path, key, self.nonce, self.subjects, lambda: False)
        return mac is not None and compare_digest(mac, self.mac)


def leave(path: Path, key: bytes, subjects: bytes, late: Callable[[], bool]) -> None:
    """The database `path` is closed, and its log is empty. What fails, or is `late`, is left out: the next start takes
    longer."""
    nonce = os.urandom(_NONCE)
    mac = _mac(path, key, nonce, subjects, late)
    with suppress(OSError):
        if mac is not None:
            with replacing(path.with_name(STOPPED_NAME)) as fresh:
                fresh.chmod(0o600)
                fresh.write_bytes(nonce + subjects + mac)


def read(path: Path) -> Stopped | None:
    """What the last stop said of the database `path`; None where it left nothing, or writes came since. Call it before
    SQLite opens the database."""
    log = log_of(path)
    try:
        content = path.with_name(STOPPED_NAME).read_bytes()
        if len(content) != _NONCE + 2 * _DIGEST or (log.exists() and log.stat().st_size):
            return None
    except OSError:
        return None
    return Stopped(content[:_NONCE], content[_NONCE:-_DIGEST], content[-_DIGEST:])


def forget(path: Path) -> None:
    """The database `path` is about to be written."""
    with suppress(OSError):  # it will have another MAC
        path.with_name(STOPPED_NAME).unlink()


def subjects_digest(ids: Mapping[int, Mapping[int, str]], slots: Mapping[int, Integers]) -> bytes:
    """Of the subjects' ids by number, by generation, and of the slots that are used, by gallery."""
    hashed = blake2b(digest_size=_DIGEST, person=b"subjects")
    for generation in sorted(ids):
        of = ids[generation]
        numbers = sorted(of)
        names = [of[number] for number in numbers]
        hashed.update(struct.pack("<qq", generation, len(numbers)))
        hashed.update(_bytes(numbers) + _bytes(map(len, names)))
        hashed.update("".join(names).encode())
    for gallery in sorted(slots):
        hashed.update(struct.pack("<qq", gallery, len(slots[gallery])))
        hashed.update(np.sort(slots[gallery]).astype("<i8").tobytes())
    return hashed.digest()


def _bytes(values: Iterable[int]) -> bytes:
    return np.fromiter(values, "<i8").tobytes()


def _mac(path: Path, key: bytes, nonce: bytes, subjects: bytes, late: Callable[[], bool]) -> bytes | None:
    """GMAC, the quickest there is, of each chunk. None where it is late, or the file can't be read."""
    tagged, total = (
        AESGCM(blake2b(key, digest_size=32, person=b"stopped").digest()),
        blake2b(digest_size=_DIGEST, key=key),
    )
    total.update(subjects)
    chunk = bytearray(_CHUNK_BYTES)
    try:
        with path.open("rb", buffering=0) as file:
            for number in range(1 << 32):
                size = file.readinto(chunk)
                if not size:
                    return total.digest()
                if late():
                    return None
                total.update(tagged.encrypt(nonce + struct.pack("<I", number), b"", memoryview(chunk)[:size]))
    except OSError:
        pass
    return None
