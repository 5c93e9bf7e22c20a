"""Is one encoder better than another? A paired test: the same examples, galleries and replicates for both."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from oneglance_core.judging.errors import NotPaired
from oneglance_core.judging.judge import Judgement, told
from oneglance_core.judging.resample import Measured

_FLIPS = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one figure, the second encoder's less the first one's, with its 95 % interval; p of the permutation test, for
    figures that are counted by subject."""

    name: str
    first: Measured
    second: Measured
    difference: Measured
    p: float | None

    @property
    def certain(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two encoders on the examples that both have."""

    examples: int
    subjects: int
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        lines = [f"second less first, on {self.examples} examples of {self.subjects} subjects; 95 % intervals"]
        for one in self.differences:
            p = "" if one.p is None else f", p = {one.p:.4f}"
            verdict = "differ" if one.certain else "may be equal"
            lines.append(
                f"{one.name}: {told(one.first)} and {told(one.second)}; "
                f"difference {points(one.difference)}{p}: {verdict}"
            )
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "examples": self.examples,
            "subjects": self.subjects,
            "differences": [
                {
                    "name": one.name,
                    "first": one.first.as_dict(),
                    "second": one.second.as_dict(),
                    "difference": one.difference.as_dict(),
                    "p": one.p,
                }
                for one in self.differences
            ],
        }


def points(difference: Measured) -> str:
    """``-1.20 points (-1.90 to -0.61)``."""
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.value:+.2f} points ({low:+.2f} to {high:+.2f})"


def compare(first: Judgement, second: Judgement) -> Comparison:
    """Both must be of what ``labelled.paired`` returns, judged with one seed and as many splits.

    The interval of a difference is that of its replicates, in which the same subjects count for both. The permutation
    test (of rank-1) exchanges the two encoders' answers for all probes of a subject, at random: p is how often the
    difference is then at least as large, either way. Raises NotPaired for other examples.
    """
    if first.people.subjects != second.people.subjects or not np.array_equal(
        first.people.subject_of, second.people.subject_of
    ):
        raise NotPaired("two encoders are compared on the same examples: labelled.paired")
    others = second.headline()
    differences = []
    for name, figure in first.headline().items():
        if name not in others:
            continue
        other = others[name]
        difference = Measured.of(other.value - figure.value, other.replicates - figure.replicates)
        p = _permuted(first, second) if name.startswith("rank-1") else None
        differences.append(Difference(name, figure, other, difference, p))
    return Comparison(len(first.people.files), len(first.people.subjects), tuple(differences))


def _permuted(first: Judgement, second: Judgement) -> float:
    """p of the difference in rank-1, two-sided."""
    gained = second.galleries.rank1_hits - first.galleries.rank1_hits
    gained = gained[gained != 0]
    if not len(gained):
        return 1.0
    signs = np.random.default_rng(first.seed).choice((-1.0, 1.0), (_FLIPS, len(gained)))
    as_large = np.abs(signs @ gained) >= abs(gained.sum()) * (1 - 1e-12)
    return float((as_large.sum() + 1) / (_FLIPS + 1))
