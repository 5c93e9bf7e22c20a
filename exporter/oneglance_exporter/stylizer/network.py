"""The stylizer: one feed-forward network for N styles.

After Johnson, Alahi and Fei-Fei 2016 (an encoder, residual blocks, a decoder) with conditional instance normalisation
(Dumoulin, Shlens and Kudlur 2017): styles share every convolution and differ in a scale and a shift per channel, so a
style is a vector of weights, styles blend, and a new one is added without touching the others. Where we deviate:

* it begins and ends with 2 x 2 pixels folded into channels, not with 9 x 9 convolutions at full resolution. Unfolding
  alone would leave a grid of period 2, so what is unfolded goes through a filter that lets nothing of that period pass
  ([1 2 1]/4 in both directions);
* normalisation takes every level away, black is as white to it. So the picture itself, convolved once, is added before
  the end, as much as the style wants (``keep``): level and the finest lines come from there;
* the sums of normalisation come out of the graph and can be given to it (``moments``), which makes tiles seamless
  (Chen et al. 2022, thumbnail instance normalisation) and video calm.
"""

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import Tensor, nn

MULTIPLE = 4  # of height and width: what the strides divide
LEAST_SIDE = 16  # reflection needs more pixels than it pads
_EPSILON = 1e-3  # a flat wall has no deviation; what noise it has is not to be blown up
_TRUNK, _EDGE, _BLOCKS = 48, 16, 5  # channels inside, at the ends; residual blocks
_SMOOTH = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
# What a pixel can see, in the picture's pixels and rounded up: 5 x 5 at half size (4), the strided 3 x 3 (2), ten 3 x 3
# at a quarter (40), doubling (4), two 3 x 3 at half (4), the last filter (1), and the folding's own corners (4).
MARGIN = 60


class Moments:
    """The (mean, standard deviation) that normalise one forward pass, given or measured: float [B, M, 2].

    own: [B] in [0, 1], how much of the picture's own.
    """

    def __init__(self, given: Tensor | None = None, own: Tensor | None = None) -> None:
        self._given, self._own = given, own
        self._at = 0
        self._used: list[Tensor] = []

    def of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [B, C, 1, 1] for activations [B, C, H, W]; the layers ask in order."""
        x = x.float()
        mean = x.mean((2, 3))
        # Of what is left without the mean: in bf16 the difference of two large sums would be anything.
        deviation = (x - mean[:, :, None, None]).square().mean((2, 3)).add(_EPSILON).sqrt()
        found = torch.stack((mean, deviation), 2)  # [B, C, 2]
        if self._given is not None and self._own is not None:
            given = self._given[:, self._at : self._at + x.shape[1]]
            own = self._own[:, None, None]
            found = own * found + (1 - own) * given
        self._at += x.shape[1]
        self._used.append(found)
        return found[:, :, 0, None, None], found[:, :, 1, None, None]

    @property
    def used(self) -> Tensor:
        """All that were used, [B, M, 2]."""
        return torch.cat(self._used, 1)


class _Normalise(nn.Module):
    """Conditional instance normalisation: gamma_s * (x - mean) / deviation + beta_s, mixed over styles s."""

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(styles, channels))
        self.beta = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, weights: Tensor, moments: Moments) -> Tensor:
        mean, deviation = moments.of(x)  # [B, C, 1, 1]
        gamma, beta = (weights @ self.gamma)[:, :, None, None], (weights @ self.beta)[:, :, None, None]
        return ((x - mean) * (gamma / deviation) + beta).to(x.dtype)


class Stylizer(nn.Module):
    """From pictures and style weights to stylized pictures."""

    def __init__(self, styles: int) -> None:
        super().__init__()
        self.styles = styles
        channels = [(12, _EDGE, 5, 1), (_EDGE, _TRUNK, 3, 2), *[(_TRUNK, _TRUNK, 3, 1)] * (2 * _BLOCKS)]
        channels += [(_TRUNK, _EDGE, 3, 1)]
        self.convolutions = nn.ModuleList(
            # Normalisation takes any bias away again.
            nn.Conv2d(i, o, k, stride, k // 2, padding_mode="reflect", bias=False)
            for i, o, k, stride in channels
        )
        self.norms = nn.ModuleList(_Normalise(o, styles) for _, o, _, _ in channels)
        self.last = nn.Conv2d(_EDGE, 12, 3, 1, 1, padding_mode="reflect")
        self.passed = nn.Conv2d(12, 12, 1, bias=False)
        nn.init.zeros_(self.passed.weight)
        self.keep = nn.Parameter(torch.ones(styles, 12))
        self.register_buffer("smooth", _SMOOTH.expand(3, 1, 3, 3).clone(), persistent=False)

    @property
    def moments(self) -> int:
        """How many channels are normalised: M."""
        return sum(norm.gamma.shape[1] for norm in self._norms)

    @property
    def _norms(self) -> list[_Normalise]:
        return [cast(_Normalise, norm) for norm in self.norms]

    def forward(self, pictures: Tensor, weights: Tensor, moments: Moments | None = None) -> Tensor:
        """``pictures``: float [B, 3, H, W] rgb in [0, 1], sides multiples of 4 and at least 16; ``weights``: [B, S].

        Returns [B, 3, H, W] in (0, 1).
        """
        moments = moments or Moments()

        def layer(i: int, x: Tensor) -> Tensor:
            return cast(Tensor, self.norms[i](self.convolutions[i](x), weights, moments))

        folded = F.pixel_unshuffle(pictures * 2 - 1, 2)  # [B, 12, H/2, W/2]
        x = torch.relu(layer(0, folded))
        x = torch.relu(layer(1, x))  # [B, trunk, H/4, W/4]
        for block in range(_BLOCKS):
            x = x + layer(3 + 2 * block, torch.relu(layer(2 + 2 * block, x)))
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
        x = torch.relu(layer(2 + 2 * _BLOCKS, x))
        x = self.last(x) + self.passed(folded) * (weights @ self.keep)[:, :, None, None]
        x = F.pad(F.pixel_shuffle(x, 2).float(), (1, 1, 1, 1), mode="reflect")
        return torch.sigmoid(F.conv2d(x, cast(Tensor, self.smooth), groups=3))

    def add_styles(self, more: int) -> None:
        """Room for ``more`` styles behind the others, which begin as the mean of those there are."""
        self.styles += more
        for owner, name in (*((norm, name) for norm in self._norms for name in ("gamma", "beta")), (self, "keep")):
            old = getattr(owner, name).data
            setattr(owner, name, nn.Parameter(torch.cat((old, old.mean(0, keepdim=True).repeat(more, 1)))))
