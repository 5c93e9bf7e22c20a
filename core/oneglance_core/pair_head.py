"""The pair head: how likely two encodings are of one subject (Taigman et al. 2014, DeepFace, section 4).

    difference    y = sigma(sum_k w_k |f_i - f_j|_k + b)
    chi-square    y = sigma(sum_k w_k (f_i - f_j)_k^2 / (f_i + f_j)_k + b)      f >= 0; 0/0 is 0

y is the probability that the two are of one subject, if both answers are equally likely before. The *score* is 1 - y,
the probability that they are not: as a distance, it is the lower, the more alike the two are.

All is computed in float64 from float32 encodings; what sigma is taken of is rounded once to float32, as distances are,
so that an answer depends neither on the batch that a probe came in nor on the order of the sum.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import Vectors

Form = Literal["difference", "chi-square"]
FORMS: tuple[Form, ...] = get_args(Form)
Float64 = npt.NDArray[np.float64]

LEAST_POSITIVE = -1e-6
"""An encoding for "chi-square" has no value below this: rounding may make so little of 0."""

_LEAST_SUM = 1e-12  # as in the training: so 0/0 is 0
_MOST = 1e30  # so that float32 holds it
VALUES_AT_ONCE = 1 << 15  # of encodings: what fits into a processor's cache is done several times faster


@dataclass(frozen=True, slots=True, eq=False)
class PairHead:
    """weights: float64 [D], finite; bias: finite."""

    form: Form
    weights: Float64 = field(repr=False)
    bias: float

    def logits(self, first: Vectors, second: Vectors) -> Vectors:
        """What sigma is taken of, float32 [...], within +-1e30: encodings float32 [..., D] each, broadcast.

        By "chi-square", values below 0 count as 0.
        """
        if self.form == "difference":
            terms = np.subtract(first, second, dtype=np.float64)
            np.abs(terms, out=terms)
        else:
            first, second = np.maximum(first, 0), np.maximum(second, 0)
            terms, sums = np.subtract(first, second, dtype=np.float64), np.add(first, second, dtype=np.float64)
            np.square(terms, out=terms)
            np.divide(terms, np.maximum(sums, _LEAST_SUM, out=sums), out=terms)
        found = np.einsum("...d,d->...", terms, self.weights) + self.bias
        rounded: Vectors = np.clip(found, -_MOST, _MOST).astype(np.float32)
        return rounded

    def pairwise_scores(self, a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Float64:
        """1 - y of all pairs, for measuring: float64 [N, M] for [N, D] and [M, D]."""
        first, second = a.astype(np.float32), b.astype(np.float32)
        scores = np.empty((len(first), len(second)))
        rows = max(1, VALUES_AT_ONCE // max(1, second.size))
        for start in range(0, len(first), rows):
            part = slice(start, start + rows)
            scores[part] = scores_of(self.logits(first[part, None, :], second[None]))
        return scores


def probabilities_of(logits: npt.ArrayLike) -> Float64:
    """sigma(x) = y, float64."""
    return _sigma(np.asarray(logits, np.float64))


def scores_of(logits: npt.ArrayLike) -> Float64:
    """1 - y, float64; it doesn't lose its digits where y is nearly 1."""
    return _sigma(-np.asarray(logits, np.float64))


def _sigma(values: Float64) -> Float64:
    small = np.exp(-np.abs(values))  # <= 1: never too large
    found: Float64 = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return found
