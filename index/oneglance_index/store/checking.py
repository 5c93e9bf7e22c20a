"""Reading all that a store holds, and saying what is lost. Nothing is written; a server may go on writing meanwhile."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from oneglance_index.errors import MasterKeyMissing, StoreDamaged, StoreError, StoreMissing, StoreTooNew
from oneglance_index.store import queries
from oneglance_index.store.ciphers import keys_of
from oneglance_index.store.commits import check_newest, known_commits
from oneglance_index.store.directory import DATABASE_NAME
from oneglance_index.store.hashing import Hashes
from oneglance_index.store.keys import GALLERIES_NAME, Keys, copying, hashes_in
from oneglance_index.store.master import master_keys
from oneglance_index.store.schema import FAILURES, connect_reader, store_error
from oneglance_index.store.seals import (
    COUNTED,
    CROPS,
    ENCODINGS,
    MAPS,
    NO_ROWS,
    SEALED,
    SUBJECTS,
    Sealed,
    Total,
    of_seals,
    rows_of_gallery,
    there,
)
from oneglance_index.store.spelling import same_names
from oneglance_index.store.store_row import check_galleries
from oneglance_index.store.tables import KEYED_SINCE, SCHEMA_VERSION, SEALED_SINCE, TRAIL_SINCE, complete, differences
from oneglance_index.store.trail import check_trail, public_key_of

_ROWS_AT_ONCE = 512
# Of SQLite's virtual machine, between two questions whether to go on: a millisecond or so.
_STEPS = 10_000


def check_file(path: Path, master_key: str = "") -> Iterator[str]:
    """What is wrong with a backup, or the database of a data directory, a line each; nothing where it is whole. What is
    encrypted isn't looked into, nor who signed the head of the audit trail. `master_key` says where the master key is
    (master.py); "": beside the file.

    Raises StoreMissing, StoreTooNew, StoreBusy, StoreIOError, MasterKeyMissing, MasterKeyWrong, and StoreDamaged for
    one that can't be read at all, or of a former schema.
    """
    with reading_file(path) as db:
        content = key_files_of(db).get(GALLERIES_NAME)
    if content is None:
        hashes = hashes_of(path.parent, master_key)
    else:
        try:
            masters = master_keys(master_key, "", path.parent, make=False)
        except MasterKeyMissing as error:
            raise MasterKeyMissing(path, f"{error.detail}: say with --master-key where it is") from error
        hashes = hashes_in(content, masters, path)
    yield from check_rows(path, hashes)


def same_names_in(path: Path) -> list[str]:
    """Of a backup, or the database of a data directory, the ids that differ only in how they are spelled, a line for
    each name: none of them is a fault. Raises as check_file()."""
    with reading_file(path) as db:
        return list(same_names(db))


def check_rows(
    path: Path,
    hashes: Hashes,
    ended: Callable[[], bool] | None = None,
    public_key: Ed25519PublicKey | None = None,
) -> Iterator[str]:
    """As check_file(). `ended` as in reading_file(). `public_key`: by which the head of the audit trail is signed."""
    with reading_file(path, hashes, ended) as db:
        yield from _check(db)
        yield from _check_trail(db, public_key)


def key_files_of(db: sqlite3.Connection) -> dict[str, bytes]:
    """Of a backup: the files of its keys, by name; none in the database of a data directory."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'key_files'").fetchall():
        return {}
    return {row[0]: row[1] for row in db.execute("SELECT name, content FROM key_files").fetchall()}


def hashes_of(data_dir: Path, master_key: str) -> Hashes:
    """Of a data directory, which a server may have open. Raises StoreError."""
    with contextlib.closing(_keys(data_dir, master_key)) as keys:
        return keys.hashes


def _keys(data_dir: Path, master_key: str) -> Keys:
    with copying(data_dir):  # else the master key may be changed in between
        return Keys(data_dir, master_keys(master_key, "", data_dir, make=False), settle=False)


def check_directory(data_dir: Path, master_key: str) -> Iterator[str]:
    """As check_file(), of a data directory, with what is encrypted. `master_key` says where the master key is
    (master.py). Raises MasterKeyMissing, MasterKeyWrong, too."""
    path = data_dir / DATABASE_NAME
    with reading_file(path):  # before the keys of a store that isn't there
        pass
    hashes = hashes_of(data_dir, master_key)
    with _told() as complaints:
        known = known_commits(data_dir)
        with reading_file(path, hashes) as db:
            check_newest(db, data_dir, known)
    yield from complaints
    with _reading_all(data_dir, master_key) as db:
        yield from _check(db)
        yield from _check_trail(db, public_key_of(keys_of(db).signing_seed))
        doubtful = list(_unreadable(db))
    # Keys may have been destroyed, or moved to another file, while these were read: they are read again.
    for start in range(0, len(doubtful), _ROWS_AT_ONCE):
        yield from _unreadable_still(data_dir, master_key, doubtful[start : start + _ROWS_AT_ONCE])


