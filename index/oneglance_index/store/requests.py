"""The ids of requests that were answered: so that one that comes again gets its former answer, and writes nothing.

How long they are kept doesn't rest on the clock alone, which may jump: the last `kept` requests of the store are always
known, and of a gallery never more than the last `at_most`. Between these bounds one is forgotten once it is
`ttl_seconds` old by the wall clock. A clock that jumps forward makes the store forget sooner, one that jumps back
later, but never beyond these bounds.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass

from oneglance_index.errors import RequestConflict, SubjectNotFound
from oneglance_index.records import Doubt, Enrolled, Neighbour
from oneglance_index.store.ledger import Ledger, next_number
from oneglance_index.store.queries import Place, find_subject
from oneglance_index.store.seals import REQUESTS

# So many are forgotten with each that comes, at most: more than one, so that they can't pile up.
_FORGOTTEN_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class RequestMemory:
    """How many requests are remembered, and how long: see above."""

    ttl_seconds: float
    kept: int
    at_most: int

    def find(self, db: sqlite3.Connection, at: Place, request_id: str, digest: bytes, now: float) -> Enrolled | None:
        """The answer that a request of this id got, marked as replayed; None where it isn't known, or not any more.
        Raises RequestConflict, StoreDamaged, and SubjectNotFound where its subject was deleted since."""
        rows = db.execute(
            f"SELECT {REQUESTS.columns} FROM requests WHERE gallery = ? AND id = ?", (at.number, request_id)
        ).fetchall()
        if not rows:
            return None
        (row,) = rows
        REQUESTS.check(db, tuple(row))
        if self._is_over(row["number"], row["created"], next_number(db, REQUESTS) - 1, now):
            return None
        if row["digest"] != digest:
            raise RequestConflict(at.gallery_id, request_id)
        answer = json.loads(row["response"])
        subject = find_subject(db, at.number, answer["subject_id"])
        # Stores of earlier versions didn't keep the number.
        if subject is None or subject.number != answer.get("subject", subject.number):
            raise SubjectNotFound(at.gallery_id, answer["subject_id"])
        nearest = answer.get("nearest_other")  # stores of earlier versions didn't keep it
        return Enrolled(
            answer["subject_id"],
            tuple(answer["encoding_ids"]),
            answer["created"],
            True,
            answer["revision"],
            None if nearest is None else Neighbour(**nearest),
            tuple(Doubt(**doubt) for doubt in answer.get("doubts", ())),
        )

    def remember(
        self,
        db: sqlite3.Connection,
        ledger: Ledger,
        request_id: str,
        digest: bytes,
        answer: Enrolled,
        subject: int,
        now: float,
    ) -> None:
        """Remembers an answer, about the subject of this number, in place of one of the same id that is over, and
        forgets a few of the gallery's oldest where it is time."""
        number, gallery = next_number(db, REQUESTS), ledger.at.number
        oldest = db.execute(
            "SELECT number, created, id FROM requests WHERE gallery = ? ORDER BY number LIMIT ?",
            (gallery, _FORGOTTEN_AT_ONCE),
        ).fetchall()
        for row in oldest:
            if not self._is_over(row["number"], row["created"], number, now):
                break
            ledger.remove(REQUESTS, "number = ?", (row["number"],))
        if db.execute("SELECT 1 FROM requests WHERE gallery = ? AND id = ?", (gallery, request_id)).fetchall():
            ledger.remove(REQUESTS, "gallery = ? AND id = ?", (gallery, request_id))
        ledger.insert(REQUESTS, (number, gallery, now, request_id, digest, _dump(answer, subject)))

    def _is_over(self, number: int, created: float, last: int, now: float) -> bool:
        younger = last - number
        return younger >= self.kept and (younger >= self.at_most or created < now - self.ttl_seconds)


def _dump(enrolled: Enrolled, subject: int) -> str:
    return json.dumps(
        {
            "subject_id": enrolled.subject_id,
            "subject": subject,
            "encoding_ids": enrolled.encoding_ids,
            "created": enrolled.created,
            "revision": enrolled.revision,
            "nearest_other": None if enrolled.nearest_other is None else asdict(enrolled.nearest_other),
            "doubts": list(map(asdict, enrolled.doubts)),
        },
        ensure_ascii=False,
    )
