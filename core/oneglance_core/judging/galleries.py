"""Galleries, 1:K: FPIR and FNIR by the size of the gallery, the number of examples and the rule of fusion; and rank-1.

In each of several draws the subjects are put in a random order, and of each so many examples are chosen to be enrolled.
The gallery of K is the first K subjects. The second half of the subjects are strangers to all galleries that are judged
with strangers, with all their examples; the other examples of the K are mated probes.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.fusion import FUSIONS, Fusion, has_template, template
from oneglance_core.judging.labelled import LabelledEncodings
from oneglance_core.judging.pairs import Pairs
from oneglance_core.judging.resample import Found, Measured, Weights, fnir_at, share, share_of
from oneglance_core.measures import (
    DetPoint,
    Distances,
    Indices,
    Scores,
    expected_fpir,
    largest_tau_for_rate,
    match_rate,
    matches,
    to_mate,
)
from oneglance_core.trials import lowest_scores

FPIRS = (0.01, 0.1)
FMRS = (0.001, 0.01)
"""FPIR by size is measured at the taus of these FMRs over all pairs."""

EXAMPLES = (1, 2, 3, 5)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
FUSION: Fusion = "mean"  # of what is told by size: what new galleries have

_LEAST_MATES = 2
_CURVE_POINTS = 160


@dataclass(frozen=True, slots=True)
class Draw:
    """One random order. order: int64 [S]; those with too few examples to be enrolled come last.

    enrolled: int64 [able, n], rows of the first ``able`` subjects of the order that are enrolled. place: int64 [N], of
    each example's subject in the order. probe: bool [N], False for those enrolled.
    """

    order: Indices
    enrolled: Indices
    place: Indices
    probe: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BySize:
    """With K subjects enrolled from one example each. None where nobody of them has a probe, or nobody is a stranger.

    independent_rank1: what rank-1 would be if all comparisons went wrong independently, by the pairs: the mean over
    mated pairs of (1 - FMR)^(K - 1), FMR that of a tau just below their distance. simple_rank1: (1 - EER)^K.
    fnir: by FPIR. fpir: by FMR, what was measured at its tau, and 1 - (1 - FMR)^K.
    """

    gallery_size: int
    rank1: Measured | None
    independent_rank1: float
    simple_rank1: float
    fnir: dict[float, Measured] | None
    fpir: dict[float, tuple[Measured, float]] | None


@dataclass(frozen=True, slots=True)
class ByFusion:
    """FNIR by FPIR, with so many examples of each of K subjects. tau: by FPIR. curve: of FPIR and FNIR."""

    fusion: Fusion
    examples: int
    gallery_size: int
    fnir: dict[float, Measured]
    tau: dict[float, float]
    curve: tuple[DetPoint, ...]


@dataclass(frozen=True, slots=True)
class Galleries:
    """open_size: subjects in the galleries that are probed by strangers, too, at most.

    rank1_hits, rank1_probes: [S], by subject: with all enrolled, mated probes over all draws that found their mate.
    """

    open_size: int
    by_size: tuple[BySize, ...]
    by_fusion: tuple[ByFusion, ...]
    rank1_hits: npt.NDArray[np.float64]
    rank1_probes: npt.NDArray[np.float64]


def draw(people: LabelledEncodings, examples: int, seed: int) -> Draw:
    """Enrolling ``examples`` of each subject that has so many."""
    rng = np.random.default_rng((seed, examples))
    members = [rng.permutation(own) for own in people.members()]
    order = rng.permutation(len(members))
    able = np.array([len(members[i]) >= examples for i in order])
    order = np.concatenate([order[able], order[~able]])
    enrolled = np.array([members[i][:examples] for i in order[: int(able.sum())]], np.int64).reshape(-1, examples)
    place = np.argsort(order)[people.subject_of]
    probe = np.ones(len(place), np.bool_)
    probe[enrolled] = False
    return Draw(order, enrolled, place, probe)


def distances_to(people: LabelledEncodings, drawn: Draw, fusion: Fusion) -> npt.NDArray[np.float64]:
    """Of all examples to all subjects that can be enrolled, in their order: float64 [N, able]."""
    encodings = people.encodings
    if has_template(fusion):
        return pairwise_squared_l2(encodings, np.stack([template(encodings[rows]) for rows in drawn.enrolled]))
    found = pairwise_squared_l2(encodings, encodings[drawn.enrolled[:, 0]])
    for column in drawn.enrolled.T[1:]:
        np.minimum(found, pairwise_squared_l2(encodings, encodings[column]), out=found)
    return found


def searched(
    people: LabelledEncodings,
    drawn: Draw,
    distances: npt.NDArray[np.float64],
    fusion: Fusion,
    size: int,
    strangers: int,
) -> Found:
    """Search a gallery of the first ``size`` subjects; strangers are those from the place ``strangers`` on."""
    mated = np.flatnonzero(drawn.probe & (drawn.place < size))
    others = np.flatnonzero(drawn.place >= strangers)
    own = distances[mated, :size]
    hit = np.isfinite(to_mate(own, drawn.place[mated]))
    return Found(
        np.where(hit, lowest_scores(own, fusion), np.inf) if len(mated) else np.empty(0),
        people.subject_of[mated],
        lowest_scores(distances[others, :size], fusion),
        people.subject_of[others],
    )


def measure_galleries(
    people: LabelledEncodings, pairs: Pairs, weights: Weights, seeds: Sequence[int], far: Callable[[float], None]
) -> Galleries:
    """A draw for each seed. ``far`` hears how far it is, in [0, 1]."""
    subjects = len(people.subjects)
    open_size = subjects // 2
    sizes = sorted({size for size in SIZES if size < subjects} | {open_size, subjects})
    ranked = {size: (np.zeros(subjects), np.zeros(subjects)) for size in sizes}
    parts: dict[tuple[Fusion, int, int], list[Found]] = defaultdict(list)
    wanted = _numbers_of_examples(people, open_size)
    for number, examples in enumerate(wanted):
        for turn, seed in enumerate(seeds):
            far((number + turn / len(seeds)) / (len(wanted) + 1))
            drawn = draw(people, examples, seed)
            distances = np.empty((0, 0))
            for fusion in FUSIONS if examples > 1 else (FUSION, "margin"):  # of one example nearest is mean
                if fusion != "margin":  # that has the distances of mean, which comes before it
                    distances = distances_to(people, drawn, fusion)
                by_size = examples == 1 and fusion == FUSION
                for size in [one for one in sizes if one <= open_size] if by_size else [open_size]:
                    found = searched(people, drawn, distances, fusion, size, open_size)
                    parts[fusion, examples, size].append(found)
                for size in sizes if by_size else ():
                    for total, more in zip(ranked[size], _rank1(people, drawn, distances, size), strict=True):
                        total += more
    found_of = {key: _pooled(found) for key, found in parts.items()}
    far(len(wanted) / (len(wanted) + 1))
    return Galleries(
        open_size,
        tuple(_by_size(size, *ranked[size], found_of.get((FUSION, 1, size)), pairs, weights) for size in sizes),
        tuple(
            _by_fusion(fusion, examples, size, found, weights)
            for (fusion, examples, size), found in found_of.items()
            if size == open_size and len(found.mated)
        ),
        *ranked[subjects],
    )


def _numbers_of_examples(people: LabelledEncodings, open_size: int) -> list[int]:
    """Those of which half of the subjects have enough, and some one more, to probe with."""
    has = np.bincount(people.subject_of, minlength=len(people.subjects))
    enough = [n for n in EXAMPLES if (has >= n).sum() >= open_size and (has > n).sum() >= _LEAST_MATES]
    return sorted({1, *enough})


def _rank1(
    people: LabelledEncodings, drawn: Draw, distances: npt.NDArray[np.float64], size: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """By subject, [S]: probes that found their mate among the first ``size``, and all."""
    rows = np.flatnonzero(drawn.probe & (drawn.place < size))
    subjects = len(people.subjects)
    if not len(rows):
        return np.zeros(subjects), np.zeros(subjects)
    right = np.isfinite(to_mate(distances[rows, :size], drawn.place[rows]))
    owner = people.subject_of[rows]
    hits = np.bincount(owner, right, subjects).astype(np.float64)
    return hits, np.bincount(owner, minlength=subjects).astype(np.float64)


def _by_size(
    size: int,
    hits: npt.NDArray[np.float64],
    probes: npt.NDArray[np.float64],
    found: Found | None,
    pairs: Pairs,
    weights: Weights,
) -> BySize:
    nearer = np.searchsorted(pairs.non_mated, pairs.mated, side="left") / len(pairs.non_mated)
    mates = found is not None and len(found.mated) > 0
    taus = {fmr: largest_tau_for_rate(pairs.non_mated, fmr) for fmr in FMRS}
    return BySize(
        gallery_size=size,
        rank1=share(hits, probes, weights) if probes.sum() else None,
        independent_rank1=float(np.mean((1 - nearer) ** (size - 1))),
        simple_rank1=(1 - pairs.eer.value) ** size,
        fnir={fpir: fnir_at(fpir, found, weights)[0] for fpir in FPIRS} if found is not None and mates else None,
        fpir=None
        if found is None
        else {
            fmr: (
                share_of(matches(found.non_mated, tau), found.non_mated_owner, weights),
                expected_fpir(match_rate(pairs.non_mated, tau), size),
            )
            for fmr, tau in taus.items()
        },
    )


def _by_fusion(fusion: Fusion, examples: int, size: int, found: Found, weights: Weights) -> ByFusion:
    fitted = {fpir: fnir_at(fpir, found, weights) for fpir in FPIRS}
    return ByFusion(
        fusion,
        examples,
        size,
        {fpir: rate for fpir, (rate, _) in fitted.items()},
        {fpir: tau for fpir, (_, tau) in fitted.items()},
        _curve(found),
    )


def _pooled(parts: Sequence[Found]) -> Found:
    return Found(
        np.concatenate([part.mated for part in parts]),
        np.concatenate([part.mated_owner for part in parts]),
        np.concatenate([part.non_mated for part in parts]),
        np.concatenate([part.non_mated_owner for part in parts]),
    )


def _curve(found: Found) -> tuple[DetPoint, ...]:
    """Evenly on a logarithmic scale of the FPIR."""
    scores = Scores(found.mated, found.non_mated)
    ordered: Distances = np.sort(found.non_mated)
    ranks = np.unique(np.geomspace(1, len(ordered), _CURVE_POINTS).astype(np.int64)) - 1
    return tuple(DetPoint(float(tau), scores.fpir(tau), scores.fnir(tau)) for tau in np.unique(ordered[ranks]))
