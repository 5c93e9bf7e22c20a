"""What an encoding is kept as: its vector, and behind that, as JSON, what its owner calls it and where it is from.

Both are encrypted together. Versions of the schema before 8 kept the vector alone, as is kept of an encoding without a
note.
"""

from __future__ import annotations

import json
import sqlite3

from oneglance_index.records import NO_NOTE, Note, Vectors
from oneglance_index.store import ciphers
from oneglance_index.store.seals import damaged


def content(vector: Vectors, note: Note = NO_NOTE) -> bytes:
    """As the store keeps it before it is encrypted: float32 [D], little-endian, and the note."""
    kept = vector.astype("<f4", copy=False).tobytes()
    if note is not NO_NOTE and note != NO_NOTE:
        kept += json.dumps([note.key, note.source], ensure_ascii=False).encode()
    return kept


def contents(vectors: Vectors) -> list[bytes]:
    """content() of each of these, float32 [n, D], without notes."""
    kept, size = vectors.astype("<f4", copy=False).tobytes(), 4 * vectors.shape[1]
    return [kept[start : start + size] for start in range(0, len(kept), size)]


def has_note(sealed: bytes, dimension: int) -> bool:
    """Whether an encrypted content has a note."""
    return len(sealed) > ciphers.OVERHEAD_BYTES + 4 * dimension


def note_in(db: sqlite3.Connection, content: bytes, dimension: int) -> Note:
    """Raises StoreDamaged."""
    told = content[4 * dimension :]
    if not told:
        return NO_NOTE
    try:
        return Note(*json.loads(told))
    except (ValueError, TypeError):
        raise damaged(db, "what an encoding is called can't be read") from None
