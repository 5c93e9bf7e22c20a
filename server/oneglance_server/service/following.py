"""A tau that follows a gallery: what it is made for, and when it moves."""

import bisect
import hashlib
import math
from dataclasses import dataclass, field
from typing import Self

from oneglance_core.expectation import Expectation
from oneglance_core.manifests.part import canonical
from oneglance_index import Followed

# Sizes that a tau is made for: it is made for the next of them, so that it seldom moves.
_DIGITS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
_SIZES = sorted({round(digit * 10**power) for digit in _DIGITS for power in range(10)} | {4, 7, 9})
_MORE_EXAMPLES = 0.25  # than it is made for are let pass


@dataclass(frozen=True, slots=True)
class MadeFor:
    """Galleries of up to ``size`` subjects with ``examples`` each, by a rule of fusion. ``model`` names what was
    measured. As text it is the id of the tau: ``5e43a17f0c2d/mean/3x25``."""

    model: str
    fusion: str
    examples: int
    size: int

    def __str__(self) -> str:
        return f"{self.model}/{self.fusion}/{self.examples}x{self.size}"

    @classmethod
    def parse(cls, id: str) -> Self:
        model, fusion, numbers = id.split("/")
        examples, size = numbers.split("x")
        return cls(model, fusion, int(examples), int(size))

    def holds(self, needed: "MadeFor", examples: float) -> bool:
        """Whether a tau for this may stay where one for ``needed`` would be made, of a gallery with so many examples on
        average. One for the next larger size may: so a gallery whose size goes to and fro doesn't move it each time."""
        larger = bisect.bisect_left(_SIZES, self.size) - bisect.bisect_left(_SIZES, needed.size)
        enough = needed.examples <= self.examples
        few = self.examples > 1 and examples <= self.examples - 1
        return self.fusion == needed.fusion and larger in (0, 1) and enough and not few


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a model at many sizes. ``id``: 12 hex digits that name it."""

    expectation: Expectation
    id: str = field(init=False)

    def __post_init__(self) -> None:
        content = canonical(self.expectation.measured.model_dump(mode="json"))
        object.__setattr__(self, "id", hashlib.sha256(content).hexdigest()[:12])

    def made_for(self, fusion: str, subjects: int, examples: float) -> MadeFor:
        """What a tau is made for in a gallery with so many examples of each subject on average."""
        size = _SIZES[bisect.bisect_left(_SIZES, max(subjects, 1))]
        each = max(1, math.ceil(examples - _MORE_EXAMPLES))
        return MadeFor(self.id, fusion, min(each, self.expectation.most_examples(fusion)), size)

    def tau(self, target_fpir: float, made: MadeFor) -> float:
        return self.expectation.tau(target_fpir, made.fusion, made.examples, made.size)


def moved(
    model: Measured, fusion: str, target_fpir: float, subjects: int, encodings: int, followed: Followed | None
) -> Followed | None:
    """The tau that takes the place of ``followed``; None where that stays."""
    examples = examples_of(subjects, encodings)
    needed = model.made_for(fusion, subjects, examples)
    if followed is not None and MadeFor.parse(followed.id).holds(needed, examples):
        return None
    return Followed(model.tau(target_fpir, needed), str(needed))


def examples_of(subjects: int, encodings: int) -> float:
    """Of each subject on average, at least 1."""
    return max(1.0, round(encodings / subjects, 1)) if subjects else 1.0


def size_step(subjects: int) -> tuple[int, int]:
    """The least and the largest size, >= 1, for which a tau that follows is the same as for so many subjects."""
    at = bisect.bisect_left(_SIZES, max(subjects, 1))
    return (_SIZES[at - 1] + 1 if at else 1), _SIZES[at]
