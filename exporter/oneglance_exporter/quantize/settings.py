"""What ``quantize`` is told."""

from typing import Annotated, Literal

from pydantic import Field

from oneglance_core.flags import Flag
from oneglance_exporter.settings import CommandSettings

Precision = Literal["int8", "fp16"]


class QuantizeSettings(CommandSettings):
    """Settings of ``quantize``."""

    precision: Precision = Field("int8", description="of the products: 8-bit integers, or 16-bit floats (encoders)")
    ranges: Annotated[tuple[str, ...], Flag(metavar="PATH", default="--data")] = Field(
        (), description="other examples, to set the ranges of an encoder's int8 activations by"
    )
    most_lost: float = Field(
        0.01,
        ge=0,
        le=1,
        description="of an encoder: how much its EER may rise, a share; where it does, and surely, nothing is written",
    )
    seed: int = Field(0, ge=0, description="decides who is enrolled and probed where the cost is measured")
