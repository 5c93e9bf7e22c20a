"""Data directories that were damaged or edited: opened, and asked everything. No answer may be wrong, no error untyped.

    python -m tests.mutated_stores --count 20000 --seed 1

makes one data directory, and of it that many mutated ones: bytes of the database, of a snapshot or of the key files
changed, pages zeroed or swapped, files cut off or removed; rows edited, deleted, doubled, or put back to what they
were; files and pages as they were some writes before. Each is opened and asked for all that it holds. It must say what
the whole one says, or refuse with a GalleryError. The case of a number depends on the seed only: --only NUMBER runs it
alone.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from oneglance_index import GalleryError, LocalGalleries, Search

DIMENSION = 8
GALLERIES = {"nearest": "nearest", "mean": "mean", "margin": "margin"}
SUBJECTS = 24
_PAGE = 4096


def vectors_of(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(sum(name.encode()) * 7919 + len(name))
    return rng.standard_normal((1 + len(name) % 3, DIMENSION), dtype=np.float32)


def make(data_dir: Path, former: Path) -> None:
    """The directory, and one as it was some writes before."""
    with LocalGalleries.open(data_dir) as galleries:
        for name, fusion in GALLERIES.items():
            galleries.create_gallery(name, encoder_digest="e", dimension=DIMENSION, fusion=fusion).result()
            for i in range(SUBJECTS):
                subject = "s" * (1 + i % 3) + str(i)
                galleries.enroll(
                    name, subject, vectors_of(subject), labels={"n": subject}, request_id=subject, request_digest=b"1"
                )
            galleries.set_threshold(name, 0.5, "evidence").result()
            galleries.delete_subject(name, "s3").result()
    shutil.copytree(data_dir, former)
    with LocalGalleries.open(data_dir) as galleries:
        galleries._upkeep.close(until=0)
        for name in GALLERIES:
            galleries.enroll(name, "s0", vectors_of("again"), labels={"n": "other"}).result()
            galleries.enroll(name, "late", vectors_of("late"), on_existing="replace").result()
            galleries.delete_subject(name, "ss1").result()
            galleries.set_threshold(name, 0.25).result()
        galleries._store.close()


def ask(galleries: LocalGalleries) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every question, by a name."""
    probes = np.concatenate([vectors_of(name) for name in ("s0", "sss2", "late", "nobody", "ss1")])
    yield "galleries", galleries.list_galleries
    for name in GALLERIES:
        yield f"gallery {name}", partial(galleries.get_gallery, name)
        yield f"thresholds {name}", partial(galleries.list_thresholds, name)
        yield f"subjects {name}", partial(galleries.list_subjects, name)
        yield f"search {name}", partial(galleries.search_many, name, [Search(probes, "e", 5, 9.0, 50)])
        yield f"known {name}", partial(_known, galleries, name)
        for subject in ("s0", "sss2", "ss1", "late", "s3"):
            yield f"subject {name} {subject}", partial(galleries.get_subject, name, subject)
            yield f"verify {name} {subject}", partial(galleries.verify, name, subject, probes)
            yield f"replay {name} {subject}", partial(galleries.replay, name, subject, subject, b"1")


def _known(galleries: LocalGalleries, name: str) -> dict[str, Any]:
    return asdict(galleries.known(name)) | _SIZES


# Of a gallery from memory; they may be older.
_SIZES = {"revision": 0, "subjects": 0, "encodings": 0}
# What a lookup says of somebody who isn't there.
_CALM = ("SubjectNotFound", "GalleryNotFound")


def answers(galleries: LocalGalleries) -> dict[str, Any]:
    """The answer to each question; of one that failed the error."""
    found: dict[str, Any] = {}
    for name, question in ask(galleries):
        try:
            found[name] = question()
        except Exception as error:
            found[name] = error
    return found


