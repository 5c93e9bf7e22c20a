"""What recognition is measured by, in the terms of ISO/IEC 19795-1, in plain numpy.

A *mated* probe is of an enrolled subject, its *mate*; a *non-mated* probe is of a stranger. A pair of pictures is mated
when both are of one subject. A distance matches when it is at or below tau.

    FPIR    share of non-mated probes that match any subject      match_rate of their distances to the nearest
    FNIR    share of mated probes not identified as their mate    miss_rate of their distances to_mate
    FMR     share of non-mated pairs that match                   match_rate of their distances
    FNMR    share of mated pairs that do not match                miss_rate of their distances
    rank-1  share of mated probes whose nearest subject is the mate, whatever tau

Distances are squared L2, float64 [n], >= 0; what is said of them holds for scores (``fusion``), too, which may be below
0. Infinity says that there is none that could match: nobody is enrolled, somebody else is nearer than the mate, or no
face was found. It matches at no tau. Whatever is measured on nothing, or on NaN, raises ValueError.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Distances = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Curve = tuple[tuple[float, float], ...]

ROUNDING = 1e-9
"""What a rate times a number of probes may be off: 0.07 * 100 is 7.000000000000001."""

_CURVE_POINTS = 200


# Rates at a tau.


def matches(distances: npt.ArrayLike, tau: float) -> npt.NDArray[np.bool_]:
    """Which distances match at ``tau``, in [0, inf]; bool [n]. Of none, none. Raises ValueError for NaN."""
    values = np.asarray(distances, np.float64)
    if math.isnan(tau) or np.isnan(values).any():
        raise ValueError("NaN is no distance, and no tau")
    matching: npt.NDArray[np.bool_] = (values <= tau) & (values < np.inf)
    return matching


def match_rate(distances: npt.ArrayLike, tau: float) -> float:
    """Share of the distances that match at ``tau``: FPIR of non-mated probes, FMR of non-mated pairs; in [0, 1]."""
    matching = matches(distances, tau)
    return int(matching.sum()) / _some(matching)


def miss_rate(distances: npt.ArrayLike, tau: float) -> float:
    """Share of the distances that do not match at ``tau``: FNIR of mated probes, FNMR of mated pairs; in [0, 1]."""
    matching = matches(distances, tau)
    return int((~matching).sum()) / _some(matching)


def to_mate(distances: Distances, mate: Indices) -> Distances:
    """Mated probes' distances to all subjects, float64 [M, K], to float64 [M]: infinite where the mate is not nearest.

    mate: int64 [M], each probe's column. Of equally near subjects the first is the nearest.
    """
    return np.where(distances.argmin(axis=1) == mate, distances.min(axis=1), np.inf)


@dataclass(frozen=True, slots=True)
class Scores:
    """What a gallery says to its probes before any threshold.

    mated: float64 [M], of ``to_mate``; non_mated: float64 [S], from each stranger's probe to the nearest subject.
    """

    mated: Distances
    non_mated: Distances

    @classmethod
    def pooled(cls, parts: "Sequence[Scores]") -> "Scores":
        """Those of several galleries as one, in order."""
        return cls(np.concatenate([p.mated for p in parts]), np.concatenate([p.non_mated for p in parts]))

    @property
    def rank1(self) -> float:
        """Share of mated probes whose nearest subject is the mate."""
        return match_rate(self.mated, np.inf)

    def fpir(self, tau: float) -> float:
        """Share of non-mated probes with any subject at or below ``tau``."""
        return match_rate(self.non_mated, tau)

    def fnir(self, tau: float) -> float:
        """Share of mated probes whose mate is not the nearest subject at or below ``tau``."""
        return miss_rate(self.mated, tau)


# Tau for a rate.


def tau_for_rate(distances: npt.ArrayLike, rate: float) -> float:
    """A tau at which at most a share ``rate``, in [0, 1], of the distances match, to be set in a gallery.

    As large as that allows but for a margin: half way between the two distances around it. 0 when even the smallest
    distance is one too many and is 0 itself: then more than ``rate`` match. The largest distance when all may match.
    Just below the smallest score when that is one too many and below 0.
    """
    ordered, allowed = _ordered(distances, rate)
    if allowed >= len(ordered):
        return float(ordered[-1])
    first_out = float(ordered[allowed])
    if first_out < 0 and first_out == ordered[0]:
        return math.nextafter(first_out, -math.inf)
    if math.isinf(first_out):  # no distance there that could be half way
        return _largest_below(ordered, first_out)
    last_in = _largest_below(ordered, first_out)
    middle = last_in / 2 + first_out / 2
    return middle if middle < first_out else last_in  # neighbouring floats have no middle


def largest_tau_for_rate(distances: npt.ArrayLike, rate: float) -> float:
    """The largest tau at which at most a share ``rate``, in [0, 1], of the distances match, to measure others by.

    Just below the first distance too many, so below 0 when that is 0; infinite when all may match.
    """
    ordered, allowed = _ordered(distances, rate)
    return math.nextafter(float(ordered[allowed]), -math.inf) if allowed < len(ordered) else math.inf


def _ordered(distances: npt.ArrayLike, rate: float) -> tuple[Distances, int]:
    """The distances in order, and how many of them may match."""
    if not 0 <= rate <= 1:
        raise ValueError(f"a rate lies in 0 to 1, got {rate}")
    ordered = _sorted(distances)
    return ordered, math.floor(rate * len(ordered) + ROUNDING)


def _largest_below(ordered: Distances, limit: float) -> float:
    """0 if there is none."""
    below = int(np.searchsorted(ordered, limit, side="left"))
    return float(ordered[below - 1]) if below else 0.0


# The DET curve.


@dataclass(frozen=True, slots=True)
class DetPoint:
    """One point of the DET curve: a tau, and the FPIR and FNIR there."""

    tau: float
    fpir: float
    fnir: float


def det_point(scores: Scores, tau: float) -> DetPoint:
    """The point at ``tau``."""
    return DetPoint(tau, scores.fpir(tau), scores.fnir(tau))


def det_curve(scores: Scores, at_most: int = 400) -> list[DetPoint]:
    """The points at tau = 0 and at every finite distance, where alone either rate changes; tau rises.

    With more than ``at_most`` of them, every so many-th and the last.
    """
    mated, non_mated = _sorted(scores.mated), _sorted(scores.non_mated)
    taus = np.unique(np.concatenate([[0.0], mated, non_mated]))
    taus = taus[np.isfinite(taus)]
    step = math.ceil(len(taus) / at_most)
    taus = np.unique(np.append(taus[::step], taus[-1]))
    fpir = np.searchsorted(non_mated, taus, side="right") / len(non_mated)
    fnir = (len(mated) - np.searchsorted(mated, taus, side="right")) / len(mated)
    return [DetPoint(*point) for point in zip(taus.tolist(), fpir.tolist(), fnir.tolist(), strict=True)]


def equal_error_rate(mated: npt.ArrayLike, non_mated: npt.ArrayLike) -> tuple[float, float]:
    """(EER, tau) of pairs: the mean of FMR and FNMR at the distance where they are closest, the smaller one of two."""
    own, other = _sorted(mated), _sorted(non_mated)

    def counts(tau: float) -> tuple[int, int]:
        """How many non-mated pairs match, and how many mated ones don't."""
        matching = int(np.searchsorted(other, tau, side="right"))
        return matching, len(own) - int(np.searchsorted(own, tau, side="right"))

    def excess(tau: float) -> int:
        """FMR - FNMR, times both numbers of pairs: exact, where two rates that tie may round apart."""
        matching, missed = counts(tau)
        return matching * len(own) - missed * len(other)

    # It only rises with tau. So the closest are the first distance where it is >= 0, and the last one before.
    at_or_above, before = [], []
    for ordered in (own, other):
        low, high = 0, int(np.searchsorted(ordered, np.inf))  # of the finite ones
        finite = high
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if excess(float(ordered[middle])) >= 0 else (middle + 1, high)
        at_or_above += ordered[low:finite][:1].tolist()
        before += ordered[:low][-1:].tolist()
    near = ([max(before)] if before else []) + ([min(at_or_above)] if at_or_above else [])
    if not near:
        raise ValueError("no distance is finite")
    tau = min(near, key=lambda tau: abs(excess(tau)))
    matching, missed = counts(tau)
    return (matching / len(other) + missed / len(own)) / 2, tau


