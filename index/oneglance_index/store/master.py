"""Where the master key comes from: a file, a variable of the environment, or what a command prints.

A source is written as `file:PATH`, `env:NAME` or `command:WORDS`; "" is the file `master.key` in the data directory,
which is made where there is none. A key is 32 bytes, written as 64 hexadecimal digits. A command is that of a key
management service, say: it gets no input, and must end within COMMAND_SECONDS.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from oneglance_core.files import sync_folder
from oneglance_index.errors import MasterKeyMissing, StoreIOError

KEY_BYTES = 32
COMMAND_SECONDS = 30.0
OWN_NAME = "master.key"


def read_master_key(source: str, data_dir: Path, make: bool) -> bytes:
    """`make`: a key file of the directory's own is made where there is none. Raises MasterKeyMissing, StoreIOError."""
    kind, _, rest = source.partition(":")
    if not source:
        return _own(data_dir / OWN_NAME, make)
    if kind == "file" and rest:
        return _parsed(_read(Path(rest)), source, data_dir)
    if kind == "env" and rest:
        return _parsed(os.environ.get(rest, ""), source, data_dir)
    if kind == "command" and rest:
        return _parsed(_printed(rest, source, data_dir), source, data_dir)
    raise MasterKeyMissing(data_dir, f"{source!r} is none of file:PATH, env:NAME, command:WORDS")


def _own(path: Path, make: bool) -> bytes:
    if make and not path.exists():
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(os.urandom(KEY_BYTES).hex() + "\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(path.parent)
        except OSError as error:
            raise StoreIOError(path, str(error)) from error
    return _parsed(_read(path), str(path), path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise MasterKeyMissing(path, "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MasterKeyMissing(path, str(error)) from error


def _printed(command: str, source: str, data_dir: Path) -> str:
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
        raise MasterKeyMissing(data_dir, f"{source}: {error}") from None
    return done.stdout


def _parsed(text: str, source: str, path: Path) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise MasterKeyMissing(path, f"{source} gives no key of {2 * KEY_BYTES} hexadecimal digits")
    return key