class Mutations:
    """`whole` and `former`: see make()."""

    def __init__(self, whole: Path, former: Path) -> None:
        self._former = former
        with sqlite3.connect(whole / "store.sqlite3") as db:
            names = db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_stat%' ORDER BY name"
            ).fetchall()
            self._tables = {
                name: [column[1] for column in db.execute(f"PRAGMA table_info({name})")] for (name,) in names
            }
        db.close()
        self.kinds = (
            self.bytes,
            self.page,
            self.cut,
            self.snapshot,
            self.keys,
            *(self.edit,) * 3,
            self.delete,
            self.double,
            self.back,
            self.older,
        )

    def bytes(self, data_dir: Path, rng: random.Random) -> None:
        self._change_bytes(data_dir / "store.sqlite3", rng)

    def snapshot(self, data_dir: Path, rng: random.Random) -> None:
        self._harm(rng.choice(sorted((data_dir / "snapshots").iterdir())), rng)

    def keys(self, data_dir: Path, rng: random.Random) -> None:
        path = rng.choice([data_dir / "master.key", *sorted((data_dir / "keys").iterdir())])
        if rng.random() < 0.1:
            path.unlink()
        else:
            self._harm(path, rng)

    def _harm(self, path: Path, rng: random.Random) -> None:
        if rng.random() < 0.2:
            path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
        else:
            self._change_bytes(path, rng)

    def _change_bytes(self, path: Path, rng: random.Random) -> None:
        content = bytearray(path.read_bytes())
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            at = rng.randrange(len(content))
            content[at] = rng.choice((content[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 255))
        path.write_bytes(content)

    def page(self, data_dir: Path, rng: random.Random) -> None:
        path = data_dir / "store.sqlite3"
        content = bytearray(path.read_bytes())
        one, other = (rng.randrange(1, len(content) // _PAGE) * _PAGE for _ in range(2))
        if rng.random() < 0.5:
            content[one : one + _PAGE] = bytes(_PAGE)
        else:
            first, second = content[one : one + _PAGE], content[other : other + _PAGE]
            content[one : one + _PAGE], content[other : other + _PAGE] = second, first
        path.write_bytes(content)

    def cut(self, data_dir: Path, rng: random.Random) -> None:
        path = data_dir / "store.sqlite3"
        size = path.stat().st_size
        at = rng.choice((rng.randrange(size), rng.randrange(size // _PAGE) * _PAGE))
        path.write_bytes(path.read_bytes()[:at])

    def older(self, data_dir: Path, rng: random.Random) -> None:
        """A file, or some pages of the database, as they were some writes before."""
        files = [Path("store.sqlite3"), *(Path("keys") / path.name for path in sorted((data_dir / "keys").iterdir()))]
        if rng.random() < 0.3:
            shutil.copy(self._former / (file := rng.choice(files)), data_dir / file)
            return
        content = bytearray((data_dir / files[0]).read_bytes())
        before = (self._former / files[0]).read_bytes()
        changed = [at for at in range(0, len(before), _PAGE) if before[at : at + _PAGE] != content[at : at + _PAGE]]
        for at in rng.sample(changed, rng.choice((1, 1, 2, 3, len(changed) - 1))):
            content[at : at + _PAGE] = before[at : at + _PAGE]
        (data_dir / files[0]).write_bytes(content)

    def edit(self, data_dir: Path, rng: random.Random) -> None:
        def change(db: sqlite3.Connection) -> None:
            table, row = self._row(db, rng)
            column = rng.choice(self._tables[table])
            value = self._value(db, rng, table, column)
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {_key(row)}", (value, *row.values()))

        _with_database(data_dir, change)

    def _value(self, db: sqlite3.Connection, rng: random.Random, table: str, column: str) -> Any:
        old = rng.choice(db.execute(f"SELECT {column} FROM {table}").fetchall())[0]
        choices: list[Any] = [old]
        if isinstance(old, int):
            choices += [old + 1, old - 1, 0, -1, 2**40, -(2**63)]
        elif isinstance(old, float):
            choices += [old + 1, -old, 0.0, 1e300, float("inf")]
        elif isinstance(old, bytes):
            flipped = bytearray(old or b"x")
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            nan = np.full(max(1, len(old) // 4), np.nan, np.float32).tobytes()
            choices += [old[:-4], old + b"1234", b"", bytes(len(old)), nan, bytes(flipped), bytes(flipped)]
        elif isinstance(old, str):
            choices += [old + "x", "", old[::-1], "{", "[]", "retired", "mean", "nearest", "\0"]
        else:
            choices += [1.0, "x", 5]
        return rng.choice((*choices, None))

    def delete(self, data_dir: Path, rng: random.Random) -> None:
        def change(db: sqlite3.Connection) -> None:
            table, row = self._row(db, rng)
            if rng.random() < 0.5:
                db.execute("PRAGMA foreign_keys = ON")
            db.execute(f"DELETE FROM {table} WHERE {_key(row)}", tuple(row.values()))

        _with_database(data_dir, change)

    def double(self, data_dir: Path, rng: random.Random) -> None:
        def change(db: sqlite3.Connection) -> None:
            table, row = self._row(db, rng)
            for column in row:
                if column in ("number", "id", "version", "revision", "encoding"):
                    row[column] = row[column] + (1000 if isinstance(row[column], int) else "x")
            places = ", ".join("?" * len(row))
            db.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))

        _with_database(data_dir, change)

    def back(self, data_dir: Path, rng: random.Random) -> None:
        """A row, or all of a table, as it was."""

        def change(db: sqlite3.Connection) -> None:
            db.execute("ATTACH ? AS former", (str(self._former / "store.sqlite3"),))
            table = rng.choice(sorted(self._tables))
            if rng.random() < 0.3:
                db.execute(f"DELETE FROM {table}")
                db.execute(f"INSERT INTO {table} SELECT * FROM former.{table}")
                return
            rows = db.execute(f"SELECT * FROM former.{table}").fetchall()
            if rows:
                row = rng.choice(rows)
                db.execute(f"REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)

        _with_database(data_dir, change)

    def _row(self, db: sqlite3.Connection, rng: random.Random) -> tuple[str, dict[str, Any]]:
        while True:
            table = rng.choice(sorted(self._tables))
            rows = db.execute(f"SELECT * FROM {table}").fetchall()
            if rows:
                return table, dict(zip(self._tables[table], rng.choice(rows), strict=True))


def _key(row: dict[str, Any]) -> str:
    return " AND ".join(f"{column} IS ?" for column in row)


def _with_database(data_dir: Path, change: Callable[[sqlite3.Connection], None]) -> None:
    db = sqlite3.connect(data_dir / "store.sqlite3", isolation_level=None)
    try:
        change(db)
    except (sqlite3.IntegrityError, OverflowError):
        pass  # a constraint forbids that one; it is as it was
    finally:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.close()


class Findings:
    """What became of the cases."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.bad: list[str] = []

    def judge(self, number: int, kind: str, data_dir: Path, expected: dict[str, Any]) -> None:
        try:
            galleries = LocalGalleries.open(data_dir)
        except GalleryError as error:
            self.counts[f"refused at opening, {type(error).__name__}"] += 1
            return
        except Exception as error:
            self._note(number, kind, f"untyped error at opening: {type(error).__name__} {error}")
            return
        try:
            got = answers(galleries)
        finally:
            galleries._upkeep.close(until=0)
            galleries._store.close()
            galleries._pool.shutdown()
        wrong = {name: value for name, value in got.items() if not _same(value, expected[name])}
        untyped = {name: value for name, value in wrong.items() if _is_untyped(value)}
        lies = {name: value for name, value in wrong.items() if not _refuses(value)}
        if untyped:
            self._note(number, kind, f"untyped error: {next(iter(untyped.items()))}")
        elif lies:
            name = next(iter(lies))
            self._note(number, kind, f"wrong answer: {name}: {_first_difference(lies[name], expected[name])}")
        else:
            self.counts["refused at reading" if wrong else "answered as before"] += 1

    def _note(self, number: int, kind: str, what: str) -> None:
        self.counts[what.partition(":")[0]] += 1
        self.bad.append(f"case {number} ({kind}): {what}")


def _same(got: Any, expected: Any) -> bool:
    if isinstance(expected, Exception):
        return type(got) is type(expected)
    return not isinstance(got, Exception) and bool(got == expected)


def _first_difference(got: Any, expected: Any) -> str:
    one, other = repr(got), repr(expected)
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"{one[max(0, at - 100) : at + 100]} FOR {other[max(0, at - 100) : at + 100]}"


def _is_untyped(value: Any) -> bool:
    return isinstance(value, Exception) and not isinstance(value, GalleryError)


def _refuses(value: Any) -> bool:
    """A GalleryError that says that something is wrong, not that somebody isn't there."""
    return isinstance(value, GalleryError) and type(value).__name__ not in _CALM


def fuzz(count: int, seed: int, only: int | None = None) -> Findings:
    findings = Findings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "whole", folder / "former")
        shutil.copytree(folder / "whole", folder / "asked")
        with LocalGalleries.open(folder / "asked") as galleries:
            expected = answers(galleries)
        mutations = Mutations(folder / "whole", folder / "former")
        for number in range(count) if only is None else (only,):
            rng = random.Random(f"{seed}-{number}")
            kind = rng.choice(mutations.kinds)
            shutil.rmtree(folder / "case", ignore_errors=True)
            shutil.copytree(folder / "whole", folder / "case")
            kind(folder / "case", rng)
            findings.judge(number, kind.__name__, folder / "case", expected)
    return findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="run the case of this number alone")
    options = parser.parse_args()
    findings = fuzz(options.count, options.seed, options.only)
    for what, times in findings.counts.most_common():
        print(f"{times:7,} {what}")
    print("\n".join(findings.bad[:40]))
    sys.exit(1 if findings.bad else 0)


if __name__ == "__main__":
    main()
