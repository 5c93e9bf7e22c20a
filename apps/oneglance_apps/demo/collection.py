"""Who is enrolled, from which picture, and the probes."""

from collections.abc import Iterator
from dataclasses import dataclass

from oneglance_apps.demo.pictures import Picture

MIN_CALIBRATION_PROBES = 100  # too few probes can't measure a rate of a few percent


@dataclass(frozen=True)
class Subject:
    """A subject to enroll from one picture; its other pictures are mated probes."""

    id: str
    enrolled_from: Picture
    probes: tuple[Picture, ...]


@dataclass(frozen=True)
class Stranger:
    """A person or character that is never enrolled; all its pictures are non-mated probes."""

    id: str
    probes: tuple[Picture, ...]


@dataclass(frozen=True)
class Collection:
    """The pictures of one run.

    strangers: to measure with. calibration_strangers: others, to fit the threshold on; empty when there are too few.
    noun, picture_noun: words for a subject and a picture, singular.
    origin: where the pictures come from, as the end of a sentence: "drawn by ...".
    drawn: whether they come from the glyph generator.
    """

    subjects: tuple[Subject, ...]
    strangers: tuple[Stranger, ...]
    calibration_strangers: tuple[Stranger, ...]
    noun: str
    picture_noun: str
    origin: str
    drawn: bool

    def mated(self) -> Iterator[tuple[Subject, Picture]]:
        """Every probe whose subject is enrolled."""
        return ((subject, probe) for subject in self.subjects for probe in subject.probes)

    def non_mated(self) -> Iterator[tuple[Stranger, Picture]]:
        """Every probe of the strangers."""
        return ((stranger, probe) for stranger in self.strangers for probe in stranger.probes)
