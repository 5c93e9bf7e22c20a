"""Is what a pair head tells a probability? Measured on labelled pairs, and made one by Platt's scaling.

Mated pairs have half of all weight and non-mated ones the other half, as in the training: y is for pairs of which one
kind is as likely as the other.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import Reliability, ReliabilityBin
from oneglance_core.measures import Indices
from oneglance_core.pair_head import PairHead, probabilities_of
from oneglance_core.trials import Encodings

Float64 = npt.NDArray[np.float64]

_MOST_PAIRS = 20_000  # of a kind
_BINS = 10
_STEPS = 50  # of Newton's method; some ten do
_LEAST_SLOPE = 0.01  # below it the head tells nothing
_DECIMALS = 5


@dataclass(frozen=True, slots=True)
class Pairs:
    """Labelled pairs: encodings float32 [n, D] of both sides, and whether they are of one subject, bool [n]."""

    first: Encodings
    second: Encodings
    same: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PairFit:
    """sigma(slope x + offset) is the likeliest probability. pairs: how many of each kind it was fitted to."""

    slope: float
    offset: float
    mated_pairs: int
    non_mated_pairs: int

    @property
    def usable(self) -> bool:
        """Whether the head tells anything: more likely is more likely."""
        return self.slope > _LEAST_SLOPE


def sampled_pairs(encodings: Encodings, subject_of: Indices, seed: int = 0) -> Pairs | None:
    """Mated and non-mated pairs of encodings float32 [N, D], drawn at random, at most 20,000 of each kind; None where
    there are none of a kind."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(subject_of == subject) for subject in np.unique(subject_of)]
    mated = [np.stack(np.triu_indices(len(own), 1), axis=1) for own in members]
    own = np.concatenate([indices[pairs] for indices, pairs in zip(members, mated, strict=True)])
    if not len(own) or len(members) < 2:
        return None
    own = own[rng.permutation(len(own))[:_MOST_PAIRS]]
    drawn = rng.integers(len(encodings), size=(8 * _MOST_PAIRS, 2))
    other = drawn[subject_of[drawn[:, 0]] != subject_of[drawn[:, 1]]][:_MOST_PAIRS]
    both = np.concatenate([own, other])
    return Pairs(encodings[both[:, 0]], encodings[both[:, 1]], np.arange(len(both)) < len(own))


def platt(logits: Float64, same: npt.NDArray[np.bool_]) -> PairFit:
    """Platt 1999, with his targets, which keep the slope finite where the kinds don't overlap. logits: float64 [n]."""
    mated, non_mated = int(same.sum()), int((~same).sum())
    targets = np.where(same, (mated + 1) / (mated + 2), 1 / (non_mated + 2))
    weights = np.where(same, 0.5 / mated, 0.5 / non_mated)
    slope, offset = 1.0, 0.0
    loss = _loss(slope, offset, logits, targets, weights)
    for _ in range(_STEPS):
        y = probabilities_of(slope * logits + offset)
        apart, curve = weights * (y - targets), weights * y * (1 - y)
        gradient = np.array([apart @ logits, apart.sum()])
        a, b, c = curve @ logits**2 + 1e-12, curve @ logits, curve.sum() + 1e-12
        step = np.array([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]) / (a * c - b * b)
        size = 1.0
        while size > 1e-10:  # shorter and shorter, until it is one downwards
            tried = slope - size * step[0], offset - size * step[1]
            fresh = _loss(*tried, logits, targets, weights)
            if fresh < loss:
                break
            size /= 2
        if not size > 1e-10:
            break
        (slope, offset), gained, loss = tried, loss - fresh, fresh
        if gained < 1e-12:
            break
    return PairFit(float(slope), float(offset), mated, non_mated)


def _loss(slope: float, offset: float, logits: Float64, targets: Float64, weights: Float64) -> float:
    """Cross-entropy, in nats."""
    x = slope * logits + offset
    return float(weights @ (np.logaddexp(0, x) - targets * x))


def scaled(head: PairHead, slope: float, offset: float) -> PairHead:
    """The head that tells sigma(slope x + offset) where ``head`` tells sigma(x); its weights are float32 numbers."""
    weights = (slope * head.weights).astype(np.float32).astype(np.float64)
    return PairHead(head.form, weights, slope * head.bias + offset)


def reliability(
    head: PairHead, encodings: Encodings, subject_of: Indices, data: str, seed: int = 0
) -> Reliability | None:
    """How far the head's probabilities are from the shares that are seen. None without pairs of both kinds."""
    pairs = sampled_pairs(encodings, subject_of, seed)
    if pairs is None:
        return None
    logits = head.logits(pairs.first, pairs.second).astype(np.float64)
    y, same = probabilities_of(logits), pairs.same
    fit = platt(logits, same)
    weights = np.where(same, 0.5 / fit.mated_pairs, 0.5 / fit.non_mated_pairs)
    bins = [
        (one, float(weights[inside].sum()))
        for one, inside in ((_bin(i, y, same, weights), _inside(i, y)) for i in range(_BINS))
        if one is not None
    ]
    losses = np.where(same, np.logaddexp(0, -logits), np.logaddexp(0, logits))
    return Reliability(
        data=data,
        method=(
            f"mated and non-mated pairs, drawn at random (seed {seed}), at most {_MOST_PAIRS} of each; each kind has "
            f"half the weight; {_BINS} bins of equal width"
        ),
        mated_pairs=fit.mated_pairs,
        non_mated_pairs=fit.non_mated_pairs,
        error=round(sum(weight * abs(one.predicted - one.mated) for one, weight in bins), _DECIMALS),
        log_loss=round(float(weights @ losses), _DECIMALS),
        slope=round(fit.slope, _DECIMALS),
        offset=round(fit.offset, _DECIMALS),
        bins=tuple(one for one, _ in bins),
    )


def _inside(number: int, y: Float64) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = np.minimum(np.ceil(y * _BINS) - 1, _BINS - 1).clip(0) == number
    return inside


def _bin(number: int, y: Float64, same: npt.NDArray[np.bool_], weights: Float64) -> ReliabilityBin | None:
    inside = _inside(number, y)
    total = float(weights[inside].sum())
    if not inside.any():
        return None
    return ReliabilityBin(
        low=number / _BINS,
        high=(number + 1) / _BINS,
        pairs=int(inside.sum()),
        predicted=round(float(weights[inside] @ y[inside]) / total, _DECIMALS),
        mated=min(1.0, round(float(weights[inside & same].sum()) / total, _DECIMALS)),
    )


def told(known: Reliability) -> str:
    """In words, for people."""
    if math.isclose(known.slope, 1, abs_tol=0.1) and abs(known.offset) < 0.1:
        words = "it can hardly be made better"
    else:
        sure = " (it is too sure of itself)" if known.slope < 0.9 else ""
        words = f"sigma({known.slope:.2f} x {known.offset:+.2f}) would be likelier than sigma(x){sure}"
    return (
        f"the pair head's probability is off by {known.error:.2%} on average, of {known.mated_pairs} mated and "
        f"{known.non_mated_pairs} non-mated pairs, each kind counting half; {words}"
    )
