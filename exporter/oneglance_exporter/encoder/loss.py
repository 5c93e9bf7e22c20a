"""The triplet loss, and which triplets it is summed over.

    L(A, P, N) = max(||f(A) - f(P)||^2 - ||f(A) - f(N)||^2 + alpha, 0)        J = sum of L

after Schroff et al. 2015 (FaceNet), section 3.1. Distances are squared L2 of unit-norm encodings.
"""

from typing import cast

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import SumReducer
from torch import Tensor, nn

Triplets = tuple[Tensor, Tensor, Tensor]  # anchor, positive, negative: int64 [T] each


def torch_squared_l2(normalize: bool = False) -> LpDistance:
    """d(x, y) = ||x - y||^2. The library's own default is unsquared and normalises."""
    return LpDistance(normalize_embeddings=normalize, p=2, power=2)


def semi_hard(encodings: Tensor, labels: Tensor, margin: float) -> Triplets:
    """FaceNet's semi-hard triplets of a batch (section 3.2): every (A, P) with its hardest such N.

    Semi-hard: d(A, P) < d(A, N) < d(A, P) + margin. ``encodings`` float [B, D], ``labels`` int [B].
    Pairs (A, P) without such an N give no triplet, so the result may be empty.

    The library's TripletMarginMiner returns all semi-hard triplets, not the hardest of each pair,
    and enumerates B^3 candidates to find them; this looks at B^2 pairs x B negatives of real pairs only.
    """
    with torch.no_grad():
        distance = cast(Tensor, torch_squared_l2()(encodings.float()))  # [B, B]
        same = labels[:, None] == labels[None, :]
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        anchor, positive = torch.nonzero(same & ~itself, as_tuple=True)  # [pairs]
        to_positive = distance[anchor, positive][:, None]  # [pairs, 1]
        to_others = distance[anchor]  # [pairs, B]
        allowed = ~same[anchor] & (to_others > to_positive) & (to_others < to_positive + margin)
        negative = to_others.masked_fill(~allowed, torch.inf).argmin(dim=1)
        found = allowed.any(dim=1)
    return anchor[found], positive[found], negative[found]


class TripletLoss(nn.Module):
    """J over the semi-hard triplets of a batch, divided by the number of (A, P) pairs.

    The sources sum L. The division by a number fixed by the batch's layout (not by how many
    triplets are active, the library's default) only keeps the learning rate's meaning when the batch
    size changes.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin
        self.sum = TripletMarginLoss(margin=margin, distance=torch_squared_l2(), reducer=SumReducer())

    def forward(self, encodings: Tensor, labels: Tensor) -> tuple[Tensor, int]:
        """The loss, a scalar, and the number of active triplets.

        encodings: float [B, D], unit norm; bfloat16 is lifted to float32, in which distances near 0
        survive the subtraction. labels: int [B].
        """
        encodings = encodings.float()
        triplets = semi_hard(encodings, labels, self.margin)
        counts = torch.bincount(labels)
        pairs = int((counts * (counts - 1)).sum())
        total = cast(Tensor, self.sum(encodings, labels, indices_tuple=triplets))
        return total / max(pairs, 1), len(triplets[0])
