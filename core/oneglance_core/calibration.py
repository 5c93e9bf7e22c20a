"""Fit a gallery's tau to a target FPIR, on probes that were searched in it.

Measures and terms are those of :mod:`oneglance_core.measures`.

Errors::

    TooFewStrangers     so small an FPIR can't be measured on so few people
    TargetUnreachable   no tau >= 0 keeps the target
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.fusion import DecidedBy, Fusion
from oneglance_core.intervals import clopper_pearson, interval
from oneglance_core.manifests import Calibration
from oneglance_core.measures import (
    ROUNDING,
    Distances,
    fmr_curve,
    fmr_for_fpir,
    match_rate,
    matches,
    miss_rate,
    tau_for_rate,
)

INTERVAL = "95 % Clopper-Pearson, all pictures of a person counting as one"
"""What a Calibration's ``method`` says of its interval."""


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


_HALVINGS = 60  # of the taus that a prior is known between
_POINTS = 40  # of the curve, on either side of tau


@dataclass(frozen=True, slots=True)
class NonMated:
    """Probes of strangers. nearest: float64 [n], the lowest score of a subject; stranger: int64 [n], whose it is."""

    nearest: Distances
    stranger: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known of the FPIR before any stranger came: ``fpir`` at a tau, rising, as if ``people`` had told it.

    least, most: the taus it is known between.
    """

    fpir: Callable[[float], float]
    people: int
    least: float
    most: float


def strangers_needed(target_fpir: float) -> int:
    """The fewest strangers among whom one is no more than the target: 100 for 1 %."""
    return math.ceil(1 / target_fpir - ROUNDING)


def fit_gallery(
    non_mated: NonMated,
    mated: Distances,
    *,
    gallery_size: int,
    fusion: Fusion,
    target_fpir: float,
    data: str,
    note: str = "",
    prior: Prior | None = None,
    decided_by: DecidedBy = "distance",
) -> Calibration:
    """The largest tau that at most a share ``target_fpir``, in (0, 1), of the non-mated probes reach.

    mated: float64 [m], of ``measures.to_mate``; without any there is no FNIR. gallery_size: subjects enrolled, >= 1,
    and ``fusion`` and ``decided_by`` the rules by which they were scored. ``data`` and, in the method, ``note`` are
    kept. ``fmr_curve`` is what FMR would have to be for 1 - (1 - FMR)^K to give the measured FPIR at K =
    ``gallery_size``, so that the formula is right there and estimates other K from it. Fewer than 1 / ``target_fpir``
    strangers are evidence beside ``prior``; without one it raises TooFewStrangers. Raises TargetUnreachable.
    """
    found = _fit(non_mated, mated, gallery_size, fusion, target_fpir, data, note, prior)
    return found.model_copy(update={"decided_by": decided_by})


def _fit(
    non_mated: NonMated,
    mated: Distances,
    gallery_size: int,
    fusion: Fusion,
    target_fpir: float,
    data: str,
    note: str,
    prior: Prior | None,
) -> Calibration:
    strangers = len(np.unique(non_mated.stranger))
    needed = strangers_needed(target_fpir)
    if strangers < needed:
        if prior is None or not strangers:
            raise TooFewStrangers(target_fpir, strangers, needed)
        return _fit_few(non_mated, mated, gallery_size, fusion, target_fpir, data, note, prior)
    tau = tau_for_rate(non_mated.nearest, target_fpir)
    hits, fpir = matches(non_mated.nearest, tau), match_rate(non_mated.nearest, tau)
    if fpir > target_fpir + ROUNDING:
        raise TargetUnreachable(
            f"{fpir:.2%} of the strangers' probes have a score of 0, as enrolled pictures do: were they enrolled?"
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
        fnir=miss_rate(mated, tau) if len(mated) else None,
        non_mated_probes=len(non_mated.nearest),
        mated_probes=len(mated),
        data=data,
        method=(
            f"searched in the gallery, {gallery_size} subjects enrolled{note}, by {fusion}: {len(hits)} probes "
            f"of {strangers} strangers, {len(mated)} of enrolled subjects; the largest tau that keeps the target on "
            f"them; interval: {INTERVAL}"
        ),
        fmr_curve=tuple((distance, fmr_for_fpir(rate, gallery_size)) for distance, rate in measured),
        fusion=fusion,
    )


def _fit_few(
    non_mated: NonMated,
    mated: Distances,
    gallery_size: int,
    fusion: Fusion,
    target_fpir: float,
    data: str,
    note: str,
    prior: Prior,
) -> Calibration:
    """Strangers and the people behind the prior count alike, one as much as the other (the mean of a beta
    posterior)."""
    whose = np.unique(non_mated.stranger, return_inverse=True)[1]
    pictures = np.bincount(whose)
    people = prior.people + len(pictures)

    def fpir(tau: float) -> float:
        let_in = float((np.bincount(whose, matches(non_mated.nearest, tau)) / pictures).sum())
        return (prior.people * prior.fpir(tau) + let_in) / people

    # These strangers may be nearer than any that were measured of the model.
    least = 0.0 if fusion != "margin" else math.nextafter(float(non_mated.nearest.min()), -math.inf)
    low, high = min(prior.least, least), prior.most
    if fpir(low) > target_fpir:
        raise TargetUnreachable(
            f"even tau {low:.4f}, the least that was measured of the model, lets {fpir(low):.2%} in"
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fpir(middle) <= target_fpir else (low, middle)
    found = fpir(low)
    bounds = clopper_pearson(found * people, people)
    points = np.unique(
        [*np.linspace(min(prior.least, low), low, _POINTS), *np.linspace(low, prior.most, _POINTS)]
    ).tolist()
    rates = np.maximum.accumulate([fpir(point) for point in points]).tolist()
    curve = tuple((point, fmr_for_fpir(rate, gallery_size)) for point, rate in zip(points, rates, strict=True))
    return Calibration(
        tau=low,
        target_fpir=target_fpir,
        gallery_size=gallery_size,
        fpir=found,
        fpir_low=bounds[0],
        fpir_high=bounds[1],
        fnir=miss_rate(mated, low) if len(mated) else None,
        non_mated_probes=len(non_mated.nearest),
        mated_probes=len(mated),
        data=data,
        method=(
            f"searched in the gallery, {gallery_size} subjects enrolled{note}, by {fusion}: {len(whose)} probes of "
            f"{len(pictures)} strangers, too few for the target alone, beside what {prior.people} people told of the "
            f"model, everybody counting as one; the largest tau at which the FPIR of both together keeps the target; "
            f"interval: that of so many people, as if the strangers were like those"
        ),
        fmr_curve=curve,
        fusion=fusion,
    )
