"""What any GalleryStore promises (protocol.py), each promise with a check.

PROMISES holds the checks by name. A check gets a Trial and raises AssertionError where the store breaks its promise.
Each looks at one promise and takes as little else for granted as it can, so that a store which breaks one promise
fails one check: test_conformance.py holds that with a toy store for each.
"""

from tests.index.conformance import (  # noqa: F401  (register their checks)
    doubts,
    errors,
    fusion,
    galleries,
    heads,
    managing,
    negatives,
    searching,
    subjects,
)
from tests.index.conformance.trial import (
    MAX_CANDIDATES,
    MAX_ENCODINGS,
    MAX_NEGATIVES,
    MAX_PAGE_BYTES,
    PROMISES,
    Trial,
)

__all__ = ["MAX_CANDIDATES", "MAX_ENCODINGS", "MAX_NEGATIVES", "MAX_PAGE_BYTES", "PROMISES", "Trial"]
