"""Tau for a target FPIR, and how far to trust it: what the exporter and the server share.

FPIR is the share of non-mated probes, pictures of strangers, with anybody at or below tau (ISO/IEC 19795-1).
Distances are squared L2, float64.

Errors::

    TooFewStrangers     so small an FPIR can't be measured on so few people
    TargetUnreachable   no tau >= 0 keeps the target
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.manifests import Calibration

Distances = npt.NDArray[np.float64]
Curve = tuple[tuple[float, float], ...]

INTERVAL = "95 % Clopper-Pearson, all pictures of a person counting as one"
_CONFIDENCE = 0.95
_CURVE_POINTS = 200
_EXACTLY = 1e-9  # 0.07 * 100 is 7.000000000000001


class TooFewStrangers(ValueError):
    """``strangers`` are there, ``needed`` for the target."""

    def __init__(self, target_fpir: float, strangers: int, needed: int) -> None:
        text = f"an FPIR of {target_fpir:.4g} takes at least {needed} strangers to measure, got {strangers}"
        if strangers > 1:
            text += f"; the least that these can measure is {1 / strangers:.4g}"
        super().__init__(text)
        self.strangers = strangers
        self.needed = needed


class TargetUnreachable(ValueError):
    """Even tau = 0 lets more than the target in."""


@dataclass(frozen=True, slots=True)
class NonMated:
    """Probes of strangers. nearest: float64 [n], to the nearest enrolled subject; stranger: int64 [n], whose it is."""

    nearest: Distances
    stranger: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mated:
    """Probes of enrolled subjects. nearest: float64 [m], to the nearest subject; right: bool [m], it is the mate."""

    nearest: Distances
    right: npt.NDArray[np.bool_]


def strangers_needed(target_fpir: float) -> int:
    """The fewest strangers among whom one is no more than the target: 100 for 1 %."""
    return math.ceil(1 / target_fpir - _EXACTLY)


def fit_gallery(
    non_mated: NonMated, mated: Mated, *, gallery_size: int, target_fpir: float, data: str, note: str = ""
) -> Calibration:
    """The largest tau that at most a share ``target_fpir``, in (0, 1), of the non-mated probes reach.

    gallery_size: subjects enrolled, >= 1. Without mated probes there is no FNIR. ``data`` and, in the
    method, ``note`` are kept.
    ``fmr_curve`` is what FMR would have to be for 1 - (1 - FMR)^K to give the measured FPIR at K = ``gallery_size``,
    so that the formula is right there and estimates other K from it.
    Raises TooFewStrangers with fewer than 1 / ``target_fpir`` of them, TargetUnreachable.
    """
    strangers = len(np.unique(non_mated.stranger))
    needed = strangers_needed(target_fpir)
    if strangers < needed:
        raise TooFewStrangers(target_fpir, strangers, needed)
    tau = tau_for_rate(non_mated.nearest, target_fpir)
    hits = non_mated.nearest <= tau
    fpir = float(hits.mean())
    if fpir > target_fpir + _EXACTLY:
        raise TargetUnreachable(
            f"{fpir:.2%} of the strangers' probes are at distance 0 from a subject: were they enrolled?"
        )
    low, high = interval(hits, non_mated.stranger)
    measured = fmr_curve(non_mated.nearest)
    at = np.searchsorted([distance for distance, _ in measured], tau)
    if at == len(measured) or measured[at][0] != tau:
        measured = (*measured[:at], (tau, fpir), *measured[at:])
    return Calibration(
        tau=tau,
        target_fpir=target_fpir,
        gallery_size=gallery_size,
        fpir=fpir,
        fpir_low=low,
        fpir_high=high,
        fnir=fnir(mated.right, mated.nearest, tau) if len(mated.nearest) else None,
        non_mated_probes=len(non_mated.nearest),
        mated_probes=len(mated.nearest),
        data=data,
        method=(
            f"searched in the gallery, {gallery_size} subjects enrolled{note}: {len(hits)} probes of {strangers} "
            f"strangers, {len(mated.nearest)} of enrolled subjects; the largest tau that keeps the target on them; "
            f"interval: {INTERVAL}"
        ),
        fmr_curve=tuple((distance, per_comparison(rate, gallery_size)) for distance, rate in measured),
    )


def fnir(right: npt.NDArray[np.bool_], nearest: Distances, tau: float) -> float:
    """Share of mated probes, >= 1 of them, whose mate was not the nearest subject at or below ``tau``; [0, 1]."""
    return float(1.0 - (right & (nearest <= tau)).mean())


def tau_for_rate(distances: Distances, rate: float) -> float:
    """The largest tau, up to the gap it lies in, that at most a share ``rate`` of ``distances`` reach.

    Half way between the two distances around it. 0 when even the smallest distance is one too many
    and is 0 itself.
    """
    ordered = np.sort(distances)
    allowed = int(np.floor(rate * len(ordered) + _EXACTLY))
    if allowed >= len(ordered):
        return float(ordered[-1])
    first_out = float(ordered[allowed])
    below = ordered[ordered < first_out]
    last_in = float(below[-1]) if len(below) else 0.0
    middle = last_in / 2 + first_out / 2
    return middle if middle < first_out else last_in  # neighbouring floats have no middle


def interval(hits: npt.NDArray[np.bool_], subjects: npt.NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of the share of ``hits``; ``subjects``, int64 [n], says whose probe each is.

    Clopper and Pearson (1934) for n / deff trials, where deff = sum(n_i^2) / n is the design effect (Kish 1965) if the
    probes of one subject all went the same way, the worst case. So it is never too narrow, and too wide as far as they
    go different ways. A percentile bootstrap over subjects is narrower but covers less than it says when few of them
    hit (88 to 93 % at 1 of 100), and nothing above 0 when none does.

    It holds although tau was fitted on the same probes: with the m-th smallest of n distances at or below tau and the
    next above, the true rate at tau lies between Beta(m, n - m + 1) and Beta(m + 1, n - m) (Wilks 1941), whose
    quantiles these are.
    """
    probes = np.unique(subjects, return_counts=True)[1].astype(np.float64)
    trials = float(probes.sum() ** 2 / (probes**2).sum())
    hit = float(hits.mean()) * trials
    missed = trials - hit
    tail = (1 - _CONFIDENCE) / 2
    low = _beta_quantile(hit, missed + 1, tail) if hit > 0 else 0.0
    high = _beta_quantile(hit + 1, missed, 1 - tail) if missed > 0 else 1.0
    return low, high


