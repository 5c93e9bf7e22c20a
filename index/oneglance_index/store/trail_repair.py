"""The audit trail of a store that was damaged goes on: with those of its newest entries for which the signed head
vouches, and with one that tells what is missing. The others are in the damaged database only, which a repair keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oneglance_index.audit import ITSELF, Event
from oneglance_index.store.ciphers import Connection
from oneglance_index.store.store_row import told_store
from oneglance_index.store.trail import Head, Line, Trail, genesis, write_head


def keep_trail(db: Connection, head: Head | None, rows: Sequence[Line], lost: int) -> list[str]:
    """Writes the trail of the repaired store `db`. `head`: None where it isn't sound; `rows`: the entries that can be
    read, in order; `lost`: of how many things the repair says that they are lost. Returns what of the trail is, a line
    each."""
    store_id = told_store(db)[0]
    if head is None:
        newest = max((row.number for row in rows if type(row.number) is int), default=0)
        start, kept = Head(newest, genesis(store_id), newest, genesis(store_id)), list[Line]()
        missing = ["the audit trail: its head isn't what was signed, so nobody vouches for its entries"]
    else:
        start, kept = _vouched(head, {row.number: row for row in rows})
        missing = []
        if start.pruned > head.pruned:
            missing = [f"entries {head.pruned + 1} to {start.pruned} of the audit trail"]
    db.executemany("INSERT INTO audit (number, entry, hash) VALUES (?, ?, ?)", kept)
    write_head(db, start, store_id, db.keys.signing_seed)
    if rows or missing or lost:
        trail = Trail(db, hashed=False)
        trail.begin()
        trail.add([Event(ITSELF, "repair", details={"lost": lost, "of_the_trail": missing})])
        trail.write()
    return missing


def _vouched(head: Head, rows: Mapping[int, Line]) -> tuple[Head, list[Line]]:
    """The entries that lead to the one that the head names, back to the first that isn't what was written."""
    kept: list[Line] = []
    number, wanted = head.last, head.hash
    while number > head.pruned and number in rows and rows[number].hash == wanted:
        if number - 1 == head.pruned:
            before = head.pruned_hash
        elif number - 1 in rows:
            before = rows[number - 1].hash
        else:
            break
        if not rows[number].follows(before):
            break
        kept.append(rows[number])
        number, wanted = number - 1, before
    return head._replace(pruned=number, pruned_hash=wanted), kept[::-1]
