"""What Identify and Verify must answer: computed with numpy from the vectors that were sent, as docs/operations.md
defines it, with nothing of the server's.

A distance is computed in float64 and told as the float32 nearest to it; what a pair head takes sigma of, too. Another
order of the sum gives other last digits, and may give the next float32: where it may, both count as right. So of each
subject it is known between which two values it lies; they are the same for nearly all.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Fusion = Literal["nearest", "mean", "margin"]

_ROUNDING = 2.0**-53  # of a float64
_HALF_DIGIT = 2.0**-24  # of a float32
_SIGMA = 1e-14  # how far off sigma may be, as a share of it


class Head(NamedTuple):
    """y = sigma(sum of weight times difference, plus bias): docs/model-folder.md. weights: float64 [D]."""

    form: Literal["difference", "chi-square"]
    weights: Floats
    bias: float

    def logits(self, vectors: Floats, probe: Vectors) -> tuple[Floats, Floats]:
        """What sigma is taken of, and by how much it may be off: float64 [n] both."""
        terms = np.abs(vectors - probe)
        if self.form == "chi-square":
            sums = vectors + probe
            terms = np.divide(np.square(terms), sums, out=np.zeros_like(terms), where=sums > 0)
        terms *= self.weights
        off = (terms.shape[1] + 4) * _ROUNDING * (np.abs(terms).sum(axis=1) + abs(self.bias))
        return terms.sum(axis=1) + self.bias, off


class Rule(NamedTuple):
    """How a gallery decides: its rule of fusion, and by what; with an encoder and its head."""

    name: str
    fusion: Fusion
    head: Head
    by_probability: bool = False


@dataclass
class Subject:
    """labels; vectors [n, D], their ids, and which they were of all that were ever enrolled."""

    labels: dict[str, str]
    vectors: list[Vectors] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


class Enrolled(NamedTuple):
    """A gallery: subjects in the order in which they were enrolled first, and their encodings. `owners`: of each
    encoding which subject; `templates`: one a subject."""

    names: list[str]
    vectors: Floats
    owners: Integers
    places: Integers
    ids: list[str]
    templates: Floats

    @classmethod
    def of(cls, subjects: Mapping[str, Subject], labels: Mapping[str, str] | None = None) -> Enrolled:
        """Those with these labels."""
        wanted = (labels or {}).items()
        chosen = {name: one for name, one in subjects.items() if wanted <= one.labels.items()}
        vectors = np.array([vector for one in chosen.values() for vector in one.vectors]).astype(np.float64)
        counts = [len(one.vectors) for one in chosen.values()]
        ends = np.cumsum(counts)
        return cls(
            list(chosen),
            vectors,
            np.repeat(np.arange(len(chosen)), counts),
            np.array([place for one in chosen.values() for place in one.places]),
            [each for one in chosen.values() for each in one.ids],
            np.array([template(vectors[end - count : end]) for end, count in zip(ends, counts, strict=True)]),
        )


def template(encodings: Floats) -> Floats:
    """Their mean, stretched to their mean length, as float32 holds it: float64 [n, D] to [D]."""
    mean = encodings.mean(axis=0)
    if len(encodings) > 1:
        mean *= np.linalg.norm(encodings, axis=1).mean() / np.linalg.norm(mean)
    rounded: Floats = mean.astype(np.float32).astype(np.float64)
    return rounded


class Span(NamedTuple):
    """Between which values something lies, one a subject."""

    low: Floats
    high: Floats

    def holds(self, at: int, value: float) -> bool:
        return bool(self.low[at] <= value <= self.high[at])


class Expected(NamedTuple):
    """Of one probe, for each subject: what it is ordered by, and of equal ones by `ranks`; the score that is compared
    with tau; and which of the encodings is compared. `compared`: all encodings, or templates."""

    keys: Span
    ranks: Integers
    scores: Span
    encodings: Integers | None
    compared: Floats
    probe: Vectors
    head: Head

    def distance(self, row: int) -> tuple[float, Span]:
        """To one row of `compared`, before and after it is rounded; the two values are arrays of one."""
        away = np.square(self.compared[row : row + 1] - self.probe).sum(axis=1)
        return float(away[0]), _told(away, away * (len(self.probe) + 4) * _ROUNDING)

    def probability(self, row: int) -> Span:
        """That the probe and one row of `compared` are of one subject; the two values are arrays of one."""
        low, high = _told(*self.head.logits(self.compared[row : row + 1], self.probe))
        return Span(_sigma(low) * (1 - _SIGMA), _sigma(high) * (1 + _SIGMA))

    def before(self, first: int | Integers, second: int) -> npt.NDArray[np.bool_]:
        """Whether one certainly comes before the other."""
        low, high = self.keys
        equal = (low[first] == high[first]) & (high[first] == low[second]) & (low[second] == high[second])
        sooner: npt.NDArray[np.bool_] = (high[first] < low[second]) | (equal & (self.ranks[first] < self.ranks[second]))
        return sooner

    def in_order(self, told: Sequence[int]) -> bool:
        return len(set(told)) == len(told) and not any(self.before(b, a) for a, b in itertools.pairwise(told))

    def first(self, told: Sequence[int]) -> bool:
        """Whether these are the first ones, in order."""
        others = np.delete(np.arange(len(self.ranks)), told)
        return self.in_order(told) and not (told and self.before(others, told[-1]).any())

    def best(self) -> int:
        low, high = self.keys
        return int(np.lexsort((self.ranks, low + high))[0])


def expected(enrolled: Enrolled, rule: Rule, probe: Vectors) -> Expected:
    """There must be somebody in it."""
    compared = enrolled.vectors if rule.fusion == "nearest" else enrolled.templates
    difference = compared - probe
    away = np.einsum("nd,nd->n", difference, difference)
    distances = _told(away, away * (compared.shape[1] + 4) * _ROUNDING)
    keys, ranks, encodings = distances, np.arange(len(compared)), None
    if rule.by_probability:
        logits, off = rule.head.logits(compared, probe)
        keys = _told(-logits, off)
    if rule.fusion == "nearest":
        # Of each subject the encoding with the lowest key, the oldest of equal ones.
        order = np.lexsort((enrolled.places, keys.low + keys.high))
        encodings = order[np.unique(enrolled.owners[order], return_index=True)[1]]
        ranks, away = enrolled.places[encodings], away[encodings]
        distances, keys = (Span(one.low[encodings], one.high[encodings]) for one in (distances, keys))
    scores = distances
    if rule.by_probability:
        scores = Span(_sigma(keys.low) * (1 - _SIGMA), _sigma(keys.high) * (1 + _SIGMA))
    elif rule.fusion == "margin":
        scores = margins(away)
    return Expected(keys, ranks, scores, encodings, compared, probe, rule.head)


def margins(away: Floats) -> Span:
    """Each distance less 0.3 times the mean of the five others that are nearest, or of as many as there are."""
    count = min(5, len(away) - 1)
    if not count:
        return _told(away, away * 64 * _ROUNDING)
    order = np.argsort(away, kind="stable")
    others = np.full(len(away), away[order[:count]].mean())
    for at in order[:count]:
        others[at] = away[[one for one in order[: count + 1] if one != at]].mean()
    off = (away + 0.3 * others) * _HALF_DIGIT * (1 + 1e-6)
    return Span(away - 0.3 * others - off, away - 0.3 * others + off)


def _told(values: Floats, off: Floats) -> Span:
    """As float32."""
    low, high = ((values + side * off).astype(np.float32).astype(np.float64) for side in (-1, 1))
    return Span(low, high)


def _sigma(values: Floats) -> Floats:
    small = np.exp(-np.abs(values))
    found: Floats = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return found
