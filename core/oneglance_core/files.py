"""Replace a file as a whole: whoever reads it, at whatever moment, gets the old content or the new one."""

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

PART_PREFIX, PART_SUFFIX = ".oneglance-", ".part"
"""A file that is being written is hidden and called ``.oneglance-*.part``; only a kill -9 or a crash leaves one."""

# What a file system says that cannot sync a folder. It keeps the order of a rename by other means, or not at all.
_CANNOT_SYNC_FOLDERS = (errno.EINVAL, errno.ENOTSUP)
# What one says that has no hard links.
_CANNOT_LINK = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
_LOCKED_BYTE = 1 << 62


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], new: bool = False, private: bool = False) -> Iterator[Path]:
    """A new, empty file beside ``path``, to be written in the block; at the block's end it takes the place of ``path``.

    ``new``: there must be no ``path`` yet, nor come one meanwhile; else FileExistsError is raised, and it stays.

    ``private``: a file that wasn't there before is its owner's alone (0600).

    When the block has ended, the content and the name are on disk (fsync of file and folder). When the block or the
    replacing fails, ``path`` is as it was and the new file is gone. Write to the path that is yielded, and close it
    before the block ends; don't rename it.

    - The permissions (rwx) of a file that is replaced are kept, its owner is not. A new file gets the usual ones.
    - Of a symbolic link, the file that it points to is replaced, or made; the link stays.
    - The folder must exist.
    - Of two writers at a time, the one that ends last wins.

    Raises OSError: before anything is written when ``path`` is a folder, a pipe, a device or anything else but a
    regular file, or when its folder can't be written to; afterwards as the disk fails. If only the fsync of the folder
    fails, at the very end, the new content is in place already, but a power cut may still undo it.
    """
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    if new and mode is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Nobody else may read it before it has the permissions of what it replaces.
        fresh, descriptor = _part(target.parent, 0o666 if mode is None and not private else 0o600)
        try:
            yield fresh
            if mode is not None:
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            _put(fresh, target, new)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
        finally:
            os.close(descriptor)
        _sync(folder)
    finally:
        os.close(folder)


def _part(folder: Path, mode: int) -> tuple[Path, int]:
    """A new part, open and locked."""
    while True:
        part = folder / f"{PART_PREFIX}{os.urandom(8).hex()}{PART_SUFFIX}"
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            _lock(descriptor)
            removed = os.fstat(descriptor).st_nlink == 0
        except (BlockingIOError, PermissionError):
            removed = True  # remove_left_parts() has it
        except OSError:  # where none can be locked, none is removed
            removed = False
        if not removed:
            return part, descriptor
        os.close(descriptor)


def remove_left_parts(folder: Path) -> None:
    """The parts in a folder that nobody is writing any more. What can't be looked at, or removed, stays."""
    for part in folder.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                _lock(descriptor)
                os.unlink(part)
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> None:
    """The lock ends with the descriptor, or the process. It is on a byte far away: on NFS a lock on a whole file is in
    the way of those of SQLite, which may write it. Raises OSError where another descriptor has it."""
    wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)


def _put(fresh: Path, target: Path, new: bool) -> None:
    if new:
        try:
            os.link(fresh, target)  # unlike a rename, it replaces nothing
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
        else:
            os.unlink(fresh)
            return
    os.replace(fresh, target)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Put the names in a folder on disk: those made, changed and removed. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(folder)
    finally:
        os.close(folder)


def _sync(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise


def _mode(target: Path) -> int | None:
    """The permissions of the regular file ``target``; None when there is none."""
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return mode & 0o777
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if stat.S_ISLNK(mode):  # realpath follows all links but those that run in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    raise OSError(errno.EINVAL, "not a regular file", str(target))
