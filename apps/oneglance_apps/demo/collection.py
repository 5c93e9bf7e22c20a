"""Who is enrolled, from which picture, and what is shown to the server afterwards."""

from collections.abc import Iterator
from dataclasses import dataclass

from oneglance_apps.demo.pictures import Picture

MIN_REHEARSAL = 100  # probes; fewer say too little about a rate of some percent


@dataclass(frozen=True)
class Subject:
    """Somebody to enroll: one picture for that, others as probes."""

    id: str
    enrolled_from: Picture
    probes: tuple[Picture, ...]


@dataclass(frozen=True)
class Stranger:
    """Somebody who is never enrolled: every picture is a probe."""

    id: str
    probes: tuple[Picture, ...]


@dataclass(frozen=True)
class Collection:
    """The pictures of one run.

    rehearsal: strangers to set the threshold by, before the others are shown; nobody when there are too few.
    noun, picture_noun: what a subject and its pictures are called, in the singular.
    origin: where the pictures come from, a sentence's end: "drawn by ...".
    drawn: they come from the glyph generator.
    """

    subjects: tuple[Subject, ...]
    strangers: tuple[Stranger, ...]
    rehearsal: tuple[Stranger, ...]
    noun: str
    picture_noun: str
    origin: str
    drawn: bool

    def mated(self) -> Iterator[tuple[Subject, Picture]]:
        """Every probe whose subject is enrolled."""
        return ((subject, probe) for subject in self.subjects for probe in subject.probes)

    def non_mated(self) -> Iterator[tuple[Stranger, Picture]]:
        """Every probe of somebody who is not."""
        return ((stranger, probe) for stranger in self.strangers for probe in stranger.probes)
