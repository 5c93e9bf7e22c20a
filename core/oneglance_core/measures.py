"""The measures, in plain numpy, from encodings and lists of picture indices.

Distances are squared L2, computed in float64. Encodings are float32 [N, D], row i for picture i.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.calibration import Distances, fnir, tau_for_rate
from oneglance_core.distance import pairwise_squared_l2

Encodings = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OneShotTrials:
    """T trials: find the probe's subject among ``ways`` subjects of its group, one picture of each.

    probe: int64 [T]; support: int64 [T, ways]; answer: int64 [T], the right column of ``support``.
    """

    probe: Indices
    support: Indices
    answer: Indices


@dataclass(frozen=True, slots=True)
class OpenSet:
    """One gallery and its probes (ISO/IEC 19795-1: mated and non-mated).

    enrolled: int64 [K], one picture of each of K subjects.
    mated: int64 [M], other pictures of those; mate: int64 [M], each one's row in ``enrolled``.
    strangers: int64 [S], pictures of subjects that are not enrolled.
    """

    enrolled: Indices
    mated: Indices
    mate: Indices
    strangers: Indices


def one_shot_error(encodings: Encodings, trials: OneShotTrials) -> float:
    """Share of trials in which the nearest of the support pictures is of another subject; in [0, 1].

    A tie goes to the earlier column.
    """
    wrong = 0
    for start in range(0, len(trials.probe), 1024):
        part = slice(start, start + 1024)
        probe = encodings[trials.probe[part]].astype(np.float64)[:, None, :]  # [t, 1, D]
        support = encodings[trials.support[part]].astype(np.float64)  # [t, ways, D]
        nearest = ((probe - support) ** 2).sum(axis=2).argmin(axis=1)
        wrong += int((nearest != trials.answer[part]).sum())
    return wrong / len(trials.probe)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a gallery says to each probe before any threshold.

    right: bool [M], the nearest subject is the mate; mated: float64 [M], squared L2 to the nearest;
    strangers: float64 [S], squared L2 from each stranger to the nearest.
    """

    right: npt.NDArray[np.bool_]
    mated: Distances
    strangers: Distances

    @property
    def rank1(self) -> float:
        """Share of mated probes whose nearest subject is the mate."""
        return float(self.right.mean())

    def fnir(self, tau: float) -> float:
        """Share of mated probes whose mate was not the nearest subject at or below ``tau``."""
        return fnir(self.right, self.mated, tau)

    def fpir(self, tau: float) -> float:
        """Share of strangers with any subject at or below ``tau``."""
        return float((self.strangers <= tau).mean())


def answers(encodings: Encodings, split: OpenSet) -> Answers:
    """Search every probe of ``split`` among its enrolled pictures."""
    gallery = encodings[split.enrolled]
    to_mated = pairwise_squared_l2(encodings[split.mated], gallery)  # [M, K]
    to_strangers = pairwise_squared_l2(encodings[split.strangers], gallery)  # [S, K]
    return Answers(
        right=to_mated.argmin(axis=1) == split.mate,
        mated=to_mated.min(axis=1),
        strangers=to_strangers.min(axis=1),
    )


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the DET curve: the FPIR asked for, the tau it takes, and the FPIR and FNIR there."""

    target_fpir: float
    tau: float
    fpir: float
    fnir: float


def det_point(found: Answers, fpir: float) -> Point:
    """FNIR at the largest tau whose FPIR is at most ``fpir``."""
    tau = tau_for_rate(found.strangers, fpir)
    return Point(target_fpir=fpir, tau=tau, fpir=found.fpir(tau), fnir=found.fnir(tau))


def pair_distances(encodings: Encodings, subject_of: Indices) -> tuple[Distances, Distances]:
    """Distances of all pairs of pictures: (mated, non-mated), float64 [pairs] each, in no order."""
    mated, non_mated = [], []
    for start in range(0, len(encodings), 512):
        block = pairwise_squared_l2(encodings[start : start + 512], encodings[start:])
        upper = np.arange(block.shape[1])[None, :] > np.arange(block.shape[0])[:, None]
        same = subject_of[start : start + 512, None] == subject_of[None, start:]
        mated.append(block[upper & same])
        non_mated.append(block[upper & ~same])
    return np.concatenate(mated), np.concatenate(non_mated)


def equal_error_rate(mated: Distances, non_mated: Distances) -> tuple[float, float]:
    """(EER, tau): the mean of FMR and FNMR at the tau where they are closest."""
    mated, non_mated = np.sort(mated), np.sort(non_mated)
    # FNMR only falls and FMR only rises along the mated distances: look at each of those.
    fnmr = 1.0 - np.searchsorted(mated, mated, side="right") / len(mated)
    fmr = np.searchsorted(non_mated, mated, side="right") / len(non_mated)
    best = int(np.abs(fmr - fnmr).argmin())
    return float((fmr[best] + fnmr[best]) / 2), float(mated[best])
