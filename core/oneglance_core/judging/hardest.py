"""The pairs that an encoder is most wrong about, and a plane on which encodings are looked at."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.judging.labelled import LabelledEncodings
from oneglance_core.measures import Indices

_BLOCK = 512
_MOST_OF_A_SUBJECT = 2


@dataclass(frozen=True, slots=True)
class Pair:
    """Two examples, by row, and their distance."""

    first: int
    second: int
    distance: float


def farthest_mates(people: LabelledEncodings, most: int) -> tuple[Pair, ...]:
    """Of the subjects whose own examples are farthest apart, the two that are; the farthest first."""
    found = []
    for own in people.members():
        if len(own) > 1:
            distances = pairwise_squared_l2(people.encodings[own], people.encodings[own])
            row, column = np.unravel_index(int(distances.argmax()), distances.shape)
            first, second = sorted((int(own[row]), int(own[column])))
            found.append(Pair(first, second, float(distances[row, column])))
    return tuple(sorted(found, key=lambda pair: -pair.distance)[:most])


def nearest_strangers(people: LabelledEncodings, most: int) -> tuple[Pair, ...]:
    """The nearest examples of different subjects, the nearest first; two subjects once, and a subject twice at most."""
    found = []
    for start in range(0, len(people.encodings), _BLOCK):
        block = pairwise_squared_l2(people.encodings[start : start + _BLOCK], people.encodings)
        rows = np.arange(start, start + len(block))
        block[people.subject_of[rows][:, None] == people.subject_of[None, :]] = np.inf
        nearest = block.argmin(axis=1)
        for row, other, distance in zip(rows, nearest, block.min(axis=1), strict=True):
            found.append(Pair(min(int(row), int(other)), max(int(row), int(other)), float(distance)))
    chosen: list[Pair] = []
    seen: set[frozenset[int]] = set()
    times = np.zeros(len(people.subjects), np.int64)
    for pair in sorted(found, key=lambda pair: pair.distance):
        both = [int(people.subject_of[pair.first]), int(people.subject_of[pair.second])]
        if len(chosen) == most:
            break
        if frozenset(both) in seen or times[both].max() == _MOST_OF_A_SUBJECT:
            continue
        seen.add(frozenset(both))
        times[both] += 1
        chosen.append(pair)
    return tuple(chosen)


@dataclass(frozen=True, slots=True)
class Projection:
    """Encodings on the plane along which subjects differ most.

    rows: int64 [n], of a random choice of subjects and examples. points: float64 [n, 2]. share: in [0, 1], of what
    the subjects' means differ by, on the plane.
    """

    rows: Indices
    points: npt.NDArray[np.float64]
    share: float


def project(people: LabelledEncodings, subjects: int, examples: int, seed: int) -> Projection:
    """The first two principal components of the subjects' means, and at most so many subjects, and examples of each."""
    members = people.members()
    means = np.stack([people.encodings[own].mean(axis=0, dtype=np.float64) for own in members])
    centre = means.mean(axis=0)
    _, sizes, axes = np.linalg.svd(means - centre, full_matrices=False)
    axes = axes[:2]
    if len(axes) < 2:  # one number per encoding
        axes = np.concatenate([axes, np.zeros((2 - len(axes), axes.shape[1]))])
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(members))[:subjects]
    rows = np.concatenate([rng.permutation(members[i])[:examples] for i in np.sort(chosen)])
    total = float((sizes**2).sum())
    return Projection(
        rows, (people.encodings[rows] - centre) @ axes.T, float((sizes[:2] ** 2).sum()) / total if total else 1.0
    )
