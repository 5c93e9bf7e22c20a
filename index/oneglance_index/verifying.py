"""One to one: how far probes are from one subject, measured on what the store holds of it."""

from __future__ import annotations

import sqlite3

from oneglance_core.distance import squared_l2
from oneglance_index.encodings import check_encodings
from oneglance_index.errors import EncoderMismatch
from oneglance_index.records import Candidate, Found, Vectors
from oneglance_index.store import queries


def verify(
    db: sqlite3.Connection, gallery_id: str, subject_id: str, probes: Vectors, encoder_digest: str | None
) -> Found:
    """As GalleryStore.verify()."""
    stored = queries.gallery(db, gallery_id)
    gallery = stored.gallery
    if encoder_digest not in (None, gallery.active.encoder_digest):
        raise EncoderMismatch(gallery_id, gallery.active.encoder_digest, encoder_digest or "")
    numbers, vectors = queries.subject_vectors(db, stored.place, subject_id)
    checked = check_encodings(probes, gallery.active.dimension)
    nearest = []
    for probe in checked:
        distances = squared_l2(vectors, probe)
        best = int(distances.argmin())  # the first, that is the oldest, of equals
        nearest.append((Candidate(subject_id, str(numbers[best]), float(distances[best])),))
    return Found(
        tuple(nearest),
        ((),) * len(nearest),
        (False,) * len(nearest),
        gallery.revision,
        gallery.subjects,
        gallery.encodings,
        True,
        "store",
        "cpu",
    )
