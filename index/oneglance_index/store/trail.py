"""The audit trail: entries that are only ever added, each chained to the one before it.

An entry is a JSON object as text, ASCII, that begins with its number. Its hash is SHA-256 of the hash before it, 32
bytes, and the text; before the first entry that is the hash of the store's id. The one row of `audit_head` has the
number and hash of the newest entry, and of the last one that was pruned, signed with the key that receipts are signed
with (receipts.py). So whoever edits, drops or reorders entries, at the end too, has to sign anew, and needs the master
key for that. Who has an older copy of the whole store can put that in its place: keep heads elsewhere to tell
(`oneglance audit export` ends with one).
"""

from __future__ import annotations

import hmac
import json
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from oneglance_index.audit import ITSELF, Event
from oneglance_index.store.seals import damaged
from oneglance_index.store.store_row import told_store

HASH_BYTES = 32
_ROWS_AT_ONCE = 512
_encode = json.JSONEncoder(separators=(",", ":")).encode
_HEAD = "SELECT pruned, pruned_hash, last, hash, signature FROM audit_head"


class Head(NamedTuple):
    """Where the chain begins and ends. `pruned` 0: at its first entry. `last` 0: nothing was ever told."""

    pruned: int
    pruned_hash: bytes
    last: int
    hash: bytes

    def signed_text(self, store_id: str) -> bytes:
        return " ".join(("oneglance audit head", store_id, *map(str, self.told().values()))).encode()

    def told(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "pruned": self.pruned,
            "pruned_hash": self.pruned_hash.hex(),
            "last": self.last,
            "hash": self.hash.hex(),
        }


def chained(before: bytes, entry: str) -> bytes:
    """The hash of an entry that comes after the one with hash `before`."""
    return sha256(before + entry.encode()).digest()


def genesis(store_id: str) -> bytes:
    return sha256(b"oneglance audit of store " + store_id.encode()).digest()


class Trail:
    """Adds entries in the transactions of `db`, a writer's connection with its keys, and alone does so. `hashed`: ids
    of subjects are told as a keyed hash of the gallery's and theirs. Raises StoreDamaged, sqlite3.Error.

    Call begin() in each transaction first, write() before it is committed, committed() after.
    """

    def __init__(self, db: Any, hashed: bool) -> None:
        self._db = db
        self._seed: bytes = db.keys.signing_seed
        self._sign = Ed25519PrivateKey.from_private_bytes(self._seed)
        self._hashed = hashed
        self._store_id = told_store(db)[0]
        self._committed = self._head = checked_head(db, self._sign.public_key())
        self._row = tuple(self._head)
        self._new: list[Event] = []

    def begin(self) -> None:
        self._new.clear()
        self._head = self._committed

    def add(self, events: Iterable[Event]) -> None:
        self._new.extend(events)

    def prune(self, before: float, most: int) -> int:
        """Removes the oldest entries, those before a time (seconds since 1970), at most so many, and tells of it. How
        many there were. In a transaction. Raises StoreDamaged for one that isn't what was written."""
        head, limit, gone = self._head, _time(before), 0
        pruned, pruned_hash = head.pruned, head.pruned_hash
        rows = self._db.execute(
            "SELECT number, entry, hash FROM audit WHERE number > ? ORDER BY number LIMIT ?", (head.pruned, most)
        ).fetchall()
        for line in (Line(*row) for row in rows):
            for fault in faults([line], pruned, pruned_hash):
                raise damaged(self._db, fault)
            if str(json.loads(line.entry)["time"]) >= limit:
                break
            pruned, pruned_hash, gone = line.number, line.hash, gone + 1
        if gone:
            self._db.execute("DELETE FROM audit WHERE number <= ?", (pruned,))
            self._head = head._replace(pruned=pruned, pruned_hash=pruned_hash)
            self.add([Event(ITSELF, "prune", details={"entries": gone, "up_to": pruned})])
        return gone

    def write(self) -> None:
        """Writes what was added. Raises StoreDamaged where somebody else wrote meanwhile."""
        if not self._new and self._head == self._committed:
            return
        head = self._head
        number, before = head.last, head.hash
        rows = []
        for event in self._new:
            number += 1
            entry = self._entry(number, event)
            before = chained(before, entry)
            rows.append((number, entry, before))
        self._head = head._replace(last=number, hash=before)
        self._db.executemany("INSERT INTO audit (number, entry, hash) VALUES (?, ?, ?)", rows)
        values = (*self._head, self._sign.sign(self._head.signed_text(self._store_id)))
        changed = self._db.execute(
            "UPDATE audit_head SET pruned = ?, pruned_hash = ?, last = ?, hash = ?, signature = ?"
            " WHERE pruned = ? AND pruned_hash = ? AND last = ? AND hash = ?",
            (*values, *self._committed),
        )
        if changed.rowcount != 1:
            raise damaged(self._db, "the audit trail was changed by somebody else")

    def committed(self) -> None:
        self._committed = self._head
        self._new.clear()

    def _entry(self, number: int, event: Event) -> str:
        told: dict[str, object] = {"number": number, "time": _time(event.time), "who": event.actor.name}
        if event.actor.address:
            told["from"] = event.actor.address
        told["did"] = event.did
        if event.gallery is not None:
            told["gallery"] = event.gallery
        if event.subject is not None:
            told["subject"] = self._named(event.gallery, event.subject)
        told.update(event.details)
        if event.decisions:
            told["decisions"] = [
                {
                    "outcome": one.outcome,
                    **({} if one.subject is None else {"subject": self._named(event.gallery, one.subject)}),
                    **({} if one.score is None else {"score": one.score}),
                }
                for one in event.decisions
            ]
        return _encode(told)

    def _named(self, gallery: str | None, subject: str) -> str:
        return hashed_subject(self._seed, gallery or "", subject) if self._hashed else subject


