"""What Gatys' optimisation is told. No torch."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from oneglance_core.flags import Flag
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.perceptual.layers import CONTENT_LAYER, STYLE_LAYERS, activations, check_layers
from oneglance_exporter.settings import DEVICE, HIGHEST_LEARNING_RATE, CommandSettings, DeviceName, OptionalPath

LARGEST_SIDE = 4096  # pixels; such a square needs about 45 GB of memory
_BETA = 1e-3  # with normalisation "size" and alpha 1, whatever the picture's size
_Side = Annotated[int, Flag(unit="pixels"), Field(ge=1, le=LARGEST_SIDE)]


class GatysSettings(CommandSettings):
    """Settings of ``style optimize``."""

    endless: ClassVar[frozenset[str]] = frozenset({"alpha", "beta"})  # only their ratio counts

    size: _Side = Field(256, description="longer side of the result")
    style_size: Annotated[int | None, Flag(unit="pixels", default="that of --size"), Field(ge=1, le=LARGEST_SIDE)] = (
        Field(None, description="longer side of the style picture: larger makes larger strokes")
    )
    start: Literal["noise", "photo"] = Field("noise", description="what G is before the first step")
    optimizer: Literal["lbfgs", "adam"] = Field("lbfgs", description="how the gradient is descended")
    iterations: int = Field(
        200, ge=1, description="evaluations of J and its gradient; either optimizer takes one for each step"
    )
    learning_rate: float = Field(
        0.02, gt=0, le=HIGHEST_LEARNING_RATE, description="Adam's, of pixels in [0, 1]; L-BFGS needs none"
    )
    alpha: float = Field(1.0, ge=0, description="weight of J_content")
    beta: Annotated[float | None, Flag(default=f"{_BETA:g} with --normalisation size")] = Field(
        None,
        ge=0,
        description="weight of J_style; --normalisation half makes J_content 2 nH nW nC times as large, and the "
        "default of beta too: about 1000 at 256 x 256",
    )
    normalisation: Literal["half", "size"] = Field(
        "size", description="of J_content: 1/2 * sum (a(C) - a(G))^2, or 1/(4 nH nW nC) * the same sum"
    )
    content_layer: Annotated[str, Flag(metavar="LAYER")] = Field(
        CONTENT_LAYER, description="layer of VGG19 that J_content compares"
    )
    style_layers: Annotated[tuple[str, ...], Flag(metavar="LAYER=LAMBDA")] = Field(
        tuple(f"{layer}={weight}" for layer, weight in STYLE_LAYERS.items()),
        description="layers that J_style compares, and the lambda of each",
    )
    pooling: Literal["average", "max"] = Field("average", description="of the loss network; it was trained with max")
    coarse_to_fine: bool = Field(
        False, description="begin with a small picture, enlarge the result, go on: for large ones"
    )
    coarsest: _Side = Field(512, description="--coarse-to-fine halves --size until it is not above this")
    keep_colors: bool = Field(False, description="transfer luminance alone: the result has the photo's chroma (BT.601)")
    frames: int = Field(
        12, ge=0, le=100, description="pictures of the animation before the result, evenly spaced in log evaluations"
    )
    device: DeviceName = Field("cpu", description=DEVICE)
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="fp32, or bf16 (about twice as fast on a CPU with avx512_bf16 or AMX); the result is measured in "
        "fp32",
    )
    loss_network: OptionalPath = Field(
        None, description="a VGG19 state dict of torchvision's layout, instead of the package's"
    )
    loss_network_sha256: Annotated[str | None, Flag(metavar="HEX")] = Field(
        None, pattern="^[0-9a-fA-F]{64}$", description="refuse --loss-network if it has another"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="decides the noise")
    threads: Annotated[int | None, Flag(default="torch's own choice: one for each core")] = Field(
        None, ge=1, description="torch threads"
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.alpha == 0 and self.beta == 0:
            raise ValueError("--alpha or --beta must be above 0")
        check_layers([self.content_layer, *self.lambdas])
        if self.loss_network_sha256 is not None and self.loss_network is None:
            raise ValueError("--loss-network-sha256 goes with --loss-network; the package's file is always checked")
        return self

    @property
    def lambdas(self) -> dict[str, float]:
        """``style_layers`` as numbers by layer. Raises SettingsError."""
        found: dict[str, float] = {}
        for text in self.style_layers:
            layer, _, number = text.partition("=")
            try:
                weight = float(number)
            except ValueError:
                raise SettingsError(f"--style-layers: {text!r} isn't LAYER=LAMBDA, such as relu1_1=0.2") from None
            if not 0 <= weight < float("inf"):
                raise SettingsError(f"--style-layers: {text!r}: lambda must be finite and at least 0")
            if layer in found:
                raise SettingsError(f"--style-layers: {layer} is given twice")
            found[layer] = weight
        if not any(found.values()):
            raise SettingsError("--style-layers: one lambda at least must be above 0")
        return found

    @property
    def levels(self) -> list[tuple[int, int]]:
        """(longer side, evaluations) from coarse to fine.

        Each level has half the evaluations of the one before and four times the pixels. Fewer evaluations than levels
        drop the coarsest.
        """
        sizes = [self.size]
        while self.coarse_to_fine and sizes[0] > self.coarsest and len(sizes) < self.iterations:
            sizes.insert(0, round(self.size / 2 ** len(sizes)))
        counts: list[int] = []
        for left in range(len(sizes), 0, -1):
            rest = self.iterations - sum(counts)
            counts.append(min(rest - (left - 1), round(rest * 2 ** (left - 1) / (2**left - 1))))
        return list(zip(sizes, counts, strict=True))

    def beta_at(self, height: int, width: int) -> float:
        """beta, or its default for a result of height x width pixels."""
        if self.beta is not None:
            return self.beta
        n_c, n_h, n_w = activations(self.content_layer, height, width)
        return _BETA * (2 * n_c * n_h * n_w if self.normalisation == "half" else 1)
