"""The figures of a run, computed from the server's answers.

Terms of ISO/IEC 19795-1: the subject of a *mated* probe, its mate, is enrolled; that of a *non-mated* probe is not.
FPIR is the share of non-mated probes that were identified as some subject, FNIR the share of mated probes that were not
identified as their mate. Distances are squared L2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, floor, inf, lgamma, log, log1p, nextafter

import numpy as np

from oneglance_apps.demo.pictures import Picture

FPIR_TARGETS = (0.01, 0.1)


@dataclass(frozen=True)
class Candidate:
    """An enrolled subject and its distance to a probe."""

    subject_id: str
    distance: float


@dataclass(frozen=True)
class Outcome:
    """What the server answered to one probe.

    owner: id of whom the probe shows. mate: the same id if enrolled, else None.
    identified: the decision; None is UNKNOWN. candidates: nearest first, whatever τ.
    """

    probe: Picture
    owner: str
    mate: str | None
    identified: str | None
    candidates: tuple[Candidate, ...]

    @property
    def nearest(self) -> float:
        """Distance of the nearest subject; infinite when nobody is enrolled."""
        return self.candidates[0].distance if self.candidates else inf

    @property
    def mate_rank(self) -> int | None:
        """1 when the mate is nearest; None when it is not among the candidates."""
        ranks = (rank for rank, candidate in enumerate(self.candidates, 1) if candidate.subject_id == self.mate)
        return next(ranks, None)

    @property
    def mate_distance(self) -> float:
        """Distance of the mate; infinite when it is not among the candidates."""
        return self.candidates[self.mate_rank - 1].distance if self.mate_rank else inf

    @property
    def correct(self) -> bool:
        """A mated probe was identified as its mate, or a non-mated one was not identified."""
        return self.identified == self.mate


@dataclass(frozen=True)
class Share:
    """``count`` of ``total``, with the 95 % interval of Clopper and Pearson (1934) for independent trials."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """In [0, 1]; NaN of none."""
        return self.count / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end, in [0, 1]."""
        k, n = self.count, self.total
        low = 0.0 if k == 0 else _bisect(lambda p: 1 - _binomial_cdf(k - 1, n, p) < 0.025)
        high = 1.0 if k == n else _bisect(lambda p: _binomial_cdf(k, n, p) > 0.025)
        return low, high


@dataclass(frozen=True)
class OperatingPoint:
    """Both error rates at one τ."""

    tau: float
    fpir: Share
    fnir: Share


@dataclass(frozen=True)
class Figures:
    """The outcomes of a run at the server's ``tau``, and the rates computed from them."""

    mated: tuple[Outcome, ...]
    non_mated: tuple[Outcome, ...]
    tau: float

    @property
    def rank_one(self) -> Share:
        """Mated probes whose mate is nearest, whatever τ."""
        return share([outcome.mate_rank == 1 for outcome in self.mated])

    @property
    def decided(self) -> OperatingPoint:
        """The error rates of the server's own decisions."""
        return OperatingPoint(
            self.tau,
            fpir=share([outcome.identified is not None for outcome in self.non_mated]),
            fnir=share([outcome.identified != outcome.mate for outcome in self.mated]),
        )

    @property
    def mistaken(self) -> Share:
        """Mated probes identified as another subject: a part of the FNIR."""
        return share([outcome.identified not in (None, outcome.mate) for outcome in self.mated])

    @property
    def at_fpirs(self) -> dict[float, OperatingPoint]:
        """Error rates that other thresholds give on this run's distances."""
        return {fpir: at_fpir(self.mated, self.non_mated, fpir) for fpir in FPIR_TARGETS}


def share(outcomes: Sequence[bool]) -> Share:
    """How many of them are true."""
    return Share(sum(outcomes), len(outcomes))


def at_threshold(mated: Sequence[Outcome], non_mated: Sequence[Outcome], tau: float) -> OperatingPoint:
    """The error rates that decisions at ``tau`` would have, from the distances."""
    return OperatingPoint(
        tau,
        fpir=share([outcome.nearest <= tau for outcome in non_mated]),
        fnir=share([outcome.mate_rank != 1 or outcome.nearest > tau for outcome in mated]),
    )


def at_fpir(mated: Sequence[Outcome], non_mated: Sequence[Outcome], fpir: float) -> OperatingPoint:
    """The error rates at the largest τ that keeps this run's FPIR at ``fpir`` or below."""
    return at_threshold(mated, non_mated, tau_for_fpir(non_mated, fpir))


def tau_for_fpir(non_mated: Sequence[Outcome], fpir: float) -> float:
    """The largest τ that at most a share ``fpir`` of these probes reach."""
    distances = sorted(outcome.nearest for outcome in non_mated)
    allowed = floor(fpir * len(distances) + 1e-9)
    return nextafter(distances[allowed], -inf) if allowed < len(distances) else inf


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear between the two nearest values."""
    return float(np.percentile(values, percent))


def _bisect(left_of_it: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if left_of_it(middle) else (low, middle)
    return (low + high) / 2


def _binomial_cdf(k: int, n: int, p: float) -> float:
    """Probability of at most ``k`` of ``n``, 0 < p < 1."""

    def probability(i: int) -> float:
        return exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) + i * log(p) + (n - i) * log1p(-p))

    return sum(map(probability, range(k + 1)))
