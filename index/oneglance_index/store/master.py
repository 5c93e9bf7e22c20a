"""Where the master key comes from: a file, a variable of the environment, or what a command prints.

A source is written as `file:PATH`, `env:NAME` or `command:WORDS`; "" is the file `master.key` in the data directory,
which is made where there is none. A key is 32 bytes, written as 64 hexadecimal digits. A command is that of a key
management service, say: it gets no input, and must end within COMMAND_SECONDS.

The directory's own key is rotated by a file `master.key.next`, which takes the place of the other once all keys are
encrypted with it. A process may die in between: whoever opens the directory tries both, and then settles it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from oneglance_core.files import replacing, sync_folder
from oneglance_index.errors import MasterKeyMissing
from oneglance_index.store.disk import disk_error

KEY_BYTES = 32
COMMAND_SECONDS = 30.0
OWN_NAME = "master.key"
_NEXT_NAME = "master.key.next"


def read_master_key(source: str, data_dir: Path, make: bool) -> bytes:
    """`make`: a key file of the directory's own is made where there is none. Raises MasterKeyMissing, StoreFull,
    StoreIOError."""
    kind, _, rest = source.partition(":")
    if not source:
        path = data_dir / OWN_NAME
        if make and not path.exists():
            _make(path)
        return _parsed(_read(path), str(path), path)
    if kind == "file" and rest:
        return _parsed(_read(Path(rest)), source, data_dir)
    if kind == "env" and rest:
        return _parsed(os.environ.get(rest, ""), source, data_dir)
    if kind == "command" and rest:
        return _parsed(_printed(rest, data_dir), "the command", data_dir)
    raise MasterKeyMissing(data_dir, "where it is said to be is none of file:PATH, env:NAME, command:WORDS")


def master_keys(source: str, former_source: str, data_dir: Path, make: bool) -> list[bytes]:
    """All that the keys of a directory may be encrypted with: the right one first, then those of a rotation that wasn't
    finished. `former_source` is that of the key before it, "" where there is none. As read_master_key()."""
    keys = []
    if not source and (data_dir / _NEXT_NAME).exists():
        keys.append(_parsed(_read(data_dir / _NEXT_NAME), _NEXT_NAME, data_dir))
    try:
        keys.append(read_master_key(source, data_dir, make))
    except MasterKeyMissing:
        if not keys:  # else it was overwritten already
            raise
    if former_source:
        keys.append(read_master_key(former_source, data_dir, make=False))
    return keys


def next_master_key(source: str, data_dir: Path) -> bytes:
    """The key to rotate to: a new one for the directory's own file, else what the source gives now. As
    read_master_key()."""
    if source:
        return read_master_key(source, data_dir, make=False)
    path = data_dir / _NEXT_NAME
    if not path.exists():
        _make(path)
    return _parsed(_read(path), str(path), path)


def settle_master_key(source: str, data_dir: Path, in_use: Callable[[bytes], bool]) -> None:
    """Where the keys are encrypted with the next key, that is the directory's own from now on. `in_use` says whether
    they are encrypted with a key. Raises as read_master_key()."""
    path, following = data_dir / OWN_NAME, data_dir / _NEXT_NAME
    if source or not following.exists() or not in_use(_parsed(_read(following), _NEXT_NAME, following)):
        return
    try:
        with path.open("r+b") as former:  # so that what it was is nowhere on the disk
            former.write(os.urandom(os.fstat(former.fileno()).st_size))
            former.flush()
            os.fsync(former.fileno())
        following.replace(path)
        sync_folder(data_dir)
    except OSError as error:
        raise disk_error(error, path) from error


def _make(path: Path) -> None:
    try:
        with replacing(path) as fresh:
            fresh.chmod(0o600)
            fresh.write_text(os.urandom(KEY_BYTES).hex() + "\n", encoding="ascii")
        path.chmod(0o600)
    except OSError as error:
        raise disk_error(error, path) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise MasterKeyMissing(path, "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MasterKeyMissing(path, str(error)) from error


def _printed(command: str, data_dir: Path) -> str:
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=True,
            text=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        # Neither its words nor what it printed: they may be secret.
        reason = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, subprocess.CalledProcessError):
            reason = f"it ended with {error.returncode}"
        raise MasterKeyMissing(data_dir, f"the command failed: {reason}") from None
    return done.stdout


def _parsed(text: str, source: str, path: Path) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise MasterKeyMissing(path, f"{source} gives no key of {2 * KEY_BYTES} hexadecimal digits")
    return key
