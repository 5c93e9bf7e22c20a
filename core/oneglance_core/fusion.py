"""Fusion: how a subject's several encodings become one distance to a probe, and what is then compared with tau.

    nearest   the distance to the nearest of the encodings
    mean      the distance to the subject's template: the mean of the encodings, as long as they are on average
    margin    that distance less MARGIN_WEIGHT times the mean distance of the MARGIN_OTHERS other subjects that are
              nearest to the probe: who stands out is nearer than a look-alike of many

A distance is squared L2. A *score* is what is compared with tau: the distance, but by ``margin``, where it may fall
below 0. Subjects have the same order by score as by distance: of two subjects the nearer one has the lower score.

With fewer than MARGIN_OTHERS other subjects those that there are count. With none the score is the distance, so that a
tau made for a larger gallery lets hardly anybody in.

A gallery may be decided by the probability y of the encoder's pair head instead (``pair_head``). The score is then
1 - y, by ``nearest`` of the encoding with the highest y, by ``mean`` of the template; ``margin`` is for distances only.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import Vectors, squared_norms

Fusion = Literal["nearest", "mean", "margin"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
DecidedBy = Literal["distance", "probability"]
MARGIN_WEIGHT = 0.3
MARGIN_OTHERS = 5

_NO_DIRECTION = 1e-6  # of the encodings' length: a shorter mean is not stretched


def has_template(fusion: str) -> bool:
    """Whether the rule compares probes with one vector for each subject."""
    return fusion != "nearest"


def template(encodings: Vectors) -> Vectors:
    """The one vector that stands for a subject: float32 [n, D], n >= 1, to float32 [D].

    Their mean in float64, stretched to the mean of their lengths, rounded once. A single encoding is its own template.
    Where encodings cancel each other out, their mean has no direction, and is not stretched.
    """
    vector: Vectors = templates(encodings[None])[0]
    return vector


def templates(encodings: Vectors) -> Vectors:
    """The templates of subjects that have equally many encodings: float32 [s, n, D], n >= 1, to float32 [s, D].

    Each is bit for bit the one that ``template`` makes.
    """
    subjects, count, dimension = encodings.shape
    if count == 1:
        only: Vectors = encodings[:, 0]
        return only
    means = encodings.sum(axis=1, dtype=np.float64) / count
    norms = squared_norms(encodings.reshape(-1, dimension)).reshape(subjects, count)
    lengths = np.sqrt(norms).sum(axis=1) / count
    own = np.sqrt(np.square(means).sum(axis=1))
    means *= np.divide(lengths, own, out=np.ones_like(own), where=own > _NO_DIRECTION * lengths)[:, None]
    vectors: Vectors = means.astype(np.float32)
    return vectors


def margin_scores(ordered: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Scores by ``margin`` of the subjects nearest to a probe: their distances [..., m], ascending, to float64 [...,
    m].

    They must be all subjects, or the MARGIN_OTHERS + 1 nearest and any number of the next.
    """
    distances = ordered.astype(np.float64)
    nearest = distances[..., : MARGIN_OTHERS + 1]
    others = np.repeat(nearest[..., :MARGIN_OTHERS].sum(axis=-1, keepdims=True), distances.shape[-1], axis=-1)
    # One of the first MARGIN_OTHERS is no other of its own: the next one counts in its place, if there is one.
    own = nearest[..., :MARGIN_OTHERS]
    following = nearest[..., MARGIN_OTHERS:] if nearest.shape[-1] > MARGIN_OTHERS else np.zeros_like(own[..., :1])
    others[..., : own.shape[-1]] += following - own
    count = min(MARGIN_OTHERS, distances.shape[-1] - 1)
    scores: npt.NDArray[np.float64] = distances - MARGIN_WEIGHT * others / max(count, 1)
    return scores


def farthest_margin_match(ordered: npt.NDArray[np.floating], tau: float) -> float:
    """A distance beyond which no subject's score by ``margin`` is at most ``tau``.

    ordered: the distances [m] of the nearest subjects, ascending: all, or the MARGIN_OTHERS + 1 nearest at least.
    """
    others = ordered[1 : MARGIN_OTHERS + 1].astype(np.float64)
    if not len(others):
        return tau
    # No subject's others are farther on average than those of the nearest one. The rest covers rounding.
    bound = tau + MARGIN_WEIGHT * float(others.mean())
    return bound + 1e-9 * (1 + abs(bound))
