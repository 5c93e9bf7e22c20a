"""J(G) = alpha * J_content(C, G) + beta * J_style(S, G), after Gatys, Ecker and Bethge 2016, as the sources write it.

Content, a layer of the loss network with activations a of n_H x n_W x n_C:

    J_content = 1/2 * sum (a(C) - a(G))^2                            ("half")
    J_content = 1/(4 * n_H * n_W * n_C) * sum (a(C) - a(G))^2        ("size")

Style, by the Gram matrix G_kk' = sum_ij a_ijk * a_ijk':

    J_style[l] = 1/(2 * n_H * n_W * n_C)^2 * sum_kk' (G_kk'(S) - G_kk'(G))^2
    J_style    = sum_l lambda[l] * J_style[l]

Style and content may have different sizes. Then n_H * n_W of J_style is each picture's own, that is, each Gram matrix
is divided by its own n_H * n_W; for equal sizes this is the formula above.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from oneglance_exporter.errors import SettingsError
from oneglance_exporter.perceptual.layers import CONTENT_LAYER, STYLE_LAYERS, check_layers
from oneglance_exporter.perceptual.vgg import LossNetwork

Normalisation = Literal["half", "size"]


@dataclass(frozen=True, slots=True)
class Terms:
    """J and its parts, a value per picture: float [B] each. ``total = alpha * content + beta * style``."""

    total: Tensor
    content: Tensor
    style: Tensor


def content_loss(of_content: Tensor, of_generated: Tensor, normalisation: Normalisation = "size") -> Tensor:
    """J_content of activations [B, C, H, W]: [B]. Differences are summed in float32 at least."""
    _, channels, height, width = of_generated.shape
    squares = (_wide(of_content) - _wide(of_generated)).square().sum((1, 2, 3))
    return squares / 2 if normalisation == "half" else squares / (4 * height * width * channels)


def gram(activations: Tensor) -> Tensor:
    """G_kk' / (n_H * n_W) of activations [B, C, H, W]: float32 at least, [B, C, C]."""
    flat = _wide(activations).flatten(2)  # [B, C, HW]
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def style_loss(of_style: Tensor, of_generated: Tensor) -> Tensor:
    """J_style[l] of two ``gram``s [B or 1, C, C]: [B]."""
    channels = of_generated.shape[-1]
    return (of_style - of_generated).square().sum((1, 2)) / (2 * channels) ** 2


class Objective:
    """J for given contents and styles.

    Args:
        network: the loss network. style_layers: lambda by layer, finite and >= 0, one above 0. alpha, beta: finite,
            >= 0, one above 0. normalisation: of J_content; it is 2 * n_H * n_W * n_C times larger with "half", and so
            must beta be for the same picture.

    Raises SettingsError.
    """

    def __init__(
        self,
        network: LossNetwork,
        *,
        content_layer: str = CONTENT_LAYER,
        style_layers: Mapping[str, float] = STYLE_LAYERS,
        normalisation: Normalisation = "size",
        alpha: float = 1.0,
        beta: float = 1e-3,
    ) -> None:
        check_layers([content_layer, *style_layers])
        for name, values in (("alpha and beta", (alpha, beta)), ("the style layers' weights", style_layers.values())):
            if not all(0 <= value < float("inf") for value in values) or not any(values):
                raise SettingsError(f"{name} must be finite and >= 0, and one of them above 0")
        if normalisation not in get_args(Normalisation):
            raise SettingsError(f"the normalisation of J_content must be half or size, got {normalisation!r}")
        self.network = network
        self.content_layer = content_layer
        self.style_layers = {layer: weight for layer, weight in style_layers.items() if weight}
        self.normalisation: Normalisation = normalisation
        self.alpha, self.beta = alpha, beta

    @torch.no_grad()
    def content_of(self, pictures: Tensor) -> Tensor:
        """What ``terms`` compares content with: [B, C, h, w] of rgb pictures float [B, 3, H, W] in [0, 1]."""
        return self.network(pictures, [self.content_layer])[self.content_layer]  # type: ignore[no-any-return]

    @torch.no_grad()
    def style_of(self, pictures: Tensor) -> dict[str, Tensor]:
        """What ``terms`` compares style with: the gram by layer, [B, C, C]."""
        found = self.network(pictures, self.style_layers)
        return {layer: gram(activations) for layer, activations in found.items()}

    def terms(self, generated: Tensor, content: Tensor, style: Mapping[str, Tensor]) -> Terms:
        """J of rgb pictures float [B, 3, H, W], with gradients. ``content`` and ``style`` as the methods above give."""
        found = self.network(generated, [self.content_layer, *self.style_layers])
        of_content = content_loss(content, found[self.content_layer], self.normalisation)
        by_layer = [
            weight * style_loss(style[layer], gram(found[layer])) for layer, weight in self.style_layers.items()
        ]
        of_style = torch.stack(by_layer).sum(0)
        return Terms(self.alpha * of_content + self.beta * of_style, of_content, of_style)


def _wide(x: Tensor) -> Tensor:
    """Sums of squares need float32 at least."""
    return x if x.dtype == torch.float64 else x.float()
