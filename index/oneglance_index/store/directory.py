"""A data directory: one process takes it, what it must hold before a store is opened, and whether it still is there.

A store that is gone, beside files that only a store can have made, is never taken for a new one: these files may be
the last copy. Files that are removed or replaced while they are open go on taking writes that nobody will ever read;
so their identity is compared before anything is acknowledged.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from oneglance_core.files import PART_PREFIX, PART_SUFFIX
from oneglance_index.errors import StoreGone, StoreIOError, StoreLocked, StoreMissing

LOCK_NAME = "lock"
DATABASE_NAME = "store.sqlite3"
SNAPSHOTS_NAME = "snapshots"
SNAPSHOT_SUFFIX = ".snap"
KEYS_NAME = "keys"
# In the folder of the keys.
COMMITS_NAME = "commits"
# Copies that are to take the place of the database, and the folders for what was in its place before.
RESTORED_SUFFIX, REPAIRED_SUFFIX, FORMER_PREFIX = ".restored", ".repaired", "former-"
# What a repair could not save, a line each: beside its copy, then with the damaged database.
NOT_SAVED_NAME = "not-saved.txt"
# The keys of a store of an earlier schema, while it is being encrypted, and those of a backup, while it is restored.
CONVERTING_NAME, RESTORED_KEYS_NAME = "keys.converting", "keys.restored"

HOW_TO_RESTORE = (
    "put a backup in its place with `oneglance restore`; to begin anew instead, move these files elsewhere first"
)


def lock_directory(data_dir: Path) -> int:
    """Takes the directory for this process, making it if need be; the lock ends with the descriptor, or with the
    process. Raises StoreLocked, StoreIOError."""
    path = data_dir / LOCK_NAME
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreIOError(data_dir, str(error)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise StoreLocked(path) from None
        raise StoreIOError(path, str(error)) from error
    return descriptor


def snapshot_files(data_dir: Path) -> list[Path]:
    """The files of snapshots in a data directory, by name. Raises StoreIOError."""
    try:
        return sorted((data_dir / SNAPSHOTS_NAME).glob(f"*{SNAPSHOT_SUFFIX}"))
    except OSError as error:
        raise StoreIOError(data_dir / SNAPSHOTS_NAME, str(error)) from error


def holds_something(path: Path) -> bool:
    """Whether the database `path` is there and not empty. Raises OSError."""
    return path.exists() and path.stat().st_size > 0


def check_before_opening(path: Path) -> None:
    """Call it before SQLite sees the database `path`: SQLite makes one where there is none, and throws away the log of
    an empty one. Raises StoreMissing, StoreIOError."""
    try:
        if holds_something(path):
            return
        log = log_of(path)
        if log.exists() and log.stat().st_size:
            raise StoreMissing(path, f"but {log.name} is there: {HOW_TO_RESTORE}")
    except OSError as error:
        raise StoreIOError(path, str(error)) from error
    check_new(path)


def check_new(path: Path) -> None:
    """The database `path` holds nothing. Raises StoreMissing where there are snapshots, keys, or
    what a restore leaves, StoreIOError."""
    if path.with_name(path.name + REPAIRED_SUFFIX).exists():
        raise StoreMissing(path, "a repair was interrupted: finish it with `oneglance repair`")
    found = snapshot_files(path.parent)
    if found:
        raise StoreMissing(path, f"but {SNAPSHOTS_NAME}/{found[0].name} is there: {HOW_TO_RESTORE}")
    slots = sorted((path.parent / KEYS_NAME).glob("*.slots"))
    if slots:
        raise StoreMissing(path, f"but {KEYS_NAME}/{slots[0].name} is there: {HOW_TO_RESTORE}")
    kept = [*path.parent.glob(f"{FORMER_PREFIX}*"), *path.parent.glob(path.name + RESTORED_SUFFIX)]
    for one in kept[:1]:
        raise StoreMissing(
            path, f"but {one.name} is there, as a restore that was interrupted leaves it: {HOW_TO_RESTORE}"
        )


def remove_leftovers(path: Path) -> None:
    """What a process that died left beside the database `path`: copies of it that were never finished. One that may be
    the only one stays. Call it with the directory's lock. Raises StoreIOError."""
    try:
        left = [*path.parent.glob(f"{PART_PREFIX}*{PART_SUFFIX}")]
        if holds_something(path):
            left += [path.with_name(path.name + suffix) for suffix in (RESTORED_SUFFIX, REPAIRED_SUFFIX)]
            with suppress(FileNotFoundError):
                shutil.rmtree(path.with_name(RESTORED_KEYS_NAME))
        for one in left:
            one.unlink(missing_ok=True)
    except OSError as error:
        raise StoreIOError(path.parent, str(error)) from error


def former_keys(data_dir: Path) -> list[Path]:
    """Folders with keys that a restore moved aside: what is deleted now can be read there. Raises OSError."""
    return sorted(path.parent for path in data_dir.glob(f"{FORMER_PREFIX}*/{KEYS_NAME}"))


def check_none_is_later(data_dir: Path, last_generation: int, revisions: Mapping[int, int]) -> None:
    """Raises StoreMissing for a snapshot that the store can't have made yet: of a generation above the last one, or of
    a revision above the one that its generation has now, by `revisions`.

    The store is then an older one, or another, and the file may hold what is nowhere else.
    """
    for path in snapshot_files(data_dir):
        generation, _, revision = path.stem.partition("-")
        if not (generation.isascii() and generation.isdecimal() and revision.isascii() and revision.isdecimal()):
            continue
        number = int(generation)
        if number > last_generation or (number in revisions and int(revision) > revisions[number]):
            raise StoreMissing(
                data_dir / DATABASE_NAME,
                f"this one is older than {SNAPSHOTS_NAME}/{path.name}, which it hasn't made: {HOW_TO_RESTORE}",
            )


def check_writable(data_dir: Path) -> None:
    """Snapshots can be made and removed, if there are any. Raises StoreIOError."""
    folder = data_dir / SNAPSHOTS_NAME
    if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
        raise StoreIOError(folder, "nothing can be written there: whose is it, and how is it mounted?")


def log_of(path: Path) -> Path:
    """The write-ahead log of the database `path`."""
    return path.with_name(path.name + "-wal")


def open_files(path: Path) -> tuple[Path, ...]:
    """What stays in place while the database `path` is open: the database, its log, that log's index, the lock, and the
    folder of its keys."""
    return (
        *(path, log_of(path), path.with_name(path.name + "-shm")),
        *(path.with_name(LOCK_NAME), path.with_name(KEYS_NAME)),
    )


class OpenFiles:
    """The files that a store keeps open; check() says whether they still are what their names stand for. Thread-safe.

    Raises OSError for one that isn't there.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._identities = {path: _identity(path) for path in paths}

    def check(self) -> None:
        """Raises StoreGone. Takes microseconds."""
        for path, identity in self._identities.items():
            try:
                same = _identity(path) == identity
            except OSError:
                same = False
            if not same:
                raise StoreGone(path)


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