@contextlib.contextmanager
def _reading_all(data_dir: Path, master_key: str) -> Iterator[sqlite3.Connection]:
    """As reading_file(), of a data directory, with its keys."""
    with contextlib.closing(_keys(data_dir, master_key)) as keys, reading_file(data_dir / DATABASE_NAME, keys) as db:
        yield db


@contextlib.contextmanager
def reading_file(
    path: Path, known: Keys | Hashes | None = None, ended: Callable[[], bool] | None = None
) -> Iterator[sqlite3.Connection]:
    """A read-only connection to a database whose rows are sealed, that sees one state throughout. `known` as in
    connect_reader(). `ended` is asked now and then: once it is true, what is being done fails. Raises StoreError,
    OutOfMemory."""
    if not path.is_file() or not path.stat().st_size:
        raise StoreMissing(path)
    db = connect_reader(path, known)
    db.set_progress_handler(ended, _STEPS)
    try:
        version = version_of(db)
        if version > SCHEMA_VERSION:
            raise StoreTooNew(path, f"schema {version}, this version reads up to {SCHEMA_VERSION}")
        if version < SEALED_SINCE:
            raise StoreDamaged(path, f"schema {version} has no seals: open it with `oneglance serve` first")
        if version < KEYED_SINCE:
            hashes = known.hashes if isinstance(known, Keys) else known
            if hashes is not None and hashes.required:
                raise StoreDamaged(path, f"schema {version} is none that its keys belong to")
            db.hashes = Hashes(b"", required=False)
        if version < SCHEMA_VERSION:
            complete(db)
        db.execute("BEGIN")
        yield db
    except FAILURES as error:
        raise store_error(error, path) from error
    finally:
        db.close()


def version_of(db: sqlite3.Connection) -> int:
    """Of the schema."""
    return int(db.execute("PRAGMA user_version").fetchall()[0]["user_version"])


def _check(db: sqlite3.Connection) -> Iterator[str]:
    for row in db.execute("PRAGMA integrity_check(100)").fetchall():
        if row[0] != "ok":
            yield f"the file: {row[0]}"
    if version_of(db) == SCHEMA_VERSION and (wrong := differences(db)):
        yield f"not as they should be: {', '.join(wrong)}"
    with _told() as complaints:
        check_galleries(db)
    yield from complaints
    for table in there(db, SEALED):
        yield from _check_rows(db, table)
    try:
        galleries = db.execute("SELECT number FROM galleries").fetchall()
    except sqlite3.Error as error:
        yield f"the galleries can't be read: {error}"
        return
    for row in galleries:
        yield from _check_gallery(db, int(row["number"]))


def _check_trail(db: sqlite3.Connection, public_key: Ed25519PublicKey | None = None) -> Iterator[str]:
    if version_of(db) >= TRAIL_SINCE:
        with _told() as complaints:
            for fault in check_trail(db, public_key):
                complaints.append(fault)
        yield from complaints


def _unreadable(db: sqlite3.Connection) -> Iterator[queries.StoredSubject]:
    """The subjects of which something can't be decrypted."""
    for stored in queries.all_galleries(db):
        for subject in queries.subjects_of(db, stored.place.number):
            if _fault(db, stored.place, subject) is not None:
                yield subject


def _unreadable_still(data_dir: Path, master_key: str, doubtful: Sequence[queries.StoredSubject]) -> list[str]:
    """Of those that are still there, what can't be decrypted, a line each. No key is destroyed or moved meanwhile."""
    found = []
    with copying(data_dir), _reading_all(data_dir, master_key) as db:
        places = {stored.place.number: stored.place for stored in queries.all_galleries(db)}
        for former in doubtful:
            at = places.get(former.gallery)
            rows = db.execute(f"SELECT {SUBJECTS.columns} FROM subjects WHERE number = ?", (former.number,)).fetchall()
            if at is not None and rows:
                found.append(_fault(db, at, queries.StoredSubject(*rows[0])))
    return [fault for fault in found if fault is not None]