def hashed_subject(seed: bytes, gallery_id: str, subject_id: str) -> str:
    """What a subject is called where ids are hashed: 128 bits that only who has the store's keys can compute."""
    key = blake2b(b"subjects of the audit trail", key=seed, digest_size=32).digest()
    text = _encode([gallery_id, subject_id]).encode()
    return "hmac:" + hmac.digest(key, text, "sha256")[:16].hex()


def public_key_of(seed: bytes) -> Ed25519PublicKey:
    """By which the signature of a head is checked; `receipts.pub` in the data directory has it, too."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key()


def _time(seconds: float) -> str:
    """Of one length, so that texts compare as the times do."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def begin_trail(db: Any, store_id: str, seed: bytes) -> None:
    """Writes the head of a trail without entries, in the transaction that is open."""
    write_head(db, Head(0, genesis(store_id), 0, genesis(store_id)), store_id, seed)


def write_head(db: Any, head: Head, store_id: str, seed: bytes) -> None:
    """In place of what is there."""
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(head.signed_text(store_id))
    db.execute("DELETE FROM audit_head")
    db.execute(
        "INSERT INTO audit_head (pruned, pruned_hash, last, hash, signature) VALUES (?, ?, ?, ?, ?)", (*head, signature)
    )


def signed_head(db: sqlite3.Connection, public_key: Ed25519PublicKey | None) -> Head:
    """`public_key`: None: the signature isn't looked at. Raises StoreDamaged."""
    store_id = told_store(db)[0]
    rows = db.execute(_HEAD).fetchall()
    if len(rows) != 1:
        raise damaged(db, f"the audit trail has {len(rows)} heads, not one")
    *ends, signature = rows[0]
    head = Head(*ends)
    try:
        text = head.signed_text(store_id)
        if public_key is not None:
            public_key.verify(signature, text)
    except (InvalidSignature, AttributeError, TypeError):  # values of another type
        raise damaged(db, "the head of the audit trail isn't what was signed") from None
    return head


def checked_head(db: sqlite3.Connection, public_key: Ed25519PublicKey | None) -> Head:
    """As signed_head(), and that the newest entry is its."""
    head = signed_head(db, public_key)
    newest = db.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchall()
    found = tuple(newest[0]) if newest else (head.pruned, head.pruned_hash)
    if found != (head.last, head.hash):
        raise damaged(db, f"the audit trail ends with entry {found[0]}, not with what was signed as {head.last}")
    return head


class Line(NamedTuple):
    number: int
    entry: str
    hash: bytes

    def follows(self, before: bytes) -> bool:
        """Whether it is what was written after the entry with this hash."""
        try:
            return chained(before, self.entry) == self.hash and self.entry.startswith(f'{{"number":{self.number},')
        except (AttributeError, TypeError, ValueError):  # values of another type
            return False

    @property
    def text(self) -> str:
        """As it is exported: the entry, and its hash as its last member."""
        return f'{self.entry[:-1]},"hash":"{self.hash.hex()}"}}'


def lines(db: sqlite3.Connection, after: int = 0) -> Iterator[Line]:
    """The entries with numbers above `after`, in order."""
    while True:
        rows = db.execute(
            "SELECT number, entry, hash FROM audit WHERE number > ? ORDER BY number LIMIT ?", (after, _ROWS_AT_ONCE)
        ).fetchall()
        for row in rows:
            yield Line(*row)
        if not rows:
            return
        after = rows[-1][0]


def faults(listed: Iterable[Line], number: int, before: bytes) -> Iterator[str]:
    """What is wrong with the chain of these lines, the first of which comes after `number` with the hash `before`: one
    line for people, of the first entry that isn't what was written; nothing where all are. The rest isn't looked at:
    each rests on the one before."""
    for line in listed:
        number += 1
        if line.number != number:
            yield f"entry {number} of the audit trail is missing"
            return
        if not line.follows(before):
            yield f"entry {number} of the audit trail was changed, or isn't in its place"
            return
        before = line.hash


def check_trail(db: sqlite3.Connection, public_key: Ed25519PublicKey | None) -> Iterator[str]:
    """What is wrong with the trail, a line each; nothing where it is whole. Raises StoreDamaged, where not even its
    head is sound, sqlite3.Error."""
    rows = db.execute(_HEAD).fetchall()
    if len(rows) == 1:
        yield from faults(lines(db, rows[0]["pruned"]), rows[0]["pruned"], rows[0]["pruned_hash"])
    checked_head(db, public_key)
