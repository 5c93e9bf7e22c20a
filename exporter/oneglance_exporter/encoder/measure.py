"""What two encodings are compared by: the distance, or the probability of the encoder's pair head."""

from collections.abc import Sequence
from dataclasses import dataclass

from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.fusion import FUSIONS, DecidedBy, Fusion
from oneglance_core.pair_head import PairHead
from oneglance_core.trials import Pairwise


@dataclass(frozen=True, slots=True)
class Measure:
    """pairwise: gives scores, squared L2 or 1 - y. rules: of fusion, that go with it. decimals: of a tau."""

    decided_by: DecidedBy
    pairwise: Pairwise
    rules: Sequence[Fusion]
    decimals: int


DISTANCE = Measure("distance", pairwise_squared_l2, FUSIONS, 5)


def by_head(head: PairHead) -> Measure:
    """With more decimals than a distance: 1 - y is small where y is nearly 1."""
    return Measure("probability", head.pairwise_scores, ("nearest", "mean"), 9)
