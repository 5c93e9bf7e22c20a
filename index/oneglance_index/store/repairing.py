"""Putting a damaged store right: what is sound is copied to a new database, what isn't is taken from a backup or told.

A row is sound if its seal is right, and what is encrypted in it can be decrypted with the keys of the data directory.
That holds for a row of a backup, too: whoever was deleted since can't be decrypted, and so doesn't come back. The
write-ahead log is read by SQLite as always. Encodings whose rows are lost come from the snapshot, too: where something
of one of its blocks was deleted, that block has no key any more. Snapshots are made anew.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oneglance_core.files import replacing, sync_folder
from oneglance_index.errors import MasterKeyWrong, StoreDamaged, StoreError
from oneglance_index.records import UNKNOWN_LOSS, Rows, move_of
from oneglance_index.search import snapshot
from oneglance_index.search.snapshot import SnapshotUnusable
from oneglance_index.store import ciphers, ledger, queries
from oneglance_index.store.backup import former_folder
from oneglance_index.store.checking import difference, held_of, key_files_of, version_of
from oneglance_index.store.commits import check_newest, forget_commits, known_commits
from oneglance_index.store.directory import (
    DATABASE_NAME,
    FORMER_PREFIX,
    NOT_SAVED_NAME,
    REPAIRED_SUFFIX,
    SNAPSHOTS_NAME,
    holds_something,
    lock_directory,
    open_files,
    remove_leftovers,
)
from oneglance_index.store.disk import disk_error
from oneglance_index.store.hashing import Hashes
from oneglance_index.store.keys import GALLERIES_NAME, Keys
from oneglance_index.store.master import master_keys
from oneglance_index.store.schema import FAILURES, connect_reader, store_error
from oneglance_index.store.sealing import seal_counts
from oneglance_index.store.seals import (
    CROPS,
    ENCODINGS,
    GALLERIES,
    GENERATIONS,
    MAPPED,
    MAPS,
    NEGATIVES,
    REQUESTS,
    SUBJECTS,
    THRESHOLDS,
    Sealed,
    there,
)
from oneglance_index.store.slots import KeyDestroyed
from oneglance_index.store.store_row import check_store
from oneglance_index.store.tables import (
    KEYED_SINCE,
    SCHEMA_VERSION,
    SEALED_SINCE,
    TABLES,
    TRAIL_SINCE,
    run_all,
)
from oneglance_index.store.trail import Line, public_key_of, signed_head
from oneglance_index.store.trail_repair import keep_trail


def repair(data_dir: Path, master_key: str, backup: Path | None = None) -> tuple[Path, list[str]]:
    """Puts a store right that no server has open. Returns where the damaged one is now, and what could not be saved, a
    line each. Raises StoreError where nothing can be done."""
    lock = lock_directory(data_dir)
    try:
        keys = Keys(data_dir, master_keys(master_key, "", data_dir, make=False))
        try:
            return _repair(data_dir, keys, backup)
        finally:
            keys.close()
    except FAILURES as error:
        raise store_error(error, data_dir / DATABASE_NAME) from error
    except OSError as error:
        raise disk_error(error, data_dir) from error
    finally:
        os.close(lock)


def _repair(data_dir: Path, keys: Keys, backup: Path | None) -> tuple[Path, list[str]]:
    path = data_dir / DATABASE_NAME
    part = path.with_name(path.name + REPAIRED_SUFFIX)
    remove_leftovers(path)
    if holds_something(path) or not part.exists():
        _refuse_older(path, keys)
        lost = _write_repaired(part, path, keys, backup)
    else:  # one that was interrupted had moved the damaged one, and is finished
        told = [path.with_name(NOT_SAVED_NAME), *sorted(data_dir.glob(f"{FORMER_PREFIX}*/{NOT_SAVED_NAME}"))]
        told.sort(key=lambda one: one.stat().st_mtime_ns if one.exists() else -1)
        lost = told[-1].read_text(encoding="utf-8").splitlines()
    former = former_folder(data_dir)
    former.mkdir(mode=0o700)
    for file in (*open_files(path)[:3], data_dir / SNAPSHOTS_NAME, path.with_name(NOT_SAVED_NAME)):
        if file.exists():
            file.rename(former / file.name)
    sync_folder(former)
    forget_commits(data_dir)
    part.rename(path)
    sync_folder(data_dir)
    return former, lost


def _write_repaired(target: Path, path: Path, keys: Keys, backup: Path | None) -> list[str]:
    """Writes what is sound in the database `path` to the file `target`. Returns what could not be saved, which is
    written beside it, too."""
    with replacing(target, private=True) as fresh, contextlib.closing(_new(fresh, keys)) as db:
        lost = _Salvage(db, path, keys).run()
        made = _add_from_snapshots(db, path, keys)
        if backup is not None:
            _Salvage(db, backup, keys).run()  # what it hasn't isn't lost: it came, or was deleted, since
        lost += _less_than_known(db, path, keys, as_they_were=not lost and not made)
        lost = [line for line in lost if not _is_there(db, line)]
        lost += _finish_subjects(db)
        lost += _finish_maps(db)
        _count(db)
        _keep_last_numbers(db, path, keys)
        lost += _keep_trail(db, path, keys, len(lost))
        _count_on(db, path.parent)
        ledger.seal_store(db)
        lost = sorted({" ".join(line.splitlines()) for line in lost})
        with replacing(path.with_name(NOT_SAVED_NAME), private=True) as told:
            told.write_text("\n".join(lost), encoding="utf-8")
        db.execute("COMMIT")
    return lost


def _less_than_known(db: ciphers.Connection, path: Path, keys: Keys, as_they_were: bool) -> Iterator[str]:
    """What galleries of the damaged database `path` know to have had, and don't have, a line each. `as_they_were`:
    whether no row of it was made anew: then each must be the last that was written."""
    with contextlib.closing(connect_reader(path, keys)) as source:
        if version_of(source) < KEYED_SINCE:
            return
        for row in db.execute("SELECT number, id FROM galleries").fetchall():
            held = held_of(db, row["number"])
            try:
                known = queries.knowledge_of(source, row["number"])
            except (StoreError, sqlite3.Error, IndexError):
                yield f"gallery {row['id']!r}: what it knew of its rows; so whether any is missing can't be told"
                continue
            if known is not None and (held.rows < known.rows or (as_they_were and held != known)):
                yield f"gallery {row['id']!r}: {difference(known, held)}"


def _count_on(db: sqlite3.Connection, data_dir: Path) -> None:
    """It is one transaction more than any before: an older copy is known for one."""
    known = 0
    with contextlib.suppress(StoreDamaged):
        _, known = known_commits(data_dir) or (b"", 0)
    db.execute("UPDATE store SET commits = MAX(commits, ?) + 1", (known,))


def _refuse_older(path: Path, keys: Keys) -> None:
    """Raises StoreMissing for a database that says itself that it isn't the newest: a newer one would be lost."""
    with contextlib.suppress(StoreDamaged, sqlite3.Error), contextlib.closing(connect_reader(path, keys)) as source:
        check_newest(source, path.parent, known_commits(path.parent))


