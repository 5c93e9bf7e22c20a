"""Every row says itself whether it is what was written: its seal. And every gallery knows which rows it has.

A seal is a hash with a key (hashing.py) over all other columns of a row and the name of its table. Rows name each other
by numbers, which never change and are never used twice, so that a row can't stand in for another one. A gallery keeps
how many sealed rows it has, and their digest: the sum of their seals, modulo 2^64, whatever their order. Both change in
the transaction that changes the rows. So a row that was edited shows when it is read; one that was dropped, doubled, or
put back to what it was before shows when the store is opened. The store keeps the same of its galleries, and of what
those know; its own seal is of that, of how many transactions there were, of the numbers that were given, and of the
head of the audit trail.

SEALED is the one list of tables that this holds for. A new table gets a column `seal INTEGER NOT NULL DEFAULT 0`, an
entry there, and is written through Ledger (ledger.py). Tables that can be made anew from others are not sealed: the log
of deletions, the rows that vouch for snapshots, and those of their blocks.

Who can write the database but has no master key can put back rows that once were, as long as their sum is right, but
make none. Version 6 had no key.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from oneglance_index.errors import StoreDamaged
from oneglance_index.store.ciphers import hashes_of

MODULUS = 1 << 64
_LENGTH = struct.Struct("<Bq")
_REAL = struct.Struct("<Bd")


class Total(NamedTuple):
    """How many rows, and the sum of their seals, in [0, 2^64)."""

    rows: int
    digest: int

    def plus(self, other: Total) -> Total:
        return Total(self.rows + other.rows, (self.digest + other.digest) % MODULUS)

    def minus(self, other: Total) -> Total:
        return Total(self.rows - other.rows, (self.digest - other.digest) % MODULUS)


NO_ROWS = Total(0, 0)


def of_seals(seals: Iterable[int]) -> Total:
    listed = list(seals)
    return Total(len(listed), sum(listed) % MODULUS)


def signed(digest: int) -> int:
    """As SQLite keeps it, whose integers have a sign."""
    return digest - MODULUS if digest >= MODULUS // 2 else digest


# What an SQL aggregate over rows gives: their number, and two sums that can't overflow.
TOTAL = "COUNT(*), COALESCE(SUM(seal & 4294967295), 0), COALESCE(SUM(seal >> 32), 0)"


def total_of(values: Sequence[Any]) -> Total:
    """Of what TOTAL gives."""
    rows, low, high = values
    return Total(rows, (low + (high << 32)) % MODULUS)


@dataclass(frozen=True)
class Sealed:
    """A table whose rows are sealed. Its `fixed` numbers must not be -0.0, which SQLite keeps as 0.0.

    `fixed` are the columns that always hold a number, in the order of `layout`, their formats for struct; `others` hold
    text, bytes, a real number, or nothing. `owner` says by which column a row belongs to its gallery: "gallery",
    "generation", or "" for the galleries themselves. `key` identifies a row.
    """

    name: str
    owner: str
    layout: str
    fixed: tuple[str, ...]
    others: tuple[str, ...]
    key: tuple[str, ...] = ("number",)
    columns: str = field(init=False)
    insertion: str = field(init=False, repr=False)
    _pack: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = (*self.fixed, *self.others, "seal")
        object.__setattr__(self, "columns", ", ".join(names))
        places = ", ".join("?" * len(names))
        object.__setattr__(self, "insertion", f"INSERT INTO {self.name} ({self.columns}) VALUES ({places})")
        object.__setattr__(self, "_pack", struct.Struct("<" + self.layout).pack)

    def seal(self, db: sqlite3.Connection, values: Sequence[Any]) -> int:
        """Of a row: its values in the order of `columns`, with or without the seal."""
        return next(self.seals(db, (values,)))

    def seals(self, db: sqlite3.Connection, rows: Iterable[Sequence[Any]]) -> Iterator[int]:
        """Of several rows."""
        count, end, pack = len(self.fixed), len(self.fixed) + len(self.others), self._pack
        hashed = hashes_of(db)[self.name]
        for row in rows:
            packed: bytes = pack(*row[:count])
            for value in row[count:end]:
                kind = type(value)
                if value is None:
                    packed += b"\0"
                elif kind is bytes:
                    packed += _LENGTH.pack(2, len(value)) + value
                elif kind is str:
                    content = value.encode()
                    packed += _LENGTH.pack(1, len(content)) + content
                else:
                    packed += _REAL.pack(3, value + 0.0)  # SQLite keeps -0.0 as 0.0
            yield hashed(packed)

    def is_sound(self, db: sqlite3.Connection, row: Sequence[Any]) -> bool:
        """Whether a row, its values in the order of `columns`, has its seal."""
        try:
            return bool(self.seal(db, row) == row[-1])
        except (struct.error, TypeError, ValueError, OverflowError):  # values of another type
            return False

    def check(self, db: sqlite3.Connection, row: Sequence[Any]) -> None:
        """Raises StoreDamaged."""
        if not self.is_sound(db, row):
            raise damaged(db, f"row {self.named(row)} was changed")

    def check_all(self, db: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Raises StoreDamaged."""
        try:
            sound = list(self.seals(db, rows)) == [row[-1] for row in rows]
        except (struct.error, TypeError, ValueError, OverflowError):  # values of another type
            sound = False
        if not sound:
            for row in rows:
                self.check(db, row)

    def named(self, row: Sequence[Any]) -> str:
        """For people: which row it is."""
        names = (*self.fixed, *self.others)
        return f"{'/'.join(str(row[names.index(column)]) for column in self.key)} of {self.name}"

    def row(self, row: sqlite3.Row) -> tuple[Any, ...]:
        """The values, in the order of `columns`, of a row that has them under these names."""
        return tuple(row[column] for column in (*self.fixed, *self.others, "seal"))


