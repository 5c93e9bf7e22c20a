"""A folder for the sockets of one process, which is gone when the process ended, at the latest with the next one's."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "oneglance-sockets-"
_LOCK = "lock"


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """One that only this user gets into. Those of processes that were killed are removed. Raises OSError."""
    for former in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_if_left(former)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with open(folder / "new", "x") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(folder / "new", folder / _LOCK)  # nobody finds it before it is locked
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    """If it is this user's, and the process that made it holds its lock no more."""
    with contextlib.suppress(OSError):
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            return
        with open(folder / _LOCK, opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
