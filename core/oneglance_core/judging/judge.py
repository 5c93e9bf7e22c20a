"""All that encodings of labelled examples tell of their encoder; every random choice follows from one seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oneglance_core.judging.galleries import Galleries, measure_galleries
from oneglance_core.judging.hardest import Pair, farthest_mates, nearest_strangers
from oneglance_core.judging.labelled import LabelledEncodings, shown
from oneglance_core.judging.pairs import GROUP_FMR, Pairs, measure_pairs
from oneglance_core.judging.resample import REPLICATES, Measured, draw_weights, share

SPLITS = 20
HARDEST = 12

Far = Callable[[float, str], None]
"""Hears how far it is, in [0, 1], and what is being done."""


def _silent(done: float, words: str) -> None:
    """Hears how far it is, and says nothing."""


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """Of one group: FMR and FNMR of pairs within it at one tau for all, and rank-1 of its probes, all enrolled once."""

    group: str
    subjects: int
    examples: int
    fmr: Measured | None
    fnmr: Measured | None
    rank1: Measured | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was measured on ``people``. left_out: examples that were given beyond what is looked at.

    farthest_mates, nearest_strangers: the pairs that the encoder is most wrong about.
    """

    people: LabelledEncodings
    left_out: int
    splits: int
    seed: int
    pairs: Pairs
    galleries: Galleries
    groups: tuple[GroupFigures, ...]
    farthest_mates: tuple[Pair, ...]
    nearest_strangers: tuple[Pair, ...]

    def headline(self) -> dict[str, Measured]:
        """The figures that two encoders are compared by, by name. All are shares in [0, 1]."""
        found = {"EER": self.pairs.eer}
        found |= {f"TAR at FAR {100 * far:.4g} %": tar for far, tar in self.pairs.tar.items()}
        if (rank1 := self.galleries.by_size[-1].rank1) is not None:
            found[f"rank-1, {self.galleries.by_size[-1].gallery_size} enrolled once"] = rank1
        for one in self.galleries.by_fusion:
            if one.fusion in ("mean", "margin"):
                rule = f"{one.gallery_size} enrolled from {one.examples} each, by {one.fusion}"
                found |= {f"FNIR at FPIR {100 * fpir:.4g} %, {rule}": fnir for fpir, fnir in one.fnir.items()}
        return found

    def __str__(self) -> str:
        people = self.people
        lines = [f"{len(people.files)} examples of {len(people.subjects)} subjects; 95 % intervals, over subjects"]
        if self.left_out:
            lines[0] += f"; {self.left_out} further examples were left out, at random"
        lines += [f"{name}: {told(figure)}" for name, figure in self.headline().items()]
        lines += [
            f"{one.group or '-'}: FMR {told(one.fmr)}, FNMR {told(one.fnmr)} at the tau of FMR {GROUP_FMR:.0%} "
            f"over all; rank-1 {told(one.rank1)}"
            for one in self.groups
        ]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "examples": len(self.people.files),
            "subjects": len(self.people.subjects),
            "left_out": self.left_out,
            "splits": self.splits,
            "seed": self.seed,
            "eer": self.pairs.eer.as_dict(),
            "eer_tau": self.pairs.eer_tau,
            "tar": [{"far": far, **tar.as_dict()} for far, tar in self.pairs.tar.items()],
            "by_size": [
                {
                    "gallery_size": one.gallery_size,
                    "rank1": one.rank1 and one.rank1.as_dict(),
                    "rank1_independent": one.independent_rank1,
                    "rank1_simple": one.simple_rank1,
                    "fnir": [{"fpir": fpir, **rate.as_dict()} for fpir, rate in (one.fnir or {}).items()],
                    "fpir": [
                        {"fmr": fmr, **rate.as_dict(), "predicted": predicted}
                        for fmr, (rate, predicted) in (one.fpir or {}).items()
                    ],
                }
                for one in self.galleries.by_size
            ],
            "by_fusion": [
                {
                    "fusion": one.fusion,
                    "examples": one.examples,
                    "gallery_size": one.gallery_size,
                    "fnir": [{"fpir": fpir, **rate.as_dict(), "tau": one.tau[fpir]} for fpir, rate in one.fnir.items()],
                }
                for one in self.galleries.by_fusion
            ],
            "group_tau": self.pairs.group_tau,
            "groups": [
                {
                    "group": one.group,
                    "subjects": one.subjects,
                    "examples": one.examples,
                    **{name: rate and rate.as_dict() for name, rate in rates(one).items()},
                }
                for one in self.groups
            ],
            "farthest_mates": [self._named(pair) for pair in self.farthest_mates],
            "nearest_strangers": [self._named(pair) for pair in self.nearest_strangers],
        }

    def _named(self, pair: Pair) -> dict[str, Any]:
        files = [shown(self.people.files[row]) for row in (pair.first, pair.second)]
        return {"files": files, "distance": pair.distance}


def rates(group: GroupFigures) -> dict[str, Measured | None]:
    return {"fmr": group.fmr, "fnmr": group.fnmr, "rank1": group.rank1}


def told(figure: Measured | None) -> str:
    """``1.20 % (0.90 to 1.61)``."""
    if figure is None:
        return "not measured"
    return f"{100 * figure.value:.2f} % ({100 * figure.low:.2f} to {100 * figure.high:.2f})"


def judge(
    people: LabelledEncodings,
    *,
    splits: int = SPLITS,
    seed: int = 0,
    replicates: int = REPLICATES,
    far: Far = _silent,
) -> Judgement:
    """Measure ``people``. splits: random orders of the subjects to make galleries of."""
    given = len(people.files)
    people = people.at_most(seed=seed)
    subjects = len(people.subjects)
    weights = draw_weights(subjects, replicates, seed)
    far(0.0, "pairs")
    pairs = measure_pairs(people, weights)
    far(0.3, "galleries")
    galleries = measure_galleries(
        people, pairs, weights, range(seed, seed + splits), lambda done: far(0.3 + 0.6 * done, "galleries")
    )
    groups = []
    for number, one in enumerate(pairs.groups):
        inside = people.group_of == number
        hits, probes = galleries.rank1_hits[inside], galleries.rank1_probes[inside]
        rank1 = share(hits, probes, weights[:, inside]) if probes.sum() else None
        groups.append(GroupFigures(one.group, one.subjects, one.examples, one.fmr, one.fnmr, rank1))
    far(0.9, "the hardest pairs")
    made = Judgement(
        people=people,
        left_out=given - len(people.files),
        splits=splits,
        seed=seed,
        pairs=pairs,
        galleries=galleries,
        groups=tuple(groups),
        farthest_mates=farthest_mates(people, HARDEST),
        nearest_strangers=nearest_strangers(people, HARDEST),
    )
    far(1.0, "judged")
    return made
