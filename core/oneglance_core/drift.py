"""Does what comes still look like what was calibrated on? A test that may be looked at after every probe.

Only two regions of scores tell who is there without being told: far from everybody, where strangers are, and near
somebody, where the subjects' own probes are. Between them, about tau, the two mix in unknown shares, and nothing is
tested. In each region the scores are counted in bins. The calibration says which share of a region falls into each bin,
and with what error: the bounds of each share, from the number of people it was measured on, widened by TOLERANCE.

The hypothesis "every bin's share lies within its bounds" is tested by an e-value (universal inference, Wasserman,
Ramdas and Balakrishnan 2020): the likelihood of the counts by a mixture of all distributions (Krichevsky and
Trofimov's, Dirichlet 1/2), over the largest likelihood within the bounds. If the hypothesis holds and the probes are
independent, the chance that this ever exceeds 1 / a is at most a, however often one looks (Ville's inequality).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Of = Literal["strangers", "mates"]
Array = npt.NDArray[np.float64]

TOLERANCE = 1.5  # times more or less than calibrated
WINDOW = 1000  # probes of a region after which it is counted anew
FALSE_ALARM = 0.001  # for each window, at most
FAR = 0.2  # share of the strangers that are nearer than the region of strangers begins
NEAR = 0.005  # share of the strangers that are within the region of mates
OTHERS = 0.1  # a region is only judged with this share of the other one's probes: fewer may be the other kind's tail
_LEAST_SHARE = 0.2  # of the mates, that the region of mates must hold
_BINS = 5  # of each region
_DEVIATION = 2.58  # standard deviations: the 99 % interval
_HALVINGS = 50


@dataclass(frozen=True, slots=True)
class Region:
    """A region of scores, and what is expected in it.

    edges: rising, of the bins, one more than those; a score belongs to it if it is > the first and <= the last. lows,
    shares, highs: of each bin, what share of the region's probes is expected, with its bounds.
    """

    of: Of
    edges: tuple[float, ...]
    lows: tuple[float, ...]
    shares: tuple[float, ...]
    highs: tuple[float, ...]


def region_of_strangers(taus: Sequence[float] | Array, rates: Sequence[float] | Array, people: int) -> Region | None:
    """By the share of strangers with a score of at most each tau, both rising, measured on so many people.

    None where that doesn't reach far enough.
    """
    steps = np.linspace(FAR, 1, _BINS + 1)
    if rates[0] > FAR or rates[-1] < steps[-2]:
        return None
    edges = [*np.interp(steps[:-1], rates, taus).tolist(), math.inf]
    return _region("strangers", edges, np.full(_BINS, 1 / _BINS), people * (1 - FAR))


def region_of_mates(
    scores: Sequence[float],
    shares: Sequence[float],
    people: int,
    taus: Sequence[float] | Array,
    rates: Sequence[float] | Array,
) -> Region | None:
    """By the score that each share of the mated probes is at or below, both rising, measured on so many people.

    taus, rates: as in region_of_strangers; they say where strangers begin. None where that is too near.
    """
    end = float(np.interp(NEAR, rates, taus))
    within = float(np.interp(end, scores, shares, left=0.0))
    if within < _LEAST_SHARE:
        return None
    inner = np.interp(np.arange(1, _BINS) * within / _BINS, shares, scores).tolist()
    return _region("mates", [-math.inf, *inner, end], np.full(_BINS, 1 / _BINS), people * within)


def _region(of: Of, edges: list[float], shares: Array, people: float) -> Region | None:
    if any(second <= first for first, second in itertools.pairwise(edges)):
        return None
    bounds = [_wilson(share, people) for share in shares.tolist()]
    return Region(
        of,
        tuple(edges),
        tuple(low / TOLERANCE for low, _ in bounds),
        tuple(shares.tolist()),
        tuple(min(1.0, high * TOLERANCE) for _, high in bounds),
    )


def log_evidence(counts: Sequence[int], region: Region) -> float:
    """The logarithm of the e-value against the region's bounds; 0 without any counts."""
    total = sum(counts)
    if not total:
        return 0.0
    half = len(counts) / 2
    mixture = math.lgamma(half) - math.lgamma(total + half)
    mixture += sum(math.lgamma(count + 0.5) for count in counts) - len(counts) * math.lgamma(0.5)
    best = _likeliest(counts, region.lows, region.highs)
    return mixture - sum(count * math.log(share) for count, share in zip(counts, best, strict=True) if count)


def nearer(counts: Sequence[int], region: Region) -> bool:
    """Whether the scores are rather below than above what is expected."""
    mean = sum(i * count for i, count in enumerate(counts)) / max(sum(counts), 1)
    return mean < sum(i * share for i, share in enumerate(region.shares))


def _likeliest(counts: Sequence[int], lows: Sequence[float], highs: Sequence[float]) -> list[float]:
    """The distribution within the bounds that makes the counts likeliest: each count times one factor, clipped."""
    total = sum(counts)
    seen = [count / total for count in counts]
    if all(low <= share <= high for low, share, high in zip(lows, seen, highs, strict=True)):
        return seen

    def clipped(factor: float) -> list[float]:
        return [min(max(factor * share, low), high) for low, share, high in zip(lows, seen, highs, strict=True)]

    low, high = 0.0, max(high / share for share, high in zip(seen, highs, strict=True) if share)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(clipped(middle)) < 1 else (low, middle)
    return clipped(high)  # bins without counts take what the others can't hold: it changes nothing of the likelihood


def _wilson(share: float, people: float) -> tuple[float, float]:
    """The 99 % interval of a share that was measured on so many people (Wilson 1927)."""
    squared = _DEVIATION**2 / people
    middle = (share + squared / 2) / (1 + squared)
    reach = _DEVIATION / (1 + squared) * math.sqrt(share * (1 - share) / people + squared / (4 * people))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)
