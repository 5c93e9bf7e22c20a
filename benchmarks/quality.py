"""FNIR by quality: where the limits of the policies lie, and what they do on other people. Draws docs/quality.svg.

    python -m benchmarks.quality FILE.npz... [--tau 0.2525] [--out docs/quality.svg]

FILE is what ``benchmarks.degraded`` wrote. Everybody is enrolled from one good photo, many times over; every other
photo of theirs, as it is and made worse, is a probe: a hit when its mate is the nearest and within tau. A face that
isn't found is a miss. Limits are chosen on every second person ("chosen on") and judged on the others ("held out"):
``strict`` is where hits have fallen to 90 % of those of good photos, ``standard`` where they have fallen to half, both
by isotonic regression over the probes of the series that a figure is for; but so that no more good photos are outside
than GOOD_OUTSIDE.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

from benchmarks.degraded import FIGURES, MEANING, SERIES
from benchmarks.report import table
from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.faces.quality import LIMITS, QualityPolicy
from oneglance_core.limits import Limit, breaches

matplotlib.use("svg")
from matplotlib import pyplot as plt

Array = npt.NDArray[Any]
GALLERIES = 20
GOOD_OUTSIDE: dict[QualityPolicy, float] = {"strict": 0.05, "standard": 0.005}
UNTIL = {"roll": 60.0}  # further turned, the alignment is junk, and so is its roll
KEPT: dict[QualityPolicy, float] = {"strict": 0.9, "standard": 0.5}  # of the hits of good photos, at the limit
INK, CALM, ALARM, FAINT = "#1f2933", "#2f6f8f", "#b3412e", "#9aa5b1"
COLOURS: dict[QualityPolicy, str] = {"standard": ALARM, "strict": "#c98a1b"}
# (figure, which end is limited, series whose probes tell where)
CHOICES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("eye_distance", "least", ("size",)),
    ("sharpness", "least", ("blur",)),
    ("brightness", "least", ("dark",)),
    ("brightness", "most", ("bright",)),
    ("contrast", "least", ("flat", "dark")),
    ("roll_degrees", "most", ("roll",)),
    ("alignment_error", "most", ("below", "side", "eyes")),
)


@dataclass(frozen=True)
class Probes:
    """All probes of some people. hit: share of galleries in which it was identified as its mate; figures NaN: no face
    found."""

    series: Array
    steps: Array
    figures: Array
    hit: Array

    def of(self, series: tuple[str, ...], step: float | None = None) -> Array:
        chosen: Array = np.isin(self.series, series)
        if step is not None:
            chosen &= self.steps == step
        return chosen

    @property
    def found(self) -> Array:
        found: Array = np.isfinite(self.figures.sum(axis=1))
        return found


def read(files: list[Path]) -> dict[str, Array]:
    loaded = [np.load(file) for file in files]
    return {name: np.concatenate([one[name] for one in loaded]) for name in loaded[0].files}


def probes_of(data: dict[str, Array], people: list[str], tau: float, seed: int) -> Probes:
    """Of ``people``, each against galleries of one good photo of everybody in ``data``."""
    rng = np.random.default_rng(seed)
    everybody = sorted(set(data["people"]))
    photo = np.cumsum(data["series"] == "clean")
    clean = np.flatnonzero((data["series"] == "clean") & ~np.isnan(data["encodings"]).any(axis=1))
    rows = np.flatnonzero(np.isin(data["people"], people))
    encodings = np.nan_to_num(data["encodings"][rows], nan=1e3)
    hits, tries = np.zeros(len(rows)), np.zeros(len(rows))
    for _ in range(GALLERIES):
        enrolled = np.array([rng.choice(clean[data["people"][clean] == name]) for name in everybody])
        distance = pairwise_squared_l2(encodings, data["encodings"][enrolled])
        nearest = distance.argmin(axis=1)
        right = (data["people"][enrolled][nearest] == data["people"][rows]) & (distance.min(axis=1) <= tau)
        other = ~np.isin(photo[rows], photo[enrolled])  # its own good photo is no fair mate
        hits += right & other
        tries += other
    asked = tries > 0
    return Probes(
        data["series"][rows][asked],
        data["steps"][rows][asked],
        data["figures"][rows][asked],
        hits[asked] / tries[asked],
    )


def rising(values: Array) -> Array:
    """The isotonic regression: the never-falling sequence with the least squared error to ``values``."""
    blocks: list[list[float]] = []  # mean, how many
    for value in values:
        blocks.append([float(value), 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, count = blocks.pop()
            before = blocks[-1]
            total = before[1] + count
            blocks[-1] = [(before[0] * before[1] + mean * count) / total, total]
    return np.concatenate([np.full(int(count), mean) for mean, count in blocks])


def value_of(probes: Probes, figure: str) -> Array:
    values: Array = probes.figures[:, FIGURES.index(figure)]
    return np.abs(values) if figure == "roll_degrees" else values


def chosen(
    probes: Probes, figure: str, end: str, series: tuple[str, ...], policy: QualityPolicy
) -> tuple[float, float]:
    """Where hits have fallen to KEPT of those of good photos; and the value with GOOD_OUTSIDE of these beyond it."""
    clean = probes.of(("clean",)) & probes.found
    known = np.array([step <= UNTIL.get(name, np.inf) for name, step in zip(probes.series, probes.steps, strict=True)])
    some = (probes.of(series) & known & probes.found) | clean
    values, hits = value_of(probes, figure)[some], probes.hit[some]
    order = np.argsort(values if end == "least" else -values)
    curve = rising(hits[order])
    enough = np.flatnonzero(curve >= KEPT[policy] * probes.hit[clean].mean())
    share = GOOD_OUTSIDE[policy]
    good = np.quantile(value_of(probes, figure)[clean], share if end == "least" else 1 - share)
    return float(values[order][enough[0]] if len(enough) else values[order][-1]), float(good)


def broken(probes: Probes, policy: QualityPolicy) -> Array:
    """Whether a policy's limits are broken; a face that isn't found breaks none."""
    out = [bool(breaches(dict(zip(FIGURES, row, strict=True)), LIMITS[policy])) for row in probes.figures]
    return np.array(out) & probes.found


def draw(probes: Probes, out: Path) -> None:
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "oneglance", "text.color": INK})
    figure, axes = plt.subplots(2, 5, figsize=(13, 5.4), layout="constrained", sharey=True)
    good = 1 - probes.hit[probes.of(("clean",))].mean()
    for axis, series in zip(axes.flat, [name for name in SERIES if name != "clean"], strict=False):
        steps = SERIES[series]
        places = np.arange(len(steps))
        fnir = [1 - probes.hit[probes.of((series,), step)].mean() for step in steps]
        lost = [(~probes.found[probes.of((series,), step)]).mean() for step in steps]
        axis.axhline(good, color=FAINT, lw=1, ls="--")
        axis.plot(places, fnir, "o-", color=INK, label="missed (FNIR)")
        axis.fill_between(places, lost, color=FAINT, alpha=0.35, lw=0, label="of these no face found")
        for policy, colour in COLOURS.items():
            told = [broken(probes, policy)[probes.of((series,), step)].mean() for step in steps]
            axis.plot(places, told, "s--", color=colour, ms=3, label=f"outside {policy}")
            edge = next((i for i, share in enumerate(told) if share >= 0.5), None)
            if edge is not None:
                axis.axvline(edge - 0.5, color=colour, lw=1)
        axis.set_xticks(places, [f"{step:g}" for step in steps])
        axis.set(ylim=(0, 1.02), title=series, xlabel=MEANING[series])
        axis.spines[["top", "right"]].set_visible(False)
        axis.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
    last = axes.flat[-1]
    last.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    last.legend(handles, labels, frameon=False, loc="center")
    figure.savefig(out, metadata={"Date": None})


def percent(value: float) -> str:
    return f"{value:.1%}"


def report(probes: Probes, name: str) -> None:
    clean = probes.of(("clean",))
    rows = []
    for policy in COLOURS:
        out = broken(probes, policy)
        worse = ~clean & probes.found
        rows.append(
            (policy, percent(out[clean].mean()), percent(out[worse].mean()),
             percent(1 - probes.hit[worse & out].mean()), percent(1 - probes.hit[worse & ~out].mean()),
             percent(1 - probes.hit[clean & ~out].mean()))
        )  # fmt: skip
    table(
        f"{name}: {clean.sum()} good photos, {(~clean).sum()} made worse",
        ("policy", "good photos outside", "worse ones outside", "FNIR outside", "FNIR of worse ones inside",
         "FNIR of good ones inside"),
        rows,
    )  # fmt: skip
    table(
        f"{name}: FNIR by step (no face found / outside standard / outside strict)",
        ("series", "steps"),
        [
            (series, "; ".join(
                f"{step:g}: {1 - probes.hit[at].mean():.0%} ({(~probes.found[at]).mean():.0%} / "
                f"{broken(probes, 'standard')[at].mean():.0%} / {broken(probes, 'strict')[at].mean():.0%})"
                for step in steps if (at := probes.of((series,), step)).any()
            ))
            for series, steps in SERIES.items()
        ],
    )  # fmt: skip


def among_strangers(data: dict[str, Array], tau: float) -> None:
    """How many pairs of different people lie within tau when both are made worse alike: what a bad enrollment does."""
    rows = []
    for series, steps in SERIES.items():
        cells = []
        for step in steps:
            some = (data["series"] == series) & (data["steps"] == step) & ~np.isnan(data["encodings"]).any(axis=1)
            if some.sum() < 2:
                continue
            distance = pairwise_squared_l2(data["encodings"][some], data["encodings"][some])
            pairs = data["people"][some][:, None] < data["people"][some]
            cells.append(f"{step:g}: {(distance[pairs] <= tau).mean():.2%}")
        rows.append((series, "; ".join(cells)))
    table("Pairs of different people within tau, both made worse alike (FMR)", ("series", "steps"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.npz")
    parser.add_argument("--tau", type=float, default=0.2525, help="[%(default)s: the imported encoder's]")
    parser.add_argument("--out", type=Path, default=Path("docs/quality.svg"), metavar="FILE.svg")
    options = parser.parse_args()
    data = read(options.files)
    people = sorted(set(data["people"]))
    fit, held = (probes_of(data, people[half::2], options.tau, half) for half in (0, 1))
    rows = []
    for figure, end, series in CHOICES:
        now = {policy: _limit(policy, figure, end) for policy in COLOURS}
        cells = []
        for policy in COLOURS:
            measured, good = chosen(fit, figure, end, series, policy)
            cells.append(f"{measured:.3g}, {good:.3g}: {(min if end == 'least' else max)(measured, good):.3g}")
        ends = np.percentile(value_of(fit, figure)[fit.of(("clean",)) & fit.found], [0, 1, 50, 99, 100])
        rows.append(
            (figure, end, *(f"{cell} ({now[policy]})" for policy, cell in zip(COLOURS, cells, strict=True)),
             " / ".join(f"{value:.3g}" for value in ends))
        )  # fmt: skip
    table(
        f"Limits on {len(people[0::2])} people: where hits fall, by good photos: the wider (in force)",
        ("figure", "", *COLOURS, "good photos: least / 1 % / median / 99 % / most"),
        rows,
    )
    report(fit, "chosen on")
    report(held, "held out")
    among_strangers(data, options.tau)
    draw(held, options.out)


def _limit(policy: QualityPolicy, figure: str, end: str) -> float | None:
    found: list[Limit] = [limit for limit in LIMITS[policy] if limit.figure == figure]
    value: float | None = getattr(found[0], end) if found else None
    return value


if __name__ == "__main__":
    main()
