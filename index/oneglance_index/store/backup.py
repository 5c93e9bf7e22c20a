"""Copies of a store, whole and checked: made while a server writes, and put back where a store was lost.

A copy is one file: the database, and in a table of its own the files of its keys, encrypted as they are. Only with the
master key, which is not in it, can it be used. While a copy is made no key is destroyed: so the keys are those of
exactly this state of the database.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from oneglance_core.files import remove_left_parts, replacing, sync_folder
from oneglance_index.audit import ITSELF, Event
from oneglance_index.errors import BackupExists, StoreClosed, StoreDamaged, StoreError
from oneglance_index.records import Backup
from oneglance_index.store import queries
from oneglance_index.store.checking import check_rows, hashes_of, key_files_of, reading_file, version_of
from oneglance_index.store.ciphers import Connection
from oneglance_index.store.directory import (
    DATABASE_NAME,
    FORMER_PREFIX,
    KEYS_NAME,
    RESTORED_KEYS_NAME,
    RESTORED_SUFFIX,
    SNAPSHOTS_NAME,
    lock_directory,
    open_files,
    remove_leftovers,
)
from oneglance_index.store.disk import disk_error
from oneglance_index.store.hashing import Hashes
from oneglance_index.store.keys import Keys, copying, key_files
from oneglance_index.store.ledger import seal_store
from oneglance_index.store.master import master_keys
from oneglance_index.store.schema import store_error
from oneglance_index.store.tables import KEY_FILES_NAME, TRAIL_SINCE
from oneglance_index.store.trail import Trail, public_key_of, signed_head

_TOLD = 5
_KEY_FILES = f"CREATE TABLE {KEY_FILES_NAME} (name TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT"


def back_up(path: Path, target: Path, master_key: str = "") -> Backup:
    """Writes the database `path`, as it is at one moment, to the file `target`; others may write meanwhile.
    `master_key` says where the master key is (master.py). As write_backup()."""
    return write_backup(path, target, hashes_of(path.parent, master_key))


def write_backup(
    path: Path, target: Path, hashes: Hashes, *, new: bool = False, ended: Callable[[], bool] = lambda: False
) -> Backup:
    """As back_up(), with the hashes of the store.

    `target` is replaced once the copy is whole and on the disk, else it stays as it was; if `new`, it must not be
    there. `ended` is asked now and then: once it is true the copy is given up. Raises StoreError (StoreClosed where it
    was given up, StoreDamaged where the copy isn't sound), OutOfMemory, BackupExists.
    """
    if new and target.is_dir():
        raise BackupExists(target.name)
    try:
        remove_left_parts(Path(os.path.realpath(target)).parent)
        with replacing(target, new, private=True) as fresh:
            created = time.time()
            with copying(path.parent):
                _copy(path, fresh, ended)
                _add_keys(path.parent, fresh)
            _check(fresh, target, hashes, ended)
            with reading_file(fresh, hashes, ended) as db:
                galleries = tuple(stored.gallery for stored in queries.all_galleries(db))
            size = fresh.stat().st_size
    except FileExistsError:
        raise BackupExists(target.name) from None
    except (StoreError, sqlite3.Error, OSError) as error:
        if ended():  # it was interrupted, and nothing is wrong
            raise StoreClosed(path) from error
        if isinstance(error, sqlite3.Error):
            raise store_error(error, target) from error
        if isinstance(error, OSError):
            raise disk_error(error, target) from error
        raise
    return Backup(size, created, tuple(sorted(galleries, key=lambda gallery: gallery.id)))


def restore(source: Path, data_dir: Path, master_key: str = "") -> Path | None:
    """Puts the backup `source` into a data directory that no server has open.

    What is there is moved to a folder of the directory, which is returned; None where nothing was. `master_key` says
    where the master key is (master.py), which stays where it is. Before anything is moved, all keys in the backup are
    tried with it. Raises StoreError: MasterKeyMissing, MasterKeyWrong, and StoreDamaged for a backup that isn't sound.
    """
    with reading_file(source):  # before a directory is locked, or made
        pass
    lock = lock_directory(data_dir)
    try:
        path = data_dir / DATABASE_NAME
        remove_leftovers(path)
        masters = master_keys(master_key, "", data_dir, make=False)
        files = [file for file in open_files(path)[:3] if file.exists()]
        folders = (data_dir / SNAPSHOTS_NAME, data_dir / KEYS_NAME)
        files += [folder for folder in folders if folder.exists()]
        former = former_folder(data_dir) if files else None
        # The copy is made first: it is the longest step, and may find the disk full.
        part, keys = path.with_name(path.name + RESTORED_SUFFIX), data_dir / RESTORED_KEYS_NAME
        shutil.rmtree(keys, ignore_errors=True)  # of a restore that was killed
        try:
            with replacing(part, private=True) as fresh:
                _copy(source, fresh)
                _write_keys(keys, _take_keys(fresh, source))
                _try_keys(fresh, data_dir, masters, source, _trail_of(path))
        except BaseException:
            shutil.rmtree(keys, ignore_errors=True)
            raise
        if former is not None:
            former.mkdir(mode=0o700)
            for file in files:
                file.rename(former / file.name)
            sync_folder(former)
        keys.rename(data_dir / KEYS_NAME)
        part.rename(path)
        sync_folder(data_dir)
        return former
    except sqlite3.Error as error:
        raise store_error(error, source) from error
    except OSError as error:
        raise disk_error(error, data_dir) from error
    finally:
        os.close(lock)


def _copy(source: Path, target: Path, ended: Callable[[], bool] | None = None) -> None:
    """Into an empty file, with what the log of `source` holds; another process may go on writing there."""
    with reading_file(source, ended=ended) as db:
        db.execute("ROLLBACK")  # VACUUM INTO sees one state by itself
        db.execute("PRAGMA query_only = OFF")  # it writes to the copy only
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of the copy
        db.execute("VACUUM INTO ?", (str(target),))


def _add_keys(data_dir: Path, copy: Path) -> None:
    with _open(copy) as db:
        db.execute(_KEY_FILES)
        numbers = {str(row[0]) for row in db.execute("SELECT number FROM galleries")}
        for path in key_files(data_dir):
            if path.suffix != ".slots" or path.name.split("-")[0] in numbers:
                db.execute("INSERT INTO key_files (name, content) VALUES (?, ?)", (path.name, path.read_bytes()))


def _take_keys(copy: Path, source: Path) -> dict[str, bytes]:
    """The files of its keys, by name, which then aren't in the copy any more."""
    with _open(copy) as db:
        files = key_files_of(db)
        if not files:
            raise StoreDamaged(source, "it holds no keys: `oneglance backup` didn't make it")
        db.execute("DROP TABLE key_files")
    return files


@contextlib.contextmanager
def _open(copy: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = MEMORY")  # if it fails in the middle, the copy is of no use anyway
        db.execute("PRAGMA secure_delete = ON")
        yield db


def _write_keys(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        with replacing(folder / Path(name).name, private=True) as fresh:
            fresh.write_bytes(content)
    sync_folder(folder.parent)


def _trail_of(path: Path) -> dict[str, object] | None:
    """Where the audit trail of the database `path` ends, as far as it tells."""
    with contextlib.suppress(StoreError, sqlite3.Error), reading_file(path) as db:
        return signed_head(db, None).told()
    return None


def _try_keys(
    copy: Path, data_dir: Path, masters: Sequence[bytes], source: Path, replaced: dict[str, object] | None
) -> None:
    """Checks all rows, and decrypts the labels of all subjects, and so tries each key. The audit trail then tells that
    this was restored, and which end of a trail it `replaced`."""
    keys = Keys(data_dir, masters, folder_name=RESTORED_KEYS_NAME, settle=False)
    try:
        with contextlib.closing(keys):
            with reading_file(copy, keys) as db:
                _check(copy, source, keys.hashes, public_key=public_key_of(keys.signing_seed))
                for stored in queries.all_galleries(db):
                    for subject in queries.subjects_of(db, stored.place.number):
                        queries.labels(db, subject)
                has_trail = version_of(db) >= TRAIL_SINCE
            if has_trail:
                _tell(copy, keys, Event(ITSELF, "restore", details={"replaced": replaced}))
    except StoreDamaged as error:
        raise StoreDamaged(source, error.detail) from error


def _tell(path: Path, keys: Keys, event: Event) -> None:
    """Adds an entry to the audit trail of a copy that nobody has open yet."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, factory=Connection)) as db:
        db.row_factory = sqlite3.Row
        db.use(keys)
        db.execute("BEGIN")
        trail = Trail(db, hashed=False)
        trail.begin()
        trail.add([event])
        trail.write()
        seal_store(db)
        db.execute("COMMIT")


def _check(
    path: Path,
    named: Path,
    hashes: Hashes,
    ended: Callable[[], bool] | None = None,
    public_key: Ed25519PublicKey | None = None,
) -> None:
    lost = list(islice(check_rows(path, hashes, ended, public_key), _TOLD))
    if lost:
        raise StoreDamaged(named, "; ".join(lost))


def former_folder(data_dir: Path) -> Path:
    """Where to put what was in a data directory: it isn't there yet."""
    number = 1
    while (data_dir / f"{FORMER_PREFIX}{number}").exists():
        number += 1
    return data_dir / f"{FORMER_PREFIX}{number}"
