"""A gallery on its way from one store to another: what is taken out of it, and what is brought in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oneglance_index.records import NO_NOTE, Gallery, Integers, Note, Retention, ThresholdVersion, Vectors

Versions = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class MovedEncoding:
    """An encoding, or a negative: float32 [D]. Numbers rise with each that was enrolled."""

    number: int
    created: float
    vector: Vectors
    note: Note = NO_NOTE


@dataclass(frozen=True, slots=True, eq=False)
class MovedSubject:
    """A subject with all that is kept of it; encodings and negatives oldest first. Numbers rise with each that was
    enrolled. `version` is another one after each change of it, its negatives included."""

    number: int
    version: int
    id: str
    labels: Mapping[str, str]
    created: float
    updated: float
    retention: Retention
    encodings: tuple[MovedEncoding, ...]
    negatives: tuple[MovedEncoding, ...] = ()

    @property
    def nbytes(self) -> int:
        """About as large as a message of it, at most."""
        notes = sum(len(one.note.key) + len(one.note.source) for one in self.encodings)
        vectors = sum(one.vector.nbytes + 64 for one in (*self.encodings, *self.negatives))
        words = sum(len(key) + len(value) + 16 for key, value in self.labels.items())
        kept = len(self.retention.purpose or "") + len(self.retention.consent or "")
        return 128 + 4 * (notes + words + kept + len(self.id)) + vectors


@dataclass(frozen=True, slots=True, eq=False)
class KnownSubjects:
    """What of a gallery is elsewhere already: the numbers of subjects, ascending, int64 [n], and their versions,
    uint64 [n]."""

    numbers: Integers
    versions: Versions

    @classmethod
    def none(cls) -> KnownSubjects:
        return cls(np.empty(0, np.int64), np.empty(0, np.uint64))

    def with_newer(self, numbers: Integers, versions: Versions) -> KnownSubjects:
        """And these, in place of what was known of them."""
        all_numbers, places = np.unique(np.concatenate([numbers, self.numbers]), return_index=True)
        return KnownSubjects(all_numbers, np.concatenate([versions, self.versions])[places])

    def without(self, numbers: Integers) -> KnownSubjects:
        """But these."""
        kept = np.isin(self.numbers, numbers, assume_unique=True, invert=True)
        return KnownSubjects(self.numbers[kept], self.versions[kept])


@dataclass(frozen=True, slots=True, eq=False)
class ExportStep:
    """How far a gallery is elsewhere, at one revision, that of `gallery`.

    `changed`: the numbers of the subjects that are new or changed, int64 [n]; `gone`: of those that aren't there any
    more. Where few enough changed `subjects` has them, and `thresholds` all versions, the oldest first: with these all
    is elsewhere as it is here. Else both are None: take what changed, and ask again.
    """

    gallery: Gallery
    changed: Integers
    gone: Integers
    subjects: tuple[MovedSubject, ...] | None
    thresholds: tuple[ThresholdVersion, ...] | None
