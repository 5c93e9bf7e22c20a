"""What to open a data directory with this version would do to it, told without opening it: nothing is written.

The schema is read from the files themselves (SQLite's format, "The Write-Ahead Log"): a connection would make files
beside the database, or rebuild what a crash left.
"""

import os
import shutil
import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from oneglance_index import DATABASE_NAME, SCHEMA_VERSION
from oneglance_index.store.directory import LOCK_NAME
from oneglance_server.errors import StartupError

# Measured, docs/operations.md: to encrypt and seal a million encodings takes about so long.
_SECONDS_FOR_ONE = 10e-6
_FIRST_PAGE = 1
_VERSION_AT = 60  # of the database's header: PRAGMA user_version
_WAL_HEADER, _FRAME_HEADER = struct.Struct(">8I"), struct.Struct(">6I")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """schema, own: of the directory, and of this version. encodings: enrolled ones, those of a log that waits left out.

    seconds, bytes: what the conversion takes, about; free_bytes: what the file system has.
    """

    schema: int
    own: int
    encodings: int
    store_bytes: int
    seconds: float
    bytes: int
    free_bytes: int

    @property
    def too_new(self) -> bool:
        return self.schema > self.own

    @property
    def has_room(self) -> bool:
        return self.bytes <= self.free_bytes

    def __str__(self) -> str:
        size = f"schema {self.schema}, {self.encodings:,} encodings, {self.store_bytes:,} bytes"
        if self.too_new:
            return (
                f"{size}: a later version wrote it; this one reads up to schema {self.own}. To go back to this "
                "version, restore a backup that was made with it"
            )
        if self.schema == self.own:
            return f"{size}: of this version; nothing is to be converted"
        takes = (
            f"{size}: it is converted to schema {self.own} when it is opened, in one transaction: about "
            f"{max(1, round(self.seconds))} s, and {self.bytes:,} of {self.free_bytes:,} free bytes for that time. "
            "Afterwards the earlier version refuses it: make a backup first"
        )
        return takes if self.has_room else f"{takes}. There is no room for that"


def upgrade_of(data_dir: Path) -> Upgrade:
    """Raises StartupError where there is no store, or it can't be read."""
    path = data_dir / DATABASE_NAME
    try:
        log = path.with_name(f"{path.name}-wal")
        with path.open("rb") as file:
            page = file.read(100)
        logged = _newest_first_page(log) if log.exists() else None
        if not page and logged is None:
            raise StartupError(f"{path}: empty: there is no store in it")
        header = page if logged is None else logged
        if not header.startswith(b"SQLite format 3\0"):
            raise StartupError(f"{path}: no SQLite database")
        schema = int.from_bytes(header[_VERSION_AT : _VERSION_AT + 4], "big")
        size = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
        free = shutil.disk_usage(data_dir).free
        encodings = _encodings(path)
    except (OSError, sqlite3.Error) as error:
        raise StartupError(f"{path}: {error}") from error
    converted = schema < SCHEMA_VERSION
    return Upgrade(
        schema,
        SCHEMA_VERSION,
        encodings,
        size,
        encodings * _SECONDS_FOR_ONE if converted else 0.0,
        size if converted else 0,
        free,
    )


def holder_of(data_dir: Path) -> int | None:
    """The process that has the directory open; None: none that can be seen from here. The lock isn't touched."""
    try:
        found = (data_dir / LOCK_NAME).stat()
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in locks:
        words = line.split()
        if words[1] == "FLOCK" and wanted in words:
            return int(words[words.index(wanted) - 1])
    return None


def _newest_first_page(log: Path) -> bytes | None:
    """The beginning of page 1 as the last committed transaction in the write-ahead log left it; None: not in it."""
    newest = pending = None
    with log.open("rb") as file:
        header = file.read(_WAL_HEADER.size)
        if len(header) < _WAL_HEADER.size:
            return None
        _, _, page_bytes, _, *salts = _WAL_HEADER.unpack(header)[:6]
        while len(frame := file.read(_FRAME_HEADER.size)) == _FRAME_HEADER.size:
            number, committed, *of_frame = _FRAME_HEADER.unpack(frame)[:4]
            if of_frame != salts:  # left over from before the log began anew
                break
            if number == _FIRST_PAGE:
                pending = file.read(100)
                file.seek(page_bytes - len(pending), os.SEEK_CUR)
            else:
                file.seek(page_bytes, os.SEEK_CUR)
            if committed and pending is not None:
                newest, pending = pending, None
    return newest


def _encodings(path: Path) -> int:
    """Without a look at the log: a file that is read so may not be written meanwhile, and its count is good enough."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM encodings").fetchone()[0])
    except sqlite3.DatabaseError:  # all of it is in the log still
        return 0
