"""What is encrypted in a store: the labels of subjects, their encodings and negatives, crops of the pictures that these
were made of, the answers to requests about them, and blocks of snapshots.

Each by itself, with AES-256-GCM: nonce, content, tag. What it belongs to is authenticated with it, by numbers that
never change, so that none can stand in for another.
"""

from __future__ import annotations

import math
import os
import sqlite3
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, cast
from weakref import WeakSet

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oneglance_index.store.hashing import Hashes
from oneglance_index.store.keys import Keys
from oneglance_index.store.slots import Slots

NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES
_IDENTITY = struct.Struct("<3sqq").pack


# What an encrypted content belongs to, as bytes, by two numbers.
Identity = Callable[[int, int], bytes]


class Connection(sqlite3.Connection):
    """A connection that knows the keys of its store, and the hashes that its rows are sealed with. `since`: when it
    began to read a state that others may have left behind, by time.monotonic_ns(); the one that writes reads the
    present state."""

    keys: Keys
    hashes: Hashes
    since: float = math.inf

    def use(self, keys: Keys) -> None:
        self.keys, self.hashes = keys, keys.hashes


class Reader(Connection):
    """A connection that lets go of a state of the store, also when it is closed. SQLite keeps the state that a cursor
    reads until that ends, whatever is rolled back or closed; and a failure's traceback may keep a cursor that has more
    to tell."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        cursor = super().execute(*arguments)
        self._cursors.add(cursor)
        return cursor

    def let_go(self) -> None:
        """Ends what is being read: what is read next is of the present state."""
        self._end_cursors()
        if self.in_transaction:
            super().execute("ROLLBACK")

    def close(self) -> None:
        self._end_cursors()
        super().close()

    def _end_cursors(self) -> None:
        for cursor in list(self._cursors):
            cursor.close()
        self._cursors.clear()


def keys_of(db: sqlite3.Connection) -> Keys:
    return cast(Connection, db).keys


def hashes_of(db: sqlite3.Connection) -> Hashes:
    return cast(Connection, db).hashes


def read_since(db: sqlite3.Connection) -> float:
    return cast(Connection, db).since


def slots_of(db: sqlite3.Connection, gallery: int) -> Slots:
    """The keys of a gallery. Raises KeyDestroyed, StoreDamaged, StoreIOError."""
    return keys_of(db).of(gallery)


def labels_identity(gallery: int, subject: int) -> bytes:
    return _IDENTITY(b"lab", gallery, subject)


def encoding_identity(generation: int, encoding: int) -> bytes:
    return _IDENTITY(b"enc", generation, encoding)


def negative_identity(generation: int, negative: int) -> bytes:
    return _IDENTITY(b"neg", generation, negative)


def crop_identity(generation: int, encoding: int) -> bytes:
    return _IDENTITY(b"crp", generation, encoding)


def request_identity(gallery: int, request: int) -> bytes:
    return _IDENTITY(b"req", gallery, request)


class Contents(NamedTuple):
    """What is encrypted with the key of a subject: a column of a table whose rows say whose they are by `subject`. What
    it belongs to is told by another column, `owner`, and by the row's rowid."""

    table: str
    column: str
    owner: str
    identity: Identity


CONTENTS = (
    Contents("encodings", "vector", "generation", encoding_identity),
    Contents("negatives", "vector", "generation", negative_identity),
    Contents("crops", "picture", "generation", crop_identity),
    Contents("requests", "answer", "gallery", request_identity),
)


def block_identity(generation: int, first: int) -> bytes:
    return _IDENTITY(b"blk", generation, first)


def encrypt(key: AESGCM, content: bytes, identity: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + key.encrypt(nonce, content, identity)


def decrypt(key: AESGCM, sealed: bytes, identity: bytes) -> bytes | None:
    """None for what wasn't encrypted so."""
    try:
        return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], identity)
    except (InvalidTag, ValueError, OverflowError):
        return None
