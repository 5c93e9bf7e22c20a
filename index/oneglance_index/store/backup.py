"""Copies of a store, whole and checked: made while a server writes, and put back where a store was lost."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from oneglance_core.files import replacing, sync_folder
from oneglance_index.errors import StoreDamaged, StoreFull, StoreIOError
from oneglance_index.store.checking import check_file, reading_file
from oneglance_index.store.directory import DATABASE_NAME, SNAPSHOTS_NAME, lock_directory, open_files

_TOLD = 5


def back_up(path: Path, target: Path) -> None:
    """Writes the database `path`, as it is at one moment, to the file `target`; others may write meanwhile.

    `target` is replaced once the copy is whole and on the disk, else it stays as it was. Raises StoreError,
    OutOfMemory; StoreDamaged where the copy isn't sound.
    """
    try:
        with replacing(target) as fresh:
            _copy(path, fresh)
            _check(fresh, target)
    except OSError as error:
        raise _disk_error(error, target) from error


def restore(source: Path, data_dir: Path) -> Path | None:
    """Puts the backup `source` into a data directory that no server has open.

    What is there is moved to a folder of the directory, which is returned; None where nothing was. Raises StoreError.
    """
    _check(source, source)
    lock = lock_directory(data_dir)
    try:
        path = data_dir / DATABASE_NAME
        files = [file for file in open_files(path)[:3] if file.exists()]
        files += [folder for folder in (data_dir / SNAPSHOTS_NAME,) if folder.exists()]
        former = _former(data_dir) if files else None
        # The copy is made first: it is the longest step, and may find the disk full.
        part = path.with_name(path.name + ".restored")
        with replacing(part) as fresh:
            _copy(source, fresh)
        if former is not None:
            former.mkdir(mode=0o700)
            for file in files:
                file.rename(former / file.name)
            sync_folder(former)
        part.rename(path)
        sync_folder(data_dir)
        return former
    except OSError as error:
        raise _disk_error(error, data_dir) from error
    finally:
        os.close(lock)


def _copy(source: Path, target: Path) -> None:
    """Into an empty file, with what the log of `source` holds; another process may go on writing there."""
    with reading_file(source) as db:
        db.execute("ROLLBACK")  # VACUUM INTO sees one state by itself
        db.execute("PRAGMA query_only = OFF")  # it writes to the copy only
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of the copy
        db.execute("VACUUM INTO ?", (str(target),))
    os.chmod(target, 0o600)


def _check(path: Path, named: Path) -> None:
    lost = list(islice(check_file(path), _TOLD))
    if lost:
        raise StoreDamaged(named, "; ".join(lost))


def _former(data_dir: Path) -> Path:
    number = 1
    while (data_dir / f"former-{number}").exists():
        number += 1
    return data_dir / f"former-{number}"


def _disk_error(error: OSError, path: Path) -> StoreFull | StoreIOError:
    kind = StoreFull if error.errno in (28, 122) else StoreIOError  # ENOSPC, EDQUOT
    return kind(path, str(error))
