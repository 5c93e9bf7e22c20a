"""How far subjects' own probes are from them, as a manifest can hold it: by rule of fusion, examples and size."""

import itertools
from typing import Self

from pydantic import Field, model_validator

from oneglance_core.fusion import Fusion
from oneglance_core.manifests.part import Part


class MatesOfSize(Part):
    """In galleries of ``gallery_size`` subjects with ``examples`` each, searched by the rule ``fusion``.

    scores: for each of the shares, the score that so many of the mated probes are below or at; rising.
    """

    fusion: Fusion
    examples: int = Field(ge=1)
    gallery_size: int = Field(ge=1)
    scores: tuple[float, ...]

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(second < first for first, second in itertools.pairwise(self.scores)):
            raise ValueError("scores must rise")
        return self


class MateScores(Part):
    """Scores of mated probes, those whose subject was the nearest one, of ``people`` subjects of ``data``.

    shares: rising, in (0, 1).
    """

    data: str
    people: int = Field(ge=2)
    shares: tuple[float, ...] = Field(min_length=2)
    galleries: tuple[MatesOfSize, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not all(0 < first < second < 1 for first, second in itertools.pairwise(self.shares)):
            raise ValueError("shares must rise, within (0, 1)")
        if any(len(one.scores) != len(self.shares) for one in self.galleries):
            raise ValueError("scores must have one number for each share")
        return self

    def scores(self, fusion: str, examples: float, size: int) -> tuple[float, ...] | None:
        """Those of what was measured by this rule for the most similar number of examples, then size; None: nothing."""
        known = [one for one in self.galleries if one.fusion == fusion]
        if not known:
            return None
        least = min(abs(one.examples - examples) for one in known)
        alike = [one for one in known if abs(one.examples - examples) == least]
        return min(alike, key=lambda one: abs(one.gallery_size - size)).scores
