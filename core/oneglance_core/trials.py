"""Trials: which pictures of a labelled set are compared with which, and what an encoder makes of them.

Encodings are float32 [N, D], row i for picture i. Distances are squared L2, as ``measures`` takes them; or what another
``pairwise`` gives: scores that are the lower, the more alike two encodings are.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import pairwise_squared_l2, squared_l2
from oneglance_core.fusion import FUSIONS, MARGIN_OTHERS, Fusion, has_template, margin_scores, template
from oneglance_core.measures import Distances, Indices, Scores, to_mate

Encodings = npt.NDArray[np.float32]
# Of all pairs: float64 [N, M] for [N, D] and [M, D].
Pairwise = Callable[[npt.NDArray[np.floating], npt.NDArray[np.floating]], npt.NDArray[np.float64]]


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
    """One gallery and its probes.

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

    A tie goes to the earlier column. Raises ValueError for no trials, and for NaN.
    """
    if not len(trials.probe):
        raise ValueError("nothing to measure: there is not a single trial")
    wrong = 0
    for start in range(0, len(trials.probe), 1024):
        part = slice(start, start + 1024)
        probe = encodings[trials.probe[part]][:, None, :]  # [t, 1, D]
        distances = squared_l2(probe, encodings[trials.support[part]])  # [t, ways]
        if np.isnan(distances).any():
            raise ValueError("NaN is no distance")
        wrong += int((distances.argmin(axis=1) != trials.answer[part]).sum())
    return wrong / len(trials.probe)


def search(encodings: Encodings, split: OpenSet, pairwise: Pairwise = pairwise_squared_l2) -> Scores:
    """Search every probe of ``split`` among its enrolled pictures."""
    gallery = encodings[split.enrolled]
    return Scores(
        mated=to_mate(pairwise(encodings[split.mated], gallery), split.mate),
        non_mated=pairwise(encodings[split.strangers], gallery).min(axis=1),
    )


def search_fused(
    encodings: Encodings,
    subjects: Sequence[tuple[Indices, Indices]],
    strangers: Indices,
    pairwise: Pairwise = pairwise_squared_l2,
    rules: Sequence[Fusion] = FUSIONS,
) -> Iterator[tuple[Fusion, Scores]]:
    """Search all probes among subjects with several examples each, by each of these rules of fusion.

    subjects: of each, int64 [n] the pictures that are enrolled, and int64 [m] others of it, mated probes.
    """
    enrolled = [encodings[examples] for examples, _ in subjects]
    mated = encodings[np.concatenate([others for _, others in subjects])]
    mate = np.repeat(np.arange(len(subjects)), [len(others) for _, others in subjects])
    templates = np.stack([template(own) for own in enrolled])
    everything = np.concatenate(enrolled)
    starts = np.cumsum([0, *(len(own) for own in enrolled[:-1])])

    @functools.cache
    def distances(by_template: bool) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Of mates, and of strangers, to each subject."""
        if by_template:
            return pairwise(mated, templates), pairwise(encodings[strangers], templates)
        own, others = pairwise(mated, everything), pairwise(encodings[strangers], everything)
        return np.minimum.reduceat(own, starts, axis=1), np.minimum.reduceat(others, starts, axis=1)

    for fusion in rules:
        own, others = distances(has_template(fusion))
        hit = np.isfinite(to_mate(own, mate))
        yield fusion, Scores(np.where(hit, lowest_scores(own, fusion), np.inf), lowest_scores(others, fusion))


def lowest_scores(distances: npt.NDArray[np.float64], fusion: str) -> Distances:
    """Of probes with distances float64 [P, K] to all subjects, the score of the nearest one, float64 [P]."""
    if fusion != "margin":
        lowest: Distances = distances.min(axis=1)
        return lowest
    nearest = min(distances.shape[1], MARGIN_OTHERS + 1)
    return margin_scores(np.sort(np.partition(distances, nearest - 1, axis=1)[:, :nearest], axis=1))[:, 0]


def pair_distances(
    encodings: Encodings, subject_of: Indices, pairwise: Pairwise = pairwise_squared_l2
) -> tuple[Distances, Distances]:
    """Distances of all pairs of pictures: (mated, non-mated), float64 [pairs] each, in no order."""
    mated, non_mated = [np.empty(0)], [np.empty(0)]
    for start in range(0, len(encodings), 512):
        block = pairwise(encodings[start : start + 512], encodings[start:])
        upper = np.arange(block.shape[1])[None, :] > np.arange(block.shape[0])[:, None]
        same = subject_of[start : start + 512, None] == subject_of[None, start:]
        mated.append(block[upper & same])
        non_mated.append(block[upper & ~same])
    return np.concatenate(mated), np.concatenate(non_mated)
