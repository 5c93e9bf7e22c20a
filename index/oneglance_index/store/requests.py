"""The ids of requests that were answered: so that one that comes again gets its former answer, and writes nothing.

How long they are kept doesn't rest on the clock alone, which may jump: the last `kept` requests of the store are always
known, and of a gallery never more than the last `at_most`. Between these bounds one is forgotten once it is
`ttl_seconds` old by the wall clock. A clock that jumps forward makes the store forget sooner, one that jumps back
later, but never beyond these bounds.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oneglance_index.errors import RequestConflict, SubjectNotFound
from oneglance_index.records import Doubt, Enrolled, Neighbour
from oneglance_index.store import queries
from oneglance_index.store.ciphers import encrypt, request_identity
from oneglance_index.store.ledger import Ledger, next_number
from oneglance_index.store.queries import Place, decrypted, subject_key
from oneglance_index.store.seals import REQUESTS

# So many are forgotten with each that comes, at most: more than one, so that they can't pile up.
_FORGOTTEN_AT_ONCE = 4


class Remembered(NamedTuple):
    """A request, and the answer that it got, about the subject of this number."""

    id: str
    digest: bytes
    answer: Enrolled
    subject: int
    now: float
    memory: RequestMemory


@dataclass(frozen=True, slots=True)
class RequestMemory:
    """How many requests are remembered, and how long: see above."""

    ttl_seconds: float
    kept: int
    at_most: int

    def find(
        self, db: sqlite3.Connection, at: Place, subject_id: str, request_id: str, digest: bytes, now: float
    ) -> Enrolled | None:
        """The answer that a request of this id got, marked as replayed; None where it isn't known, or not any more.
        Where the gallery moves to another encoder, and answers, what the other one knows is known, too: of before the
        move began.

        `subject_id`: whom it is about now. Raises RequestConflict, StoreDamaged, KeyDestroyed, and SubjectNotFound
        where its subject was deleted since: then nothing is known of it any more, not even its digest.
        """
        answered = self._find(db, at, subject_id, request_id, digest, now)
        if answered is not None or at.move is None or not at.move.answers:
            return answered
        try:
            return self._find(db, queries.place(db, at.move.other), subject_id, request_id, digest, now)
        except RequestConflict:  # it was made of that one, under its name
            return None
        except SubjectNotFound:
            if queries.has_subject(db, at.number, subject_id):  # it is gone from that one only
                return None
            raise

    def _find(
        self, db: sqlite3.Connection, at: Place, subject_id: str, request_id: str, digest: bytes, now: float
    ) -> Enrolled | None:
        rows = db.execute(
            f"SELECT {REQUESTS.columns} FROM requests WHERE gallery = ? AND id = ?", (at.number, request_id)
        ).fetchall()
        if not rows:
            return None
        (row,) = rows
        REQUESTS.check(db, tuple(row))
        if self._is_over(row["number"], row["created"], next_number(db, REQUESTS) - 1, now):
            return None
        subject = queries.subject_numbered(db, row["subject"])
        if subject is None:
            raise SubjectNotFound(at.gallery_id, subject_id)
        identity = request_identity(at.number, row["number"])
        answer = json.loads(decrypted(db, subject, subject_key(db, subject), row["answer"], identity))
        if answer["digest"] != digest.hex():
            raise RequestConflict(at.gallery_id, request_id)
        nearest = answer.get("nearest_other")  # stores of earlier versions didn't keep it
        return Enrolled(
            subject.id,  # which may be another since then
            tuple(answer["encoding_ids"]),
            answer["created"],
            True,
            answer["revision"],
            None if nearest is None else Neighbour(**nearest),
            tuple(Doubt(**doubt) for doubt in answer.get("doubts", ())),
        )

    def remember(self, db: sqlite3.Connection, ledger: Ledger, new: Sequence[tuple[Remembered, AESGCM]]) -> None:
        """Remembers answers, each encrypted with the key of its subject, in place of those of the same ids that are
        over, and forgets a few of the gallery's oldest where it is time."""
        first, gallery = next_number(db, REQUESTS), ledger.at.number
        oldest = db.execute(
            "SELECT number, created FROM requests WHERE gallery = ? ORDER BY number LIMIT ?",
            (gallery, _FORGOTTEN_AT_ONCE * len(new)),
        ).fetchall()
        over = itertools.takewhile(lambda row: self._is_over(row[0], row[1], first, new[0][0].now), oldest)
        last = max((row[0] for row in over), default=None)
        if last is not None:
            ledger.remove(REQUESTS, "gallery = ? AND number <= ?", (gallery, last))
        for one, _ in new:
            if queries.has_request(db, gallery, one.id):
                ledger.remove(REQUESTS, "gallery = ? AND id = ?", (gallery, one.id))
        rows = [
            (number, gallery, one.subject, one.now, one.id, encrypt(key, _dump(one), request_identity(gallery, number)))
            for number, (one, key) in enumerate(new, first)
        ]
        ledger.insert_all(REQUESTS, rows)

    def _is_over(self, number: int, created: float, last: int, now: float) -> bool:
        younger = last - number
        return younger >= self.kept and (younger >= self.at_most or created < now - self.ttl_seconds)


def _dump(one: Remembered) -> bytes:
    enrolled = one.answer
    return json.dumps(
        {
            "digest": one.digest.hex(),
            "subject_id": enrolled.subject_id,
            "encoding_ids": enrolled.encoding_ids,
            "created": enrolled.created,
            "revision": enrolled.revision,
            "nearest_other": None if enrolled.nearest_other is None else asdict(enrolled.nearest_other),
            "doubts": list(map(asdict, enrolled.doubts)),
        },
        ensure_ascii=False,
    ).encode()
