"""One question to a gallery, its errors raised: most tests ask one at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oneglance_index import EVERYBODY, Found, GalleryError, GalleryStore, Search, SubjectFilter

Vectors = NDArray[np.float32]


def ask(galleries: GalleryStore, gallery_id: str, search: Search) -> Found:
    (found,) = galleries.search_many(gallery_id, [search])
    if isinstance(found, GalleryError):
        raise found
    return found


def nearest(
    galleries: GalleryStore,
    gallery_id: str,
    probes: Vectors,
    k: int,
    encoder_digest: str = "e",
    among: SubjectFilter = EVERYBODY,
    labels: bool = False,
) -> Found:
    return ask(galleries, gallery_id, Search(probes, encoder_digest, k, among=among, labels=labels))


def matches(
    galleries: GalleryStore,
    gallery_id: str,
    probes: Vectors,
    threshold: float,
    limit: int,
    encoder_digest: str = "e",
    among: SubjectFilter = EVERYBODY,
) -> Found:
    return ask(galleries, gallery_id, Search(probes, encoder_digest, 0, threshold, limit, among=among))
