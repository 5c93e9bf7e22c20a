"""Which of several questions to a gallery can be answered, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from oneglance_core.distance import usable_encodings
from oneglance_index.encodings import as_encodings, check_values
from oneglance_index.errors import EncoderMismatch, FusionChanged, GalleryError, LimitExceeded
from oneglance_index.records import Gallery, Search


def check_searches(gallery: Gallery, max_candidates: int, searches: Sequence[Search]) -> list[Search | GalleryError]:
    """Each question with its probes as an index takes them, float32 [q, D] C-contiguous; or its error in its place.

    The errors are EncoderMismatch, FusionChanged, DimensionMismatch, EncodingInvalid, LimitExceeded.
    """
    checked = [_checked(gallery, max_candidates, search) for search in searches]
    probes = [search.probes for search in checked if isinstance(search, Search)]
    # All values at once, which costs hardly more than those of one: that any are bad is rare.
    if probes and not usable_encodings(np.concatenate(probes)).all():
        return [_with_values_checked(search) if isinstance(search, Search) else search for search in checked]
    return checked


def _checked(gallery: Gallery, max_candidates: int, search: Search) -> Search | GalleryError:
    active = gallery.active
    if search.encoder_digest != active.encoder_digest:
        return EncoderMismatch(gallery.id, active.encoder_digest, search.encoder_digest)
    if search.fusion not in (None, active.fusion):
        return FusionChanged(gallery.id, search.fusion, active.fusion)
    most = max(search.candidates, search.limit)
    if most > max_candidates:
        return LimitExceeded("max_candidates", max_candidates, most)
    try:
        probes = as_encodings(search.probes, active.dimension)
    except GalleryError as error:
        return error
    return search if probes is search.probes else replace(search, probes=probes)


def _with_values_checked(search: Search) -> Search | GalleryError:
    try:
        check_values(search.probes)
    except GalleryError as error:
        return error
    return search
