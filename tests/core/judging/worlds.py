"""Small worlds of encodings, and what is measured of them by plain loops."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from oneglance_core.judging.labelled import LabelledEncodings, label

D = npt.NDArray[np.float64]


def world(
    examples: Sequence[int] = (4, 3, 5, 4, 1, 2, 4, 4, 3, 6), noise: float = 0.6, seed: int = 0
) -> LabelledEncodings:
    """Subjects of two groups, with so many examples each, unit norm, in an order that is none."""
    rng = np.random.default_rng(seed)
    names = [f"g{s % 2}/s{s}" for s, count in enumerate(examples) for _ in range(count)]
    centres = np.random.default_rng(9).normal(size=(len(examples), 5))  # the same whatever the seed
    encodings = np.repeat(centres, examples, axis=0) + noise * rng.normal(size=(len(names), 5))
    encodings /= np.linalg.norm(encodings, axis=1, keepdims=True)
    order = np.random.default_rng(8).permutation(len(names))
    return label(encodings[order], [names[i] for i in order], [f"{names[i]}/{i}.png" for i in order])


def distance(people: LabelledEncodings, a: int, b: int) -> float:
    return float(((people.encodings[a].astype(np.float64) - people.encodings[b]) ** 2).sum())


def pairs(people: LabelledEncodings) -> list[tuple[int, int, float]]:
    """(subject, subject, distance) of all pairs of examples."""
    total = len(people.files)
    return [
        (int(people.subject_of[a]), int(people.subject_of[b]), distance(people, a, b))
        for a in range(total)
        for b in range(a + 1, total)
    ]
