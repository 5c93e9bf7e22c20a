"""Which rule of fusion makes the most of several examples? FNIR by rule, examples and FPIR, and which rule half of the
people would choose for the other half.

    oneglance-exporter encode --model MODEL --data DATA --out people.npz
    python -m benchmarks.fusion people.npz ... [--halvings 20]

The people of each file are split in two halves, at random, many times over. In a half, half of its people are enrolled
from 1, 2, 3 or 5 examples each, their other pictures are mated probes, all pictures of the others strangers'; several
galleries are pooled. On the first half the rule with the least FNIR is chosen; the FNIR in the table is that of the
second half, at the largest tau that keeps the FPIR there. "weighted" is a mean that counts an example by its encoding's
length to the power of 8, a measure of quality for some encoders.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.report import table
from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.fusion import FUSIONS
from oneglance_core.measures import Indices, Scores, largest_tau_for_rate, to_mate
from oneglance_core.trials import search_fused

EXAMPLES = (1, 2, 3, 5)
FPIRS = (0.001, 0.01, 0.1)
RULES = (*FUSIONS, "weighted")
PROBES = 5_000  # of strangers, about, in the galleries of a half together

Encodings = npt.NDArray[np.float32]


@dataclass(frozen=True)
class People:
    """encodings: float32 [N, D]; pictures: of each person, their rows."""

    encodings: Encodings
    pictures: list[npt.NDArray[np.int64]]


def read(path: Path) -> People:
    with np.load(path) as file:
        names, person = np.unique(file["subjects"], return_inverse=True)
        return People(file["encodings"], [np.flatnonzero(person == i) for i in range(len(names))])


def weighted(encodings: Encodings) -> Encodings:
    length = np.linalg.norm(encodings.astype(np.float64), axis=1)
    mean = np.average(encodings, axis=0, weights=length**8)
    made: Encodings = (mean * (length.mean() / np.linalg.norm(mean))).astype(np.float32)
    return made


def by_weighted(encodings: Encodings, subjects: list[tuple[Indices, Indices]], strangers: Indices) -> Scores:
    templates = np.stack([weighted(encodings[examples]) for examples, _ in subjects])
    mate = np.repeat(np.arange(len(subjects)), [len(others) for _, others in subjects])
    mated = pairwise_squared_l2(encodings[np.concatenate([others for _, others in subjects])], templates)
    return Scores(to_mate(mated, mate), pairwise_squared_l2(encodings[strangers], templates).min(axis=1))


def galleries(people: People, half: npt.NDArray[np.int64], examples: int, seed: int) -> dict[str, Scores]:
    """The pooled scores of several galleries of half of these people, by each rule."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Scores]] = {rule: [] for rule in RULES}
    strangers = 0
    while strangers < PROBES:
        order = rng.permutation(half)
        able = [person for person in order if len(people.pictures[person]) > examples]
        inside = able[: len(half) // 2]
        shown = {person: rng.permutation(people.pictures[person]) for person in order}
        subjects = [(shown[person][:examples], shown[person][examples:]) for person in inside]
        others = [shown[person] for person in order if person not in set(inside)]
        for rule, scores in search_fused(people.encodings, subjects, np.concatenate(others)):
            parts[rule].append(scores)
        parts["weighted"].append(by_weighted(people.encodings, subjects, np.concatenate(others)))
        strangers += sum(map(len, others))
    return {rule: Scores.pooled(found) for rule, found in parts.items()}


def fnir(scores: Scores, fpir: float) -> float:
    return scores.fnir(largest_tau_for_rate(scores.non_mated, fpir))


def rows(path: Path, halvings: int) -> list[tuple[object, ...]]:
    people = read(path)
    total = len(people.pictures)
    made: list[tuple[object, ...]] = []
    for examples in EXAMPLES:
        if sum(len(own) > examples for own in people.pictures) < total * 0.75:
            continue
        chosen: dict[float, Counter[str]] = {fpir: Counter() for fpir in FPIRS}
        measured: dict[tuple[str, float], list[float]] = {(rule, fpir): [] for rule in RULES for fpir in FPIRS}
        for seed in range(halvings):
            order = np.random.default_rng(seed).permutation(total)
            first, second = (
                galleries(people, part, examples, seed) for part in (order[: total // 2], order[total // 2 :])
            )
            for fpir in FPIRS:
                chosen[fpir][min(FUSIONS, key=lambda rule: fnir(first[rule], fpir))] += 1
                for rule in RULES:
                    measured[rule, fpir].append(fnir(second[rule], fpir))
        for fpir in FPIRS:
            best = ", ".join(f"{rule} {count}" for rule, count in chosen[fpir].most_common())
            rates = [f"{np.mean(measured[rule, fpir]):.4f}" for rule in RULES]
            made.append((path.stem, total // 4, examples, f"{fpir:.1%}", *rates, best))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", metavar="FILE.npz")
    parser.add_argument("--halvings", type=int, default=20, metavar="N")
    options = parser.parse_args()
    table(
        f"FNIR by rule of fusion, mean of {options.halvings} halvings of the people",
        ("data", "K", "examples", "FPIR", *RULES, "chosen on the other half"),
        [row for path in options.data for row in rows(path, options.halvings)],
    )


if __name__ == "__main__":
    main()
