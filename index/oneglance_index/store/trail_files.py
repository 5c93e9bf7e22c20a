"""The audit trail read from outside: of a data directory, whether or not a server has it open, or of what was exported.

An export is lines of JSON: the entries, each with its hash as its last member, and at the end the head, with its
signature. Whoever keeps a head elsewhere can tell later whether the trail still is what it was then.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from oneglance_index.errors import StoreDamaged, TrailInvalid
from oneglance_index.store.checking import reading_file, version_of
from oneglance_index.store.commits import check_newest, known_commits
from oneglance_index.store.directory import DATABASE_NAME
from oneglance_index.store.receipts import PUBLIC_NAME
from oneglance_index.store.seals import damaged
from oneglance_index.store.store_row import told_store
from oneglance_index.store.tables import TRAIL_SINCE
from oneglance_index.store.trail import HASH_BYTES, Head, Line, check_trail, faults, lines, signed_head

_AT_ONCE = 512  # entries that are read in one transaction
_encode = json.JSONEncoder(separators=(",", ":")).encode


@contextlib.contextmanager
def _reading(data_dir: Path) -> Iterator[sqlite3.Connection]:
    with reading_file(data_dir / DATABASE_NAME) as db:
        if version_of(db) < TRAIL_SINCE:
            raise StoreDamaged(data_dir / DATABASE_NAME, "it has no audit trail yet: open it with `oneglance serve`")
        yield db


def read_trail(data_dir: Path, last: int | None = None) -> Iterator[str]:
    """The entries of a data directory, a line each, oldest first; of `last` only so many of the newest. Raises
    StoreError, and as _texts."""
    with _reading(data_dir) as db:
        head = signed_head(db, None)
        after = 0 if last is None else max(0, head.last - last)
        yield from _texts(db, head, after)


def _texts(db: sqlite3.Connection, head: Head, after: int) -> Iterator[str]:
    """Of the entries with numbers above `after`, up to the newest that `head` tells of. While one is looked at no
    transaction is open: whoever pages through them holds up nothing.

    Raises StoreDamaged for one that isn't what was written, TrailInvalid where some were removed meanwhile for their
    age."""
    rows = db.execute("SELECT hash FROM audit WHERE number = ?", (after,)).fetchall()
    number, before = (after, rows[0]["hash"]) if rows else (head.pruned, head.pruned_hash)
    while number < head.last:
        page = list(itertools.islice(lines(db, number), min(_AT_ONCE, head.last - number)))
        for fault in faults(page, number, before) if page else ["the audit trail ends too early"]:
            if signed_head(db, None).pruned > number:
                raise TrailInvalid("entries grew too old and were removed while they were read: read them again")
            raise damaged(db, fault)
        db.execute("ROLLBACK")
        yield from (line.text for line in page)
        db.execute("BEGIN")
        number, before = page[-1].number, page[-1].hash


def export_trail(data_dir: Path) -> Iterator[str]:
    """All entries that there are when it begins, and the head as it is then. Raises as read_trail."""
    with _reading(data_dir) as db:
        head = signed_head(db, None)
        signature = db.execute("SELECT signature FROM audit_head").fetchall()[0]["signature"]
        store_id = told_store(db)[0]
        yield from _texts(db, head, 0)
    yield _encode({"head": {"store": store_id, **head.told(), "signature": signature.hex()}})


def verify_trail(data_dir: Path, public_key: str = "", kept_head: str = "") -> list[str]:
    """What is wrong with the trail of a data directory, a line each. `public_key`: 64 hexadecimal digits; else that of
    the directory. `kept_head`: the last line of an earlier export. Raises StoreError, TrailInvalid."""
    if not public_key:
        try:
            public_key = (data_dir / PUBLIC_NAME).read_text(encoding="ascii", errors="replace")
        except OSError:
            raise TrailInvalid(f"it can't be read who signs: there is no {PUBLIC_NAME}") from None
    key = _key(public_key)
    known = known_commits(data_dir)
    found: list[str] = []
    with _reading(data_dir) as db:
        try:
            check_newest(db, data_dir, known)
            for fault in check_trail(db, key):
                found.append(fault)
            if kept_head:
                found += _against(db, kept_head, key)
        except StoreDamaged as error:
            found.append(error.detail)
    return found


def verify_export(exported: Iterable[str], public_key: str) -> list[str]:
    """What is wrong with an export, a line each. Raises TrailInvalid for what isn't one."""
    key = _key(public_key)
    read = [line.rstrip("\n") for line in exported]
    if not read:
        raise TrailInvalid("it is empty")
    store_id, head, signature = _head(read[-1])
    listed = [_line(text) for text in read[:-1]]
    found = list(faults(listed, head.pruned, head.pruned_hash))
    last = (listed[-1].number, listed[-1].hash) if listed else (head.pruned, head.pruned_hash)
    if not found and last != (head.last, head.hash):
        found.append(f"it ends with entry {last[0]}, not with {head.last}, as its head says")
    if not _is_signed(store_id, head, signature, key):
        found.append("its head isn't what was signed")
    return found


def _against(db: sqlite3.Connection, kept_head: str, key: Ed25519PublicKey) -> Iterator[str]:
    store_id, kept, signature = _head(kept_head)
    if store_id != told_store(db)[0] or not _is_signed(store_id, kept, signature, key):
        yield "the head that was kept isn't of this store, or isn't what was signed"
        return
    head = signed_head(db, key)
    if kept.last <= head.pruned:
        return  # what it vouches for was pruned, and the present head says so
    rows = db.execute("SELECT hash FROM audit WHERE number = ?", (kept.last,)).fetchall()
    if not rows or rows[0]["hash"] != kept.hash:
        yield f"entry {kept.last} isn't the one that the head that was kept ends with: what came before was replaced"


def _is_signed(store_id: str, head: Head, signature: bytes, key: Ed25519PublicKey) -> bool:
    try:
        key.verify(signature, head.signed_text(store_id))
    except InvalidSignature:
        return False
    return True


def _key(public_key: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key.strip()))
    except ValueError:
        raise TrailInvalid("the public key isn't 64 hexadecimal digits") from None


def _head(text: str) -> tuple[str, Head, bytes]:
    try:
        told: dict[str, Any] = json.loads(text)["head"]
        ends = (int(told["pruned"]), _hash(told["pruned_hash"]), int(told["last"]), _hash(told["hash"]))
        return str(told["store"]), Head(*ends), bytes.fromhex(told["signature"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TrailInvalid("its last line isn't a head, as `oneglance audit export` ends with") from None


def _line(text: str) -> Line:
    """What Line.text made it of."""
    entry, _, rest = text.rpartition(',"hash":"')
    try:
        return Line(int(json.loads(entry + "}")["number"]), entry + "}", _hash(rest.removesuffix('"}')))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TrailInvalid(f"a line isn't an entry with its hash: {text[:80]!r}") from None


def _hash(text: str) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != HASH_BYTES:
        raise ValueError("a hash of another length")
    return value
