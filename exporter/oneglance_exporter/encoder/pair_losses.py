"""Losses of pairs: 1 for two examples of one class, 0 for others. All pairs of a batch are taken.

Of P classes x K examples most pairs are of two classes. So each kind is averaged by itself, and the two means count
alike: J = 1/2 (mean over pairs of one class + mean over pairs of two). The sources leave open how pairs are drawn.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from oneglance_core.pair_head import Form
from oneglance_core.pair_head import PairHead as ServedHead
from oneglance_exporter.encoder.loss import distances

_LEAST = 1e-12  # squared L2: the root has no gradient at 0
_FIRST_SUM = 4.0  # of the head's logits: what a pair that differs as random unit vectors do is given at first


def pairs_of(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs i < j of a batch: i and j int64 [pairs], and whether they are of one class, bool [pairs]."""
    first, second = torch.triu_indices(len(labels), len(labels), offset=1)
    return first, second, labels[first] == labels[second]


def balanced(losses: Tensor, same: Tensor) -> Tensor:
    """1/2 (mean of losses [pairs] where ``same`` + mean elsewhere). A kind that isn't there counts as 0."""
    zero = losses.sum() * 0.0
    means = [losses[which].mean() if which.any() else zero for which in (same, ~same)]
    return (means[0] + means[1]) / 2


class ContrastiveLoss(nn.Module):
    """d^2 for pairs of one class, max(m - d, 0)^2 for others; d is L2, not squared (Hadsell et al. 2006, section 2.1).

    The library's ContrastiveLoss doesn't square the two.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(
        self, encodings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, None]:
        """The loss, a scalar. encodings: float [B, D]; labels: int [B]."""
        first, second, same = pairs_of(labels)
        squared = distances(encodings.float())[first, second]
        short = functional.relu(self.margin - squared.clamp_min(_LEAST).sqrt())
        return balanced(torch.where(same, squared, short * short), same), None


class PairHead(nn.Module):
    """How likely two encodings are of one class: a logistic unit over their difference (Taigman et al. 2014).

    difference    y = sigma(sum_k w_k |f_i - f_j|_k + b)
    chi-square    y = sigma(sum_k w_k (f_i - f_j)_k^2 / (f_i + f_j)_k + b)      encodings must be positive
    """

    def __init__(self, dimension: int, form: Form) -> None:
        super().__init__()
        self.form = form
        # |f_i - f_j|_k of random unit vectors is about 1 / sqrt(D); chi-square's terms are smaller.
        each = 1 / math.sqrt(dimension) if form == "difference" else 0.2 / math.sqrt(dimension)
        self.weight = nn.Parameter(torch.full((dimension,), -2 * _FIRST_SUM / (dimension * each)))
        self.bias = nn.Parameter(torch.tensor(_FIRST_SUM))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The logits of y, float [pairs], of encodings float [pairs, D]."""
        apart = first - second
        terms = apart.abs() if self.form == "difference" else apart * apart / (first + second).clamp_min(_LEAST)
        return terms @ self.weight + self.bias

    def served(self) -> ServedHead:
        """As it is served, in numpy."""
        return ServedHead(self.form, self.weight.detach().double().numpy(), self.bias.detach().item())


class PairLoss(nn.Module):
    """Binary cross-entropy of a PairHead's y: -log y for pairs of one class, -log(1 - y) for others."""

    def __init__(self, dimension: int, form: Form) -> None:
        super().__init__()
        self.head = PairHead(dimension, form)

    def forward(
        self, encodings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, None]:
        """The loss, a scalar. encodings: float [B, D]; labels: int [B]."""
        encodings = encodings.float()
        first, second, same = pairs_of(labels)
        logits = self.head(encodings[first], encodings[second])
        losses = functional.binary_cross_entropy_with_logits(logits, same.float(), reduction="none")
        return balanced(losses, same), None