# From pairs to galleries.


def expected_fpir(fmr: float, gallery_size: int) -> float:
    """1 - (1 - FMR)^K, the FPIR to expect of K = ``gallery_size`` independent comparisons; a small FMR survives."""
    if fmr >= 1:
        return float(gallery_size > 0)
    return -math.expm1(gallery_size * math.log1p(-fmr))


def fmr_for_fpir(fpir: float, gallery_size: int) -> float:
    """The FMR whose ``expected_fpir`` at K = ``gallery_size``, >= 1, is ``fpir``."""
    return 1.0 if fpir >= 1 else -math.expm1(math.log1p(-fpir) / gallery_size)


def fmr_curve(distances: npt.ArrayLike) -> Curve:
    """(finite distance, share of the distances at or below it), at most about 200 points, both rising.

    Half of the points lie evenly on a logarithmic scale of the rate: a threshold lives in that tail.
    """
    ordered = _sorted(distances)
    n = len(ordered)
    tail = np.geomspace(1, max(n // 20, 1), _CURVE_POINTS // 2)
    body = np.linspace(max(n // 20, 1), n, _CURVE_POINTS // 2)
    ranks = np.unique(np.concatenate([tail, body]).astype(np.int64)) - 1
    chosen = np.unique(ordered[ranks])
    chosen = chosen[np.isfinite(chosen)]
    rates = np.searchsorted(ordered, chosen, side="right") / n
    return tuple(zip(chosen.tolist(), rates.tolist(), strict=True))


def _some(values: npt.NDArray[np.generic]) -> int:
    """How many there are. Raises ValueError when there are none."""
    if not len(values):
        raise ValueError("nothing to measure: there is not a single one")
    return len(values)


def _sorted(distances: npt.ArrayLike) -> Distances:
    """Raises ValueError for none and for NaN."""
    ordered: Distances = np.sort(np.asarray(distances, np.float64))
    if not _some(ordered) or math.isnan(ordered[-1]):  # sorted, NaN comes last
        raise ValueError("NaN is no distance")
    return ordered
