"""How often strangers are let in, as a manifest can hold it: by rule of fusion, examples and size of the gallery."""

import itertools
from typing import Self

from pydantic import Field, model_validator

from oneglance_core.fusion import Fusion
from oneglance_core.manifests.part import Part


class Galleries(Part):
    """Galleries of ``gallery_size`` subjects with ``examples`` each, searched by the rule ``fusion``.

    taus: for each of the levels, the largest tau measured at which no more of the strangers are let in; rising.
    """

    fusion: Fusion
    examples: int = Field(ge=1)
    gallery_size: int = Field(ge=1)
    taus: tuple[float, ...]

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(second < first for first, second in itertools.pairwise(self.taus)):
            raise ValueError("taus must rise")
        return self


class Evidence(Part):
    """What a tau that follows from the galleries gave on one data set, at a target FPIR.

    tau: for ``gallery_size`` subjects with ``examples`` each; fpir, fnir: measured there.
    """

    data: str
    people: int = Field(ge=1)
    fusion: Fusion
    examples: int = Field(ge=1)
    gallery_size: int = Field(ge=1)
    target_fpir: float = Field(gt=0, lt=1)
    tau: float
    fpir: float = Field(ge=0, le=1)
    fnir: float = Field(ge=0, le=1)


class FalsePositives(Part):
    """FPIR as a function of tau, measured on ``people`` strangers and subjects of ``data``.

    levels: FPIR, rising, in (0, 1]; lows, highs: the 95 % interval of each, all pictures of a person counting as one.
    evidence: apart for each data set.
    """

    data: str
    method: str
    people: int = Field(ge=2)
    levels: tuple[float, ...] = Field(min_length=2)
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    galleries: tuple[Galleries, ...] = Field(min_length=1)
    evidence: tuple[Evidence, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        steps = itertools.pairwise(self.levels)
        if not all(0 < first < second <= 1 for first, second in steps):
            raise ValueError("levels must rise, within (0, 1]")
        sizes = {len(self.lows), len(self.highs), *(len(one.taus) for one in self.galleries)}
        if sizes != {len(self.levels)}:
            raise ValueError("lows, highs and taus must have one number for each level")
        bounds = zip(self.lows, self.levels, self.highs, strict=True)
        if any(not 0 <= low <= level <= high <= 1 for low, level, high in bounds):
            raise ValueError("a level must lie within its interval")
        return self
