"""What ``look`` is told."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from oneglance_core.flags import Flag
from oneglance_exporter.settings import CommandSettings


class LookSettings(CommandSettings):
    """Settings of ``look``."""

    layers: Annotated[tuple[str, ...], Flag(default="four, from the first to the last")] = Field(
        (), description="names or numbers of layers, as --list tells them"
    )
    units: Annotated[tuple[int, ...], Flag(default="some, evenly")] = Field(
        (), description="which units (channels) of each layer, from 0 on"
    )
    count: int = Field(8, ge=1, le=1024, description="units of each layer, without --units")
    most: int = Field(2000, ge=1, description="examples that are looked through, evenly chosen")

    @model_validator(mode="after")
    def _numbers(self) -> Self:
        if min(self.units, default=0) < 0:
            raise ValueError(f"--units: from 0 on, got {min(self.units)}")
        return self
