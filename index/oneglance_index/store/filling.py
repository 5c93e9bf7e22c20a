"""Filling the gallery that waits from the crops that are kept in the one that answers: what is left, and what must
still be so when an encoding that was made of a crop comes.

Which encoding of the one gallery is which of the other nobody notes down: it has the same key, or the same crop.
"""

from __future__ import annotations

import sqlite3

from oneglance_index.errors import SubjectChanged
from oneglance_index.records import Filling, KeptCrop, LeftCrops, LeftCropsPage
from oneglance_index.store import queries
from oneglance_index.store.queries import Place, StoredSubject

_ENCODING_BYTES = 256  # of a message, besides its crop


def list_left_crops(
    db: sqlite3.Connection, answers: Place, waits: Place, size: int, max_bytes: int, after: str | None
) -> LeftCropsPage:
    """Looks at the next `size` subjects that only `answers` has, or that are only mapped in `waits`, or, where that
    keeps crops, have fewer encodings there: those of whose encodings some are missing that have a crop. A page holds at
    most so many bytes, but one subject. Raises KeyDestroyed, StoreDamaged."""
    rows = db.execute(
        "SELECT s.number, w.number FROM subjects AS s LEFT JOIN subjects AS w ON w.gallery = ? AND w.id = s.id"
        " WHERE s.gallery = ? AND s.id > ? AND (w.number IS NULL OR (? AND w.encodings < s.encodings)"
        "  OR EXISTS (SELECT 1 FROM mapped WHERE subject = w.number))"
        " AND EXISTS (SELECT 1 FROM crops WHERE subject = s.number) ORDER BY s.id LIMIT ?",
        (waits.number, answers.number, after or "", waits.keep_crops, size + 1),
    ).fetchall()
    page: list[LeftCrops] = []
    last = after
    for place, (number, there) in enumerate(rows):
        if place == size:
            return LeftCropsPage(tuple(page), last)
        subject = queries.subject_numbered(db, number)
        assert subject is not None
        beside = None if there is None else queries.subject_numbered(db, there)
        held = [] if beside is None else _kept(db, waits, beside)
        makes_room = there is not None and queries.is_mapped(db, there)
        missing = _missing(_kept(db, answers, subject), [] if makes_room else held)
        if any(one.crop for one in missing):
            max_bytes -= sum(_ENCODING_BYTES + len(one.crop) for one in missing)
            if page and max_bytes < 0:
                return LeftCropsPage(tuple(page), last)
            page.append(LeftCrops(subject.id, tuple(missing), tuple(one.encoding_id for one in held)))
        last = subject.id
    return LeftCropsPage(tuple(page), None)


def _kept(db: sqlite3.Connection, at: Place, subject: StoredSubject) -> list[KeptCrop]:
    """What a subject has, oldest first."""
    crops = queries.crops(db, subject)
    notes = queries.subject_notes(db, at, subject)
    return [KeptCrop(str(number), note, crops.get(number, b"")) for number, note in notes.items()]


def _missing(own: list[KeptCrop], held: list[KeptCrop]) -> list[KeptCrop]:
    """Those of a subject's encodings that have no counterpart among those that it has in the other gallery."""
    left, missing = list(held), []
    for one in own:
        same = [other for other in left if _alike(one, other)]
        if same:
            left.remove(same[0])
        else:
            missing.append(one)
    return missing


def _alike(one: KeptCrop, other: KeptCrop) -> bool:
    if one.note.key or other.note.key:
        return one.note.key == other.note.key
    return one.crop == other.crop


def check_filling(db: sqlite3.Connection, waits: Place, subject: StoredSubject, filling: Filling) -> None:
    """That a subject of the gallery that answers still has the crops, and in the one that waits what it had when it was
    looked at. Raises SubjectChanged."""
    rows = db.execute("SELECT encoding FROM crops WHERE subject = ?", (subject.number,)).fetchall()
    there = queries.find_subject(db, waits.number, subject.id, exactly=True)
    held = () if there is None else queries.encoding_numbers(db, waits.generation, there)
    if not set(filling.made_of) <= {str(row["encoding"]) for row in rows} or filling.beside != tuple(map(str, held)):
        raise SubjectChanged(waits.gallery_id, subject.id)
