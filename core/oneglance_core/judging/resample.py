"""Figures with 95 % intervals, by a bootstrap over subjects.

In each replicate as many subjects are drawn as there are, with replacement, and count as often as they were drawn, with
all their examples: examples of one subject go the same way, so it is subjects that tell how far to trust a figure.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from oneglance_core.intervals import clopper_pearson
from oneglance_core.measures import Distances, Indices, largest_tau_for_rate, miss_rate

REPLICATES = 400
TAIL = 0.025  # on either side of an interval of 95 %

Weights = npt.NDArray[np.float64]
"""[B, S]: how often each subject counts in each replicate."""

Replicates = npt.NDArray[np.float64]
"""[B]: a figure in each replicate."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float
    replicates: Replicates = field(repr=False, compare=False)

    @classmethod
    def of(cls, value: float, replicates: Replicates, subjects: int = 0) -> "Measured":
        """subjects: how many a share in [0, 1] rests on. One of 0 or 1 has the interval of Clopper and Pearson, each
        subject counting as one: replicates of no error have none either."""
        low, high = (float(q) for q in np.quantile(replicates, (TAIL, 1 - TAIL)))
        if subjects and value in (0.0, 1.0):
            low, high = clopper_pearson(value * subjects, subjects)
        return cls(value, min(low, value), max(high, value), replicates)

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def draw_weights(subjects: int, replicates: int, seed: int) -> Weights:
    """The same for every encoder that is judged with ``seed`` on so many subjects: what makes two of them pairs."""
    drawn = np.random.default_rng((seed, subjects)).multinomial(subjects, np.full(subjects, 1 / subjects), replicates)
    return drawn.astype(np.float64)


def share(hits: npt.ArrayLike, totals: npt.ArrayLike, weights: Weights) -> Measured:
    """Of totals, [S] by subject, those that hit, [S]."""
    hit, total = np.asarray(hits, np.float64), np.asarray(totals, np.float64)
    value = float(hit.sum() / total.sum())
    return Measured.of(value, ratio(weights @ hit, weights @ total, value), int((total > 0).sum()))


def share_of(hits: npt.NDArray[np.bool_], owner: Indices, weights: Weights) -> Measured:
    """Of probes, those that hit, bool [n]; owner: int64 [n], the subject that each shows."""
    subjects = weights.shape[1]
    return share(np.bincount(owner, hits, subjects), np.bincount(owner, minlength=subjects), weights)


@dataclass(frozen=True, slots=True)
class Found:
    """What galleries say to their probes: scores as ``measures.Scores`` has them, and the subject that each shows."""

    mated: Distances
    mated_owner: Indices
    non_mated: Distances
    non_mated_owner: Indices


def fnir_at(fpir: float, found: Found, weights: Weights) -> tuple[Measured, float]:
    """(FNIR, tau) at the largest tau that lets in at most a share ``fpir`` of the strangers.

    In each replicate tau is chosen anew: the interval holds what comes of strangers' and of mates' chance.
    """
    tau = largest_tau_for_rate(found.non_mated, fpir)
    value = miss_rate(found.mated, tau)
    order, own_order = np.argsort(found.non_mated, kind="stable"), np.argsort(found.mated, kind="stable")
    scores, own = found.non_mated[order], found.mated[own_order]
    owner, own_owner = found.non_mated_owner[order], found.mated_owner[own_order]
    finite = int(np.searchsorted(own, np.inf))
    replicates = np.full(len(weights), value)
    for number, weight in enumerate(weights):
        counted, own_counted = np.cumsum(weight[owner]), np.cumsum(weight[own_owner])
        if counted[-1] == 0 or own_counted[-1] == 0:
            continue
        first_out = int(np.searchsorted(counted, fpir * counted[-1] * (1 + 1e-12), side="right"))
        matching = int(np.searchsorted(own, scores[first_out])) if first_out < len(scores) else finite
        matching = min(matching, finite)
        replicates[number] = 1 - (own_counted[matching - 1] if matching else 0.0) / own_counted[-1]
    return Measured.of(value, replicates, len(np.unique(found.mated_owner))), tau


def ratio(numerator: Replicates, denominator: Replicates, otherwise: float) -> Replicates:
    """``otherwise`` in replicates that have none of what is counted."""
    found: Replicates = np.full(len(numerator), otherwise)
    np.divide(numerator, denominator, out=found, where=denominator > 0)
    return found
