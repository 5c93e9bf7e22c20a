"""The audit trail of a store that was damaged goes on: with its newest entries that are a chain, and with one that
tells what is missing. The others are in the damaged database only, which a repair keeps."""

from __future__ import annotations

from collections.abc import Sequence

from oneglance_index.audit import ITSELF, Event
from oneglance_index.store.ciphers import Connection
from oneglance_index.store.queries import told_store
from oneglance_index.store.trail import Head, Line, Trail, genesis, write_head


def keep_trail(db: Connection, head: Head | None, rows: Sequence[Line], lost: int) -> list[str]:
    """Writes the trail of the repaired store `db`. `head`: None where it isn't sound; `rows`: the entries that can be
    read, in order; `lost`: of how many things the repair says that they are lost. Returns what of the trail is, a line
    each."""
    store_id = told_store(db)[0]
    origin = Head(0, genesis(store_id), 0, genesis(store_id)) if head is None else head
    number, before = origin.pruned, origin.pruned_hash
    first = 0
    missing: list[str] = []
    for i, row in enumerate(rows):
        if row.number != number + 1 or not row.follows(before):
            # What comes after it can be told to be whole, it can't.
            first = i + 1
            missing = [f"entries of the audit trail up to {row.number}: a chain begins behind that one"]
        number, before = row.number, row.hash
    kept = rows[first:]
    if first:
        origin = Head(rows[first - 1].number, rows[first - 1].hash, number, before)
    if head is None:
        missing.append("the head of the audit trail")
    elif head.last > number:
        missing.append(f"entries {number + 1} to {head.last} of the audit trail")
    db.executemany("INSERT INTO audit (number, entry, hash) VALUES (?, ?, ?)", kept)
    write_head(db, origin._replace(last=number, hash=before), store_id, db.keys.signing_seed)
    if rows or missing or lost:
        trail = Trail(db, hashed=False)
        trail.begin()
        trail.add([Event(ITSELF, "repair", details={"lost": lost, "of_the_trail": missing})])
        trail.write()
    return missing
