"""One to one: how far probes are from one subject, measured on what the store holds of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from oneglance_core.distance import squared_l2
from oneglance_core.fusion import margin_scores, template
from oneglance_core.pair_head import PairHead, probabilities_of, scores_of
from oneglance_index.encodings import check_encodings
from oneglance_index.errors import EncoderMismatch, FusionChanged, SubjectNotFound
from oneglance_index.negatives import nearer_negative
from oneglance_index.records import Candidate, Found, Generation, Vectors
from oneglance_index.store import queries

# Finds the subjects of a gallery nearest to each probe by the rule of this generation: one more than "margin" counts as
# others.
Nearest = Callable[[str, Vectors, Generation], Found]


def verify(
    db: sqlite3.Connection,
    gallery_id: str,
    subject_id: str,
    probes: Vectors,
    encoder_digest: str | None,
    fusion: str | None,
    nearest: Nearest,
    head: PairHead | None = None,
    by_probability: bool = False,
) -> Found:
    """As GalleryStore.verify()."""
    stored = queries.finished(db, gallery_id)
    gallery = stored.gallery
    if encoder_digest not in (None, gallery.active.encoder_digest):
        raise EncoderMismatch(gallery_id, gallery.active.encoder_digest, encoder_digest or "")
    if fusion not in (None, gallery.active.fusion):
        raise FusionChanged(gallery_id, fusion or "", gallery.active.fusion)
    subject = queries.find_subject(db, stored.place.number, subject_id)
    if subject is None:
        raise SubjectNotFound(gallery_id, subject_id)
    numbers, vectors = queries.subject_vectors(db, stored.place, subject)
    checked = check_encodings(probes, gallery.active.dimension)
    if gallery.active.fusion == "nearest":
        ids = numbers.astype(str).tolist()
        own = [_nearest_of(subject, ids, vectors, probe, head, by_probability) for probe in checked]
    else:
        made = template(vectors)[None]
        own = [_nearest_of(subject, [""], made, probe, head, by_probability) for probe in checked]
    if gallery.active.fusion == "margin" and not by_probability:
        others = nearest(gallery_id, checked, gallery.active).candidates
        own = [_by_margin(one, near) for one, near in zip(own, others, strict=True)]
    negatives = queries.negative_vectors(db, stored.place, subject)
    mapped = gallery.mapped is not None and queries.is_mapped(db, subject.number)
    own = [
        replace(one, negative=nearer_negative(vectors, *negatives, probe), mapped=mapped)
        for one, probe in zip(own, checked, strict=True)
    ]
    return Found(
        tuple((one,) for one in own),
        ((),) * len(own),
        (False,) * len(own),
        gallery.revision,
        gallery.subjects,
        gallery.encodings,
        True,
        "store",
        "cpu",
        mapped=gallery.mapped,
    )


def _nearest_of(
    subject: queries.StoredSubject,
    ids: Sequence[str],
    vectors: Vectors,
    probe: Vectors,
    head: PairHead | None,
    by_probability: bool,
) -> Candidate:
    """Of vectors [n, D] with these ids, the one that decides."""
    distances = squared_l2(vectors, probe)
    if head is None:
        best = int(distances.argmin())  # the first, that is the oldest, of equals
        distance = float(distances[best])
        return Candidate(subject.id, ids[best], distance, distance, number=subject.number)
    logits = head.logits(vectors, probe)
    best = int(logits.argmax() if by_probability else distances.argmin())
    distance, probability = float(distances[best]), float(probabilities_of(logits[best]))
    score = float(scores_of(logits[best])) if by_probability else distance
    return Candidate(subject.id, ids[best], distance, score, probability=probability, number=subject.number)


def _by_margin(own: Candidate, nearest: tuple[Candidate, ...]) -> Candidate:
    """With the score among these subjects, the nearest of its gallery."""
    ranked = [one.distance for one in nearest if one.number != own.number]
    place = int(np.searchsorted(ranked, own.distance))
    ranked.insert(place, own.distance)
    score = margin_scores(np.array(ranked, np.float32))[place]
    return replace(own, score=float(score))
