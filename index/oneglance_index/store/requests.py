"""The ids of requests that were answered: so that one that comes again gets its former answer, and writes nothing.

How long they are kept doesn't rest on the clock alone, which may jump: the last `kept` requests of the store are always
known, and of a gallery never more than the last `at_most`. Between these bounds one is forgotten once it is
`ttl_seconds` old by the wall clock, as enrollments with ids of their own come to the gallery. A clock that jumps forward
makes the store forget sooner, one that jumps back later, but never beyond these bounds.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from oneglance_index.records import Enrolled
from oneglance_index.store.ledger import Ledger, next_number
from oneglance_index.store.queries import dump_response
from oneglance_index.store.seals import REQUESTS

# So many are forgotten with each that comes, at most: more than one, so that they can't pile up.
_FORGOTTEN_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class RequestMemory:
    """How many requests are remembered, and how long: see above."""

    ttl_seconds: float
    kept: int
    at_most: int

    def remember(
        self, db: sqlite3.Connection, ledger: Ledger, request_id: str, digest: bytes, answer: Enrolled, now: float
    ) -> None:
        """Remembers an answer, and forgets a few of the oldest of the gallery where it is time."""
        number, gallery = next_number(db, REQUESTS), ledger.at.number
        ledger.insert(REQUESTS, (number, gallery, now, request_id, digest, dump_response(answer)))
        oldest = db.execute(
            "SELECT number, created FROM requests WHERE gallery = ? ORDER BY number LIMIT ?",
            (gallery, _FORGOTTEN_AT_ONCE),
        ).fetchall()
        for row in oldest:
            younger = number - row["number"]
            if younger < self.kept or (younger < self.at_most and row["created"] >= now - self.ttl_seconds):
                return
            ledger.remove(REQUESTS, "number = ?", (row["number"],))
