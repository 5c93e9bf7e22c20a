"""Does the FPIR that is expected come true on people it was not computed from? By rule of fusion, examples and size.

    oneglance-exporter encode --model MODEL --data DATA --out people.npz
    python -m benchmarks.expected people.npz ... [--drawn 900] [--share 0.5] [--halvings 5] [--out docs/expected.svg]

The people of each file are split in two parts, at random, several times over. What `oneglance-exporter calibrate`
measures on one part, ``--share`` of them, says the tau for an FPIR and the FPIR to expect there, with its interval;
galleries of the others say what came. A cell of the table is one rule, number of examples, size and target, all
halvings together. ``--drawn`` adds so many generated characters, which the bundled encoder was not trained on: as many
as it takes for galleries of 277 beside enough strangers.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.report import table
from oneglance_core.expectation import Expectation
from oneglance_core.folder import read_model_folder
from oneglance_core.fusion import FUSIONS
from oneglance_core.glyphs import alphabet
from oneglance_core.measures import Indices
from oneglance_core.pictures import encoder_input
from oneglance_core.trials import Encodings, search_fused
from oneglance_exporter.data.photos import LIMITS
from oneglance_exporter.encoder.false_positives import false_positives
from oneglance_exporter.encoder.random_galleries import EXAMPLES, RandomGalleries
from oneglance_exporter.runtime import encoder_of
from oneglance_server.settings import BUNDLED_MODEL
from tests.pictures import png

matplotlib.use("svg")
from matplotlib import pyplot as plt

TARGETS = (0.005, 0.01, 0.05, 0.2)
SIZES = (5, 10, 25, 50, 100, 138, 200, 277)
GALLERIES = 20
BY_ALPHABET = 25  # generated characters
DRAWINGS = 6
FEWEST = 10  # false positives that a cell must have to be judged


@dataclass
class Cell:
    """Of all halvings: rates expected and measured, how many false positives, how often within the interval."""

    expected: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    positives: int = 0
    within: list[bool] = field(default_factory=list)


Key = tuple[str, str, int, int, float]  # data, rule, examples, size, target


@dataclass(frozen=True)
class People:
    """encodings: float32 [N, D]; person: int64 [N], whose each is."""

    name: str
    encodings: Encodings
    person: Indices


def read(path: Path) -> People:
    with np.load(path) as file:
        return People(path.stem, file["encodings"], np.unique(file["subjects"], return_inverse=True)[1])


def drawn(characters: int) -> People:
    """Generated characters by the bundled encoder."""
    folder = read_model_folder(BUNDLED_MODEL)
    spec = folder.manifest.input
    pictures = [
        encoder_input(png(drawing), spec, LIMITS)
        for seed in range(-(-characters // BY_ALPHABET))
        for character in alphabet(seed, BY_ALPHABET, DRAWINGS)
        for drawing in character.drawings
    ][: characters * DRAWINGS]
    encodings = encoder_of(folder.model, threads=1)(np.stack(pictures))
    return People("generated", encodings, np.repeat(np.arange(characters), DRAWINGS))


def measure(people: People, share: float, seed: int, cells: dict[Key, Cell]) -> None:
    encodings, person = people.encodings, people.person
    rng = np.random.default_rng(seed)
    order = rng.permutation(person.max() + 1)
    cut = round(len(order) * share)
    first = np.flatnonzero(np.isin(person, order[:cut]))
    made = false_positives(RandomGalleries(encodings[first], person[first], seed), "", {}, 0.01)
    assert made is not None
    expectation = Expectation(made)
    members = [np.flatnonzero(person == one) for one in order[cut:]]
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
                    cell = cells.setdefault((people.name, rule, examples, size, target), Cell())
                    cell.expected.append(rate.value)
                    cell.measured.append(hits / len(lowest))
                    cell.positives += hits
                    cell.within.append((rate.low or 0.0) <= hits / len(lowest) <= (rate.high or 1.0))


COLORS = ("#2f6f8f", "#b3412e", "#5b8c3e", "#8a5aa3")


def draw(cells: dict[Key, Cell], out: Path) -> None:
    """Above: what was expected and what came. Below: what came as a share of it, by the size of the gallery."""
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "oneglance"})
    figure, axes = plt.subplots(2, len(FUSIONS), figsize=(11, 7.2), layout="constrained", sharey="row")
    names = sorted({key[0] for key in cells})
    for (rates, by_size), fusion in zip(axes.T, FUSIONS, strict=True):
        rates.plot([1e-3, 1], [1e-3, 1], color="#9aa5b1", lw=1, ls="--")
        rates.fill_between([1e-3, 1], [1e-3 / 1.5, 1 / 1.5], [1.5e-3, 1.5], color="#9aa5b1", alpha=0.15, lw=0)
        by_size.axhline(1, color="#9aa5b1", lw=1, ls="--")
        by_size.axhspan(1 / 1.5, 1.5, color="#9aa5b1", alpha=0.15, lw=0)
        for at, (name, color) in enumerate(zip(names, COLORS, strict=False)):
            own = judged(cells, name, fusion)
            expected = np.array([np.mean(cell.expected) for cell in own.values()])
            measured = np.array([np.mean(cell.measured) for cell in own.values()])
            look = {"ms": 4, "alpha": 0.6, "color": color, "mew": 0, "label": name}
            rates.plot(expected, measured, "o", **look)
            beside = np.array([key[3] for key in own]) * (1 + 0.06 * (at - 1))
            by_size.plot(beside, measured / expected, "o", **look)
        rates.set(xscale="log", yscale="log", xlim=(2e-3, 0.5), ylim=(1e-3, 1), title=fusion, xlabel="FPIR expected")
        by_size.set(xscale="log", yscale="log", xlim=(4, 350), ylim=(0.3, 3), xlabel="subjects enrolled")
        by_size.set_xticks(SIZES, ["" if size in (138, 200) else str(size) for size in SIZES])
        by_size.set_yticks((0.5, 1 / 1.5, 1, 1.5, 2), ("1/2", "1/1.5", "1", "1.5", "2"))
        by_size.minorticks_off()
        for axis in (rates, by_size):
            axis.grid(color="#e4e7eb", lw=0.6)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("FPIR measured on other people")
    axes[1, 0].set_ylabel("measured / expected")
    axes[0, 0].legend(frameon=False, fontsize=9)
    figure.savefig(out, metadata={"Date": None})


def judged(cells: dict[Key, Cell], name: str, fusion: str) -> dict[Key, Cell]:
    return {key: cell for key, cell in cells.items() if key[:2] == (name, fusion) and cell.positives >= FEWEST}


def near(cell: Cell) -> bool:
    return bool(1 / 1.5 <= np.mean(cell.measured) / np.mean(cell.expected) <= 1.5)


def share_of(found: list[bool]) -> str:
    return f"{np.mean(found):.0%}" if found else "-"


def tell(cells: dict[Key, Cell], share: float, halvings: int) -> None:
    names = sorted({key[0] for key in cells})
    by_rule, by_size, by_target = [], [], []
    for name in names:
        for fusion in FUSIONS:
            own = judged(cells, name, fusion)
            rates = [
                f"{np.mean([m for key, cell in own.items() if key[4] == target for m in cell.measured]):.2%}"
                if any(key[4] == target for key in own)
                else "-"
                for target in TARGETS
            ]
            within = [inside for cell in own.values() for inside in cell.within]
            shares = share_of(within), share_of([near(cell) for cell in own.values()])
            by_rule.append((name, fusion, len(own), *shares, *rates))
        for target in TARGETS:
            some = [c for fusion in FUSIONS for key, c in judged(cells, name, fusion).items() if key[4] == target]
            if some:
                within = [inside for cell in some for inside in cell.within]
                by_target.append((name, f"{target:.1%}", len(some), share_of(within), share_of(list(map(near, some)))))
        for size in SIZES:
            some = [c for fusion in FUSIONS for key, c in judged(cells, name, fusion).items() if key[3] == size]
            if some:
                ratios = [np.mean(cell.measured) / np.mean(cell.expected) for cell in some]
                within = [inside for cell in some for inside in cell.within]
                shares = share_of(within), share_of([near(cell) for cell in some])
                by_size.append((name, size, len(some), *shares, f"{np.median(ratios):.2f}"))
    title = f"FPIR expected and measured on other people, {share:.0%} for the curve, {halvings} halvings"
    table(
        title,
        ("data", "rule", "cells", "in the interval", "within 1.5 times", *(f"asked {t:.1%}" for t in TARGETS)),
        by_rule,
    )
    table(f"{title}: by FPIR", ("data", "asked", "cells", "in the interval", "within 1.5 times"), by_target)
    table(
        f"{title}: by size",
        ("data", "enrolled", "cells", "in the interval", "within 1.5 times", "measured / expected, median"),
        by_size,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="*", metavar="FILE.npz")
    parser.add_argument("--drawn", type=int, default=0, metavar="N")
    parser.add_argument("--share", type=float, default=0.5, help="of the people, for the curve [%(default)s]")
    parser.add_argument("--halvings", type=int, default=5, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    cells: dict[Key, Cell] = {}
    for people in [*map(read, options.data), *([drawn(options.drawn)] if options.drawn else [])]:
        for seed in range(options.halvings):
            measure(people, options.share, seed, cells)
    tell(cells, options.share, options.halvings)
    if options.out:
        draw(cells, options.out)


if __name__ == "__main__":
    main()