def _new(path: Path, keys: Keys) -> ciphers.Connection:
    db = sqlite3.connect(path, isolation_level=None, factory=ciphers.Connection)
    db.row_factory = sqlite3.Row
    db.use(keys)
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = MEMORY")
    db.execute("BEGIN")
    run_all(db, TABLES)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return db


class _Salvage:
    """Copies what is sound in the database `source`, and isn't in `db` yet."""

    def __init__(self, db: ciphers.Connection, source: Path, keys: Keys) -> None:
        self._db = db
        self._keys = keys
        self._source = connect_reader(source, keys)
        self._path = source
        self._lost: list[str] = []

    def run(self) -> list[str]:
        """What could not be saved, a line each. Raises StoreDamaged where nothing can be read at all."""
        try:
            version = self._source.execute("PRAGMA user_version").fetchall()[0][0]
            if not SEALED_SINCE <= version <= SCHEMA_VERSION:
                raise StoreDamaged(self._path, f"it is of schema {version}, not {SEALED_SINCE} to {SCHEMA_VERSION}")
            if version < KEYED_SINCE:
                if self._required():
                    raise StoreDamaged(self._path, f"schema {version} is none that its keys belong to")
                self._source.hashes = Hashes(b"", required=False)
            self._store()
            self._galleries()
            for table in there(self._source, (GENERATIONS, THRESHOLDS, MAPS)):
                for row in self._sound(table):
                    self._copy(table, row)
            self._revisions()
            self._mapped()
            self._subjects()
            self._requests()
        finally:
            self._source.close()
        return self._lost

    def _required(self) -> bool:
        """Whether its rows must be sealed with a key: of a backup its own keys tell that."""
        files = key_files_of(self._source)
        with contextlib.suppress(MasterKeyWrong):
            return (self._keys.hashes_in(files[GALLERIES_NAME]) if files else self._keys.hashes).required
        return True

    def _store(self) -> None:
        self._add_store()
        with contextlib.suppress(StoreError, sqlite3.Error):
            commits = check_store(self._source).commits
            self._db.execute("UPDATE store SET commits = MAX(commits, ?)", (commits,))

    def _add_store(self) -> None:
        if self._db.execute("SELECT 1 FROM store").fetchall():
            return
        try:
            row = check_store(self._source)
            store_id, created = row.id, row.created
        except (StoreError, sqlite3.Error):
            store_id, created = uuid.uuid4().hex, 0.0
            self._lost.append("the id of the store")
        self._db.execute("INSERT INTO store (id, created) VALUES (?, ?)", (store_id, created))

    def _galleries(self) -> None:
        """Those that have a key: one that was deleted since a backup has none, and stays out."""
        place = GALLERIES.columns.split(", ").index("id")
        for row in self._sound(GALLERIES):
            try:
                self._keys.of(row[0])
            except StoreDamaged as error:
                if not row[place].startswith(queries.TOMBSTONE):
                    self._lost.append(f"gallery {row[place]!r}: {error.detail}")
            else:
                self._copy(GALLERIES, row)

    def _revisions(self) -> None:
        """The revision of each gallery: so that no number is given twice."""
        for row in _rows(self._source, "galleries", "number, revision", []):
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("UPDATE galleries SET revision = MAX(revision, ?) WHERE number = ?", (row[2], row[1]))

    def _subjects(self) -> None:
        for row in self._sound(SUBJECTS):
            subject = queries.StoredSubject(*row)
            try:
                queries.labels(self._source, subject)
            except StoreError:
                self._lost.append(f"row {subject.number} of subjects: {subject.id!r} can't be decrypted")
            else:
                self._copy(SUBJECTS, row)
        cursor = self._db.execute(f"SELECT {SUBJECTS.columns} FROM subjects")
        subjects = {row[0]: queries.StoredSubject(*row) for row in cursor.fetchall()}
        contents = {one.table: one for one in ciphers.CONTENTS}
        for table in there(self._source, (ENCODINGS, NEGATIVES, CROPS)):
            _, column, _, identity = contents[table.name]
            place = table.columns.split(", ").index(column)
            for row in self._sound(table):
                owner = subjects.get(row[2])
                key = None if owner is None else queries.subject_key(self._db, owner)
                if key is None or ciphers.decrypt(key, row[place], identity(row[1], row[0])) is None:
                    self._lost.append(f"row {row[0]} of {table.name}: it can't be decrypted")
                else:
                    self._copy(table, row)

    def _mapped(self) -> None:
        """Before the subjects: of one that isn't there yet, and so comes as it is here. Whoever else has true encodings
        has them still."""
        if not there(self._source, (MAPPED,)):
            return
        for row in (*self._sound(MAPPED), *self._damaged_mapped()):
            if not self._db.execute("SELECT 1 FROM subjects WHERE number = ?", (row[0],)).fetchall():
                self._copy(MAPPED, row)

    def _damaged_mapped(self) -> Iterator[tuple[Any, ...]]:
        """Rows that aren't sound, or are found by their index only: nobody's mapped encodings become true ones because
        what says so was damaged."""
        for way in ("NOT INDEXED", "INDEXED BY mapped_by_generation"):
            with contextlib.suppress(sqlite3.Error):
                for row in self._source.execute(f"SELECT subject, generation, version FROM mapped {way}"):
                    if all(type(value) is int for value in row):
                        yield (*row, 0)

    def _requests(self) -> None:
        """That of a subject that isn't there says that it was, as it says after a deletion."""
        for row in self._sound(REQUESTS):
            owner = queries.subject_numbered(self._db, row[2])
            key = None if owner is None else queries.subject_key(self._db, owner)
            if key is not None and ciphers.decrypt(key, row[-2], ciphers.request_identity(row[1], row[0])) is None:
                self._lost.append(f"row {row[0]} of requests: it can't be decrypted")
            else:
                self._copy(REQUESTS, row)

    def _sound(self, table: Sealed) -> Iterator[tuple[Any, ...]]:
        for row in _rows(self._source, table.name, table.columns, self._lost):
            if table.is_sound(self._source, row[1:]):
                yield row[1:]
            else:
                self._lost.append(f"row {table.named(row[1:])}: it was changed")

    def _copy(self, table: Sealed, row: tuple[Any, ...]) -> None:
        # What is there already, or contradicts it, stays out. A seal of a former version is none of this one.
        values = (*row[:-1], table.seal(self._db, row))
        places = ", ".join("?" * len(values))
        self._db.execute(f"INSERT OR IGNORE INTO {table.name} ({table.columns}) VALUES ({places})", values)


