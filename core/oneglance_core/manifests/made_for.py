"""What the pictures that an encoder is made for look like, in numbers that can be checked on a picture."""

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from oneglance_core.limits import Limit
from oneglance_core.manifests.part import Part

FigureName = Literal["light", "dark", "middle", "deviation", "detail", "colour"]
Share = Annotated[float, Field(ge=0, le=1)]


class FigureRange(Part):
    """A figure of ``oneglance_core.input_figures``: its range in the pictures that were measured, and its limits.

    low, high: smallest and largest value that was measured. least, most: a picture outside is none of the kind that
    the encoder is made for.
    """

    figure: FigureName
    low: Share
    high: Share
    least: Share
    most: Share

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if not self.least <= self.low <= self.high <= self.most:
            raise ValueError(f"{self.figure}: needs least <= low <= high <= most")
        return self


class MadeFor(Part):
    """Figures of ``pictures`` pictures, brought to the encoder's input. ``data``: what they are, in words."""

    pictures: int = Field(ge=1)
    data: str
    figures: tuple[FigureRange, ...]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [one.figure for one in self.figures]
        if len(set(names)) < len(names):
            raise ValueError("a figure is there twice")
        return self

    @cached_property
    def limits(self) -> tuple[Limit, ...]:
        return tuple(Limit(one.figure, one.least, one.most) for one in self.figures)
