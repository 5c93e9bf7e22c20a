"""The figures of a run, computed from the server's answers, in the terms of oneglance_core.measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from oneglance_apps.demo.pictures import Picture
from oneglance_core.intervals import clopper_pearson
from oneglance_core.measures import largest_tau_for_rate, matches

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
    def to_mate(self) -> float:
        """Distance of the mate; infinite when it is not the nearest."""
        return self.nearest if self.mate_rank == 1 else inf

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
        """In [0, 1]; NaN if ``total`` is 0."""
        return self.count / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end, in [0, 1]."""
        return clopper_pearson(self.count, self.total)


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
        """The error rates of the server's decisions."""
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


def share(outcomes: Sequence[bool] | npt.NDArray[np.bool_]) -> Share:
    """The share of true outcomes."""
    return Share(int(sum(outcomes)), len(outcomes))


def at_threshold(mated: Sequence[Outcome], non_mated: Sequence[Outcome], tau: float) -> OperatingPoint:
    """The error rates that decisions at ``tau`` would have, from the distances."""
    return OperatingPoint(
        tau,
        fpir=share(matches([outcome.nearest for outcome in non_mated], tau)),
        fnir=share(~matches([outcome.to_mate for outcome in mated], tau)),
    )


def at_fpir(mated: Sequence[Outcome], non_mated: Sequence[Outcome], fpir: float) -> OperatingPoint:
    """The error rates at the largest τ that keeps this run's FPIR at ``fpir`` or below."""
    return at_threshold(mated, non_mated, largest_tau_for_rate([outcome.nearest for outcome in non_mated], fpir))


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile, interpolated linearly."""
    return float(np.percentile(values, percent))
