"""Pairs of examples, 1:1: ROC and DET, EER, TAR at a FAR, whole and by group.

FAR is what ISO calls FMR, the share of non-mated pairs that match; TAR is 1 - FNMR, the share of mated pairs that do.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.judging.labelled import LabelledEncodings
from oneglance_core.judging.resample import Measured, Replicates, Weights, ratio, share
from oneglance_core.measures import Distances, equal_error_rate, largest_tau_for_rate, match_rate
from oneglance_core.trials import Encodings, pair_distances

FARS = (0.0001, 0.001, 0.01, 0.1)
GROUP_FMR = 0.01
"""Groups are compared at one tau: the one that lets so many of all non-mated pairs match."""

_LEAST_PAIRS = 10  # false matches that a FAR must stand for, to be measured
_MOST_TAUS, _FEWEST_TAUS = 128, 24
_MOST_COUNTS = 24_000_000  # of pairs, by tau and by both subjects
_BLOCK = 512  # as pair_distances has it, so that sums end in the same bits


@dataclass(frozen=True, slots=True)
class PairPoint:
    """At a tau: FMR and FNMR, with the interval of each."""

    tau: float
    fmr: Measured
    fnmr: Measured


@dataclass(frozen=True, slots=True)
class GroupPairs:
    """Pairs within one group, at the tau of ``GROUP_FMR`` over all. None: too few subjects or examples."""

    group: str
    subjects: int
    examples: int
    fmr: Measured | None
    fnmr: Measured | None


@dataclass(frozen=True, slots=True)
class Pairs:
    """All pairs. tar: by FAR, those that there are enough pairs to measure. curve: tau rises.

    group_tau: of ``groups``, which are empty where there is one group only.
    """

    mated: Distances
    non_mated: Distances
    eer: Measured
    eer_tau: float
    tar: dict[float, Measured]
    curve: tuple[PairPoint, ...]
    group_tau: float
    groups: tuple[GroupPairs, ...]


def measure_pairs(people: LabelledEncodings, weights: Weights) -> Pairs:
    mated, non_mated = pair_distances(people.encodings, people.subject_of)
    mated, non_mated = np.sort(mated), np.sort(non_mated)
    eer, eer_tau = equal_error_rate(mated, non_mated)
    group_tau = largest_tau_for_rate(non_mated, GROUP_FMR)
    subjects = len(people.subjects)
    taus = _taus(mated, non_mated, (eer_tau, group_tau), _MOST_COUNTS // subjects**2)
    counts, totals = _counts(people.encodings, people.subject_of, subjects, taus)
    fmr, fnmr = _replicates(counts, totals, weights)
    points = tuple(
        PairPoint(
            float(tau),
            Measured.of(match_rate(non_mated, tau), fmr[:, i], subjects),
            Measured.of(1 - match_rate(mated, tau), fnmr[:, i], subjects),
        )
        for i, tau in enumerate(taus)
    )
    at = int(np.searchsorted(taus, group_tau))
    return Pairs(
        mated=mated,
        non_mated=non_mated,
        eer=Measured.of(eer, np.array([_crossing(a, b) for a, b in zip(fmr, fnmr, strict=True)]), subjects),
        eer_tau=eer_tau,
        tar={
            far: Measured.of(
                match_rate(mated, largest_tau_for_rate(non_mated, far)),
                np.array([np.interp(far, a, 1 - b) for a, b in zip(fmr, fnmr, strict=True)]),
                subjects,
            )
            for far in FARS
            if far * len(non_mated) >= _LEAST_PAIRS
        },
        curve=points,
        group_tau=group_tau,
        groups=_groups(people, counts[at], totals, weights) if len(people.groups) > 1 else (),
    )


def _taus(mated: Distances, non_mated: Distances, more: tuple[float, ...], most: int) -> npt.NDArray[np.float64]:
    """Where the curve is drawn: evenly on a logarithmic scale of the FMR, on a plain one of the FNMR; and ``more``."""
    number = min(_MOST_TAUS, max(_FEWEST_TAUS, most)) - len(more)
    rates = np.geomspace(1 / len(non_mated), 1, number * 2 // 3)
    ranks = np.unique(np.ceil(rates * len(non_mated)).astype(np.int64)) - 1
    own = np.linspace(0, len(mated) - 1, number // 3).astype(np.int64)
    return np.unique(np.concatenate([non_mated[ranks], mated[own], more]))


def _counts(
    encodings: Encodings, subject_of: npt.NDArray[np.int64], subjects: int, taus: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Pairs at or below each tau, float64 [T, S, S] by their two subjects, and all of them, [S, S]."""
    size = subjects * subjects
    counts = np.zeros((len(taus) + 1) * size, np.int64)
    for start in range(0, len(encodings), _BLOCK):
        block = pairwise_squared_l2(encodings[start : start + _BLOCK], encodings[start:])
        upper = np.arange(block.shape[1])[None, :] > np.arange(block.shape[0])[:, None]
        row, column = np.nonzero(upper)
        key = np.searchsorted(taus, block[upper]) * size
        key += subject_of[start + row] * subjects + subject_of[start + column]
        counts += np.bincount(key, minlength=len(counts))
    rising = counts.reshape(-1, subjects, subjects).cumsum(axis=0)
    return rising[:-1].astype(np.float64), rising[-1].astype(np.float64)


