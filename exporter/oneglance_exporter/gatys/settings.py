"""What Gatys' optimisation is told; the command line is made from this table. No torch."""

import re
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from oneglance_exporter.encoder.settings import option
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.perceptual.layers import CONTENT_LAYER, STYLE_LAYERS, activations, check_layers

LARGEST_SIDE = 4096  # pixels; such a square needs about 45 GB of memory
_BETA = 1e-3  # with normalisation "size" and alpha 1, whatever the picture's size


@dataclass(frozen=True)
class GatysSettings:
    """Settings of ``style optimize``. Raises SettingsError for values out of range."""

    size: int = option(256, "longer side of the result, in pixels")
    style_size: int | None = option(
        None, "longer side of the style picture, in pixels: larger makes larger strokes (that of --size)"
    )
    start: Literal["noise", "photo"] = option("noise", "what G is before the first step")
    optimizer: Literal["lbfgs", "adam"] = option("lbfgs", "how the gradient is descended")
    iterations: int = option(200, "evaluations of J and its gradient; either optimizer takes one for each step")
    learning_rate: float = option(0.02, "Adam's, of pixels in [0, 1]; L-BFGS needs none")
    alpha: float = option(1.0, "weight of J_content")
    beta: float | None = option(
        None,
        "weight of J_style (0.001 with --normalisation size; half makes J_content 2 nH nW nC times as large, and the "
        "default of beta too: about 1000 at 256 x 256)",
    )
    normalisation: Literal["half", "size"] = option(
        "size", "of J_content: 1/2 * sum (a(C) - a(G))^2, or 1/(4 nH nW nC) * the same sum"
    )
    content_layer: str = option(CONTENT_LAYER, "layer of VGG19 that J_content compares", "LAYER")
    style_layers: tuple[str, ...] = option(
        tuple(f"{layer}={weight}" for layer, weight in STYLE_LAYERS.items()),
        "layers that J_style compares, and the lambda of each",
        "LAYER=LAMBDA",
    )
    pooling: Literal["average", "max"] = option("average", "of the loss network; it was trained with max")
    coarse_to_fine: bool = option(False, "begin with a small picture, enlarge the result, go on: for large ones")
    coarsest: int = option(512, "--coarse-to-fine halves --size until it is not above this")
    keep_colors: bool = option(False, "transfer luminance alone: the result has the photo's chroma (BT.601)")
    frames: int = option(12, "pictures of the animation before the result, evenly spaced in log evaluations")
    precision: Literal["fp32", "bf16"] = option(
        "fp32", "fp32, or bf16 (about twice as fast on a CPU with avx512_bf16 or AMX); the result is measured in fp32"
    )
    loss_network: str | None = option(None, "a VGG19 state dict of torchvision's layout, instead of the package's")
    loss_network_sha256: str | None = option(None, "refuse --loss-network if it has another", "HEX")
    seed: int = option(0, "decides the noise")
    threads: int | None = option(None, "torch threads (torch's own choice: one for each core)")

    def __post_init__(self) -> None:
        for name in ("iterations", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{_flag(name)} must be at least 1, got {value}")
        for name in ("size", "style_size", "coarsest"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= LARGEST_SIDE:
                raise SettingsError(f"{_flag(name)} must be 1 to {LARGEST_SIDE}, got {value}")
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise SettingsError(f"{_flag(name)} must be finite and at least 0, got {value}")
        if self.alpha == 0 and self.beta == 0:
            raise SettingsError("--alpha or --beta must be above 0")
        if not 0 < self.learning_rate < float("inf"):
            raise SettingsError(f"--learning-rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.frames <= 100:
            raise SettingsError(f"--frames must be 0 to 100, got {self.frames}")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"--seed must be in [0, 2**32), got {self.seed}")
        for name, kind in get_type_hints(GatysSettings).items():
            choices = get_args(kind)
            if choices and isinstance(choices[0], str) and getattr(self, name) not in choices:
                raise SettingsError(f"{_flag(name)} must be {' or '.join(choices)}, got {getattr(self, name)}")
        check_layers([self.content_layer, *self.lambdas])
        self._check_digest()

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

    def _check_digest(self) -> None:
        if self.loss_network_sha256 is None:
            return
        if self.loss_network is None:
            raise SettingsError("--loss-network-sha256 goes with --loss-network; the package's file is always checked")
        if not re.fullmatch("[0-9a-fA-F]{64}", self.loss_network_sha256):
            raise SettingsError("--loss-network-sha256 must be 64 hexadecimal digits")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
