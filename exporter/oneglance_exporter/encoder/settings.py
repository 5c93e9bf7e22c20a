"""What the commands that train, calibrate and evaluate encoders are told. No torch."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from oneglance_core.defaults import TARGET_FPIR
from oneglance_core.flags import Flag
from oneglance_core.manifests import MAX_DIMENSION
from oneglance_exporter.settings import HIGHEST_LEARNING_RATE, CommandSettings, Paths
from oneglance_exporter.training.settings import TrainingSettings


class TrainSettings(TrainingSettings):
    """Settings of ``train encoder``."""

    data: Paths = Field((), description="folders or zips of .../subject/*.png|jpg to learn from")
    validation: Paths = Field((), description="the same, only measured now and then, never learned from")
    margin: float = Field(0.2, gt=0, description="alpha of the triplet loss, squared L2")
    dimension: int = Field(128, ge=1, le=MAX_DIMENSION, description="numbers per encoding")
    classes_per_batch: int = Field(64, ge=2, description="P: classes in a batch")
    examples_per_class: int = Field(4, ge=2, description="K: examples of each class in a batch")
    procedural: float = Field(0.2, ge=0, le=1, description="share of a batch's classes that are invented characters")
    composite: float = Field(
        0.25, ge=0, le=1, description="share of a batch's classes that are two drawings on one paper"
    )
    learning_rate: float = Field(
        3e-3, gt=0, le=HIGHEST_LEARNING_RATE, description="AdamW's highest; falls linearly to 0"
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW's decay of the weights")
    checkpoint_seconds: float = Field(60.0, ge=0, allow_inf_nan=True, description="time between checkpoints")
    validation_seconds: float = Field(
        120.0, ge=0, allow_inf_nan=True, description="time between measurements on --validation"
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.procedural + self.composite > 1:
            raise ValueError("--procedural and --composite are shares of a batch: together at most 1")
        return self


class CalibrateSettings(CommandSettings):
    """Settings of ``calibrate``."""

    fpir: float = Field(TARGET_FPIR, gt=0, lt=1, description="share of strangers let in")
    gallery_size: Annotated[int | None, Flag(metavar="K", default="half of all")] = Field(
        None, ge=1, description="enrolled subjects"
    )
    splits: int = Field(200, ge=1, description="random galleries")
    seed: int = Field(0, ge=0, description="decides who is enrolled and probed")


class EvaluateSettings(CommandSettings):
    """Settings of ``evaluate``."""

    trials: int = Field(20_000, ge=1, description="one-shot trials")
    ways: int = Field(20, ge=1, description="subjects per one-shot trial")
    splits: int = Field(20, ge=1, description="random galleries")
    seed: int = Field(0, ge=0, description="decides who is enrolled and probed")