def _add_from_snapshots(db: ciphers.Connection, path: Path, keys: Keys) -> int:
    """Encodings that `db` lacks, of subjects that it has, from the snapshots beside the database `path`. How many."""
    before = _encodings(db)
    generations = db.execute("SELECT number, gallery, dimension FROM generations WHERE state = 'active'").fetchall()
    with contextlib.closing(connect_reader(path, keys)) as source:
        for number, gallery, dimension in generations:
            # One that is of no use is left out.
            with contextlib.suppress(SnapshotUnusable, StoreError, KeyDestroyed, sqlite3.Error):
                record = queries.snapshot_record(source, number)
                if record is not None:
                    file = snapshot.path_of(path.parent, number, record.revision)
                    for part in snapshot.read(file, record, dimension, keys.of(gallery), number, keys.snapshot_digest):
                        if part.rows is not None:
                            _add_rows(db, number, part.rows)
    return _encodings(db) - before


def _encodings(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT COUNT(*) AS count FROM encodings").fetchall()[0]["count"])


def _add_rows(db: ciphers.Connection, generation: int, rows: Rows) -> None:
    for number, subject, vector in zip(rows.numbers.tolist(), rows.subjects.tolist(), rows.vectors, strict=True):
        if db.execute("SELECT 1 FROM encodings WHERE number = ?", (number,)).fetchall():
            continue
        found = db.execute(f"SELECT {SUBJECTS.columns} FROM subjects WHERE number = ?", (subject,)).fetchall()
        if not found:
            continue
        owner = queries.StoredSubject(*found[0])
        # Revisions rise with numbers.
        before = db.execute(
            "SELECT revision FROM encodings WHERE generation = ? AND number < ? ORDER BY number DESC LIMIT 1",
            (generation, number),
        ).fetchall()
        revision = before[0]["revision"] if before else 0
        key, identity = queries.subject_key(db, owner), ciphers.encoding_identity(generation, number)
        sealed = ciphers.encrypt(key, vector.astype("<f4", copy=False).tobytes(), identity)
        ledger.insert(db, ENCODINGS, (number, generation, subject, revision, owner.created, sealed))


# Behind a row that can't be read so many rowids are tried one by one: more than any page has rows.
_TRIED = 1 << 16
_LAST_ROWID = 1 << 62


def _rows(db: sqlite3.Connection, table: str, columns: str, lost: list[str]) -> Iterator[tuple[Any, ...]]:
    """All rows that can be read, with their rowids first; where the file is broken some are left out, and told."""
    # Not `rowid > ?`: to find that, SQLite reads the page of that rowid, which may be the broken one before.
    select = f"SELECT rowid, {columns} FROM {table} NOT INDEXED WHERE rowid >= ? ORDER BY rowid"
    first: int | None = 0
    while first is not None:
        try:
            for row in _select(db, select, first):
                yield row
                first = max(first, row[0] + 1)
            return
        except sqlite3.DatabaseError:
            pass
        try:  # the row before a broken one is lost with it, if both are asked for
            rows = _select(db, f"{select} LIMIT 1", first).fetchall()
        except sqlite3.DatabaseError:
            lost.append(f"rows of {table} from {first} on: they can't be read")
            first = _readable_from(db, f"{select} LIMIT 1", first)
        else:
            yield from rows
            first = rows[0][0] + 1 if rows else None


def _select(db: sqlite3.Connection, select: str, first: int) -> sqlite3.Cursor:
    cursor = db.execute(select, (first,))
    cursor.row_factory = None
    return cursor


def _readable_from(db: sqlite3.Connection, select: str, broken: int) -> int | None:
    """The first rowid above `broken` from which on a row can be read, or none is there; None where it isn't found."""

    def is_readable(rowid: int) -> bool:
        try:
            _select(db, select, rowid).fetchall()
        except sqlite3.DatabaseError:
            return False
        return True

    for rowid in range(broken + 1, broken + _TRIED + 1):
        if is_readable(rowid):
            return rowid
    before, after = broken + _TRIED, broken + 2 * _TRIED
    while not is_readable(after):
        before, after = after, 2 * after - broken
        if after > _LAST_ROWID:
            return None
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if is_readable(middle) else (middle, after)
    return after


def _keep_last_numbers(db: ciphers.Connection, path: Path, keys: Keys) -> None:
    """No number is given again that the damaged database `path` gave, as far as it tells."""
    with contextlib.closing(connect_reader(path, keys)) as source, contextlib.suppress(sqlite3.Error):
        for name, last in source.execute("SELECT name, seq FROM sqlite_sequence").fetchall():
            if type(last) is int:
                db.execute("UPDATE sqlite_sequence SET seq = MAX(seq, ?) WHERE name = ?", (last, name))


def _keep_trail(db: ciphers.Connection, path: Path, keys: Keys, lost: int) -> list[str]:
    """The audit trail of the damaged database `path`; see trail_repair.py."""
    unread: list[str] = []
    with contextlib.closing(connect_reader(path, keys)) as source:
        if version_of(source) < TRAIL_SINCE:
            keep_trail(db, None, [], lost)
            return []
        head = None
        with contextlib.suppress(StoreError, *FAILURES):
            head = signed_head(source, public_key_of(keys.signing_seed))
        read = (Line(*row[1:]) for row in _rows(source, "audit", "number, entry, hash", unread))
        rows = [row for row in read if isinstance(row.entry, str) and isinstance(row.hash, bytes)]
    return unread + keep_trail(db, head, rows, lost)


def _is_there(db: sqlite3.Connection, line: str) -> bool:
    """Whether what a line says is lost, a row of a table, came from the backup after all."""
    words = line.split(":")[0].split()
    if words[0] != "row" or not words[1].isdecimal():
        return False
    return bool(db.execute(f"SELECT 1 FROM {words[3]} WHERE rowid = ?", (int(words[1]),)).fetchall())


def _finish_subjects(db: sqlite3.Connection) -> Iterator[str]:
    """Subjects of which some encodings are lost, a line each, have those that are left, or go."""
    held = dict(db.execute("SELECT subject, COUNT(*) FROM encodings GROUP BY subject").fetchall())
    for row in db.execute(f"SELECT {SUBJECTS.columns} FROM subjects").fetchall():
        subject = queries.StoredSubject(*row)
        left = held.get(subject.number, 0)
        if left != subject.encodings:
            yield f"subject {subject.id!r}: {subject.encodings - left} of its {subject.encodings} encodings"
            ledger.update(db, SUBJECTS, subject, encodings=left)
    db.execute("DELETE FROM subjects WHERE encodings = 0")
    for table in ("encodings", "negatives", "mapped"):
        db.execute(f"DELETE FROM {table} WHERE subject NOT IN (SELECT number FROM subjects)")
    db.execute("DELETE FROM crops WHERE encoding NOT IN (SELECT number FROM encodings)")


def _end_broken_moves(db: ciphers.Connection) -> None:
    """A gallery whose counterpart is lost, or is as it was at another time, moves to no other encoder any more."""
    rows = [GALLERIES.row(row) for row in db.execute(f"SELECT {GALLERIES.columns} FROM galleries").fetchall()]
    id_place, policies_place = (GALLERIES.columns.split(", ").index(name) for name in ("id", "policies"))
    moves = {row[id_place]: move_of(row[policies_place]) for row in rows}
    for row in rows:
        move = moves[row[id_place]]
        if move is not None and not move.fits(row[id_place], moves.get(move.other)):
            ledger.update(db, GALLERIES, row, policies=None)


def _finish_maps(db: ciphers.Connection) -> Iterator[str]:
    """Where what a map costs is lost, a line each, that is told as unknown: what it made stays known as mapped."""
    columns = ", ".join(f"m.{name}" for name in MAPPED.columns.split(", "))
    for *row, generation in db.execute(
        f"SELECT {columns}, a.number FROM mapped AS m JOIN subjects AS s ON s.number = m.subject"
        " JOIN generations AS a ON a.gallery = s.gallery AND a.state = 'active' WHERE a.number != m.generation"
    ).fetchall():
        ledger.update(db, MAPPED, row, generation=generation)
    rows = db.execute(
        "SELECT generation, MAX(version) FROM mapped WHERE generation NOT IN (SELECT generation FROM maps)"
        " AND generation IN (SELECT number FROM generations) GROUP BY generation"
    ).fetchall()
    for generation, version in rows:
        values = (generation, version, 0.0, queries.map_text(UNKNOWN_LOSS, None), 0)
        db.execute(f"INSERT INTO maps ({MAPS.columns}) VALUES (?, ?, ?, ?, ?)", (*values[:-1], MAPS.seal(db, values)))
        yield f"what the map costs that made encodings of generation {generation}"


def _count(db: ciphers.Connection) -> None:
    """What galleries and the store know of their rows. Galleries without an active generation are none."""
    gone = "SELECT number FROM galleries WHERE number NOT IN (SELECT gallery FROM generations WHERE state = 'active')"
    for table in ("subjects", "requests", "generations"):
        db.execute(f"DELETE FROM {table} WHERE gallery IN ({gone}) OR gallery NOT IN (SELECT number FROM galleries)")
    for table in ("thresholds", "encodings", "negatives", "crops", "maps", "mapped"):
        db.execute(f"DELETE FROM {table} WHERE generation NOT IN (SELECT number FROM generations)")
    db.execute(f"DELETE FROM galleries WHERE number IN ({gone})")
    _end_broken_moves(db)
    for row in db.execute(f"SELECT {GENERATIONS.columns} FROM generations").fetchall():
        newest = db.execute("SELECT MAX(version) FROM thresholds WHERE generation = ?", (row["number"],)).fetchall()
        version = newest[0][0] or 0
        if version != row["threshold_revision"]:
            threshold = None if version == 0 else row["threshold"]
            ledger.update(db, GENERATIONS, tuple(row), threshold_revision=version, threshold=threshold)
    db.execute("UPDATE galleries SET subjects = (SELECT COUNT(*) FROM subjects WHERE gallery = galleries.number)")
    db.execute(
        "UPDATE galleries SET encodings = (SELECT COUNT(*) FROM encodings AS e JOIN generations AS a"
        " ON a.number = e.generation AND a.state = 'active' WHERE a.gallery = galleries.number)"
    )
    for row in db.execute("SELECT generation FROM maps").fetchall():
        known, made = queries.newest_map(db, row[0]), queries.count_mapped(db, row[0])
        if known is not None and known.made != made:
            ledger.update(db, MAPS, known.row, loss=queries.map_text(known.loss, made))
    seal_counts(db)
