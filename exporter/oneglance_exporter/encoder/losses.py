"""The losses by the name that ``--loss`` has. Each is given encodings [B, D], labels [B] and a generator, and returns
the loss and, where there are triplets, the number of active ones."""

import math

import torch
from pytorch_metric_learning.losses import ArcFaceLoss
from torch import Tensor, nn

from oneglance_exporter.encoder.loss import TripletLoss
from oneglance_exporter.encoder.pair_losses import ContrastiveLoss, PairLoss
from oneglance_exporter.encoder.settings import TrainSettings

_ARCFACE_SCALE = 32.0


class ProxyLoss(nn.Module):
    """ArcFace (Deng et al. 2019, formula 3): a direction for each class of the training, and the cross-entropy of
    s * cos(angle to each), with the margin added to the angle to the right one.

    Where the angle and the margin exceed 180 degrees the library takes s * (cos(angle) - m sin(m)), as the authors do.
    """

    def __init__(self, classes: int, dimension: int, margin: float) -> None:
        super().__init__()
        self.mean = ArcFaceLoss(classes, dimension, margin=math.degrees(margin), scale=_ARCFACE_SCALE)

    def forward(
        self, encodings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, None]:
        """labels: int [B] in [0, classes), the same for a class in every batch."""
        loss: Tensor = self.mean(encodings.float(), labels)
        return loss, None


def loss_of(settings: TrainSettings, classes: int) -> nn.Module:
    """classes: of the training, for losses that know each one."""
    margin = settings.margin or 0.0
    match settings.loss:
        case "triplet":
            return TripletLoss(margin, settings.mining)
        case "contrastive":
            return ContrastiveLoss(margin)
        case "arcface":
            return ProxyLoss(classes, settings.learned_dimension, margin)
        case _:
            return PairLoss(settings.learned_dimension, settings.loss)
