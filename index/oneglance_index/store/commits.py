"""How many transactions a store has done: so that an older copy of its database is known for one.

Such a copy doesn't name the keys of whoever came later. Once it is opened they would be destroyed, and with them the
newest copy could be read no more. So the database counts its transactions in `store.commits`, and the file
`keys/commits` has the count of the last one, and the store's id. The file is written after each COMMIT, and nobody
waits until it is on the disk: it may lag behind the database, but is never ahead of the newest one.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from oneglance_core.files import replacing
from oneglance_index.errors import StoreDamaged, StoreMissing
from oneglance_index.store.directory import COMMITS_NAME, DATABASE_NAME, HOW_TO_RESTORE, KEYS_NAME
from oneglance_index.store.disk import disk_error, write_at
from oneglance_index.store.ledger import seal_store
from oneglance_index.store.store_row import check_store, told_store

_CONTENT = struct.Struct("<32sQ")  # the store's id, its count
_CHECK_BYTES = 8


class CommitCount:
    """Belongs to whoever writes to `db`: count() before each COMMIT that changes something, committed() after it."""

    def __init__(self, db: sqlite3.Connection, data_dir: Path) -> None:
        """`db`: see check_newest()."""
        store = check_store(db)
        self._db, self._id, self._count = db, store.id, store.commits
        self._file = -1
        path = _path(data_dir)
        with suppress(OSError):  # a full disk, say: it is tried again at the next start
            if not path.exists():
                with replacing(path) as fresh:
                    fresh.chmod(0o600)
                    fresh.write_bytes(_packed(self._id, self._count))
            self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            write_at(self._file, _packed(self._id, self._count), 0)

    def count(self) -> None:
        """The last thing in the transaction. Raises sqlite3.Error."""
        self._db.execute("UPDATE store SET commits = ?", (self._count + 1,))
        seal_store(self._db)

    def committed(self) -> None:
        """The transaction is on the disk."""
        self._count += 1
        if self._file >= 0:
            with suppress(OSError):  # it lags behind then
                write_at(self._file, _packed(self._id, self._count), 0)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def known_commits(data_dir: Path) -> tuple[bytes, int] | None:
    """The id and the count in the file; None where there is none. Raises StoreDamaged, StoreIOError."""
    path = _path(data_dir)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error(error, path) from error
    if len(content) != _CONTENT.size + _CHECK_BYTES or _check(content[: _CONTENT.size]) != content[_CONTENT.size :]:
        raise StoreDamaged(path, f"it isn't what was written: remove it if {DATABASE_NAME} is the newest there is")
    store_id, count = _CONTENT.unpack(content[: _CONTENT.size])
    return store_id, count


def check_newest(db: sqlite3.Connection, data_dir: Path, known: tuple[bytes, int] | None) -> None:
    """Raises StoreMissing where the database isn't as new as is known, or is another store's; StoreDamaged.

    `known`: what known_commits() gave before `db` was read.
    """
    if known is None:
        return
    path, (store_id, count) = data_dir / DATABASE_NAME, known
    own_id, own_count = told_store(db)
    if own_id.encode() != store_id:
        raise StoreMissing(path, f"this one is not that of {KEYS_NAME}, but another store's: {HOW_TO_RESTORE}")
    if own_count < count:
        raise StoreMissing(
            path,
            f"this one is an older copy, of {own_count} transactions, but {KEYS_NAME} knows of {count}: put the"
            f" newest one in its place, or a backup with `oneglance restore`; to go on with this one, and lose for good"
            f" what came since, remove {KEYS_NAME}/{COMMITS_NAME}",
        )


def forget_commits(data_dir: Path) -> None:
    """The database is about to be replaced by one that may have done fewer. Raises OSError."""
    _path(data_dir).unlink(missing_ok=True)


def _path(data_dir: Path) -> Path:
    return data_dir / KEYS_NAME / COMMITS_NAME


def _packed(store_id: str, count: int) -> bytes:
    content = _CONTENT.pack(store_id.encode(), count)
    return content + _check(content)


def _check(content: bytes) -> bytes:
    return blake2b(content, digest_size=_CHECK_BYTES, person=b"commits").digest()
