"""The triplet loss, and which triplets it is summed over.

    L(A, P, N) = max(||f(A) - f(P)||^2 - ||f(A) - f(N)||^2 + alpha, 0)        J = sum of L

after Schroff et al. 2015 (FaceNet), section 3.1. Distances are squared L2 of unit-norm encodings.
"""

from collections.abc import Callable
from typing import cast

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import SumReducer
from torch import Tensor, nn

from oneglance_exporter.encoder.settings import Mining

Triplets = tuple[Tensor, Tensor, Tensor]  # anchor, positive, negative: int64 [T] each


def torch_squared_l2(normalize: bool = False) -> LpDistance:
    """d(x, y) = ||x - y||^2. The library's own default is unsquared and normalises."""
    return LpDistance(normalize_embeddings=normalize, p=2, power=2)


def distances(encodings: Tensor) -> Tensor:
    """Squared L2 of all pairs, float [B, B], of float [B, D]."""
    return cast(Tensor, torch_squared_l2()(encodings))


def mates(labels: Tensor) -> Tensor:
    """Which pairs are two examples of one class: bool [B, B]. An example is not its own mate."""
    return (labels[:, None] == labels[None, :]) & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)


@torch.no_grad()
def semi_hard(encodings: Tensor, labels: Tensor, margin: float, generator: torch.Generator | None = None) -> Triplets:
    """FaceNet's semi-hard triplets of a batch (section 3.2): every (A, P) with its hardest such N.

    Semi-hard: d(A, P) < d(A, N) < d(A, P) + margin. ``encodings`` float [B, D], ``labels`` int [B].
    Pairs (A, P) without such an N give no triplet, so the result may be empty.

    The library's TripletMarginMiner returns all semi-hard triplets, not the hardest of each pair,
    and enumerates B^3 candidates to find them; this looks at B^2 pairs x B negatives of real pairs only.
    """
    distance = distances(encodings.float())  # [B, B]
    anchor, positive = torch.nonzero(mates(labels), as_tuple=True)  # [pairs]
    to_positive = distance[anchor, positive][:, None]  # [pairs, 1]
    to_others = distance[anchor]  # [pairs, B]
    others = labels[anchor][:, None] != labels[None, :]
    allowed = others & (to_others > to_positive) & (to_others < to_positive + margin)
    negative = to_others.masked_fill(~allowed, torch.inf).argmin(dim=1)
    found = allowed.any(dim=1)
    return anchor[found], positive[found], negative[found]


@torch.no_grad()
def random(encodings: Tensor, labels: Tensor, margin: float, generator: torch.Generator | None = None) -> Triplets:
    """Every (A, P) with an N drawn at random: too easy to teach much, once the network knows a little."""
    anchor, positive = torch.nonzero(mates(labels), as_tuple=True)
    others = (labels[anchor][:, None] != labels[None, :]).float()
    some = others.any(dim=1)
    anchor, positive, others = anchor[some], positive[some], others[some]
    if not len(anchor):
        return anchor, positive, anchor
    return anchor, positive, torch.multinomial(others, 1, generator=generator)[:, 0]


@torch.no_grad()
def batch_hard(encodings: Tensor, labels: Tensor, margin: float, generator: torch.Generator | None = None) -> Triplets:
    """Every A with its farthest P and its nearest N of the batch (Hermans et al. 2017, section 2)."""
    distance = distances(encodings.float())
    positives, others = mates(labels), labels[:, None] != labels[None, :]
    anchor = torch.nonzero(positives.any(dim=1) & others.any(dim=1))[:, 0]
    positive = distance.masked_fill(~positives, -torch.inf).argmax(dim=1)
    negative = distance.masked_fill(~others, torch.inf).argmin(dim=1)
    return anchor, positive[anchor], negative[anchor]


MINERS: dict[Mining, Callable[[Tensor, Tensor, float, torch.Generator | None], Triplets]] = {
    "semi-hard": semi_hard,
    "random": random,
    "batch-hard": batch_hard,
}


class TripletLoss(nn.Module):
    """J over the triplets of a batch that ``mining`` selects, divided by the number of (A, P) pairs it looks at.

    The sources sum L. The division by a number fixed by the batch's layout (not by how many
    triplets are active, the library's default) only keeps the learning rate's meaning when the batch
    size changes.
    """

    def __init__(self, margin: float, mining: Mining = "semi-hard") -> None:
        super().__init__()
        self.margin, self.mining = margin, mining
        self.sum = TripletMarginLoss(margin=margin, distance=torch_squared_l2(), reducer=SumReducer())

    def forward(
        self, encodings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, int]:
        """The loss, a scalar, and the number of active triplets: those of which L is above 0.

        encodings: float [B, D], unit norm; bfloat16 is lifted to float32, in which distances near 0
        survive the subtraction. labels: int [B]. generator: draws random triplets.
        """
        encodings = encodings.float()
        triplets = anchor, positive, negative = MINERS[self.mining](encodings, labels, self.margin, generator)
        each = mates(labels)
        looked_at = int((each.any(dim=1) if self.mining == "batch-hard" else each).sum())
        total = cast(Tensor, self.sum(encodings, labels, indices_tuple=triplets))
        if self.mining == "semi-hard":  # all of them, by their definition
            return total / max(looked_at, 1), len(anchor)
        distance = distances(encodings.detach())
        active = distance[anchor, positive] - distance[anchor, negative] + self.margin > 0
        return total / max(looked_at, 1), int(active.sum())
