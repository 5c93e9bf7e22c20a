"""Does the FPIR that is expected come true on people it was not computed from? By rule of fusion, examples and size.

    oneglance-exporter encode --model MODEL --data DATA --out people.npz
    python -m benchmarks.expected people.npz ... [--halvings 5] [--out docs/expected.svg]

The people of all files are split in two halves, at random, several times over. What `oneglance-exporter calibrate`
measures on one half says the tau for an FPIR and the FPIR to expect there, with its interval; galleries of the other
half say what came. A cell of the table is one rule, number of examples, size and target, all halvings together.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.report import table
from oneglance_core.expectation import Expectation
from oneglance_core.fusion import FUSIONS
from oneglance_core.trials import search_fused
from oneglance_exporter.encoder.false_positives import EXAMPLES, false_positives

matplotlib.use("svg")
from matplotlib import pyplot as plt

TARGETS = (0.005, 0.01, 0.05, 0.2)
SIZES = (5, 10, 25, 50, 100, 138)
GALLERIES = 40
FEWEST = 10  # false positives that a cell must have to be judged


@dataclass
class Cell:
    """Of all halvings: rates expected and measured, how many false positives, how often within the interval."""

    expected: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    positives: int = 0
    within: list[bool] = field(default_factory=list)


Key = tuple[str, str, int, int, float]  # data, rule, examples, size, target


def measure(path: Path, seed: int, cells: dict[Key, Cell]) -> None:
    with np.load(path) as file:
        encodings, person = file["encodings"], np.unique(file["subjects"], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    order = rng.permutation(person.max() + 1)
    first = np.flatnonzero(np.isin(person, order[: len(order) // 2]))
    made = false_positives(encodings[first], person[first], "", {}, 0.01, seed)
    assert made is not None
    expectation = Expectation(made)
    members = [np.flatnonzero(person == one) for one in order[len(order) // 2 :]]
    for examples in EXAMPLES:
        for size in SIZES:
            if size > 0.6 * sum(len(own) >= examples for own in members):
                continue
            found: dict[str, list[float]] = {fusion: [] for fusion in FUSIONS}
            for _ in range(GALLERIES):
                shown = [rng.permutation(members[i]) for i in rng.permutation(len(members))]
                able = [own for own in shown if len(own) >= examples][:size]
                names = {id(own) for own in able}
                strangers = np.array([own[0] for own in shown if id(own) not in names])
                subjects = [(own[:examples], own[examples : examples + 1]) for own in able]
                for fusion, scores in search_fused(encodings, subjects, strangers):
                    found[fusion] += scores.non_mated.tolist()
            for rule, lowest in found.items():
                for target in TARGETS:
                    tau = expectation.tau(target, rule, examples, size)
                    rate = expectation.fpir(tau, rule, examples, size)
                    hits = int((np.array(lowest) <= tau).sum())
                    cell = cells.setdefault((path.stem, rule, examples, size, target), Cell())
                    cell.expected.append(rate.value)
                    cell.measured.append(hits / len(lowest))
                    cell.positives += hits
                    cell.within.append((rate.low or 0.0) <= hits / len(lowest) <= (rate.high or 1.0))


def draw(cells: dict[Key, Cell], out: Path) -> None:
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "oneglance"})
    figure, axes = plt.subplots(1, len(FUSIONS), figsize=(11, 4), layout="constrained", sharey=True)
    names = sorted({key[0] for key in cells})
    for axis, fusion in zip(axes, FUSIONS, strict=True):
        axis.plot([1e-3, 1], [1e-3, 1], color="#9aa5b1", lw=1, ls="--")
        axis.fill_between([1e-3, 1], [1e-3 / 1.5, 1 / 1.5], [1.5e-3, 1.5], color="#9aa5b1", alpha=0.15, lw=0)
        for name, color in zip(names, ("#2f6f8f", "#b3412e", "#5b8c3e", "#8a5aa3"), strict=False):
            own = [cell for key, cell in cells.items() if key[:2] == (name, fusion) and cell.positives >= FEWEST]
            axis.plot(
                [np.mean(cell.expected) for cell in own],
                [np.mean(cell.measured) for cell in own],
                "o",
                ms=4,
                alpha=0.7,
                color=color,
                label=name,
            )
        axis.set(xscale="log", yscale="log", xlim=(2e-3, 0.5), ylim=(5e-4, 1), title=fusion, xlabel="FPIR expected")
        axis.grid(color="#e4e7eb", lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("FPIR measured on other people")
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", metavar="FILE.npz")
    parser.add_argument("--halvings", type=int, default=5, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    cells: dict[Key, Cell] = {}
    for path in options.data:
        for seed in range(options.halvings):
            measure(path, seed, cells)
    rows = []
    for name in sorted({key[0] for key in cells}):
        for fusion in FUSIONS:
            own = {key: cell for key, cell in cells.items() if key[:2] == (name, fusion) and cell.positives >= FEWEST}
            near = [1 / 1.5 <= np.mean(cell.measured) / np.mean(cell.expected) <= 1.5 for cell in own.values()]
            within = [inside for cell in own.values() for inside in cell.within]
            by_target = [
                f"{np.mean([m for key, cell in own.items() if key[4] == target for m in cell.measured]):.2%}"
                if any(key[4] == target for key in own)
                else "-"
                for target in TARGETS
            ]
            rows.append((name, fusion, len(own), f"{np.mean(within):.0%}", f"{np.mean(near):.0%}", *by_target))
    table(
        f"FPIR expected and measured on other people, {options.halvings} halvings",
        ("data", "rule", "cells", "in the interval", "within 1.5 times", *(f"asked {t:.1%}" for t in TARGETS)),
        rows,
    )
    if options.out:
        draw(cells, options.out)


if __name__ == "__main__":
    main()