def _replicates(
    counts: npt.NDArray[np.float64], totals: npt.NDArray[np.float64], weights: Weights
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """FMR and FNMR in each replicate at each tau, [B, T]. A pair of two subjects counts as often as both were drawn."""

    def rates(table: npt.NDArray[np.float64]) -> tuple[Replicates, Replicates]:
        apart = _off_diagonal(table)
        matching = ratio(((weights @ apart) * weights).sum(axis=1), all_others, _share(apart.sum(), others.sum()))
        own = ratio(weights @ table.diagonal(), all_own, _share(table.trace(), totals.trace()))
        return matching, 1 - own

    others = _off_diagonal(totals)
    all_others, all_own = ((weights @ others) * weights).sum(axis=1), weights @ totals.diagonal()
    fmr, fnmr = zip(*map(rates, counts), strict=True)
    return np.stack(fmr, axis=1), np.stack(fnmr, axis=1)


def _off_diagonal(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    apart = table.copy()
    np.fill_diagonal(apart, 0)
    return apart


def _share(hits: float, total: float) -> float:
    return float(hits / total) if total else 0.0


def _crossing(fmr: Replicates, fnmr: Replicates) -> float:
    """Where FMR, which rises, meets FNMR, which falls; straight lines between the points."""
    at = int(np.searchsorted(fmr - fnmr, 0))
    if at == 0 or at == len(fmr):
        at = min(at, len(fmr) - 1)
        return float(fmr[at] + fnmr[at]) / 2
    before, after = fmr[at - 1] - fnmr[at - 1], fmr[at] - fnmr[at]
    part = -before / (after - before)
    return float(fmr[at - 1] + part * (fmr[at] - fmr[at - 1]))


def _groups(
    people: LabelledEncodings, counts: npt.NDArray[np.float64], totals: npt.NDArray[np.float64], weights: Weights
) -> tuple[GroupPairs, ...]:
    examples = np.bincount(people.subject_of, minlength=len(people.subjects))
    found = []
    for number, name in enumerate(people.groups):
        inside = np.flatnonzero(people.group_of == number)
        own = np.ix_(inside, inside)
        some = weights[:, inside]
        found.append(
            GroupPairs(
                name,
                len(inside),
                int(examples[inside].sum()),
                _rate_of_others(counts[own], totals[own], some),
                None
                if not totals[own].trace()
                else share(totals[own].diagonal() - counts[own].diagonal(), totals[own].diagonal(), some),
            )
        )
    return tuple(found)


def _rate_of_others(
    counts: npt.NDArray[np.float64], totals: npt.NDArray[np.float64], weights: Weights
) -> Measured | None:
    hits, total = counts.sum() - counts.trace(), totals.sum() - totals.trace()
    if not total:
        return None
    fmr, _ = _replicates(counts[None], totals, weights)
    return Measured.of(float(hits / total), fmr[:, 0], len(weights[0]))