def _fault(db: sqlite3.Connection, at: queries.Place, subject: queries.StoredSubject) -> str | None:
    try:
        queries.labels(db, subject)
        queries.subject_vectors(db, at, subject)
        queries.negative_vectors(db, at, subject)
        if there(db, (CROPS,)):
            queries.crops(db, subject)
        queries.check_answers(db, subject)
    except StoreError as error:
        return f"subject {subject.id!r} in gallery {at.gallery_id!r}: {error.detail}"
    return None


def _check_rows(db: sqlite3.Connection, table: Sealed) -> Iterator[str]:
    try:
        cursor = db.execute(f"SELECT {table.columns} FROM {table.name} NOT INDEXED")
        cursor.row_factory = None
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            for row in rows:
                if not table.is_sound(db, row):
                    yield f"row {table.named(row)} was changed{_whose(db, table, row)}"
    except sqlite3.Error as error:
        yield f"rows of {table.name} can't be read: {error}"


def _whose(db: sqlite3.Connection, table: Sealed, row: tuple[object, ...]) -> str:
    """Which subject, or gallery, of its ids, if they can still be read."""
    values = dict(zip((*table.fixed, *table.others), row, strict=False))
    with contextlib.suppress(sqlite3.Error):
        subject = values["number"] if table.name == "subjects" else values.get("subject")
        if subject is not None:
            found = db.execute(
                "SELECT g.id AS gallery, s.id AS subject FROM subjects AS s JOIN galleries AS g ON g.number = s.gallery"
                " WHERE s.number = ?",
                (subject,),
            ).fetchall()
            return f": of subject {found[0]['subject']!r} in gallery {found[0]['gallery']!r}" if found else ""
        if "gallery" in values:
            found = db.execute("SELECT id FROM galleries WHERE number = ?", (values["gallery"],)).fetchall()
            return f": of gallery {found[0]['id']!r}" if found else ""
    return ""


def _check_gallery(db: sqlite3.Connection, number: int) -> Iterator[str]:
    """What it knows of its rows, and what they know of each other; not of one that is deleted."""
    with _told() as complaints:
        known = queries.knowledge_of(db, number)
        if known is None:
            return
        held = held_of(db, number)
        if held != known:
            complaints.append(f"gallery number {number}: {difference(known, held)}")
        counts = db.execute(
            "SELECT s.id AS id, s.encodings AS known, COUNT(e.number) AS held FROM subjects AS s"
            " LEFT JOIN encodings AS e ON e.subject = s.number"
            " WHERE s.gallery = ? GROUP BY s.number HAVING COUNT(e.number) != s.encodings",
            (number,),
        )
        complaints += [
            f"subject {row['id']!r} of gallery number {number} has {row['known']} encodings, found {row['held']}"
            for row in counts
        ]
        orphans = db.execute(
            "SELECT e.number AS number FROM encodings AS e LEFT JOIN subjects AS s ON s.number = e.subject"
            f" WHERE e.{rows_of_gallery(ENCODINGS)} AND s.number IS NULL",
            (number,),
        )
        complaints += [f"encoding {row['number']} belongs to no subject" for row in orphans]
        if there(db, (MAPS,)):
            complaints += [
                f"gallery number {number} has other mapped subjects than it counts"
                for row in db.execute("SELECT number FROM generations WHERE gallery = ?", (number,)).fetchall()
                if (newest := queries.newest_map(db, row["number"])) is not None
                and newest.made not in (None, queries.count_mapped(db, row["number"]))
            ]
    yield from complaints


def held_of(db: sqlite3.Connection, gallery: int) -> Total:
    """Of the rows that the tables hold of it."""
    held = NO_ROWS
    for table in there(db, COUNTED):
        condition = rows_of_gallery(table)
        seals = db.execute(f"SELECT seal FROM {table.name} NOT INDEXED WHERE {condition}", (gallery,))
        held = held.plus(of_seals(row["seal"] for row in seals))
    return held


def difference(known: Total, held: Total) -> str:
    missing = known.rows - held.rows
    if missing > 0:
        return f"{missing} of its {known.rows} rows are missing"
    if missing < 0:
        return f"{-missing} rows beyond its {known.rows}"
    return f"of its {known.rows} rows some are older than they should be, or changed"


@contextlib.contextmanager
def _told() -> Iterator[list[str]]:
    """A list of complaints, to which what is raised in the block is added."""
    complaints: list[str] = []
    try:
        yield complaints
    except StoreError as error:
        complaints.append(error.detail)
    except sqlite3.Error as error:
        complaints.append(f"it can't be read: {error}")
