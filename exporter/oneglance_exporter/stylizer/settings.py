"""What the training of a stylizer is told; the command line is made from this table."""

from dataclasses import dataclass
from typing import Literal

from oneglance_exporter.encoder.settings import Training, option
from oneglance_exporter.errors import SettingsError


@dataclass(frozen=True)
class StylizerSettings(Training):
    """Settings of ``train stylizer``. Raises SettingsError for values out of range."""

    styles: tuple[str, ...] = option(
        (), "pictures to learn the style of; or a .toml that also tells where they are from"
    )
    photos: tuple[str, ...] = option((), "folders or zips of photos to learn on; a few hundred do")
    base: str | None = option(None, "run folder of a stylizer to add the styles to; its own styles stay as they are")
    init: str | None = option(None, "run folder of the same styles whose weights to begin with, to refine them")
    steps: int | None = option(None, "stop after so many batches")
    seconds: float | None = option(None, "stop after so many seconds of training (without --steps)")
    alpha: float = option(1.0, "weight of J_content, 1/(4 nH nW nC) * sum (a(C) - a(G))^2")
    beta: float = option(1e-3, "weight of J_style")
    rise: float = option(
        0.25, "share of the training in which beta rises to its value, so that content is learnt first"
    )
    style_size: int = option(320, "shorter side of the style pictures, in pixels: larger makes larger strokes")
    crop: int = option(128, "side of the photos' crops, in pixels, a multiple of 4")
    last_crop: int = option(224, "the same in the last part of the training")
    last_share: float = option(0.4, "how large that part is")
    batch: int = option(2, "crops in a batch; in the last part as many fewer as they are larger")
    calm: float = option(0.02, "weight of the squared gain of small noise: against flicker")
    learning_rate: float = option(1e-3, "Adam's highest; falls linearly to 0")
    average: float = option(0.998, "decay of the weights' moving average, which is what is exported")
    precision: Literal["fp32", "bf16"] = option(
        "fp32", "fp32, or bf16 (about twice as fast on a CPU with avx512_bf16 or AMX)"
    )
    loss_network: str | None = option(None, "a VGG19 state dict of torchvision's layout, instead of the package's")
    seed: int = option(0, "decides first weights and every batch")
    threads: int = option(1, "torch threads")
    checkpoint_seconds: float = option(120.0, "time between checkpoints, each with a contact sheet")

    def __post_init__(self) -> None:
        self.check()
        if self.base is not None and self.init is not None:
            raise SettingsError("--base and --init exclude each other")
        for name in ("steps", "batch", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"--{name} must be at least 1, got {value}")
        for name in ("seconds", "learning_rate", "checkpoint_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SettingsError(f"--{name.replace('_', '-')} must be above 0, got {value}")
        for name in ("alpha", "beta", "calm"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SettingsError(f"--{name} must be finite and at least 0, got {getattr(self, name)}")
        if not self.alpha + self.beta > 0:
            raise SettingsError("--alpha or --beta must be above 0")
        for name in ("crop", "last_crop"):
            value = getattr(self, name)
            if value % 4 or not 32 <= value <= 2048:
                raise SettingsError(f"--{name.replace('_', '-')} must be a multiple of 4 in 32..2048, got {value}")
        if not 32 <= self.style_size <= 2048:
            raise SettingsError(f"--style-size must be 32 to 2048, got {self.style_size}")
        for name in ("average", "last_share", "rise"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"--{name.replace('_', '-')} must be in [0, 1), got {getattr(self, name)}")
