"""What the training of a stylizer is told."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from oneglance_core.flags import Flag
from oneglance_exporter.settings import HIGHEST_LEARNING_RATE, OptionalPath, Paths
from oneglance_exporter.training.settings import TrainingSettings

MEASURED_SIDE = 256  # pixels: longer side of the photos that a stylizer is measured on
_Side = Annotated[int, Flag(unit="pixels"), Field(ge=32, le=2048)]


class StylizerSettings(TrainingSettings):
    """Settings of ``train stylizer``."""

    styles: Paths = Field(
        (), description="pictures to learn the style of; or a .toml that also tells where they are from"
    )
    photos: Paths = Field((), description="folders or zips of photos to learn on; a few hundred do")
    base: OptionalPath = Field(
        None, description="run folder of a stylizer to add the styles to; its own styles stay as they are"
    )
    init: OptionalPath = Field(
        None,
        description="run folder or model folder of a stylizer whose weights to begin with: to refine its styles, or "
        "as a start for others, which begin as the mean of its own",
    )
    alpha: float = Field(1.0, ge=0, description="weight of J_content, 1/(4 nH nW nC) * sum (a(C) - a(G))^2")
    beta: float = Field(1e-3, ge=0, description="weight of J_style")
    rise: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="share of the training in which beta rises to its value, so that content is learnt first",
    )
    style_size: _Side = Field(320, description="shorter side of the style pictures: larger makes larger strokes")
    crop: _Side = Field(128, multiple_of=4, description="side of the photos' crops, a multiple of 4")
    last_crop: _Side = Field(224, multiple_of=4, description="the same in the last part of the training")
    last_share: float = Field(0.4, ge=0, lt=1, description="how large that part is")
    batch: int = Field(2, ge=1, description="crops in a batch; in the last part as many fewer as they are larger")
    calm: float = Field(0.02, ge=0, description="weight of the squared gain of small noise: against flicker")
    shift: float = Field(
        0.0,
        ge=0,
        description="weight of the squared difference, of 1, between the pictures of two crops up to 3 pixels apart, "
        "where both show the same, beyond 0.06^2: what is painted is to move along with the photo",
    )
    level: float = Field(
        20.0,
        ge=0,
        description="weight of the squared error of brightness, of 1, in parts of a fourth of the crop: dark stays "
        "darker than light; 0 for styles that have a light of their own",
    )
    grid: float = Field(
        0.0,
        ge=0,
        description="weight of the squared difference, of 1, of a place in cells of 4 x 4 pixels from the mean of all: "
        "against a grid",
    )
    fade: float = Field(
        0.2, ge=0, le=1, description="share of the crops that are faded towards one grey, as films fade to black"
    )
    expose: float = Field(
        0.0, ge=0, le=1, description="share of the crops that are made very light or very dark, as photos sometimes are"
    )
    optimizer: Literal["adam", "muon"] = Field(
        "adam", description="adam, or muon for the convolutions' filters and Adam for the rest"
    )
    learning_rate: float = Field(1e-3, gt=0, le=HIGHEST_LEARNING_RATE, description="the highest; falls linearly to 0")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="fp32, or bf16 (autocast; about twice as fast on a CPU with avx512_bf16 or AMX)"
    )
    loss_network: OptionalPath = Field(
        None, description="a VGG19 state dict of torchvision's layout, instead of the package's"
    )
    checkpoint_seconds: float = Field(120.0, gt=0, description="time between checkpoints, each with a contact sheet")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.base is not None and self.init is not None:
            raise ValueError("--base and --init exclude each other")
        if not self.alpha + self.beta > 0:
            raise ValueError("--alpha or --beta must be above 0")
        return self
