"""What ``train uprightness`` is told. No torch."""

from pydantic import Field

from oneglance_exporter.settings import HIGHEST_LEARNING_RATE, CommandSettings, OptionalPath, Paths


class UprightnessSettings(CommandSettings):
    """Settings of ``train uprightness``."""

    photos: Paths = Field((), description="folders or zips of upright photos of faces to learn from")
    heldout: Paths = Field((), description="the same, of other people: only measured, never learned from")
    finders: OptionalPath = Field(None, description="folder with the detector's and the landmarks' model folders")
    threshold: float = Field(0.5, gt=0, lt=1, description="score that a face needs")
    steps: int = Field(2500, ge=1, description="batches")
    batch: int = Field(128, ge=16, description="chips in a batch, half of them upright and aligned")
    learning_rate: float = Field(3e-3, gt=0, le=HIGHEST_LEARNING_RATE, description="AdamW's highest; falls to 0")
    seed: int = Field(0, ge=0, lt=2**32, description="decides first weights and every batch")
    threads: int = Field(1, ge=1, description="torch threads")