def _beta_quantile(a: float, b: float, share: float) -> float:
    """By integrating the density over the logit, where it is smooth and falls off exponentially to both sides."""
    reach = 40 * math.sqrt(1 / a + 1 / b)
    logit = math.log(a / b) + np.linspace(-reach, reach, 40_001)
    log_density = -a * np.logaddexp(0, -logit) - b * np.logaddexp(0, logit)
    mass = np.cumsum(np.exp(log_density - log_density.max()))
    middle = mass - 0.5 * np.diff(mass, prepend=0.0)
    found = float(np.interp(share, middle / mass[-1], logit))
    return 1 / (1 + math.exp(-found)) if found > -700 else 0.0  # exp overflows beyond


def per_comparison(fpir: float, gallery_size: int) -> float:
    """The FMR at which 1 - (1 - FMR)^K is ``fpir``, for K = ``gallery_size``."""
    return 1.0 if fpir >= 1 else -math.expm1(math.log1p(-fpir) / gallery_size)


def fmr_curve(distances: Distances) -> Curve:
    """(distance, share of ``distances`` at or below it), at most about 200 points, both rising.

    Half of the points lie evenly on a logarithmic scale of the rate: a threshold lives in that tail.
    """
    ordered = np.sort(distances)
    n = len(ordered)
    tail = np.geomspace(1, max(n // 20, 1), _CURVE_POINTS // 2)
    body = np.linspace(max(n // 20, 1), n, _CURVE_POINTS // 2)
    ranks = np.unique(np.concatenate([tail, body]).astype(np.int64)) - 1
    chosen = np.unique(ordered[ranks])
    rates = np.searchsorted(ordered, chosen, side="right") / n
    return tuple(zip(chosen.tolist(), rates.tolist(), strict=True))