GALLERIES = Sealed(
    "galleries",
    "",
    "qd",
    ("number", "created"),
    ("id", "description", "target_fpir", "policies", "rights", "retention"),
)
GENERATIONS = Sealed(
    "generations",
    "gallery",
    "qqqqdd",
    ("number", "gallery", "dimension", "threshold_revision", "created", "least_gap"),
    ("state", "encoder_digest", "kind", "fusion", "quality", "threshold", "doubt", "decided_by"),
)
THRESHOLDS = Sealed(
    "thresholds",
    "generation",
    "qq",
    ("generation", "version"),
    ("threshold", "calibration", "since", "followed", "target_fpir", "subjects", "encodings"),
    ("generation", "version"),
)
SUBJECTS = Sealed(
    "subjects",
    "gallery",
    "qqqqdd",
    ("number", "gallery", "encodings", "slot", "created", "updated"),
    ("id", "labels", "expires", "purpose", "consent"),
)
ENCODINGS = Sealed(
    "encodings", "generation", "qqqqd", ("number", "generation", "subject", "revision", "created"), ("vector",)
)
NEGATIVES = Sealed("negatives", "generation", "qqqd", ("number", "generation", "subject", "created"), ("vector",))
CROPS = Sealed("crops", "generation", "qqq", ("encoding", "generation", "subject"), ("picture",), ("encoding",))
REQUESTS = Sealed("requests", "gallery", "qqqd", ("number", "gallery", "subject", "created"), ("id", "answer"))

MAPS = Sealed("maps", "generation", "qqd", ("generation", "version", "created"), ("loss",), ("generation",))
MAPPED = Sealed("mapped", "generation", "qqq", ("subject", "generation", "version"), (), ("subject",))

SEALED = (GALLERIES, GENERATIONS, THRESHOLDS, SUBJECTS, ENCODINGS, NEGATIVES, CROPS, REQUESTS, MAPS, MAPPED)
# Those whose rows a gallery counts.
COUNTED = tuple(table for table in SEALED if table.owner)
# Those whose rows go with a subject.
OF_SUBJECTS = (CROPS, ENCODINGS, NEGATIVES, MAPPED)

_ROOT = struct.Struct("<qqqqqq")


def root_seal(db: sqlite3.Connection, number: int, revision: int, subjects: int, encodings: int, total: Total) -> int:
    """The seal of what a gallery knows of its rows."""
    return hashes_of(db)["root"](_ROOT.pack(number, revision, subjects, encodings, total.rows, signed(total.digest)))


def store_seal(db: sqlite3.Connection, content: bytes) -> int:
    """The seal of what the store knows (store_row.store_content())."""
    return hashes_of(db)["store"](content)


def there(db: sqlite3.Connection, tables: Iterable[Sealed]) -> list[Sealed]:
    """Those of the tables that a database has, which may be of an earlier version."""
    found = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    return [table for table in tables if table.name in found]


def rows_of_gallery(table: Sealed) -> str:
    """An SQL condition, with the gallery's number as its parameter."""
    if table.owner == "gallery":
        return "gallery = ?"
    return f"{table.owner} IN (SELECT number FROM generations WHERE gallery = ?)"


def gallery_total(db: sqlite3.Connection, gallery: int, subjects: Total) -> Total:
    """Of all sealed rows that the gallery has, as the tables hold them; `subjects`: of its subjects."""
    total = subjects
    for table in there(db, COUNTED):
        if table is SUBJECTS:  # no index has their seals
            continue
        rows = db.execute(f"SELECT {TOTAL} FROM {table.name} WHERE {rows_of_gallery(table)}", (gallery,)).fetchall()
        total = total.plus(total_of(rows[0]))
    return total


def damaged(db: sqlite3.Connection, detail: str) -> StoreDamaged:
    files = [row["file"] for row in db.execute("PRAGMA database_list").fetchall() if row["name"] == "main"]
    return StoreDamaged(Path(files[0]), detail)
